"""Checkpoints are data: their code never runs, and what is missing or damaged is named with its folder."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from rlhf_hw.errors import InputError
from rlhf_hw.models.foreign import is_align_anything
from rlhf_hw.models.loading import load_policy, load_reward_model, start_reward_model
from rlhf_hw.models.rendering import Renderer, load_tokenizer
from rlhf_hw.paths import LIBRARY, NOTES

EVIL = "from pathlib import Path\nPath({marker!r}).touch()\nclass C: pass\n"
UNPICKLES = re.compile(r"\bimport pickle\b|weights_only=False|torch\.load\((?!.*weights_only=True)")
LOADERS = {
    "policy": load_policy,
    "reward model": load_reward_model,
    "tokenizer": load_tokenizer,
    "renderer": Renderer.load,
}


def copy(folder: Path, target: Path) -> Path:
    return Path(shutil.copytree(folder, target))


def change(path: Path, **values) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.fixture
def evil(policy_folder, tmp_path) -> tuple[Path, Path]:
    """A checkpoint of an unknown architecture with code of its own, and the file that the code would make."""
    folder, marker = copy(policy_folder, tmp_path / "evil"), tmp_path / "it ran"
    (folder / "evil.py").write_text(EVIL.format(marker=str(marker)))
    classes = {
        f"Auto{kind}": "evil.C" for kind in ("Config", "ModelForCausalLM", "ModelForSequenceClassification")
    }
    change(folder / "config.json", model_type="evil", auto_map=classes)
    change(
        folder / "tokenizer_config.json",
        tokenizer_class="C",
        auto_map={"AutoTokenizer": ["evil.C", "evil.C"]},
    )
    return folder, marker


@pytest.mark.parametrize("loader", LOADERS)
def test_code_of_a_checkpoint_is_never_run(evil, loader, monkeypatch) -> None:
    folder, marker = evil
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked whether to run it"))
    with pytest.raises(InputError, match=f"(?s){re.escape(str(folder))}: "):
        LOADERS[loader](folder)
    assert not marker.exists()


@pytest.mark.parametrize("kind", ["AutoModelForImageClassification", "AutoProcessor", "AutoImageProcessor"])
def test_a_tokenizer_file_names_no_other_way_to_run_code(policy_folder, tmp_path, kind, monkeypatch) -> None:
    """AutoTokenizer loads whatever class of transformers the file names, and that class asks anew."""
    folder, marker = copy(policy_folder, tmp_path / "evil"), tmp_path / "it ran"
    (folder / "evil.py").write_text(EVIL.format(marker=str(marker)))
    change(folder / "tokenizer_config.json", tokenizer_class=kind, auto_map={kind: "evil.C"})
    change(folder / "config.json", model_type="gpt2", auto_map={kind: "evil.C"})
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked whether to run it"))
    with pytest.raises(InputError, match=f"(?s){re.escape(str(folder))}: "):
        load_tokenizer(folder)
    assert not marker.exists()


def test_weights_outside_of_the_folder_are_not_followed(policy_folder, tmp_path) -> None:
    folder = copy(policy_folder, tmp_path / "model")
    (folder / "model.safetensors").rename(tmp_path / "elsewhere.safetensors")
    index = {"metadata": {}, "weight_map": {"lm_head.weight": "../elsewhere.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match="names weights outside of its folder"):
        load_policy(folder)


def test_known_architectures_load_without_their_own_code(policy_folder, tmp_path, monkeypatch) -> None:
    folder = copy(policy_folder, tmp_path / "known")
    (folder / "evil.py").write_text(EVIL.format(marker=str(tmp_path / "it ran")))
    change(folder / "config.json", auto_map={"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.C"})
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked whether to run it"))
    load_policy(folder)
    assert not is_align_anything(folder) and not (tmp_path / "it ran").exists()


def test_one_place_opens_checkpoints() -> None:
    """Every other call would have to remember `trust_remote_code=False`, whose default asks the user."""
    for path in LIBRARY.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert ".from_pretrained(" not in text or path.name == "hub.py", path
        for call in re.findall(r"\.from_config\([^)]*\)", text):
            assert "trust_remote_code=False" in call, path
        assert not UNPICKLES.search(text), path


@pytest.mark.parametrize(
    "name, content",
    [
        ("model.safetensors", b"\x00" * 40),
        ("config.json", b"{"),
        ("config.json", b'{"model_type": "no_such_type"}'),
        ("tokenizer.json", b"[]"),
        ("tokenizer_config.json", b"\xff\xfe"),
    ],
)
def test_damaged_files_are_named_with_their_folder(policy_folder, tmp_path, name, content) -> None:
    folder = copy(policy_folder, tmp_path / "damaged")
    (folder / name).write_bytes(content)
    with pytest.raises(InputError, match=f"(?s){re.escape(str(folder))}: "):
        load_policy(folder)
        load_tokenizer(folder)


def shard(folder: Path, twice: str | None = None) -> None:
    """Cut the weights of a checkpoint in two files; one of them may stand in both."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names, listed = sorted(weights), {}
    for number in range(2):
        part = {name: weights[name] for name in names[number::2]}
        listed |= dict.fromkeys(part, f"model-{number}.safetensors")
        more = {twice: weights[twice] + 1} if twice else {}
        save_file(more | part, folder / f"model-{number}.safetensors", {"format": "pt"})
    index = {"metadata": {}, "weight_map": listed}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def test_weights_that_stand_in_two_files_are_refused(reward_folder, tmp_path) -> None:
    whole, twice = (copy(reward_folder, tmp_path / name) for name in ("whole", "twice"))
    shard(whole)
    load_reward_model(whole)
    shard(twice, "score.weight")
    with pytest.raises(
        InputError, match=r"score.weight stands in model-0.* and in model-1.safetensors; copy"
    ):
        load_reward_model(twice)


def test_adapters_alone_and_files_are_no_checkpoint(policy_folder, tmp_path) -> None:
    folder = copy(policy_folder, tmp_path / "adapters")
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    for name in (folder, folder / "config.json"):
        with pytest.raises(InputError, match="merge them|is a file: give the folder"):
            load_policy(name)


@pytest.mark.parametrize("load", [load_policy, load_reward_model, load_tokenizer])
def test_a_checkpoint_to_go_on_from_is_named_for_what_it_is(policy_folder, tmp_path, load) -> None:
    folder = copy(policy_folder, tmp_path / "run" / "checkpoint-5")
    for file in folder.glob("tokenizer*"):
        file.rename(tmp_path / file.name)
    (folder / "trainer_state.json").write_text("{}")
    with pytest.raises(
        InputError, match=r"checkpoint-5: a resumable checkpoint .*go on .*give .*/run, where"
    ):
        load(folder)
    (tmp_path / "run/config.json").write_text("{}")
    with pytest.raises(InputError, match=r"checkpoint-5: a resumable .*give the folder .* model, .*/run$"):
        load(folder)
    for file in tmp_path.glob("tokenizer*"):  # as others save them
        file.rename(folder / file.name)
    load(folder)


def test_notes_in_a_checkpoint_are_read_in_any_form(policy_folder, tmp_path) -> None:
    folder = copy(policy_folder, tmp_path / "model")
    for damaged in (b"\xff\xfe", b"[" * 100_000, b"7", b'{"publishing": false}'):
        (folder / NOTES).write_bytes(damaged)
        load_tokenizer(folder)
    (folder / NOTES).write_text('{"publishing":true}')
    with pytest.raises(InputError, match="a run was killed while it wrote the checkpoint"):
        load_tokenizer(folder)


def test_other_shapes_than_the_configurations_are_said_to_be_that(policy_folder, tmp_path) -> None:
    folder = copy(policy_folder, tmp_path / "model")
    change(folder / "config.json", intermediate_size=48)
    with pytest.raises(InputError, match="the weights have other shapes than config.json gives them"):
        load_policy(folder)


@pytest.mark.parametrize("name", ["score.bias", "model.layers.0.self_attn.o_proj.bias", "score.weight_scale"])
def test_weights_of_a_layer_that_the_model_does_not_have_are_refused(reward_folder, tmp_path, name) -> None:
    folder = copy(reward_folder, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    save_file(weights | {name: torch.ones(1)}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=f"layers without weights that are there, such as {name}"):
        load_reward_model(folder)


@pytest.mark.parametrize("names", [7, "Qwen2ForCausalLM", [7], {"a": 1}])
@pytest.mark.parametrize("load", [load_policy, load_reward_model])
def test_names_of_architectures_are_a_list_of_them(policy_folder, tmp_path, load, names) -> None:
    folder = copy(policy_folder, tmp_path / "model")
    change(folder / "config.json", architectures=names)
    with pytest.raises(InputError, match=rf"^{folder}: .*(architectures|dataclass)"):
        load(folder)


def test_a_classifier_of_several_labels_is_no_reward_model(reward_folder, tmp_path) -> None:
    folder = copy(reward_folder, tmp_path / "model")
    change(folder / "config.json", num_labels=2)
    with pytest.raises(
        InputError, match=rf"^{folder}: .* one label; .*config.json .* 2: restore it, or take"
    ):
        load_reward_model(folder)


@pytest.mark.parametrize("kind", ["Qwen2ForSequenceClassification", "AccustomedQwen2RewardModel"])
def test_a_reward_model_is_no_policy(reward_folder, tmp_path, kind) -> None:
    folder = copy(reward_folder, tmp_path / "model")
    change(folder / "config.json", architectures=[kind])
    with pytest.raises(InputError, match=f"^{folder}: a reward model, .*; give the language model"):
        load_policy(folder)  # its embeddings are tied: no weight of a language model is missing


@pytest.mark.parametrize("form", ["one file", "two files", "pickle"])
@pytest.mark.parametrize("name", ["score_head.weight", "value_head.weight", "v_head.summary.weight"])
def test_of_two_score_heads_none_is_taken_for_the_one(reward_folder, tmp_path, name, form) -> None:
    folder = copy(reward_folder, tmp_path / "model")
    path = folder / "model.safetensors"
    weights = load_file(path)
    save_file(weights | {name: -weights["score.weight"]}, path, {"format": "pt"})
    if form == "two files":
        shard(folder)
    elif form == "pickle":
        torch.save(load_file(path), folder / "pytorch_model.bin")
        path.unlink()
    both = " and ".join(sorted([name, "score.weight"]))
    with pytest.raises(InputError, match=rf"^{folder}: {both} can each be the score head, .*; leave one of"):
        load_reward_model(folder)


def test_of_two_score_heads_of_a_hubs_model_none_is_taken(reward_folder, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    stored = tmp_path / "hub" / "models--owner--model"
    (stored / "refs").mkdir(parents=True)
    (stored / "refs" / "main").write_text("a" * 40)
    folder = copy(reward_folder, stored / "snapshots" / ("a" * 40))
    assert load_reward_model("owner/model").score.weight.shape == (1, 32)
    weights = load_file(folder / "model.safetensors")
    two = weights | {"value_head.weight": -weights["score.weight"]}
    save_file(two, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match="^owner/model: score.weight and value_head.weight can each be the"):
        load_reward_model("owner/model")


def test_what_has_no_heads_shape_is_no_second_head(reward_folder, tmp_path) -> None:
    folder = copy(reward_folder, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    more = {
        "lm_head.weight": torch.ones(320, 32),
        "gate.weight": torch.ones(3, 32),
        "n.weight": torch.ones(32),
        "mtp.layers.0.mlp.gate_proj.weight": torch.ones(1, 32),  # of a layer that is not read
    }
    save_file(weights | more, folder / "model.safetensors", {"format": "pt"})
    assert torch.equal(load_reward_model(folder).score.weight.detach(), weights["score.weight"])


@pytest.mark.parametrize("name", ["value_head.weight", "v_head.summary.weight"])
def test_training_does_not_begin_beside_a_head_of_another_name(
    reward_folder, policy_folder, tmp_path, name
) -> None:
    folder = copy(policy_folder, tmp_path / "model")
    assert start_reward_model(folder, seed=3).score.weight.shape == (1, 32)
    weights = load_file(folder / "model.safetensors")
    save_file(weights | {name: torch.ones(1, 32)}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=rf"^{folder}: {name} may be a score head, .* call it score.weight"):
        start_reward_model(folder)
    assert start_reward_model(reward_folder).score.weight.shape == (1, 32)
