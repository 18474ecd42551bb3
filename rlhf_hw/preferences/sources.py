"""From the name of a source to its rows: which files, which split, several sources mixed.

A source is a file (JSON, JSON lines, both also gzipped, or Parquet), a folder with files named after their
split, or a hub id: `owner/name`, `owner/name:config`, `owner/name//folder`. Several sources are joined by
commas and mixed evenly: any stretch of the rows holds each in proportion to its size. Where the environment
variable `RLHF_HW_REAL_DATA` names a folder laid out as in `paths.LOCAL_COPIES`, the hub ids listed there are
read from it, so that real data can be used without a network.
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from rlhf_hw.errors import InputError, UnknownName
from rlhf_hw.files import check_readable
from rlhf_hw.paths import local_copy, resolve, sources_in
from rlhf_hw.preferences.rows import SUFFIXES, Place, RowFile

FORMATS = "a .json, .jsonl or .parquet file (the first two also as .gz)"
# Other names under which a folder may hold a split; on a hub its own name is asked for
SPLIT_NAMES = {
    "validation": ("validation", "val", "test"),
    "val": ("val", "validation", "test"),
    "test": ("test", "validation", "val"),
}
# What a single file, which has no splits, may stand for whatever its name is
ANY_FILE = ("train", "sft", *SPLIT_NAMES)
# of a file's name after its split: train_30k, train-00000-of-00002, also with the hash that hubs append
SIZE, SHARD = r"(?:_\d+k?)?", r"(?:-(\d+)-of-(\d+)(?:-[0-9a-f]+)?)?"


@dataclass
class DataSource:
    """The rows of one or several sources: iterating gives (place, name of the part, row).

    Attributes:
        name: As it was asked for.
        split: The split.
        files: The local files that are read, in order.
    """

    name: str
    split: str
    files: list[Path] = field(init=False)

    def __post_init__(self) -> None:
        names = sources_in(self.name)
        if not names:
            raise InputError(f"no data set is named: expected {FORMATS}, a folder or a hub id")
        self._parts = [(name, find_files(name, self.split)) for name in names]
        self.files = [file for _, files in self._parts for file in files]

    def __iter__(self) -> Iterator[tuple[Place, str, dict[str, Any]]]:
        """Each row with its place and the last part of its source's name, empty where there is only one."""
        tables = [_Files(files) if files else _FromHub(name, self.split) for name, files in self._parts]
        if len(tables) == 1:
            yield from ((place, "", row) for place, row in tables[0])
            return
        streams, names = [iter(table) for table in tables], [Path(name).name for name, _ in self._parts]
        sizes = [len(table) for table in tables]  # each is read for it
        order = [((k + 0.5) / size, n) for n, size in enumerate(sizes) for k in range(size)]
        for _, n in sorted(order):
            place, row = next(streams[n])
            yield place, names[n], row

    def names(self) -> list[str]:
        """The names of the files, from the folder on that holds all of them."""
        above = os.path.commonpath([file.parent for file in self.files]) if self.files else ""
        return [os.path.relpath(file, above) for file in self.files]


class _Files:
    """The rows of several files, one after the other."""

    def __init__(self, files: Sequence[Path]):
        self._files = [RowFile(file) for file in files]

    def __len__(self) -> int:
        return sum(map(len, self._files)) or self._refuse()

    def __iter__(self) -> Iterator[tuple[Place, dict[str, Any]]]:
        placed = None
        for file in self._files:
            for placed in file:
                yield placed
        if placed is None:
            self._refuse()

    def _refuse(self) -> NoReturn:
        names = ", ".join(str(file.path) for file in self._files)
        raise InputError(f"{names}: no row; expected one object a row, and at least one row")


def read_rows(source: str, split: str = "train") -> Iterator[tuple[Place, dict[str, Any]]]:
    """Yield the rows of one or several sources (see the module's docstring), each with its place.

    Raises:
        FileNotFoundError, InputError, UnknownName: naming the file or the hub id, and the line.
    """
    return ((place, row) for place, _, row in DataSource(source, split))


class _FromHub:
    """The rows of a data set that the hub gives."""

    def __init__(self, name: str, split: str):
        from datasets import disable_progress_bars, load_dataset

        disable_progress_bars()  # in a notebook they would be outputs, there the first time and gone the next
        repository, _, folder = name.partition("//")
        repository, _, config = repository.partition(":")
        self._name = name
        try:
            self._rows = load_dataset(repository, config or None, data_dir=folder or None, split=split)
        except Exception as error:  # datasets raises many kinds; the remedy is the same
            raise FileNotFoundError(
                f"{name[:200]}: no such file or folder, and the hub did not give it "
                f"({type(error).__name__}: {str(error)[:500]}). Give a local file, or a folder with "
                f"{split}.jsonl, .json or .parquet in it, or log in where the hub can be reached."
            ) from error

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[tuple[Place, dict[str, Any]]]:
        return ((Place(self._name, "row", number), row) for number, row in enumerate(self._rows, start=1))


def find_files(source: str, split: str) -> list[Path]:
    """Return the local files of a source's split; an empty list means that it is a hub id.

    Raises:
        UnknownName: the source is a single file, which has no such split.
        InputError: it is no file of a known format, or several files could be the split.
        FileNotFoundError: a folder has no file of the split.
    """
    path, everywhere = resolve(source), False
    if not os.path.lexists(path) and (copy := local_copy(source)) is not None:
        path, everywhere = copy, True
        if not path.exists():
            raise FileNotFoundError(f"RLHF_HW_REAL_DATA: {path} is missing; {source} is looked up there")
    if os.path.isabs(source) or os.path.lexists(path):  # else it may be a hub id
        check_readable(path)
    if os.path.isdir(path):
        return _files_of_split(path, split, everywhere)
    if not os.path.lexists(path):
        return []
    if not path.is_file():
        raise InputError(f"{path}: no ordinary file; expected {FORMATS}, or a folder")
    if not path.name.lower().endswith(SUFFIXES):
        raise InputError(f"{path}: expected {FORMATS}")
    if split not in ANY_FILE and not _is_of(path, split):
        raise UnknownName(
            f"{path}: a single file has no split {split!r}; leave the split out, or name a folder that has it"
        )
    return [path]


def _files_of_split(folder: Path, split: str, everywhere: bool) -> list[Path]:
    """The files of a split in a folder; `everywhere`: also in the folders in it, as hubs take them."""
    known = _data_files(folder, "**/*" if everywhere else "*")
    for name in SPLIT_NAMES.get(split, (split,)):
        if files := [file for file in known if _is_of(file, name)]:
            return _complete(files, split)
    found = ", ".join(f.name for f in known) or "no data files"
    deeper = dict.fromkeys(f.parent for f in _data_files(folder, "*/*") if _is_of(f, split))
    remedy = f"name the folder that has it: {', '.join(map(str, deeper))}"
    if not deeper:
        remedy = "name one of them as the source, or its split" if known else f"expected {FORMATS}"
    raise FileNotFoundError(f"{folder}: no file for split {split!r}; found {found}; {remedy}")


def _data_files(folder: Path, pattern: str) -> list[Path]:
    """Files of a known format, without hidden ones and those in hidden folders."""
    found = (f for f in folder.glob(pattern) if f.name.lower().endswith(SUFFIXES) and f.is_file())
    return sorted(f for f in found if not any(p.startswith(".") for p in f.relative_to(folder).parts))


def _stem(file: Path) -> str:
    return file.name[: -len(next(s for s in SUFFIXES if file.name.lower().endswith(s)))]


def _is_of(file: Path, split: str) -> bool:
    """Whether a file's name is that of a split, perhaps with its size or the number of its part."""
    return re.fullmatch(re.escape(split) + SIZE + SHARD, _stem(file)) is not None


def _complete(files: Sequence[Path], split: str) -> list[Path]:
    """The same files, where each folder has one, or all parts of one."""
    sets = defaultdict(list)
    for file in files:
        base, part, parts = re.fullmatch(f"(.+?){SHARD}", _stem(file)).groups()
        sets[file.parent, base, file.name[len(_stem(file)) :], parts].append(int(part or 0))
    for parent in {file.parent for file in files}:
        if sum(one[0] == parent for one in sets) > 1:
            names = ", ".join(f.name for f in files if f.parent == parent)
            raise InputError(
                f"{parent}: split {split!r} could be any of {names}; name one, or move the others away"
            )
    for (parent, base, suffix, parts), numbers in sets.items():
        there = set(numbers)
        if parts is not None and (len(numbers) != int(parts) or there != set(range(len(numbers)))):
            missing = next(n for n in range(len(numbers) + 1) if n not in there)  # of however many they say
            what = f"part {missing} is not there" if missing < int(parts) else "a part too many stands there"
            raise InputError(f"{parent}: {base}-*-of-{parts}{suffix}: {what}; copy all parts anew")
    return list(files)
