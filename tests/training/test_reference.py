"""Reference log-probabilities: computed once for each content, and read from disk afterwards."""

import resource
import shutil
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from rlhf_hw.files import replacing
from rlhf_hw.models.loading import load_policy
from rlhf_hw.models.log_probs import log_probs_groups
from rlhf_hw.training.config import DPOTraining
from rlhf_hw.training.reference import reference_log_probs
from rlhf_hw.training.run import train_dpo


def test_reference_log_probs_are_kept_by_content(
    groups, renderer, policy_folder, other_folder, cache, monkeypatch
) -> None:
    loads = []
    monkeypatch.setattr(
        "rlhf_hw.training.reference.load_policy", lambda path: loads.append(str(path)) or load_policy(path)
    )

    def ask(folder=policy_folder, part=groups, dtype="fp32"):
        return reference_log_probs(folder, part, renderer.pad_id, dtype)

    first = ask()
    np.testing.assert_allclose(
        first, log_probs_groups(load_policy(policy_folder), groups, renderer.pad_id, "fp32")
    )
    np.testing.assert_array_equal(ask(), first)
    assert len(loads) == 1 and len(list(cache.iterdir())) == 1
    order = np.random.default_rng(0).permutation(len(groups))
    # other content: computed
    np.testing.assert_allclose(ask(part=groups.select(order)), first[order], rtol=1e-5)
    assert ask(folder=other_folder).shape == first.shape
    ask(dtype="bf16")
    assert len(loads) == 4 and len(list(cache.iterdir())) == 4
    folder = cache.parent / "copy"
    load_policy(policy_folder).save_pretrained(folder)
    np.testing.assert_array_equal(ask(folder=folder), first)  # the same weights elsewhere
    model = load_policy(folder)
    with torch.no_grad():
        model.model.norm.weight += 0.1
    model.save_pretrained(folder)
    assert np.abs(ask(folder=folder) - first).max() > 0.01  # other weights in the same place


@pytest.mark.parametrize("left", [-20, 50, 0])
def test_a_torn_file_is_computed_anew(groups, renderer, policy_folder, cache, left) -> None:
    first = reference_log_probs(policy_folder, groups, renderer.pad_id, "fp32")
    (path,) = cache.iterdir()
    path.write_bytes((whole := path.read_bytes())[:left])
    np.testing.assert_array_equal(reference_log_probs(policy_folder, groups, renderer.pad_id, "fp32"), first)
    assert path.read_bytes() == whole


def test_of_a_disk_that_is_full_nothing_torn_is_kept(
    groups, renderer, policy_folder, cache, monkeypatch
) -> None:
    @contextmanager
    def full(path, mode):
        """Files cannot be longer than the head of an array."""
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (130, limits[1]))
        try:
            with replacing(path, mode) as stream:
                yield stream
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    monkeypatch.setattr("rlhf_hw.training.reference.replacing", full)
    with pytest.raises(OSError, match="free some space"):
        reference_log_probs(policy_folder, groups, renderer.pad_id, "fp32")
    assert not list(cache.iterdir())


def test_a_second_dpo_run_reads_the_reference_from_the_cache(settings, cache, monkeypatch) -> None:
    train_dpo(settings(DPOTraining, "one", max_steps=1))
    monkeypatch.setattr("rlhf_hw.training.reference.load_policy", lambda path: pytest.fail("computed again"))
    train_dpo(settings(DPOTraining, "two", max_steps=1, beta=0.3, learning_rate=1e-4))
    monkeypatch.setattr("rlhf_hw.training.reference.load_policy", load_policy)
    train_dpo(settings(DPOTraining, "three", max_steps=1, max_reply_tokens=8))
    assert len(list(cache.iterdir())) == 2


def test_new_weights_under_an_old_name_of_the_hub_are_asked_anew(
    groups, renderer, policy_folder, other_folder, cache, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    stored = tmp_path / "hub" / "models--org--policy"
    (stored / "refs").mkdir(parents=True)

    def ask(commit: str, folder):
        (stored / "refs" / "main").write_text(commit)
        if not (stored / "snapshots" / commit).exists():
            shutil.copytree(folder, stored / "snapshots" / commit)
        return reference_log_probs("org/policy", groups, renderer.pad_id, "fp32")

    old, new = ask("a" * 40, policy_folder), ask("b" * 40, other_folder)
    for found, folder in ((old, policy_folder), (new, other_folder)):
        np.testing.assert_allclose(
            found, log_probs_groups(load_policy(folder), groups, renderer.pad_id, "fp32")
        )
    monkeypatch.setattr("rlhf_hw.training.reference.load_policy", lambda path: pytest.fail("computed again"))
    np.testing.assert_array_equal(ask("a" * 40, policy_folder), old)
