"""Read preference data through a template: say what is wrong with it row by row, and keep what can be used.

    preferences, report = load_preferences("data/nano", "HOMEWORK", "validation", limit=100)

What a source is, and which of its files are read, stands in `sources`; how a row is read, in `templates`.
"""

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from rlhf_hw.errors import InputError, UnknownName
from rlhf_hw.preferences.asked import AskedRow, refuse_more_conversation
from rlhf_hw.preferences.labels import Dropped, Label0, edition_of
from rlhf_hw.preferences.rows import Place
from rlhf_hw.preferences.sources import DataSource
from rlhf_hw.preferences.templates import (
    TEMPLATES,
    Preference,
    Template,
    get_template,
)
from rlhf_hw.stats.text import seen_part

log = logging.getLogger(__name__)


@dataclass
class DataReport:
    """What happened to the rows of one data set: how many were read, used, and dropped for which reason."""

    source: str
    template: str
    split: str
    rows: int = 0
    used: int = 0
    dropped: Counter = field(default_factory=Counter)
    problems: list[dict] = field(default_factory=list)  # {"place", "reason", "message"}, at most 20
    statistics: dict[str, float] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)  # that were read, from the folder on that holds them all
    unread: Counter = field(default_factory=Counter)  # rows by key that the template did not ask for
    editions: Counter = field(default_factory=Counter)  # rows by edition of the homework, if it is that

    def drop(self, reason: str, place: Place, message: str = "") -> None:
        """Count one dropped row; the first ones are kept to be shown."""
        self.dropped[reason] += 1
        if len(self.problems) < 20:
            self.note(reason, place, message)

    def note(self, reason: str, place: Place, message: str) -> None:
        """Keep what is to be shown about a row."""
        where = f"{place.unit} {place.number}"
        if (
            len(self.files) > 1 or place.file not in self.source
        ):  # the last parts of a path tell its files apart
            where = f"{'/'.join(place.file.split('/')[-2:])}, {where}"
        self.problems.append({"place": where, "reason": reason, "message": message})

    def summary(self) -> str:
        """The report as text: counts, drops by reason with their rows, lengths and label balance."""
        lines = [
            f"{self.source} ({self.split}), template {self.template}:",
            *([f"  read from {', '.join(self.files)}"] if self.files else []),
            f"  {self.rows} rows read, {self.used} pairs used, {sum(self.dropped.values())} dropped",
        ]
        for reason, count in sorted(self.dropped.items()):
            places = [p["place"] for p in self.problems if p["reason"] == reason]
            shown = f" ({', '.join(places)}{' ...' * (len(places) < count)})" if places else ""
            lines.append(f"  dropped as {reason}: {count}{shown}")
        lines += [f"  {p['place']}: {p['message']}" for p in self.problems if p["message"]]
        lines += [f"  edition of the homework: {name} ({n} rows)" for name, n in self.editions.most_common()]
        if self.unread:
            lines.append(f"  keys not read: {', '.join(f'{k} ({n})' for k, n in self.unread.most_common())}")
        lines += [f"  {name}: {value:.4g}" for name, value in self.statistics.items()]
        return "\n".join(lines)

    __str__ = summary

    def to_dict(self) -> dict:
        """The report as plain data for JSON."""
        counts = {name: dict(getattr(self, name)) for name in ("dropped", "unread", "editions")}
        return {**asdict(replace(self, dropped={}, unread={}, editions={})), **counts}


def load_preferences(
    source: str, template: str, split: str = "train", limit: int | None = None, skip: int = 0
) -> tuple[list[Preference], DataReport]:
    """Read a source through a template; rows that cannot be used are dropped and counted by reason.

    Args:
        source: File, folder or hub id, see `sources`.
        template: Name of a registered template.
        split: Name of the split.
        limit: Keep at most this many pairs (the first ones); None keeps all.
        skip: Begin after so many usable pairs; past the end the set begins anew, so that every part of it is
            as large as the first.

    Returns:
        The usable preferences, each with its row number, and the report.

    Raises:
        KeyError: No row has a key that the template needs; names the first and the keys it has.
        ValueError: A file cannot be read, or no usable pair is left.
    """
    function = get_template(template)
    if skip < 0 or (limit is not None and limit < 1):
        raise InputError(f"expected a limit of 1 or more and a skip of 0 or more, found {limit} and {skip}")
    rows = DataSource(source, split)
    report = DataReport(source, template, split, files=rows.names())
    preferences = _usable(rows, function, report, None if limit is None else skip + limit)
    report.used = len(preferences)
    _refuse_labels_from_0(preferences, report)
    if not preferences:
        raise InputError(
            "no usable pair; mend the rows, or choose another file, split or template:\n" + report.summary()
        )
    start = skip % len(preferences)
    preferences = [*preferences[start:], *preferences[:start]][:limit]
    report.used = len(preferences)
    report.statistics = statistics(preferences)
    if report.dropped:
        log.info(report.summary())
    return preferences, report


def _usable(rows: DataSource, function: Template, report: DataReport, wanted: int | None) -> list[Preference]:
    """The first usable pairs, with their places; all else is counted in the report."""
    found: list[Preference] = []
    seen: set[tuple] = set()
    keys: set[str] = set()  # of all rows
    lacking: tuple[str, str] | None = None  # the first key that was not there, and the message about it
    for number, (place, part, row) in enumerate(rows):
        if len(found) == wanted:
            break
        report.rows += 1
        keys |= row.keys()
        try:
            preference = _read(function, row, report)
            if not (reason := _unusable(preference, seen)):
                # which of several sources: notebook 02 judges them apart with `group: source`
                meta = {**preference.meta, "source": part} if part else preference.meta
                found.append(replace(preference, row=number, place=place, meta=meta))
                continue
            message = ""
        except Dropped as error:
            reason, message = error.reason, str(error)
        except KeyError as error:
            reason, message = "missing key", f"key {error.args[0]!r} is missing"
            lacking = lacking or (error.args[0], _lacking(error.args[0], place, report.template, row))
        except ValueError as error:
            reason, message = "unreadable", str(error)
        report.drop(reason, place, message)
    if lacking is not None and lacking[0] not in keys and not found:
        raise UnknownName(lacking[1])
    return found


def _read(function: Template, row: Mapping[str, Any], report: DataReport) -> Preference:
    """A row through its template; keys that it did not ask for are counted, or leave the row out.

    Raises:
        KeyError, ValueError: what the template raises.
        MoreConversation: an unread key is a part of the conversation.
    """
    asked = AskedRow(row)
    preference = function(asked)
    if report.template == "HOMEWORK":
        report.editions[edition_of(row)] += 1
    unread = asked.unread()
    report.unread.update(unread)
    refuse_more_conversation(unread, f"template {report.template} does not read it")
    return preference


def _lacking(key: str, place: Place, template: str, row: Mapping[str, Any]) -> str:
    return (
        f"{place}: key {key!r} is missing for template {template}; the row has {sorted(row)}. "
        f"Choose the template that fits: {', '.join(sorted(TEMPLATES))}."
    )


def _refuse_labels_from_0(preferences: Sequence[Preference], report: DataReport) -> None:
    """Labels of 0 and 1 where replies are 1 and 2: every 0 would be dropped, and every 1 read as reply 1."""
    if report.dropped[Label0.reason] and not any(p.meta.get("chosen_index") == 2 for p in preferences):
        raise InputError(
            f"{report.source}: the labels are 0 and 1, and template {report.template} numbers the replies 1"
            f" and 2; write the labels so, or take a template that counts from 0\n{report.summary()}"
        )


def _unusable(preference: Preference, seen: set[tuple]) -> str:
    """Return why a pair cannot be used, or an empty string; remembers it to find duplicates.

    What nobody sees, such as spaces of no width, is no text; the texts themselves stay as they are.
    """
    if not any(seen_part(m.content) for m in preference.prompt if m.role == "user"):
        return "empty prompt"
    chosen, rejected = seen_part(preference.chosen), seen_part(preference.rejected)
    if not chosen or not rejected:
        return "empty reply"
    if chosen == rejected:
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
    if examples < 0:
        raise InputError(f"examples: expected 0 or more, found {examples}")
    if against:
        mine, theirs = (set(DataSource(source, name).files) for name in (split, against))
        if split == against or mine & theirs:
            names = ", ".join(sorted(map(str, mine & theirs)))
            raise InputError(
                f"{source}: splits {split!r} and {against!r} are the same{': ' * bool(names)}{names}; to "
                "look for shared prompts, name a folder or a hub id that has both splits"
            )
    preferences, report = load_preferences(source, template, split)
    if against:
        other, _ = load_preferences(source, template, against)
        report.statistics[f"prompts also in {against}"] = float(len(shared_prompts(other, preferences)))
    for preference in preferences[:examples]:
        shown = {"prompt": preference.question, "chosen": preference.chosen, "rejected": preference.rejected}
        text = json.dumps({k: v[:200] for k, v in shown.items()}, ensure_ascii=False)
        report.note("example", preference.place, text)
    return report
