"""What to do where the model hub cannot be reached."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FILES = "config.json, generation_config.json, *.safetensors, tokenizer.json, tokenizer_config.json, *.jinja"


@contextmanager
def hub_files(model: str | Path) -> Iterator[None]:
    """Turn the many errors of a model that cannot be had into one that says which files to fetch.

    Args:
        model: Folder or hub id that is loaded inside the `with`.

    Raises:
        FileNotFoundError: There is no such folder and the hub did not give the files.
    """
    try:
        yield
    except (OSError, ValueError) as error:  # transformers and huggingface_hub raise both
        if Path(model).is_dir():
            raise
        name = Path(model).name
        raise FileNotFoundError(
            f"{model}: no such folder, and the hub did not give it ({type(error).__name__}). Where it can be "
            f"reached, run `hf download {model} --local-dir {name}`: it fetches {FILES}. Copy that folder "
            f"here and give its path: --set base_model=/path/to/{name} for a profile, --model for a command"
        ) from error
