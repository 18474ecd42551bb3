"""Read preference data from files or a hub, say what is wrong with it row by row, and keep what can be used.

A source is a file (JSON, JSON lines, Parquet, also gzipped), a folder with files named after their split, or
a hub id: `owner/name`, `owner/name:config`, `owner/name//folder`. Several sources are joined by commas and
mixed evenly: any stretch of the rows holds each in proportion to its size. Where
the environment variable `RLHF_HW_REAL_DATA` names a folder laid out as in `paths.LOCAL_COPIES`, the hub ids
listed there are read from it, so that real data can be used without a network.
"""

import json
import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_hw.errors import InputError, UnknownName
from rlhf_hw.paths import local_copy, resolve
from rlhf_hw.preferences.templates import TEMPLATES, Dropped, Label0, Preference, get_template

log = logging.getLogger(__name__)

SUFFIXES = {".json": "json", ".jsonl": "json", ".parquet": "parquet"}
# Other names under which a folder may hold a split; on a hub its own name is asked for
SPLIT_NAMES = {
    "validation": ("validation", "val", "test"),
    "val": ("val", "validation", "test"),
    "test": ("test", "validation", "val"),
}


@dataclass
class DataReport:
    """What happened to the rows of one data set: how many were read, used, and dropped for which reason."""

    source: str
    template: str
    split: str
    rows: int = 0
    used: int = 0
    dropped: Counter = field(default_factory=Counter)
    problems: list[dict] = field(default_factory=list)  # {"row", "reason", "message"}, at most 20
    statistics: dict[str, float] = field(default_factory=dict)

    def drop(self, reason: str, row: int, message: str = "") -> None:
        """Count one dropped row; the first ones are kept to be shown."""
        self.dropped[reason] += 1
        if len(self.problems) < 20:
            self.problems.append({"row": row, "reason": reason, "message": message})

    def summary(self) -> str:
        """The report as text: counts, drops by reason with their rows, lengths and label balance."""
        lines = [
            f"{self.source} ({self.split}), template {self.template}:",
            f"  {self.rows} rows read, {self.used} pairs used, {sum(self.dropped.values())} dropped",
        ]
        for reason, count in sorted(self.dropped.items()):
            rows = [str(p["row"]) for p in self.problems if p["reason"] == reason]
            shown = f" (row {', '.join(rows)}{' ...' * (len(rows) < count)})" if rows else ""
            lines.append(f"  dropped as {reason}: {count}{shown}")
        lines += [f"  row {p['row']}: {p['message']}" for p in self.problems if p["message"]]
        lines += [f"  {name}: {value:.4g}" for name, value in self.statistics.items()]
        return "\n".join(lines)

    __str__ = summary

    def to_dict(self) -> dict:
        """The report as plain data for JSON."""
        return {**asdict(self), "dropped": dict(self.dropped)}


def read_rows(source: str, split: str = "train") -> Iterator[dict[str, Any]]:
    """Yield the rows of one or several sources (see the module's docstring) through `datasets`."""
    return (row for _, row in _rows_of_parts(source, split))


def _rows_of_parts(source: str, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each row with the last part of its source's name; empty where there is only one source."""
    parts = [part.strip() for part in source.split(",") if part.strip()]
    tables = [_load(part, split) for part in parts]
    if len(tables) == 1:
        yield from (("", row) for row in tables[0])
        return
    streams, names = [iter(table) for table in tables], [Path(part).name for part in parts]
    places = [((k + 0.5) / len(table), n) for n, table in enumerate(tables) for k in range(len(table))]
    yield from ((names[n], next(streams[n])) for _, n in sorted(places))


def _load(source: str, split: str) -> Sequence[dict[str, Any]]:
    from datasets import disable_progress_bars, load_dataset

    disable_progress_bars()  # in a notebook they would be outputs, there the first time and gone the next

    files = find_files(source, split)
    if files:
        kinds = {SUFFIXES[_suffix(f)] for f in files}
        names = [f.name for f in files]
        if len(kinds) > 1:
            raise InputError(f"{source}: files of several formats for split {split!r}: {names}")
        kind = kinds.pop()
        try:
            return load_dataset(kind, data_files=[str(f) for f in files], split="train")
        except Exception as error:  # an empty file, a broken line, another format than the name says
            reason = error.__cause__ or error
            raise InputError(
                f"{source}: {', '.join(names)} cannot be read as {kind} "
                f"({type(reason).__name__}: {reason}); it needs one object a row, and at least one row"
            ) from error
    repository, _, folder = source.partition("//")
    repository, _, config = repository.partition(":")
    try:
        return load_dataset(repository, config or None, data_dir=folder or None, split=split)
    except Exception as error:  # datasets raises many kinds; the remedy is the same
        raise FileNotFoundError(
            f"{source}: no such file or folder, and the hub did not give it "
            f"({type(error).__name__}: {error}). "
            "Give a local file, or a folder with "
            f"{split}.jsonl, .json or .parquet in it, or log in where the hub can be reached."
        ) from error


def find_files(source: str, split: str) -> list[Path]:
    """Return the local files of a source's split; an empty list means that it is a hub id."""
    path = resolve(source)
    if not path.exists() and (copy := local_copy(source)) is not None:
        path = copy
        if not path.exists():
            raise FileNotFoundError(f"RLHF_HW_REAL_DATA: {path} is missing; {source} is looked up there")
    if path.is_file():
        if _suffix(path) not in SUFFIXES:
            raise InputError(f"{path}: expected a .json, .jsonl or .parquet file (also .gz)")
        return [path]
    if not path.is_dir():
        return []
    known = [f for f in sorted(path.rglob("*")) if f.is_file() and _suffix(f) in SUFFIXES]
    for name in SPLIT_NAMES.get(split, (split,)):
        # train.jsonl, train-00000-of-00002.parquet, train_30k.parquet
        files = [
            f for f in known if re.fullmatch(rf"{re.escape(name)}(_\d+k?)?", re.split("[.-]", f.name)[0])
        ]
        if files:
            return files
    raise FileNotFoundError(
        f"{path}: no file for split {split!r}; found {[f.name for f in known] or 'no data files'}"
    )


def _suffix(path: Path) -> str:
    return Path(path.name.removesuffix(".gz")).suffix.lower()


def load_preferences(
    source: str, template: str, split: str = "train", limit: int | None = None, skip: int = 0
) -> tuple[list[Preference], DataReport]:
    """Read a source through a template; rows that cannot be used are dropped and counted by reason.

    Args:
        source: File, folder or hub id, see the module's docstring.
        template: Name of a registered template.
        split: Name of the split.
        limit: Keep at most this many pairs (the first ones); None keeps all.
        skip: Begin after so many usable pairs; past the end the set begins anew, so that every part of it is
            as large as the first.

    Returns:
        The usable preferences, each with its row number, and the report.

    Raises:
        KeyError: A row lacks a key that the template needs; names the row and the keys it has.
        ValueError: No usable pair is left.
    """
    function = get_template(template)
    report = DataReport(source, template, split)
    preferences: list[Preference] = []
    seen: set[tuple] = set()
    for number, (part, row) in enumerate(_rows_of_parts(source, split)):
        if limit is not None and len(preferences) >= skip + limit:
            break
        report.rows += 1
        try:
            preference = replace(function(row), row=number)
        except Dropped as error:
            report.drop(error.reason, number, str(error))
            continue
        except KeyError as error:
            raise UnknownName(
                f"{source}, row {number}: key {error.args[0]!r} is missing for template {template}; the row "
                f"has {sorted(row)}. Choose the template that fits: {', '.join(sorted(TEMPLATES))}."
            ) from error
        except ValueError as error:
            report.drop("unreadable", number, str(error))
            continue
        reason = _unusable(preference, seen)
        if reason:
            report.drop(reason, number)
        else:
            if part:  # which of several sources: notebook 02 judges them apart with `group: source`
                preference = replace(preference, meta={**preference.meta, "source": part})
            preferences.append(preference)
    report.used = len(preferences)
    _refuse_labels_from_0(preferences, report)
    if not preferences:
        raise InputError(f"no usable pair:\n{report.summary()}")
    start = skip % len(preferences)
    preferences = [*preferences[start:], *preferences[:start]][:limit]
    report.used = len(preferences)
    report.statistics = statistics(preferences)
    if report.dropped:
        log.info(report.summary())
    return preferences, report


def _refuse_labels_from_0(preferences: Sequence[Preference], report: DataReport) -> None:
    """Labels of 0 and 1 where replies are 1 and 2: every 0 would be dropped, and every 1 read as reply 1."""
    if report.dropped[Label0.reason] and not any(p.meta.get("chosen_index") == 2 for p in preferences):
        raise InputError(
            f"{report.source}: the labels are 0 and 1, and template {report.template} numbers the replies 1"
            f" and 2; write the labels so, or take a template that counts from 0\n{report.summary()}"
        )


def _unusable(preference: Preference, seen: set[tuple]) -> str:
    """Return why a pair cannot be used, or an empty string; remembers it to find duplicates."""
    if not any(m.content.strip() for m in preference.prompt if m.role == "user"):
        return "empty prompt"
    if not preference.chosen.strip() or not preference.rejected.strip():
        return "empty reply"
    if preference.chosen.strip() == preference.rejected.strip():
        return "equal replies"
    key = (preference.prompt, preference.chosen, preference.rejected)
    if key in seen:
        return "duplicate"
    seen.add(key)
    return ""


def statistics(preferences: Sequence[Preference]) -> dict[str, float]:
    """Lengths in words and the balance of labels and lengths, as shares of all pairs."""
    words = np.array([[len(p.chosen.split()), len(p.rejected.split())] for p in preferences])
    prompts = np.array([sum(len(m.content.split()) for m in p.prompt) for p in preferences])
    result = {
        "prompt words, mean": float(prompts.mean()),
        "chosen words, mean": float(words[:, 0].mean()),
        "rejected words, mean": float(words[:, 1].mean()),
        "longer reply chosen, share": longer_wins(words[:, 0], words[:, 1]),
        "prompts asked more than once": float(len(preferences) - len({p.prompt for p in preferences})),
    }
    first = [p.meta["chosen_index"] == 1 for p in preferences if "chosen_index" in p.meta]
    if first:
        result["first reply chosen, share"] = float(np.mean(first))
    return result


def longer_wins(chosen_length: np.ndarray, rejected_length: np.ndarray) -> float:
    """Share of pairs whose longer reply was chosen; equal lengths count one half."""
    difference = np.asarray(chosen_length) - np.asarray(rejected_length)
    return float(((difference > 0) + 0.5 * (difference == 0)).mean())


def shared_prompts(train: Sequence[Preference], validation: Sequence[Preference]) -> list[int]:
    """Return the validation rows whose prompt also stands in the training set (leakage between splits)."""
    seen = {p.prompt for p in train}
    return [p.row for p in validation if p.prompt in seen]


def check_data(
    source: str, template: str, split: str = "train", against: str | None = None, examples: int = 0
) -> DataReport:
    """Read a data set as training would and report on it; `against` is a split to look for shared prompts."""
    preferences, report = load_preferences(source, template, split)
    if against:
        other, _ = load_preferences(source, template, against)
        report.statistics[f"prompts also in {against}"] = float(len(shared_prompts(other, preferences)))
    for preference in preferences[:examples]:
        shown = {"prompt": preference.question, "chosen": preference.chosen, "rejected": preference.rejected}
        text = json.dumps({k: v[:200] for k, v in shown.items()}, ensure_ascii=False)
        report.problems.append({"row": preference.row, "reason": "example", "message": text})
    return report
