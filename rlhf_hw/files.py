"""Write files whole or not at all: under a temporary name beside the target, then renamed.

A run that is killed, a full disk or an error in the middle leaves what was there before.
"""

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


@contextmanager
def replacing(path: str | Path, mode: str = "w") -> Iterator[IO]:
    """A stream for the new content of `path`, which takes its place when the `with` ends without an error.

    Args:
        path: The file; its folder is made where it is missing.
        mode: "w" for text in UTF-8, "wb" for bytes.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # of a name of its own: several processes may write the same file at once
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
    try:
        with partial.open(mode.replace("w", "x"), encoding=None if "b" in mode else "utf-8") as stream:
            yield stream
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_text(path: str | Path, text: str) -> None:
    """Replace a text file in one step."""
    with replacing(path) as stream:
        stream.write(text)


def write_json(path: str | Path, content: Any) -> None:
    """Replace a JSON file in one step."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
