"""Checkpoints are data: their code never runs, and what is missing or damaged is named with its folder."""

import json
import re
import shutil
from pathlib import Path

import pytest

from rlhf_hw.errors import InputError
from rlhf_hw.models.foreign import is_align_anything
from rlhf_hw.models.loading import load_policy, load_reward_model
from rlhf_hw.models.rendering import Renderer, load_tokenizer
from rlhf_hw.paths import LIBRARY

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
