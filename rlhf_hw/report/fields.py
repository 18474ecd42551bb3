"""Fill the fields of a report's Markdown source with a run's numbers, strictly.

    {{rm.validation.accuracy:.3f}}           a number, by Python's format specification (also `:,` and `:.1%`)
    {{run.processor}}                        a text or a whole number, as it is
    {{table:samples}}                        a table from `tables/samples.json`, alone on its line
    {{table:samples|prompt=Question, score:+.2f=Score}}     chosen columns, their format and heading
    <!-- if base.gold -->                    kept when a key is `base.gold` or starts with `base.gold.`;
    <!-- if not figure:dpo_rewards -->       `figure:` and `table:` ask whether that figure or table exists
    <!-- else --> … <!-- endif -->           directives stand alone on their lines and may be nested

Nothing is guessed: an unknown key, a float without a format, an unclosed block are errors that name file and
line. Text values are data (model output, a processor's name): `escape` makes them inert in Markdown, so that
pandoc's writers, which see them as plain characters, also escape them for HTML, LaTeX and Typst. Inside
backticks or a formula they would show the escapes: keep text fields out of those.
"""

import math
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence

from rlhf_hw.errors import InputError, UnknownName, did_you_mean

Value = str | int | float
Row = Mapping[str, Value | None]

CELL_LIMIT = 600  # characters; a longer cell could outgrow a page, where a table row cannot be broken
WORD_LIMIT = 24  # characters; a longer unbroken word would run out of a narrow column
_FIELD = re.compile(r"\{\{(.*?)\}\}")
_TABLE = re.compile(r"\s*\{\{table:([\w-]+)(?:\|(.*))?\}\}\s*$")
_DIRECTIVE = re.compile(r"\s*<!--\s*(if not|if|else|endif)\s*([\w.:-]*)\s*-->\s*$")
_COMMENT = re.compile(r"\s*<!--.*-->\s*$")
_ZERO = re.compile(r"[-+]0(\.0*)?%?")
_COLUMN = re.compile(r"\s*(?P<key>[^:=]+?)(?::(?P<spec>[^=]*))?(?:=(?P<head>.*?))?\s*$")
_TYPOGRAPHY = "–—‘’“”…•€™"


class FieldError(UnknownName):
    """A name in a report that the run does not have."""


def fill(
    text: str,
    values: Mapping[str, Value],
    tables: Mapping[str, Sequence[Row]] | None = None,
    figures: Collection[str] = (),
    source: str = "report",
) -> tuple[str, set[str]]:
    """Resolve the conditional blocks, fields and tables of a Markdown text.

    Args:
        text: the Markdown source.
        values: flat metrics by dotted key.
        tables: rows by table name; the first row's key order gives the columns.
        figures: names of the figures that exist, for `<!-- if figure:NAME -->`.
        source: file name for error messages.

    Returns:
        the filled Markdown, and the keys of `values` that it used.

    Raises:
        FieldError: unknown key, table or column, with file, line and near matches.
        ValueError: malformed field or directive, a value that its format does not fit.
    """
    tables = tables or {}
    names = {*values, *(f"figure:{name}" for name in figures), *(f"table:{name}" for name in tables)}
    used: set[str] = set()
    lines = []
    for number, line in _kept_lines(text, names, source):
        place = f"{source}:{number}"
        if match := _TABLE.match(line):
            lines += _table_lines(match[1], match[2], tables, place)
        else:
            lines.append(_fill_line(line, values, used, place))
    return "\n".join(lines) + "\n", used


def escape(text: str) -> str:
    """Return `text` as Markdown that shows exactly its characters and does nothing else.

    White space becomes single spaces, line breaks a pilcrow. Characters that the report's fonts do not hold,
    control and direction characters are shown by number (`[U+1F600]`): no PDF loses a glyph silently.
    """
    text = " ¶ ".join(part for line in text.splitlines() if (part := " ".join(line.split())))
    shown = "".join(c if _printable(c) else f"[U+{ord(c):04X}]" for c in unicodedata.normalize("NFC", text))
    # Zero-width spaces: where a long word may break, and before what pandoc's Typst writer leaves unescaped
    # (list and heading marks at the start, the soft hyphen `-?`).
    shown = re.sub(rf"\S{{{WORD_LIMIT}}}(?=\S)", "\\g<0>\u200b", shown)
    shown = re.sub(r"^(?=[-+=/]|\d+[.)])|(?<=-)(?=\?)", "\u200b", shown)
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", shown)


def _printable(char: str) -> bool:
    """Tell whether both the Latin and the Chinese font of the report hold the character."""
    code = ord(char)
    if code < 0x180:
        return unicodedata.category(char) not in ("Cc", "Cf")
    if 0x3000 <= code < 0x3020 or 0x4E00 <= code < 0xA000 or 0xFF01 <= code < 0xFF5F:
        try:
            char.encode("gb2312")
        except UnicodeEncodeError:
            return False
        return True
    return char in _TYPOGRAPHY


def _kept_lines(text: str, names: Collection[str], source: str):
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
            found = any(known == name or known.startswith(name + ".") for known in names)
            stack.append((found == (word == "if"), number))
    if stack:
        raise InputError(f"{source}:{stack[-1][1]}: the block opened here has no `<!-- endif -->`")


def _fill_line(line: str, values: Mapping[str, Value], used: set[str], place: str) -> str:
    def replace(match: re.Match) -> str:
        key, _, spec = (part.strip() for part in match[1].partition(":"))
        if key == "table":
            raise InputError(f"{place}: {match[0]} must stand alone on its line")
        if key not in values:
            raise FieldError(f"{place}: unknown key '{key}'" + did_you_mean(key, values))
        used.add(key)
        return format_value(values[key], spec, f"{place}: {match[0]}")

    filled = _FIELD.sub(replace, line)
    if "{{" in _FIELD.sub("", line):
        raise InputError(f"{place}: a field opens with {{{{ and does not close on its line")
    return filled


def format_value(value: Value | None, spec: str, place: str) -> str:
    """Format one value: texts are escaped, numbers must be finite, and a float needs a format."""
    if isinstance(value, str):
        if spec:
            raise InputError(f"{place} has a number format, but its value is a text: {value!r}")
        return escape(value)
    if value is None or isinstance(value, bool) or not math.isfinite(value):
        raise InputError(f"{place} is {value}: not a number; leave it out with a conditional block")
    if isinstance(value, float) and not spec:
        raise InputError(f"{place} is the float {value!r}: say how to print it, for example with :.3f")
    try:
        text = format(value, spec)
    except ValueError as error:
        raise InputError(f"{place}: {error}") from None
    return text.lstrip("+-") if _ZERO.fullmatch(text) else text  # no "-0.00"


def _table_lines(
    name: str, columns: str | None, tables: Mapping[str, Sequence[Row]], place: str
) -> list[str]:
    if name not in tables:
        raise FieldError(f"{place}: unknown table '{name}'" + did_you_mean(name, tables))
    rows = tables[name]
    if not rows:
        raise InputError(f"{place}: table '{name}' has no rows; leave it out with a conditional block")
    keys = list(rows[0])
    chosen = (
        [_parse_column(column, keys, place) for column in columns.split(",")]
        if columns
        else [(key, "", key.replace("_", " ")) for key in keys]
    )
    return markdown_table(rows, chosen, f"{place}: table '{name}'")


def _parse_column(column: str, keys: list[str], place: str) -> tuple[str, str, str]:
    match = _COLUMN.match(column)
    key = match["key"] if match else column
    if key not in keys:
        raise FieldError(f"{place}: unknown column '{key}'; the table has {', '.join(keys)}")
    return key, match["spec"] or "", key.replace("_", " ") if match["head"] is None else match["head"]


def markdown_table(rows: Sequence[Row], columns: Sequence[tuple[str, str, str]], place: str) -> list[str]:
    """Build a pipe table.

    Args:
        rows: the table's rows; a missing or None cell stays empty, a float without format gets two decimals.
        columns: (key, format specification, heading in Markdown).
        place: what error messages begin with.

    Returns:
        the lines of the table. Where a line is longer than 72 characters pandoc makes the table as wide as
        the text and wraps its cells; the dashes below the headings then give the relative column widths.
    """
    cells = [
        [_cell(row.get(key), spec, f"{place}, row {i}, column '{key}'") for key, spec, _ in columns]
        for i, row in enumerate(rows, 1)
    ]
    longest = [
        min(200, max(len(line[i].replace("\\", "")) for line in [*cells, [heads[2] for heads in columns]]))
        for i in range(len(columns))
    ]
    numeric = [all(not isinstance(row.get(key), str) for row in rows) for key, *_ in columns]
    rules = [
        "-" * max(3, width, sum(longest) // 14) + ":" * right
        for width, right in zip(longest, numeric, strict=True)
    ]
    table = [[heading for *_, heading in columns], rules, *cells]
    return ["", *("| " + " | ".join(line) + " |" for line in table), ""]


def _cell(value: Value | None, spec: str, place: str) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return escape(value if len(value) <= CELL_LIMIT else value[:CELL_LIMIT].rstrip() + " […]")
    if isinstance(value, bool):
        return "✓" if value else ""
    return format_value(value, spec or ("" if isinstance(value, int) else ".2f"), place)
