"""Open what a checkpoint folder or the model hub holds; the only place where transformers is asked for files.

Code that comes with a checkpoint is never run, whatever its configuration asks for, and the many errors of
files that are missing or damaged become one that says which and what to do.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, PretrainedConfig, dynamic_module_utils
from transformers.utils.hub import cached_file, extract_commit_hash

from rlhf_hw.errors import InputError
from rlhf_hw.files import read_json
from rlhf_hw.paths import NOTES

CUSTOM_CODE = (
    "the checkpoint wants code of its own to be run, which is never done here; "
    "take a checkpoint of an architecture that transformers knows"
)
STATE = "trainer_state.json"  # of transformers' Trainer, in what it can go on from
ANEW = "copy or fetch the checkpoint anew"
FILES = "config.json, generation_config.json, *.safetensors, tokenizer.json, tokenizer_config.json, *.jinja"


def read_pretrained(kind: Any, model: str | Path, **options: Any) -> Any:
    """`kind.from_pretrained(model, ...)`, without custom code.

    Args:
        kind: One of transformers' Auto classes.
        model: Folder or hub id.
        options: Further arguments of `from_pretrained`.

    Raises:
        FileNotFoundError: There is no such folder and the hub did not give the files.
        InputError: The folder cannot be loaded: files are missing or damaged, or it needs code of its own.
    """
    if Path(model).is_dir():
        _check_folder(Path(model))
    elif Path(model).is_file():
        raise InputError(f"{model} is a file: give the folder of the checkpoint that it belongs to")
    try:
        with _no_custom_code():
            loaded = kind.from_pretrained(str(model), trust_remote_code=False, **options)
    except MemoryError:
        raise
    except Exception as error:  # transformers, safetensors and tokenizers raise many kinds, down to this one
        if Path(model).is_dir():
            raise InputError(f"{model}: {_unusable(error)}") from error
        name = Path(model).name
        raise FileNotFoundError(
            f"{model}: no such folder, and the hub did not give it ({type(error).__name__}). Where it can be "
            f"reached, run `hf download {model} --local-dir {name}`: it fetches {FILES}. Copy that folder "
            f"here and give its path: --set base_model=/path/to/{name} for a profile, --model for a command"
        ) from error
    names = getattr(loaded, "architectures", None) if isinstance(loaded, PretrainedConfig) else None
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise InputError(f"{model}: architectures in config.json: expected a list of names; {ANEW}")
    return loaded


def hub_commit(model: str) -> str:
    """The commit of the files that a hub id stands for now: other weights under the same name have another.

    Raises:
        FileNotFoundError: The hub did not give the files.
    """
    read_pretrained(AutoConfig, model)
    return extract_commit_hash(cached_file(model, "config.json"), None) or ""


@contextmanager
def _no_custom_code() -> Iterator[None]:
    """Within it, transformers neither asks whether to run code nor imports any from a checkpoint.

    `trust_remote_code=False` alone does not do: a tokenizer's file may name any class of transformers, whose
    own loading then asks anew.
    """

    def refuse(*arguments: Any, **options: Any) -> None:
        raise InputError(CUSTOM_CODE)

    changed = {"TIME_OUT_REMOTE_CODE": 0, "get_class_in_module": refuse}
    before = {name: getattr(dynamic_module_utils, name) for name in changed}
    vars(dynamic_module_utils).update(changed)
    try:
        yield
    finally:
        vars(dynamic_module_utils).update(before)


def _check_folder(folder: Path) -> None:
    """Refuse a folder that is no whole checkpoint.

    A killed run left it half replaced, it holds adapters, or its weights lie elsewhere or stand there twice.
    """
    notes: Any = None
    with suppress(OSError, ValueError, RecursionError):  # damaged notes say nothing
        notes = json.loads((folder / NOTES).read_text(encoding="utf-8"))
    if isinstance(notes, dict) and notes.get("publishing"):
        raise InputError(
            f"{folder}: a run was killed while it wrote the checkpoint there; start that run again"
        )
    _refuse_resumable(folder)
    if folder.joinpath("adapter_config.json").exists():
        raise InputError(
            f"{folder}: holds adapters (adapter_config.json) for another model, which are not read; merge "
            "them (peft: model.merge_and_unload()), and save the whole model with its tokenizer"
        )
    for index in folder.glob("*.index.json"):
        try:
            named = set(read_json(index, remedy=ANEW)["weight_map"].values())
        except (KeyError, AttributeError, TypeError) as error:
            raise InputError(f"{index}: no index of weights ({error!r}); {ANEW}") from error
        if outside := sorted(name for name in named if Path(str(name)).name != name):
            raise InputError(
                f"{index}: names weights outside of its folder, such as {outside[0]!r}; take another model"
            )
        _refuse_twice(folder, named)


def _refuse_resumable(folder: Path) -> None:
    """Refuse what transformers' Trainer saves to go on from, and no tokenizer with it, for a model.

    Others save the tokenizer there, too; theirs load.
    """
    if not folder.joinpath(STATE).exists() or any(folder.glob("tokenizer*")):
        return
    above = folder.absolute().parent
    remedy = f"give the folder of the finished model, {above}"
    if not above.joinpath("config.json").exists():
        remedy = f"let that training go on to its end (resume), then give {above}, where the model will be"
    what = f"a resumable checkpoint from the middle of a training ({STATE}), without a tokenizer"
    raise InputError(f"{folder}: {what}; {remedy}")


def _refuse_twice(folder: Path, files: set[str]) -> None:
    """Refuse weights that stand in two of a checkpoint's files: which ones count is left to chance."""
    found: dict[str, str] = {}
    for file in sorted(name for name in files if name.endswith(".safetensors")):
        with suppress(SafetensorError, OSError), safe_open(folder / file, framework="pt") as weights:
            for name in weights.keys():  # noqa: SIM118
                if name in found:
                    raise InputError(f"{folder}: {name} stands in {found[name]} and in {file}; {ANEW}")
                found[name] = file


def _unusable(error: Exception) -> str:
    if "trust_remote_code" in str(error) or CUSTOM_CODE in str(error):
        return CUSTOM_CODE
    if "ignore_mismatched_sizes" in str(error):  # transformers names an option that nobody here can set
        return f"the weights have other shapes than config.json gives them; restore config.json, or {ANEW}"
    first = next(iter(str(error).strip().splitlines()), "")
    return f"cannot be loaded ({type(error).__name__}: {first:.300}). The folder should hold {FILES}"
