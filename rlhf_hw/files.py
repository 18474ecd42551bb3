"""Write files whole or not at all: under a temporary name beside the target, then renamed.

A run that is killed, a full disk or an error in the middle leaves what was there before.
"""

import glob
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from rlhf_hw.errors import InputError
from rlhf_hw.paths import places

LONGEST, LONGEST_PATH = 255, 4000  # bytes of a name, characters of a path


@contextmanager
def replacing(path: str | Path, mode: str = "w") -> Iterator[IO]:
    """A stream for the new content of `path`, which takes its place when the `with` ends without an error.

    Args:
        path: The file; its folder is made where it is missing.
        mode: "w" for text in UTF-8, "wb" for bytes.
    """
    path = usable_path(path, "output").resolve()  # of a link, what it leads to
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_left(path)
    partial, stream = _part(path, mode)
    try:
        with stream:
            yield stream
            stream.flush()
            if path.exists():
                partial.chmod(path.stat().st_mode)
            partial.replace(path)  # before it is closed, and with that no longer locked
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # of a write: the disk is full, say
            what = f"{error.strerror}; what was there before is kept, free some space or choose another place"
            raise OSError(error.errno, what, str(path)) from error
        raise


def _part(path: Path, mode: str) -> tuple[Path, IO]:
    """A file beside `path` for its new content, of a name of its own: several processes may write at once."""
    while True:
        partial = path.with_name(f".{_short(path.name)}.{secrets.token_hex(8)}.partial")
        stream = partial.open(mode.replace("w", "x"), encoding=None if "b" in mode else "utf-8")
        try:
            _lock(stream)
            if os.fstat(stream.fileno()).st_nlink:
                return partial, stream
        except BlockingIOError:
            pass
        stream.close()  # another process took it for one that was left, before it was locked


def _remove_left(path: Path) -> None:
    """Remove what killed processes left of `path`; one that still writes holds a lock on its part."""
    for left in path.parent.glob(f".{glob.escape(_short(path.name))}.{'[0-9a-f]' * 16}.partial"):
        try:
            with left.open("rb") as stream:
                if _lock(stream):
                    left.unlink()
        except OSError:  # in use, gone meanwhile, or not ours to remove
            continue


def _short(name: str) -> str:
    """A name that leaves room for what a part is called besides."""
    raw = os.fsencode(name)
    return name if len(raw) <= LONGEST // 2 else hashlib.sha256(raw).hexdigest()


def _lock(stream: IO) -> bool:
    """Hold a file as long as it is open; False where the system has no such locks.

    Raises:
        BlockingIOError: another holds it.
    """
    try:
        import fcntl

        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except (ImportError, OSError):
        return False
    return True


def usable_path(path: str | Path, what: str) -> Path:
    """`path` with `~` as the home folder, where a file or folder can be called so.

    Raises:
        InputError: no file can have that name, it begins with a user whom the system does not know, it is a
            link that leads in a circle, the current folder is gone, or it is `-`, which elsewhere stands for
            standard input or output.
    """
    path = Path(os.path.expanduser(path))
    if str(path) == "-":
        raise InputError(
            f"{what}: - does not stand for standard input or output here; give the name of a file or folder"
        )
    long = len(str(path)) > LONGEST_PATH or any(len(os.fsencode(part)) > LONGEST for part in path.parts)
    if long or "\0" in str(path):
        raise InputError(f"{what}: no file or folder can be called {str(path):.60}...; choose another name")
    if str(path) != os.fsencode(path).decode(errors="replace"):
        raise InputError(
            f"{what}: {os.fsencode(path)!r:.200} is no UTF-8, as other programs need it; rename it"
        )
    if str(path).startswith("~"):
        raise InputError(f"{what}: {path}: there is no such user; write it in full: {path.absolute()}")
    try:
        path.resolve()
    except RuntimeError as error:
        raise InputError(f"{what}: {path} is a link that leads in a circle; choose another name") from error
    except FileNotFoundError as error:
        raise InputError(f"{what}: the folder you are in is gone; change into another, with cd") from error
    return path


def check_readable(path: str | Path) -> None:
    """Say that a file or folder may not be looked at: listing one, or what lies in one, finds nothing then.

    Args:
        path: What is looked for; where it is not there, the folder counts in which it would be.

    Raises:
        InputError: it is a folder that may not be read, or lies below one.
    """
    there = next(folder for folder in (Path(path), *Path(path).absolute().parents) if os.path.lexists(folder))
    if os.path.isdir(there) and not os.access(there, os.R_OK | os.X_OK):
        raise InputError(f"{there}: you may not read this folder; ask whose it is, or copy its files")


def make_folder(folder: str | Path, what: str) -> Path:
    """Make a folder for results, where it is not there, and see that files can be written into it.

    Raises:
        InputError: that cannot be done; `what` is the setting that names the folder.
    """
    folder = usable_path(folder, what)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        allowed = os.access(folder, os.W_OK)
    except OSError as error:
        raise InputError(f"{what}: {folder} cannot be made ({error.strerror}); choose another") from error
    if not allowed:
        raise InputError(f"{what}: you may not write into {folder}; choose another")
    return folder


def check_target(path: str | Path, inputs: Iterable[str | Path] = ()) -> None:
    """Say before any work is done that a result could not be written to `path`, or would touch its sources.

    Raises:
        InputError: it is a folder, read-only, lies below a file, is one of the inputs or lies in one.
    """
    path = usable_path(path, "output")
    if path.is_dir():
        raise InputError(f"{path} is a folder: give the name of a file to write")
    if path.exists() and not (path.is_file() and path.stat().st_mode & 0o222):
        raise InputError(f"{path} is read-only or no ordinary file: write to another")
    above = next(folder for folder in path.absolute().parents if folder.exists())
    # where the system shows its processes no file can be made, whatever the modes say
    if not above.is_dir() or not os.access(above, os.W_OK) or above.resolve().is_relative_to("/proc"):
        raise InputError(f"{path} cannot be written: {above} is no folder that you may write to")
    sources = [place for source in inputs for place in places(source)]
    inside = any(path.resolve().is_relative_to(source) for source in sources)
    if inside or path.exists() and any(path.samefile(source) for source in sources):
        raise InputError(f"{path} is read, or lies in a folder that is: write to another place")


def folder_name(name: str, what: str) -> str:
    """`name`, where it can name a folder of ours and lead nowhere else.

    Raises:
        InputError: it is empty, a path, or begins with a dot.
    """
    if not re.fullmatch(r"\w[\w.+-]*", name):
        raise InputError(
            f"{what}: expected a name such as 'nano', of letters, digits, . _ + - and no path, found {name!r}"
        )
    return name


def read_text(path: str | Path) -> str:
    """The text of a small file, in UTF-8.

    Raises:
        FileNotFoundError: it is not there.
        InputError: it is no text in UTF-8, or no file.
    """
    if Path(path).exists() and not (Path(path).is_file() or Path(path).is_dir()):
        raise InputError(f"{path} is a pipe or a device: expected a file")
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: byte {error.start + 1} is no UTF-8; save it as UTF-8, or write it anew"
        ) from error
    except IsADirectoryError as error:
        raise InputError(f"{path} is a folder: expected a file") from error


def read_json(path: str | Path, form: type = dict, remedy: str = "mend it, or write it anew") -> Any:
    """The content of a small JSON file.

    Args:
        path: The file.
        form: What it has to hold: `dict` or `list`.
        remedy: What to do where it does not.

    Raises:
        FileNotFoundError: it is not there.
        InputError: it is no JSON, or something else than `form`.
    """
    try:
        found = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}: not JSON ({error.msg}); {remedy}") from error
    except RecursionError as error:
        raise InputError(f"{path}: brackets in brackets, thousands deep; {remedy}") from error
    if not isinstance(found, form):
        wanted = {dict: "an object", list: "a list"}[form]
        raise InputError(f"{path}: expected {wanted}, found {found!r:.40}; {remedy}")
    return found


def version_of(path: Path) -> tuple[int, ...]:
    """What changes with a file's content, even where somebody sets its date back."""
    now = path.stat()
    return now.st_mtime_ns, now.st_ctime_ns, now.st_size, now.st_ino


def digest(path: str | Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_text(path: str | Path, text: str) -> None:
    """Replace a text file in one step."""
    with replacing(path) as stream:
        stream.write(text)


def write_json(path: str | Path, content: Any) -> None:
    """Replace a JSON file in one step."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
