"""Is a file of generated replies damaged? `rlhf-hw check-replies FILE [--against FILE ...] [--prompts FILE]`.

Files need texts only, no scores and no model: rows with `prompt` and `response`, or with `response` alone,
their prompts in another file or nowhere. A file to compare with may hold pairs instead, whose chosen and
rejected replies are references. What is looked for, and when it is named, stands in `stats.damage`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlhf_hw.errors import InputError
from rlhf_hw.experiments.reply_damage import row_numbers
from rlhf_hw.preferences.rows import Place, RowFile
from rlhf_hw.preferences.score_files import LAYOUTS, MISSING, find, take, value_of
from rlhf_hw.stats.damage import Finding, Replies, damaged_rows, find_damage

WORDS = {
    "opening": "begin alike",
    "language": "in another language",
    "prompt": "repeat their prompt",
    "template": "hold a template's marks",
    "cut": "cut off",
    "empty": "empty",
    "same": "the same to several prompts",
    "loop": "run in loops",
}


@dataclass(frozen=True)
class CheckedReplies:
    """What was found in a file of replies, and how it is said."""

    name: str
    replies: int
    beside: Sequence[str]
    findings: Sequence[Finding]

    @property
    def damaged(self) -> int:
        """How many replies have a sign that is damage."""
        return int(damaged_rows(self.findings, self.replies).sum())

    def summary(self) -> str:
        """The findings as text: what is named, with three rows each, then what was seen beside it."""
        beside = f", beside {', '.join(self.beside)}" if self.beside else "; openings need --against"
        named = [finding for finding in self.findings if finding.named]
        seen = [finding for finding in self.findings if finding.count and not finding.named]
        none = [WORDS[finding.kind] for finding in self.findings if not finding.count]
        lines = [f"{self.name}: {self.replies} replies{beside}"]
        lines += [f"  {_line(finding)}" for finding in named] or ["  nothing is named"]
        lines += [f"  not named, too few or as elsewhere: {_line(finding)}" for finding in seen]
        lines += [f"  not found: {', '.join(none)}"] if none else []
        return "\n".join([*lines, f"  {self.damaged} of {self.replies} replies are damaged"])

    __str__ = summary

    def to_dict(self) -> dict:
        """The findings as plain data for JSON."""
        found = [
            {"kind": f.kind, "what": f.what, "count": f.count, "named": f.named, "damage": f.damage}
            | {"rows": f.examples, "forms": dict(f.forms)}
            | {k: list(e) for k in ("share", "other", "lead") if (e := getattr(f, k)) is not None}
            for f in self.findings
        ]
        return {"file": self.name, "replies": self.replies, "damaged": self.damaged, "findings": found}


def _line(finding: Finding) -> str:
    what = f' ("{finding.what}")' if finding.kind == "opening" else f" ({finding.what})" * bool(finding.what)
    forms = ", ".join(f"{form} {count}" for form, count in finding.forms)
    other = f", elsewhere {finding.other:.1%}" if finding.other else ""
    lead = f", lead {finding.lead:+.1%}" if finding.lead else ""
    habit = "; a habit, no damage" if finding.named and not finding.damage else ""
    return (
        f"{finding.count} {WORDS[finding.kind]}{what}{f', as {forms}' * bool(forms)}: "
        f"{finding.share:.1%}{other}{lead}; rows {row_numbers(finding)}{habit}"
    )


def check_replies(
    file: str | Path,
    against: Sequence[str | Path] = (),
    prompts: str | Path | None = None,
    mapping: Mapping[str, str] | None = None,
) -> CheckedReplies:
    """Look for damage in a file of replies.

    Args:
        file: JSON lines, JSON (also gzipped) or Parquet with `response`, and `prompt` where it is known.
        against: Files to compare with, the other model's first; of pairs, both replies are taken.
        prompts: File with the prompts of `file` in its order, for rows that have none.
        mapping: Names here (`prompt`, `response`) -> names in the files.

    Raises:
        InputError, UnknownName: a file cannot be read so; names file, row and key.
    """
    asked = read_prompts(Path(prompts), mapping) if prompts else None
    mine = read_texts(Path(file), mapping, asked)
    others = [read_texts(Path(other), mapping) for other in against]
    names = [f"{other} ({len(one.texts)})" for other, one in zip(against, others, strict=True)]
    return CheckedReplies(str(file), len(mine.texts), names, find_damage(mine, *others))


def read_prompts(path: Path, mapping: Mapping[str, str] | None = None) -> list[str]:
    """The last user turn of each row's `prompt` (or `question`)."""
    found = [_asked(where, row, mapping or {}) for where, row in _rows(path)]
    if missing := next((n for n, prompt in enumerate(found, start=1) if prompt is None), None):
        raise InputError(f"{path}, row {missing}: no 'prompt'; name its key by --mapping prompt=...")
    return [str(prompt) for prompt in found]


def read_texts(
    path: Path, mapping: Mapping[str, str] | None = None, prompts: Sequence[str] | None = None
) -> Replies:
    """The replies of a file, or both replies of its pairs, with their prompts where every row has one."""
    names, texts, asked, finished = mapping or {}, [], [], []
    rows = _rows(path)
    keys = _reply_keys(rows[0][1], names)
    for where, row in rows:
        texts += [value_of(where, "response", key, take(where, row, "response", key)) for key in keys]
        asked += [_asked(where, row, names)] * len(keys)
        finished += [find(row, names.get("finished", "finished"))] * len(keys)
    if prompts is not None and len(prompts) != len(texts):
        raise InputError(f"{path}: {len(texts)} replies and {len(prompts)} prompts; one for each is needed")
    known = prompts if prompts is not None else asked
    ends = finished if all(isinstance(end, bool) for end in finished) else None
    return Replies(texts, None if None in known else known, ends)


def _rows(path: Path) -> list[tuple[Place, dict]]:
    if not path.exists():
        raise FileNotFoundError(f"no file of replies at {path}")
    rows = list(RowFile(path))
    if not rows:
        raise InputError(f"{path} holds no rows: expected a JSON list or one JSON object a line")
    return rows


def _reply_keys(row: Mapping, names: Mapping[str, str]) -> list[str]:
    """Where a row's replies stand: one, or both of a pair in any known layout."""
    single = names.get("response", "response")
    if find(row, single) is not MISSING:
        return [single]
    for layout in ({**known, **names} for known in LAYOUTS.values()):
        pair = [layout.get(side, side) for side in ("chosen", "rejected")]
        if all(find(row, key) is not MISSING for key in pair):
            return pair
    return [single]  # `take` tells what is missing


def _asked(where: Place, row: Mapping, names: Mapping[str, str]) -> str | None:
    """The last user turn of a row's prompt; None without a prompt."""
    for key in (names.get("prompt", "prompt"), "question"):
        if (value := find(row, key)) is not MISSING:
            turns = value_of(where, "prompt", key, value)
            return next((turn.content for turn in reversed(turns) if turn.role == "user"), "")
    return None
