"""The folders of a training run: checked before the work begins, and cleared of what our own runs left there.

A folder in which another program, or a person, keeps a model is refused, also for what would lie below it:
a checkpoint's folder is read, copied and hashed as one thing. Nothing is replaced or removed
that no run of ours wrote: files of an older checkpoint by name and content, as noted when they were written,
resumable checkpoints only in a folder that is ours, TensorBoard's events by the processes that wrote them.
The notes of a checkpoint stand in `.rlhf_hw.json` beside it, those of events in `.rlhf_hw_events.json`. One
run at a time writes into a folder.
"""

import json
import os
import re
import shutil
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from rlhf_hw.errors import Explained, InputError, RunFailed
from rlhf_hw.files import digest, make_folder, write_json
from rlhf_hw.paths import NOTES, places

EVENT_NOTES = ".rlhf_hw_events.json"
UNFINISHED = ".rlhf_hw_unfinished"
LOCK = ".rlhf_hw.lock"
RECORD = "training.json"
STEPS_KEPT = 2  # resumable checkpoints, the one before the last in case the last was cut short
# What makes a folder somebody's checkpoint, and what a run of ours would replace in it
MODEL_FILES = (
    "*config.json",
    "*.safetensors",
    "*.index.json",
    "*.bin",
    "*.jinja",
    "tokenizer*",
    "checkpoint-*",
)
OWN_NAMES = ("config.json", "model.safetensors", "tokenizer.json", "rendering.json", RECORD)
_locks: dict[Path, IO] = {}


def check_places(output_dir: Path, log_dir: Path | None, sources: Mapping[str, str]) -> None:
    """Hold a run's inputs and outputs apart: a new checkpoint replaces or removes what lies in its folder.

    Args:
        output_dir: Of its checkpoint.
        log_dir: Of its logs; None for those in `output_dir`.
        sources: What is read, by the setting that names it; empty for none.

    Raises:
        InputError: an input lies where the run writes, or what it writes would lie in a folder that holds
            another checkpoint, or among the resumable ones of its own.
    """
    if output_dir == Path():
        raise InputError("output_dir: expected a folder of its own, found the current one, or an empty name")
    output = output_dir.resolve()
    for name, text in sources.items():
        for place in places(text):
            if place.is_relative_to(output):
                raise InputError(
                    f"output_dir: {output_dir} holds {name}, {place}, which a new checkpoint could "
                    "replace; choose another folder"
                )
    for name, given in {"output_dir": output_dir, "log_dir": log_dir or output_dir}.items():
        place = given.resolve()
        above = [folder for folder in (place, *place.parents) if folder != output]  # that is `take_folder`'s
        names = rf"checkpoint-\d+|{UNFINISHED}"  # of folders in it that are removed
        cleared = [f for f in above if f.parent == output and re.fullmatch(names, f.name)]
        if held := next((f for f in above if f in cleared or holds_checkpoint(f)), None):
            raise InputError(
                f"{name}: {given} is, or lies in, {held}, the folder of a checkpoint, which is read and "
                "replaced as a whole; choose a folder outside of it"
            )


def holds_checkpoint(folder: Path) -> bool:
    """Whether a folder holds a checkpoint, or a run of ours makes one there."""
    weights = ("*.safetensors", "*.bin", "*.index.json")
    whole = os.path.exists(folder / "config.json") and any(any(folder.glob(kind)) for kind in weights)
    return whole or os.path.exists(folder / NOTES)


def take_folder(folder: str | Path) -> None:
    """Take a folder for this process, until `publish`: lock it and note that it is ours.

    What a run that was killed had finished, and was moving to its place, is moved first.

    Raises:
        InputError: it holds a model that no run of ours wrote or that was changed since, or another run
            writes into it.
    """
    folder = Path(folder)
    found = notes(folder)
    if "files" not in found and not _is_ours(folder / RECORD):
        refuse(folder, (path.name for pattern in (*MODEL_FILES, RECORD) for path in folder.glob(pattern)))
    if links := [name for name in (UNFINISHED, LOCK, NOTES) if (folder / name).is_symlink()]:
        raise InputError(
            f"output_dir: {folder / links[0]} is a link; what it leads to would be written over: remove it"
        )
    make_folder(folder, "output_dir")
    _lock(folder)
    if found.get("publishing") and "new" in found:
        _move_to_its_place(folder)
        found = notes(folder)
    if "files" in found:
        known = found["files"]
        changed = (name for name in known if _digest(folder / name) not in (known[name], None))
        unknown = (name for name in OWN_NAMES if name not in known and (folder / name).exists())
        refuse(folder, (*changed, *unknown))
        note(folder / NOTES)
    else:  # new, or of a run from before there were notes
        there = {name: _digest(folder / name) for name in OWN_NAMES if (folder / name).exists()}
        note(folder / NOTES, files=there)


def refuse(folder: Path, names: Any) -> None:
    """Refuse a folder for files in it that are not ours; with none, do nothing."""
    if listed := sorted(set(names)):
        raise InputError(
            f"output_dir: {folder} holds {', '.join(listed[:3])}, which no run of ours wrote as it is and a "
            "new checkpoint would replace; choose another folder, or move that away"
        )


def unfinished(folder: str | Path) -> Path:
    """Return an empty folder in which the new content of `folder` is prepared.

    What a killed run had noted of its own is forgotten: half of the new content must not be taken for that.
    """
    path, known = Path(folder) / UNFINISHED, notes(Path(folder))
    if known.pop("new", None) is not None:
        write_json(Path(folder) / NOTES, known)
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


def publish(folder: str | Path) -> None:
    """Move what was prepared in `unfinished(folder)` to its place, in place of our older checkpoint there.

    The record goes first from the old checkpoint and comes last to the new one; until it is there, the notes
    say that the folder is in between, and nothing is loaded from it. Whoever may read the folder may read its
    files: safetensors would leave the weights to their owner alone. Another run may then take the folder.
    """
    folder = Path(folder)
    new = {path.name: _digest(path) for path in (folder / UNFINISHED).iterdir()}
    note(folder / NOTES, publishing=True, new=new)
    (folder / RECORD).unlink(missing_ok=True)
    _move_to_its_place(folder)
    release(folder)


@contextmanager
def saving(folder: str | Path) -> Iterator[str | Path]:
    """Of whatever goes wrong while a checkpoint is written to `folder`, one message; half of it is removed.

    torch, safetensors and DeepSpeed each have errors of their own for a disk that is full.
    """
    try:
        yield folder
    except Explained:
        raise
    except Exception as error:
        shutil.rmtree(folder, ignore_errors=True)
        first = next(iter(str(error).splitlines()), "")
        free = shutil.disk_usage(Path(folder).parent).free / 2**20
        raise RunFailed(
            f"{folder} could not be written ({type(error).__name__}: {first:.200}); {free:.0f} MiB are free "
            "there. Checkpoints from before are as they were: free some space, and start again with --resume"
        ) from error


def copy_finished(source: str | Path, folder: str | Path) -> Path:
    """Put a copy of a finished checkpoint of ours into a folder, as if a run had made it there."""
    take_folder(folder)
    prepared = unfinished(folder)
    for path in Path(source).iterdir():
        if path.is_file() and not path.name.startswith(".rlhf_hw"):
            shutil.copyfile(path, prepared / path.name)
    publish(folder)
    return Path(folder)


def _move_to_its_place(folder: Path) -> None:
    """Move what is prepared, remove what the older checkpoint had besides, and note what is there now."""
    found, prepared = notes(folder), folder / UNFINISHED
    new = found["new"]
    mode = (folder / NOTES).stat().st_mode
    for name in sorted(new, key=lambda name: name == RECORD):
        if (prepared / name).exists():  # else it was moved before the run was killed
            (prepared / name).chmod(mode)
            (prepared / name).replace(folder / name)
    for name in found.get("files", {}).keys() - new.keys():
        if name == Path(name).name and (folder / name).is_file():
            (folder / name).unlink()
    if prepared.is_dir():  # else only the notes were left to write when a run was killed, or a disk full
        prepared.rmdir()
    write_json(folder / NOTES, {"written_by": "rlhf_hw", "files": new})


def remove_old_steps(folder: str | Path, keep: int = 0) -> None:
    """Remove the trainer's `checkpoint-<step>` in a folder of ours, but for the newest `keep`."""
    _remove_steps(steps_in(folder)[keep:])


def remove_later_steps(checkpoint: str | Path) -> None:
    """Remove the resumable checkpoints of later steps beside a checkpoint."""
    beside = steps_in(Path(checkpoint).parent)
    _remove_steps(beside[: beside.index(Path(checkpoint))])


def steps_in(folder: str | Path) -> list[Path]:
    """The trainer's `checkpoint-<step>` in a folder, the newest first."""
    steps = [path for path in Path(folder).glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    return sorted(steps, key=lambda path: -int(path.name.partition("-")[2]))


def _remove_steps(steps: Iterable[Path]) -> None:
    for old in steps:
        if not old.is_symlink():
            shutil.rmtree(old)


def take_events(folder: str | Path, resume: bool) -> None:
    """Note who writes events there next; unless a run is resumed, remove those of earlier runs of ours.

    Two runs in one folder would mix their curves.
    """
    folder, process = Path(folder), f"{socket.gethostname()}.{os.getpid()}"
    # events.out.tfevents.<time>.<host>.<process>.<number>
    writers = notes(folder, EVENT_NOTES).get("writers", [])
    ours = "|".join(re.escape(writer) for writer in writers)
    for old in [] if resume else folder.glob("events.out.tfevents.*"):
        if re.fullmatch(rf"events\.out\.tfevents\.\d+\.({ours})\.\d+", old.name):
            old.unlink()
    note(folder / EVENT_NOTES, writers=[*(writers if resume else []), process])


def notes(folder: Path, name: str = NOTES) -> dict[str, Any]:
    """What runs of ours noted in a folder."""
    try:
        found = dict(json.loads((folder / name).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return {}
    lists = {"files": dict, "new": dict, "writers": list}
    return {k: v for k, v in found.items() if isinstance(v, lists.get(k, object))}


def note(path: Path, **values: Any) -> None:
    """Add to the notes in a file, or replace what stands there under the same name."""
    write_json(path, {"written_by": "rlhf_hw"} | notes(path.parent, path.name) | values)


def _is_ours(record: Path) -> bool:
    """Whether a file is the record of a training run of ours, from before there were notes."""
    try:
        return {"config", "metrics", "history"} <= set(json.loads(record.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return False


def _digest(path: Path) -> str | None:
    return digest(path) if path.is_file() else None


def release(folder: Path, remove: Iterable[str] = ()) -> None:
    """Let another run take a folder that this process holds, without some files that it wrote there."""
    if handle := _locks.pop(folder.resolve(), None):
        for name in remove:
            (folder / name).unlink(missing_ok=True)
        handle.close()


def _lock(folder: Path) -> None:
    """Hold the folder's lock until `publish`, or to the end of this process."""
    try:
        import fcntl
    except ImportError:  # not on POSIX
        return
    place = folder.resolve()
    if place in _locks:
        return
    handle = (folder / LOCK).open("a+", encoding="utf-8")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.seek(0)
        who = handle.read().strip()
        handle.close()
        raise InputError(
            f"output_dir: process {who} writes into {folder}; wait for it, or choose another"
        ) from None
    handle.truncate(0)
    handle.write(str(os.getpid()))
    handle.flush()
    _locks[place] = handle
