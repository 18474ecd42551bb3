"""The text of a report, filled with a run's numbers, strictly: conditional blocks, tables and fields.

    <!-- if base.gold -->                    kept when a key is `base.gold` or starts with `base.gold.`;
    <!-- if not figure:dpo_rewards -->       `figure:` and `table:` ask for one that the run made
    <!-- else --> … <!-- endif -->           directives stand alone on their lines and may be nested
    {{table:wins}}                           a table, alone on its line (`rlhf_hw.report.tables`)
    {{kept:plural_preferences}}              who made an experiment's results, where this run did not; alone.
                                             Said again it ends the paragraph before
    {{rm.validation.accuracy:.3f}}           a field (`rlhf_hw.report.fields`)

A misspelt directive or an unclosed block is an error that names file and line.

Why not Jinja2: tried on one section, with strict undefined values, the text is longer (`| f(".3f")`,
`is defined`), floats of expressions get by unformatted, and no error tells where an unclosed block began.
"""

import re
from collections.abc import Iterator, Mapping

from rlhf_hw.errors import InputError
from rlhf_hw.report.fields import Facts
from rlhf_hw.report.tables import table_lines

_TABLE = re.compile(r"\s*\{\{table:([\w-]+)\}\}\s*$")
_MARK = re.compile(r"\s*\{\{kept:(\w+)\}\}\s*$")
_DIRECTIVE = re.compile(r"\s*<!--\s*(if not|if|else|endif)\s*([\w.:-]*)\s*-->\s*$")
_NO_PROSE = re.compile(r"\s*(?:[!|#:>]|\$\$|[-*] |\d+\. |$)")
_COMMENT = re.compile(r"\s*<!--.*-->\s*$")


def fill(text: str, facts: Facts, declared: Mapping[str, dict] | None = None, source: str = "report") -> str:
    """Resolve the conditional blocks, tables and fields of a Markdown text.

    Args:
        text: the Markdown source.
        facts: the run's values, tables and figures, and the text's language.
        declared: the tables of `report/tables.yaml`, by name.
        source: file name for error messages.

    Raises:
        FieldError: unknown key, table or column, with file, line and near matches.
        InputError: malformed field or directive, a value that its format does not fit.
    """
    lines = []
    for number, line in kept_lines(text, facts, source):
        place = f"{source}:{number}"
        if match := _TABLE.match(line):
            lines += table_lines(match[1], declared or {}, facts, place)
        elif match := _MARK.match(line):
            short = bool(facts.said(match[1]))
            _add_mark(lines, facts.mark(match[1], place), facts.language if short else None)
        else:
            lines.append(facts.fill(line, place))
    return "\n".join(lines) + "\n"


def _add_mark(lines: list[str], mark: str, language: str | None) -> None:
    """Add the line that says who made results: with a language, to the end of the prose that stands before.

    There is no language where the line is said in full for the first time, and has a paragraph of its own.
    """
    last = next((n for n in reversed(range(len(lines))) if lines[n].strip()), None)
    if mark and language and last is not None and not _NO_PROSE.match(lines[last]):
        lines[last] += (" " if language == "en" else "") + mark
    else:
        lines += ["", mark, ""]


def kept_lines(text: str, facts: Facts, source: str) -> Iterator[tuple[int, str]]:
    """Yield (line number, line) outside of conditional blocks whose condition fails; drop comment lines."""
    stack: list[tuple[bool, int]] = []
    for number, line in enumerate(text.splitlines(), 1):
        match = _DIRECTIVE.match(line)
        if match is None:
            if not _COMMENT.match(line) and all(keep for keep, _ in stack):
                yield number, line
            continue
        word, name = match.groups()
        if word.startswith("if") == (not name) or (word in ("else", "endif") and not stack):
            raise InputError(
                f"{source}:{number}: `{line.strip()}` does not fit here; write `<!-- if KEY -->`, "
                "`<!-- if not KEY -->`, `<!-- else -->`, `<!-- endif -->`"
            )
        if word == "endif":
            stack.pop()
        elif word == "else":
            stack.append((not stack.pop()[0], number))
        else:
            stack.append((facts.has(name) == (word == "if"), number))
    if stack:
        raise InputError(f"{source}:{stack[-1][1]}: the block opened here has no `<!-- endif -->`")
