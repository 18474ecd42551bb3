"""Open what a checkpoint folder or the model hub holds; the only place where transformers is asked for files.

Code that comes with a checkpoint is never run, whatever its configuration asks for, and the many errors of
files that are missing or damaged become one that says which and what to do.
"""

from pathlib import Path
from typing import Any

from rlhf_hw.errors import InputError

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
    try:
        return kind.from_pretrained(str(model), trust_remote_code=False, **options)
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


def _unusable(error: Exception) -> str:
    if "trust_remote_code" in str(error):
        return (
            "the checkpoint wants code of its own to be run, which is never done here; "
            "take a checkpoint of an architecture that transformers knows"
        )
    first = next(iter(str(error).strip().splitlines()), "")
    return f"cannot be loaded ({type(error).__name__}: {first:.300}). The folder should hold {FILES}"
