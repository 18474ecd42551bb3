"""The glossary of a report: one file of terms for both languages, each linked from where it is first used.

    - key: nats
      en: {term: nats, words: [nats, nat], text: "The unit of ..."}
      zh: {term: 奈特（nats）, words: [奈特], text: "……"}

`words` are the forms that a text uses, by default the term itself. A text shows the glossary where it has the
block

    ::: {.glossary}
    :::

as a list of the terms that it uses. Their first use in each top-level section becomes a link; code, formulas,
headings, links, citations, tables and captions stay as they are.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from rlhf_hw.errors import InputError
from rlhf_hw.report import LANGUAGES
from rlhf_hw.report.fields import Facts

MARK = re.compile(r"^::: \{\.glossary\}\n:::$", re.MULTILINE)
_SPACES = {"Space": " ", "SoftBreak": " "}
_NESTED = {"Emph": lambda c: c, "Strong": lambda c: c, "Quoted": lambda c: c[1]}
_LISTS = {"BulletList": lambda c: c, "OrderedList": lambda c: c[1]}


@dataclass(frozen=True)
class Term:
    """An entry in one language: its anchor is `term:KEY`."""

    key: str
    term: str
    words: tuple[str, ...]
    text: str

    def matches(self, text: str) -> Iterator[re.Match]:
        """Where a text uses the term, in small or capital letters; never within a longer Latin word."""
        forms = "|".join(re.escape(word).replace(r"\ ", r"\s+") for word in sorted(self.words, key=len)[::-1])
        return re.finditer(rf"(?<![A-Za-z0-9_])(?:{forms})(?![A-Za-z0-9_])", text, re.IGNORECASE)


def read_glossary(path: Path) -> dict[str, list[Term]]:
    """Read the terms of each language, in the file's order.

    Raises:
        InputError: an entry without key, term or text in a language, or a key that stands there twice.
    """
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    found: dict[str, list[Term]] = {language: [] for language in LANGUAGES}
    for number, entry in enumerate(entries, 1):
        for language in LANGUAGES:
            said = entry.get(language) or {}
            if "key" not in entry or not {"term", "text"} <= set(said):
                raise InputError(
                    f"{path.name}: entry {number} needs a key, and a term and text in {language}"
                )
            words = tuple(said.get("words", [said["term"]]))
            found[language].append(Term(entry["key"], said["term"], words, said["text"]))
    keys = [entry["key"] for entry in entries]
    if doubled := {key for key in keys if keys.count(key) > 1}:
        raise InputError(f"{path.name}: keys used twice: {', '.join(sorted(doubled))}")
    return found


def with_glossary(text: str, terms: Sequence[Term], facts: Facts, source: str) -> tuple[str, list[Term]]:
    """Put the terms that a filled text uses where it wants its glossary.

    Returns:
        The text, and the terms that it now explains; none where it has no place for them.
    """
    if not MARK.search(text):
        return text, []
    used = [term for term in terms if next(term.matches(text), None)]
    colon = {"en": ": ", "zh": "："}[facts.language]
    lines = [
        f"- [**{term.term}**]{{#term:{term.key}}}{colon}{facts.fill(term.text, source)}" for term in used
    ]
    return MARK.sub(lambda _: "\n".join(["::: {.glossary}", *lines, ":::"]), text, count=1), used


def link_terms(blocks: list[dict], terms: Sequence[Term]) -> None:
    """Link the first use of each term in each top-level section, in a pandoc syntax tree."""
    pending: set[str] = set()
    for block in blocks:
        if block["t"] == "Header" and block["c"][0] == 1:
            pending = {term.key for term in terms}
        else:
            _link_block(block, terms, pending)


def _link_block(block: dict, terms: Sequence[Term], pending: set[str]) -> None:
    kind = block["t"]
    if kind in ("Para", "Plain"):
        block["c"] = _linked(block["c"], terms, pending)
    elif kind in _LISTS:
        for item in _LISTS[kind](block["c"]):
            for part in item:
                _link_block(part, terms, pending)


def _linked(inlines: list[dict], terms: Sequence[Term], pending: set[str]) -> list[dict]:
    """The same inlines with links; runs of plain words are searched as one text."""
    out: list[dict] = []
    run: list[dict] = []
    for inline in [*inlines, {"t": "End"}]:
        words = inline["t"] == "Str" and not inline["c"].startswith("{#")  # a formula's label is none
        if words or inline["t"] in _SPACES:
            run.append(inline)
            continue
        out += _linked_run(run, terms, pending)
        run = []
        if nested := _NESTED.get(inline["t"]):
            inside = nested(inline["c"])
            inside[:] = _linked(inside, terms, pending)
        if inline["t"] != "End":
            out.append(inline)
    return out


def _linked_run(run: Sequence[Mapping], terms: Sequence[Term], pending: set[str]) -> list[dict]:
    text = "".join(_SPACES.get(inline["t"]) or inline["c"] for inline in run)
    found = sorted(
        ((match.start(), -match.end(), term) for term in terms for match in term.matches(text)),
        key=lambda one: one[:2],
    )
    out: list[dict] = []
    at = reached = 0
    for start, end, term in found:
        if start < reached:
            continue  # within a longer term
        reached = -end
        if term.key in pending:
            pending.discard(term.key)
            inside = list(_cut(run, start, reached))
            out += [
                *_cut(run, at, start),
                {"t": "Link", "c": [["", [], []], inside, [f"#term:{term.key}", ""]]},
            ]
            at = reached
    return [*out, *_cut(run, at, len(text))]


def _cut(run: Iterable[Mapping], start: int, end: int) -> Iterator[dict]:
    """The inlines of a run that hold its characters from `start` to `end`; words are cut in two."""
    at = 0
    for inline in run:
        text = _SPACES.get(inline["t"]) or inline["c"]
        low, high = max(start - at, 0), min(end - at, len(text))
        if low < high:
            yield dict(inline) if inline["t"] in _SPACES else {"t": "Str", "c": text[low:high]}
        at += len(text)
