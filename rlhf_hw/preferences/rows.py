"""The rows of a local file, each with its place: JSON lines, JSON (both also gzipped) and Parquet.

A file is read as it is written. Its name is a path and no pattern; its text is UTF-8; a value keeps the type
that it has in its row, whatever other rows hold; nothing is kept from an earlier reading. What cannot be read
so is refused with the file, the line as an editor counts it (of Parquet and JSON lists the row, from 1), and
the remedy. JSON lines and Parquet pass through in constant memory.

    for place, row in RowFile(Path("pairs.jsonl")):    # "pairs.jsonl, line 1", {"question": ...}
"""

import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from rlhf_hw.errors import InputError

SUFFIXES = (".json", ".jsonl", ".json.gz", ".jsonl.gz", ".parquet")
BATCH = 1000  # rows of a Parquet file that are in memory at once
FORM = "expected one JSON object a line, or a list of objects"
MARK = b"\xef\xbb\xbf"  # of UTF-8, which some editors put first
MARKS = {b"\xff\xfe\x00\x00": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
BLANK = re.compile(r"[ \t\n\r]*")
HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F]")  # of an escaped character beyond 16 bits
JSON_NAMES = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}


class Place(NamedTuple):
    """Where a row stands: a file (or hub id), and its line or row, counted from 1."""

    file: str
    unit: str
    number: int

    def __str__(self) -> str:
        return f"{self.file}, {self.unit} {self.number}"


@dataclass(frozen=True)
class RowFile:
    """A file of rows: iterating gives each with its place, `len` counts them.

    Attributes:
        path: Of the file; `.parquet` is Parquet, all else JSON, and `.gz` is gzip.
        nan: Whether JSON may hold NaN and Infinity, which are none of its numbers but often written.

    Raises:
        FileNotFoundError, InputError: when it is read.
    """

    path: Path
    nan: bool = True

    def __iter__(self) -> Iterator[tuple[Place, dict[str, Any]]]:
        ways = {"line": self._of_lines, "row": self._of_list, "record": self._of_table}
        unit = "line" if self._kind == "line" else "row"
        for number, row in ways[self._kind]():
            place = Place(str(self.path), unit, number)
            if not isinstance(row, dict):
                found = JSON_NAMES.get(type(row), "a number")
                raise InputError(f"{place}: expected an object, found {found}; mend it or take it out")
            yield place, row

    def __len__(self) -> int:
        if self._kind == "record":
            return self._table.metadata.num_rows
        return sum(1 for _ in (self._lines() if self._kind == "line" else self._of_list()))

    @cached_property
    def _kind(self) -> str:
        """What a row is in the file: a "line", a "record" of Parquet, or a "row" of any other JSON."""
        if self.path.exists() and not self.path.is_file():  # a pipe that nobody writes to is never read
            what = "folder" if self.path.is_dir() else "pipe or a device"
            raise InputError(f"{self.path} is a {what}: expected a file of rows")
        if self.path.suffix.lower() == ".parquet":
            return "record"
        first = next((line for _, line in self._lines()), "").strip()
        if first.startswith("["):
            return "row"
        # an object over several lines is for .json alone: it has to be held whole
        return "row" if not _ends(first) and ".jsonl" not in self.path.name.lower() else "line"

    def _lines(self) -> Iterator[tuple[int, str]]:
        """The lines that are not blank, with their numbers."""
        for number, raw in enumerate(self._raw_lines(), start=1):
            line = self._text(raw, number).removesuffix("\n")
            if BLANK.match(line).end() < len(line):
                yield number, line

    def _raw_lines(self) -> Iterator[bytes]:
        packed = self.path.suffix.lower() == ".gz"
        with self.path.open("rb") as file:
            if not packed and file.read(2) == b"\x1f\x8b":
                raise InputError(f"{self.path} is gzip: let its name end in .gz")
            file.seek(0)
            try:
                # Only "\n" ends a line: JSON texts may hold the other characters that end lines elsewhere.
                yield from gzip.GzipFile(fileobj=file) if packed else file
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                raise InputError(
                    f"{self.path}: no whole gzip file ({error}); copy it anew, or unpack it and take .gz from"
                    " its name"
                ) from error

    def _text(self, raw: bytes, number: int) -> str:
        where = f"{self.path}, line {number}"
        if number == 1:
            raw = raw.removeprefix(MARK)
            if coding := next((name for mark, name in MARKS.items() if raw.startswith(mark)), None):
                raise InputError(
                    f"{where}: {coding}, expected UTF-8; try `iconv -f {coding} -t UTF-8` on the file"
                )
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            at, found = error.start, raw[error.start]
            raise InputError(
                f"{where}: byte {at + 1} of the line, 0x{found:02x}, is no UTF-8; if the file is in another"
                " encoding, such as Latin-1, try `iconv -f LATIN1 -t UTF-8` on it, else mend the line"
            ) from error
        if "\0" in text:
            raise InputError(f"{where}: holds a zero byte, so it is damaged or not UTF-8; save it as UTF-8")
        return text

    def _of_lines(self) -> Iterator[tuple[int, Any]]:
        for number, line in self._lines():
            value, end = self._decode(line, BLANK.match(line).end(), number)
            if BLANK.match(line, end).end() < len(line):
                raise self._broken("more after the object", line, number, end)
            yield number, value

    def _of_list(self) -> Iterator[tuple[int, Any]]:
        """The values of a list, or objects one after the other; the text is held whole."""
        text = "".join(self._text(raw, number) for number, raw in enumerate(self._raw_lines(), start=1))
        at, number = BLANK.match(text).end(), 0
        listed = text.startswith("[", at)
        at = BLANK.match(text, at + listed).end()
        while at < len(text) and not (listed and text[at] == "]" and number == 0):
            number += 1
            value, end = self._decode(text, at, 1)
            yield number, value
            at = BLANK.match(text, end).end()
            if listed and text.startswith(",", at):
                at = BLANK.match(text, at + 1).end()
            elif listed:
                break
        if listed and not text.startswith("]", at):
            raise self._broken("a comma or the list's end is missing", text, 1, at)
        if (at := BLANK.match(text, at + listed).end()) < len(text):
            raise self._broken("more after the list", text, 1, at)

    def _decode(self, text: str, start: int, line: int) -> tuple[Any, int]:
        """The value that begins at `start`, and where it ends; `line` is that of the text's beginning."""

        def fault(what: str) -> InputError:
            return InputError(f"{self.path}, line {line + text.count(chr(10), 0, start)}: {what}")

        try:
            value, end = (_DECODER if self.nan else _STRICT).raw_decode(text, start)
            if HALF_PAIR.search(text, start, end):
                json.dumps(value, ensure_ascii=False).encode()
        except json.JSONDecodeError as error:
            raise self._broken(error.msg, text, line, error.pos) from error
        except UnicodeEncodeError as error:
            half = error.object[error.start].encode("ascii", "backslashreplace").decode()
            raise fault(f"{half} is half a character; take it out") from error
        except InputError as error:
            raise fault(str(error)) from error
        except (ValueError, RecursionError) as error:  # thousands of digits or of brackets
            raise fault(f"cannot be read ({error}); mend it or take it out") from error
        return value, end

    def _broken(self, what: str, text: str, line: int, at: int) -> InputError:
        column = at - text.rfind("\n", 0, at)
        where = f"{self.path}, line {line + text.count(chr(10), 0, at)}, column {column}"
        return InputError(f"{where}: not JSON ({what}); {FORM}")

    @cached_property
    def _table(self) -> Any:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile

        try:
            table = ParquetFile(self.path)
        except (ArrowException, OSError) as error:
            if isinstance(error, FileNotFoundError | PermissionError):
                raise
            raise InputError(f"{self.path}: no readable Parquet ({error}); write or copy it anew") from error
        twice = [name for name, count in Counter(table.schema_arrow.names).items() if count > 1]
        if twice:
            raise InputError(f"{self.path}: two columns are called {twice[0]!r}; rename one")
        return table

    def _of_table(self) -> Iterator[tuple[int, Any]]:
        number = 0
        try:
            for batch in self._table.iter_batches(BATCH):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
        except (OSError, ValueError, ArithmeticError, NotImplementedError) as error:  # pyarrow's, too
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"{self.path}, after row {number}: no readable Parquet ({error}); write or copy it anew"
            ) from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise InputError(f"key {twice!r} stands twice in one object; take one out")
    return found


def _refuse(constant: str) -> None:
    raise InputError(f"{constant} is no number of JSON; take the row out, or write it again")


_DECODER = json.JSONDecoder(object_pairs_hook=_object)
_STRICT = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_refuse)


def _ends(text: str) -> bool:
    """Whether a text that begins with a JSON value also holds its end; of another fault, its reader tells."""
    try:
        json.JSONDecoder().raw_decode(text)
    except json.JSONDecodeError:
        return False
    except (ValueError, RecursionError):
        return True
    return True
