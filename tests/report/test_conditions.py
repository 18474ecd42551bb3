"""Where a text names a figure, table, formula or section, that is there, in runs of any size.

A run that trains fewer losses leaves blocks out. A reference outside of the block that holds its label would
then end the report in an error, which only that run would show.
"""

import re
from itertools import combinations

import pytest

from rlhf_hw.paths import REPORT
from rlhf_hw.report import LANGUAGES, TEXTS
from rlhf_hw.report.text import _DIRECTIVE

LABEL = re.compile(r"#((?:fig|tbl|eq|sec):[\w-]+)")
REFERENCE = re.compile(r"@((?:fig|tbl|eq|sec):[\w-]*\w)")
IMPLIED = {  # condition -> what holds with it
    "": {"score_gap"},  # every run has notebook 06
    "earlier": {"figure:earlier_riddle", "figure:earlier_signs"},  # notebook 13 writes all, or nothing
}


def conditions(text: str) -> list[tuple[int, str, frozenset[str]]]:
    """Number, line and the conditions of every line; those of an `else` begin with "not"."""
    stack, found = [], []
    for number, line in enumerate(text.splitlines(), 1):
        if (match := _DIRECTIVE.match(line)) is None:
            found.append((number, line, frozenset(stack)))
        elif match[1] == "else":
            stack[-1] = stack[-1].removeprefix("not ") if stack[-1].startswith("not ") else f"not {stack[-1]}"
        elif match[1] == "endif":
            stack.pop()
        else:
            stack.append(("not " if match[1] == "if not" else "") + match[2])
    return found


def joined(ways: set[frozenset[str]]) -> set[frozenset[str]]:
    """Ways that differ in a condition and its opposite are one without it."""
    for one, other in combinations(ways, 2):
        apart = sorted(one ^ other)
        if len(apart) == 2 and apart[1].startswith("not ") != apart[0].startswith("not "):
            if {part.removeprefix("not ") for part in apart} == {apart[0].removeprefix("not ")}:
                return joined(ways - {one, other} | {one & other})
    return ways


def holding(own: frozenset[str]) -> set[str]:
    """What holds under conditions: a key holds with those below it, and what `IMPLIED` says."""
    parts = [key.split(".") for key in own if not key.startswith("not ")]
    known = {".".join(key[:end]) for key in parts for end in range(1, len(key) + 1)} | own
    return known.union(*(more for key, more in IMPLIED.items() if not key or key in known))


def lost(text: str) -> list[str]:
    """References that stand where the block with their label may be left out."""
    labels: dict[str, set[frozenset[str]]] = {}
    for _, line, own in conditions(text):
        for label in LABEL.findall(line):
            labels.setdefault(label, set()).add(own)
    return [
        f"line {number}: @{name}"
        for number, line, own in conditions(text)
        for name in REFERENCE.findall(line)
        if not any(way <= holding(own) for way in joined(labels.get(name, set())))
    ]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", TEXTS)
def test_what_a_text_names_is_there_in_runs_of_any_size(name, language) -> None:
    assert lost((REPORT / f"{name}.{language}.md").read_text(encoding="utf-8")) == []


def test_a_reference_outside_of_its_block_is_found() -> None:
    table = "<!-- if a.b -->\n: Rows. {#tbl:one}\n"
    assert lost(f"See @tbl:one.\n{table}<!-- endif -->\n") == ["line 1: @tbl:one"]
    assert lost(f"{table}<!-- else -->\n: None. {{#tbl:one}}\n<!-- endif -->\nSee @tbl:one.\n") == []
    assert lost(f"{table}<!-- endif -->\n<!-- if a.b.c -->\nSee @tbl:one.\n<!-- endif -->\n") == []
    opposite = f"{table}<!-- endif -->\n<!-- if not a.b -->\nSee @tbl:one.\n<!-- endif -->\n"
    assert lost(opposite) == ["line 5: @tbl:one"]
