"""The folders of a training run: checked before the work begins, and cleared of what our own runs left there.

A folder in which another program, or a person, keeps a model is refused, and nothing is removed that no run
of ours wrote: files of an older checkpoint by the names that were noted when it was written, resumable
checkpoints only in a folder that is ours, TensorBoard's events by the processes that wrote them. The notes
stand in `.rlhf_hw.json` in each of the folders; a folder with it is ours.
"""

import json
import os
import re
import shutil
import socket
from pathlib import Path
from typing import Any

from rlhf_hw.errors import InputError
from rlhf_hw.files import write_json

NOTES = ".rlhf_hw.json"
UNFINISHED = ".rlhf_hw_unfinished"
RECORD = "training.json"
MODEL_FILES = ("config.json", "*.safetensors", "*.safetensors.index.json", "*.bin", "checkpoint-*")


def take_folder(folder: str | Path) -> None:
    """Note that a folder is ours, so that a checkpoint may be written into it and later replaced.

    Raises:
        InputError: it holds a model that no run of ours wrote.
    """
    folder = Path(folder)
    found = sorted(path.name for pattern in MODEL_FILES for path in folder.glob(pattern))
    if found and not any((folder / name).exists() for name in (NOTES, RECORD)):
        raise InputError(
            f"output_dir: {folder} holds {', '.join(found[:3])}, which no run of ours wrote and a new "
            "checkpoint would replace; choose another folder, or empty this one"
        )
    note(folder)


def unfinished(folder: str | Path) -> Path:
    """Return an empty folder in which the new content of `folder` is prepared."""
    path = Path(folder) / UNFINISHED
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


def publish(folder: str | Path) -> None:
    """Move what was prepared in `unfinished(folder)` to its place, in place of our older checkpoint there.

    The record goes first from the old checkpoint and comes last to the new one. Whoever may read the folder
    may read its files: safetensors would leave the weights to their owner alone.
    """
    folder = Path(folder)
    prepared = sorted((folder / UNFINISHED).iterdir(), key=lambda file: file.name == RECORD)
    names, older = {file.name for file in prepared}, set(notes(folder).get("files", []))
    note(folder, files=sorted(names | older))  # also for whoever goes on from here if this is killed
    (folder / RECORD).unlink(missing_ok=True)
    for name in older - names:
        (folder / Path(name).name).unlink(missing_ok=True)
    mode = (folder / NOTES).stat().st_mode
    for file in prepared:
        file.chmod(mode)
        file.replace(folder / file.name)
    (folder / UNFINISHED).rmdir()
    note(folder, files=sorted(names))


def remove_old_steps(folder: str | Path) -> None:
    """Remove the trainer's `checkpoint-<step>` in a folder of ours: a resume would take the wrong run up."""
    for old in Path(folder).glob("checkpoint-*"):
        if re.fullmatch(r"checkpoint-\d+", old.name):
            shutil.rmtree(old)


def take_events(folder: str | Path, resume: bool) -> None:
    """Note who writes events there next; unless a run is resumed, remove those of earlier runs of ours.

    Two runs in one folder would mix their curves.
    """
    folder, process = Path(folder), f"{socket.gethostname()}.{os.getpid()}"
    # events.out.tfevents.<time>.<host>.<process>.<number>
    writers = notes(folder).get("event_writers", [])
    ours = "|".join(re.escape(writer) for writer in writers)
    for old in [] if resume else folder.glob("events.out.tfevents.*"):
        if re.fullmatch(rf"events\.out\.tfevents\.\d+\.({ours})\.\d+", old.name):
            old.unlink()
    note(folder, event_writers=[*(writers if resume else []), process])


def notes(folder: Path) -> dict[str, Any]:
    """What runs of ours noted in a folder."""
    path = folder / NOTES
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def note(folder: Path, **values: Any) -> None:
    """Add to the notes of a folder, or replace what stands there under the same name."""
    write_json(folder / NOTES, {"written_by": "rlhf_hw"} | notes(folder) | values)
