"""LD-DPO and SamPO: what each token counts, for the policy and its reference, in training and evaluation."""

import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from rlhf_hw.models.batches import TokenizedGroups, build_batch, group_tokens
from rlhf_hw.models.forward import log_prob_batch, sum_by_reply, token_log_probs
from rlhf_hw.models.loading import load_policy
from rlhf_hw.models.log_probs import log_probs_groups
from rlhf_hw.models.rendering import Renderer
from rlhf_hw.training.config import DPOTraining
from rlhf_hw.training.groups import load_groups
from rlhf_hw.training.reference import reference_log_probs
from rlhf_hw.training.run import train_dpo
from rlhf_hw.training.token_weights import beyond_common, drawn_tokens
from rlhf_hw.training.trainers import DPOTrainer

ALL = list(range(24))


def of_parts(groups: TokenizedGroups, values: np.ndarray | None = None) -> list[list[np.ndarray]]:
    """The values of each group's prompt and replies; without any, their places in the ids."""
    values = np.arange(len(groups.ids)) if values is None else values
    return [[values[a:b] for a, b in itertools.pairwise(row)] for row in groups.offsets.tolist()]


def weighted(groups: TokenizedGroups, weights: np.ndarray) -> TokenizedGroups:
    return replace(groups, weights=weights.astype(np.float32))


def test_tokens_beyond_the_common_length_weigh_alpha() -> None:
    groups = group_tokens([[1, 2], [3]], [[[4, 5, 6, 7], [8, 9]], [[4], [5, 6, 7]]])
    found = of_parts(groups, beyond_common(groups, 0.25))
    assert [[part.tolist() for part in group] for group in found] == [
        [[1, 1], [1, 1, 0.25, 0.25], [1, 1]],
        [[1], [1], [1, 0.25, 0.25]],
    ]


def test_of_the_longer_reply_as_many_tokens_are_drawn_as_the_shorter_has(groups) -> None:
    found = of_parts(groups, drawn_tokens(groups, 3))
    unequal = 0
    for (_, *parts), lengths in zip(found, groups.reply_lengths, strict=True):
        assert [part.sum() for part in parts] == [lengths.min()] * 2
        assert set(np.concatenate(parts)) <= {0.0, 1.0}
        unequal += lengths[0] != lengths[1]
    assert unequal > 15
    assert (drawn_tokens(groups, 3) == drawn_tokens(groups, 3)).all()
    assert (drawn_tokens(groups, 3) != drawn_tokens(groups, 4)).any()


def test_a_draw_goes_by_the_row_and_not_by_its_place(groups) -> None:
    whole = of_parts(groups, drawn_tokens(groups, 0))
    order = [7, 2, 19, 5]
    some = groups.select(order)
    part = of_parts(some, drawn_tokens(some, 0))
    for row, found in zip(order, part, strict=True):
        assert all((a == b).all() for a, b in zip(found, whole[row], strict=True))


def test_in_expectation_a_drawn_sum_is_the_mean_token_times_the_common_length() -> None:
    lengths = [(3, 8), (9, 4), (5, 5)]
    pairs = group_tokens([[1]] * 3, [[[2] * a, [3] * b] for a, b in lengths])
    values = np.random.default_rng(0).normal(size=len(pairs.ids))
    draws = np.stack([drawn_tokens(pairs, seed) for seed in range(4000)])
    for (_, *parts), (a, b) in zip(of_parts(pairs), lengths, strict=True):
        for part in parts:
            mean = (draws[:, part] * values[part]).sum(axis=1).mean()
            assert mean == pytest.approx(values[part].mean() * min(a, b), abs=0.1)
            # every place is as likely as any other
            np.testing.assert_allclose(draws[:, part].mean(axis=0), min(a, b) / len(part), atol=0.03)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_weighted_sum_is_that_of_its_tokens(groups, renderer, policy_folder, seed) -> None:
    weights = np.random.default_rng(seed).random(len(groups.ids))
    batch = build_batch(weighted(groups, weights), [5, 0, 11], renderer.pad_id, targets="replies")
    model = load_policy(policy_folder)
    with torch.no_grad():
        both = log_prob_batch(model, **batch)
        plain = log_prob_batch(model, **build_batch(groups, [5, 0, 11], renderer.pad_id, targets="replies"))
        for row, index in enumerate([5, 0, 11]):
            prompt, *replies = of_parts(groups)[index]
            for side, part in enumerate(replies):
                ids = torch.from_numpy(groups.ids[np.concatenate([prompt, part])].astype(np.int64))[None]
                hidden = load_policy(policy_folder).model(ids).last_hidden_state[0, len(prompt) - 1 : -1]
                each = token_log_probs(model.get_output_embeddings(), hidden, ids[0, len(prompt) :])
                expected = (each * torch.from_numpy(weights[part])).sum().item()
                assert both[row, side, 1].item() == pytest.approx(expected, rel=1e-4)
    torch.testing.assert_close(both[..., 0], plain)


def own_loss(groups, pad_id, folders, **settings) -> torch.Tensor:
    """The loss of each pair under a policy and a reference, as the trainer computes it."""
    trainer = DPOTrainer.__new__(DPOTrainer)  # its loss alone: no training arguments, no data
    trainer.config = DPOTraining(model="-", output_dir="unused", **{"beta": 0.3} | settings)
    if trainer.config.loss_entry.token_weights:
        groups = weighted(groups, trainer.config.loss_entry.token_weights(groups, trainer.config))
    batch = build_batch(groups, range(len(groups)), pad_id, targets="replies")
    with torch.no_grad():
        outputs, reference = (log_prob_batch(load_policy(folder), **batch) for folder in folders)
    reference = reference if groups.weights is None else reference[..., 1]
    return trainer.group_loss(outputs, batch | {"reference": reference})[0]


def test_with_alpha_1_ld_dpo_is_dpo_and_with_0_the_sum_up_to_the_common_length(
    groups, renderer, policy_folder, other_folder
) -> None:
    folders = (policy_folder, other_folder)
    plain = own_loss(groups, renderer.pad_id, folders)
    torch.testing.assert_close(
        own_loss(groups, renderer.pad_id, folders, loss="ld_dpo", ld_alpha=1.0), plain, atol=1e-6, rtol=0
    )
    common = groups.reply_lengths.min(axis=1)
    rows = zip(of_parts(groups, groups.ids), common, strict=True)
    kept = [(prompt.tolist(), [part[:m].tolist() for part in parts]) for (prompt, *parts), m in rows]
    cut = group_tokens(*zip(*kept, strict=True))
    found = own_loss(groups, renderer.pad_id, folders, loss="ld_dpo", ld_alpha=0.0)
    torch.testing.assert_close(found, own_loss(cut, renderer.pad_id, folders), atol=1e-4, rtol=0)
    assert (found - plain).abs().max() > 0.1


@pytest.mark.parametrize("loss", ["ld_dpo", "sampo"])
def test_of_equal_lengths_both_are_dpo(groups, renderer, policy_folder, other_folder, loss) -> None:
    folders, same = (policy_folder, other_folder), groups.reply_lengths[:, 0].copy()
    rows = zip(of_parts(groups, groups.ids), same, strict=True)
    made = [(a.tolist(), [[*b[:2].tolist(), *[7] * n], [*c[:2].tolist(), *[9] * n]]) for (a, b, c), n in rows]
    equal = group_tokens(*zip(*made, strict=True))
    found = own_loss(equal, renderer.pad_id, folders, loss=loss)
    torch.testing.assert_close(found, own_loss(equal, renderer.pad_id, folders), atol=1e-6, rtol=0)
    unequal = [own_loss(groups, renderer.pad_id, folders, **own) for own in ({}, {"loss": loss})]
    assert (unequal[1] - unequal[0]).abs().max() > 0.05


def test_ld_dpo_equals_trl(groups, policy_folder, other_folder, renderer, tmp_path) -> None:
    from datasets import Dataset
    from transformers import AutoModelForCausalLM
    from trl import DPOConfig
    from trl import DPOTrainer as TheirTrainer

    policy, reference = (
        AutoModelForCausalLM.from_pretrained(f, dtype=torch.float32) for f in (policy_folder, other_folder)
    )
    plain = {"report_to": "none", "use_cpu": True, "bf16": False, "max_length": None}
    own = {"gradient_checkpointing": False, "per_device_train_batch_size": 4, "output_dir": str(tmp_path)}
    theirs = TheirTrainer(
        model=policy,
        ref_model=reference,
        args=DPOConfig(beta=0.3, ld_alpha=0.4, **plain, **own),
        train_dataset=Dataset.from_list([{"prompt": "tea?", "chosen": "warm", "rejected": "cold"}]),
        processing_class=renderer.tokenizer,
    )
    theirs.model.eval()
    lists = [[part.tolist() for part in parts] for parts in of_parts(groups, groups.ids)]
    data = [dict(zip(("prompt_ids", "chosen_ids", "rejected_ids"), parts, strict=True)) for parts in lists]
    with torch.no_grad():
        expected = theirs.compute_loss(theirs.model, theirs.data_collator(data)).item()
    folders = (policy_folder, other_folder)
    found = own_loss(groups, renderer.pad_id, folders, loss="ld_dpo", ld_alpha=0.4).mean().item()
    assert found == pytest.approx(expected, abs=1e-5, rel=1e-6)
    assert abs(found - own_loss(groups, renderer.pad_id, folders).mean().item()) > 1e-3


def test_tokens_that_are_not_drawn_get_no_gradient() -> None:
    pairs = weighted(made := group_tokens([[1, 2]], [[[3, 4, 5, 6, 7], [8, 9]]]), drawn_tokens(made, 0))
    batch = build_batch(pairs, [0], 0, targets="replies")
    each = torch.zeros(len(batch["target_ids"]), requires_grad=True)
    sum_by_reply(each * batch["weights"], batch["reply_of"], batch["ends"])[0, 0].backward()
    kept = pairs.weights[2:7]
    assert each.grad[batch["reply_of"] == 0].tolist() == kept.tolist() and kept.sum() == 2
    assert not each.grad[batch["reply_of"] != 0].any()


def test_the_likelihood_and_the_log_count_all_tokens(groups, renderer, policy_folder) -> None:
    config = DPOTraining(model="-", output_dir="unused", loss="sampo", nll_weight=1.0)
    trainer = DPOTrainer.__new__(DPOTrainer)
    trainer.config = config
    drawn = weighted(groups, drawn_tokens(groups, 0))
    batch = build_batch(drawn, ALL, renderer.pad_id, targets="replies")
    with torch.no_grad():
        outputs = log_prob_batch(load_policy(policy_folder), **batch)
    each, measured = trainer.group_loss(outputs, batch | {"reference": outputs[..., 1]})
    torch.testing.assert_close(each[:, 0], torch.full((24,), math.log(2)))
    torch.testing.assert_close(each[:, 1], -outputs[:, 0, 0])
    torch.testing.assert_close(measured["chosen_logp"], outputs[:, 0, 0])
    assert (outputs[:, 0, 0] != outputs[:, 0, 1]).any()


def test_the_references_cache_knows_the_weights(groups, renderer, policy_folder, cache, monkeypatch) -> None:
    def ask(weights=None):
        part = groups if weights is None else weighted(groups, weights)
        return reference_log_probs(policy_folder, part, renderer.pad_id, "fp32")

    whole, first = ask(), ask(drawn_tokens(groups, 0))
    second, cut = ask(drawn_tokens(groups, 1)), ask(beyond_common(groups, 0.5))
    assert len(list(cache.iterdir())) == 4
    expected = log_probs_groups(
        load_policy(policy_folder), weighted(groups, drawn_tokens(groups, 0)), renderer.pad_id, "fp32"
    )
    np.testing.assert_allclose(first, expected[..., 1], rtol=1e-5)
    np.testing.assert_allclose(whole, expected[..., 0], rtol=1e-5)
    assert len({array.tobytes() for array in (whole, first, second, cut)}) == 4
    monkeypatch.setattr("rlhf_hw.training.reference.load_policy", lambda path: pytest.fail("computed again"))
    np.testing.assert_array_equal(ask(drawn_tokens(groups, 1)), second)


def test_a_pair_has_its_draw_whichever_pairs_truncation_drops(settings, rows, tokenizer, tmp_path) -> None:
    cut = {f"response_{side}": "word " * 100 + str(side) for side in (1, 2)}
    files = {}
    for name, first in (("kept", rows[0]), ("dropped", rows[0] | cut)):
        files[name] = tmp_path / f"{name}.jsonl"
        files[name].write_text("".join(json.dumps(row) + "\n" for row in [first, *rows[1:]]))
    short = Renderer(tokenizer, max_reply_tokens=64)
    found = {}
    for name, path in files.items():
        config = settings(DPOTraining, loss="sampo", train_dataset=str(path), seed=5)
        groups, _ = load_groups(config, short, "train")
        found[name] = dict(zip(groups.rows.tolist(), of_parts(groups, groups.weights), strict=True))
    assert 0 in found["kept"] and 0 not in found["dropped"]
    for row, parts in found["dropped"].items():
        assert all((a == b).all() for a, b in zip(parts, found["kept"][row], strict=True))


@pytest.mark.parametrize("loss", ["ld_dpo", "sampo"])
def test_training_starts_at_ln_2_evaluates_and_learns(settings, pairs_file, cache, loss) -> None:
    evaluation = {"eval_dataset": str(pairs_file), "eval_split": "train", "evaluations": 1}
    result = train_dpo(settings(DPOTraining, loss=loss, epochs=4, **evaluation))
    losses = [point["value"] for point in result.curve("eval_loss")]
    assert losses[0] == pytest.approx(math.log(2), rel=1e-6) and losses[-1] < losses[0] - 0.1
    assert result.metrics["loss_first"] == pytest.approx(math.log(2), rel=1e-6)
    assert result.curve("eval_accuracy")[0]["value"] == 0.5


def test_a_resumed_run_meets_the_same_draw(settings, pairs_file, cache) -> None:
    evaluation = {"eval_dataset": str(pairs_file), "eval_split": "train", "evaluations": 1}
    own = {"loss": "sampo", "lr_scheduler_type": "constant", **evaluation}
    whole = train_dpo(settings(DPOTraining, "whole", **own))
    train_dpo(settings(DPOTraining, "stopped", max_steps=3, save_steps=3, **own))
    resumed = train_dpo(settings(DPOTraining, "stopped", resume=True, **own))
    for name in ("loss", "margin", "eval_loss"):  # the stopped run's last step evaluated, too
        ends = [run.curve(name)[-1] for run in (resumed, whole)]
        assert ends[0]["value"] == pytest.approx(ends[1]["value"], rel=1e-4), name


def test_another_seed_draws_other_tokens(settings, renderer) -> None:
    configs = [settings(DPOTraining, loss="sampo", seed=seed) for seed in (0, 0, 1)]
    drawn = [load_groups(config, renderer, "train")[0].weights for config in configs]
    assert (drawn[0] == drawn[1]).all() and (drawn[0] != drawn[2]).any()
    assert load_groups(settings(DPOTraining), renderer, "train")[0].weights is None
