"""Tables of the report: those of numbers, declared in `report/tables.yaml`, and the run's own.

A declared table serves both languages. Columns and rows give their words in each, cells hold fields:

    wins:
      columns:
        - {en: DPO against base, zh: DPO 对基座, width: 40}
        - {en: Validation prompts, zh: 验证提示, width: 31, cell: "{{estimate:inference.validation.<key>}}"}
      rows:
        - {en: "Win rate, gold", zh: 胜率，真实奖励, key: "gold_win_rate:.1%", if: base.gold}

The first column holds the rows' names. A cell is its column's `cell`, with each `<hole>` replaced by the
row's entry of that name, or stands in the row's own list `cells`. Where the languages differ, a cell or a
`width` is one for each. A row of words alone is a heading within the table. `if` keeps a row or column on one
condition or on all of a list (`KEY` or `not KEY`, as in `text`). A cell may be a list, all but the last with
an `if`: the first that holds is written. A row with `each: PREFIX` stands there once for every `PREFIX.<n>`
that the run has, n from 1, with that number as its entry `n`. `width` counts the dashes below a heading,
pandoc's relative width; `align: right` is for numbers. Where cells hold two intervals, the first heading says
over what.

A table whose `rows` are the name of a run's table, `tables/NAME.json`, shows that one: its columns give the
`key`, the words of the heading, and a `format`. What stands in a column with `heading: true` is a heading
within the table, above its row; that of a column with `into: KEY` stands in brackets behind the cell of that
key. `limit` is how many characters of a cell are shown. With `estimates: true` a cell such as
"0.55 [0.48, 0.61]" is written as estimates are in that language. If a column has a `cell`, its holes take
what the row of that table holds (`{{headline:parts.<key>.rm.accuracy:.3f}}`), those of its `if` what the
first row holds, and all columns have a `width`. Where a column gives `words`
({language: {word: said}}), these stand for words that the run wrote into its cells, at the start or behind a
comma, and before a number, a colon or the end.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from rlhf_hw.errors import InputError, did_you_mean
from rlhf_hw.figures.numbers import powers_of_ten
from rlhf_hw.report import LANGUAGES
from rlhf_hw.report.columns import column_widths
from rlhf_hw.report.fields import BOTH, BRIEF, Facts, FieldError, Row, Value, escape, format_value
from rlhf_hw.report.run_cells import CUT, in_words, shorter, with_interval

CELL_LIMIT = 600  # characters; a longer cell could outgrow a page, where a table row cannot be broken
_ENDS = re.compile(r"(\d\\?%?) (to|至) (?=\\?[-+−]?\d)")  # of an interval
_BRACKETED = re.compile(r"(\\\[\\?[-+−]?[\d\\.]+%?\\?,) (?=\\?[-+−]?[\d\\.]+%?\\?\])")
_POWER = re.compile(r"\d(\.\d+)?e[-+]\d+")
_BRACKETS = {"en": " *({})*", "zh": " *（{}）*"}
_WHICH = {"en": " (intervals: prompts; trainings)", "zh": "（区间：提示；训练）"}
_LINE = "line in the file"  # no word of a table can be this one
_HOLE = re.compile(r"<(\w+)>")


class _WithLines(yaml.SafeLoader):
    """Reads mappings together with the line they begin on."""

    def construct_mapping(self, node, deep=False):
        return {**super().construct_mapping(node, deep), _LINE: node.start_mark.line + 1}


def read_tables(path: Path) -> dict[str, dict]:
    """Read the declared tables, by name. A table without columns and rows, or without words, is an error."""
    try:
        tables = yaml.load(path.read_text(encoding="utf-8"), _WithLines)
    except yaml.YAMLError as error:
        raise InputError(f"{path.name}: {error}") from None
    tables.pop(_LINE)
    for name, table in tables.items():
        if not {"columns", "rows"} <= set(table):
            raise InputError(f"{path.name}:{table[_LINE]}: table '{name}' needs columns and rows")
        parts = [*table["columns"], *(table["rows"] if isinstance(table["rows"], list) else [])]
        for part in parts:
            if missing := [language for language in LANGUAGES if language not in part]:
                raise InputError(f"{path.name}:{part[_LINE]}: words missing for {' and '.join(missing)}")
    return tables


def table_lines(name: str, declared: Mapping[str, dict], facts: Facts, place: str) -> list[str]:
    """Return the Markdown lines of a table that a text names: declared, or the run's own as it is."""
    known = {*declared, *facts.tables}
    if name not in known:
        raise FieldError(f"{place}: unknown table '{name}'" + did_you_mean(name, known))
    if name not in declared:
        return _run_table(name, None, facts, place)
    table = declared[name]
    columns = [column for column in table["columns"] if _kept(column, facts)]
    if isinstance(table["rows"], str) and not any("cell" in column for column in table["columns"]):
        return _run_table(table["rows"], columns, facts, place)
    if isinstance(table["rows"], str):
        found = _rows_of_run(table["rows"], facts, place)
        columns = [column for column in table["columns"] if _kept(column, facts, found[0])]
        brief, whole = (
            [[_run_cell(row, column, facts, both) for column in columns] for row in found]
            for both in (BRIEF, BOTH)
        )
    else:
        kept = [row for row in _rows_for_each(table["rows"], facts) if _kept(row, facts, row)]
        brief, whole = ([_row(row, columns, facts, both) for row in kept] for both in (BRIEF, BOTH))
    heads = [column[facts.language] for column in columns]
    if brief != whole:
        heads[0] = f"{heads[0]}{_WHICH[facts.language]}".lstrip()
    rules = [
        _rule(_said(column["width"], facts.language), column.get("align") == "right") for column in columns
    ]
    return _pipe_table([heads, rules, *brief])


def _run_cell(row: Mapping, column: Mapping, facts: Facts, both: Mapping[str, str]) -> str:
    """A cell of a run's table: what the row holds, or the column's `cell` filled from the row."""
    place = f"tables.yaml:{column[_LINE]}"
    if "cell" not in column:
        return _cell(row.get(column["key"]), column.get("format", ""), place)
    text = _choice(column["cell"], facts, row, place)
    return facts.fill(_HOLE.sub(lambda hole: _entry(row, hole[1], place), text), place, both)


def _rows_for_each(rows: Sequence[Mapping], facts: Facts) -> Iterator[Mapping]:
    """The declared rows, each that names a prefix so often as the run has numbered keys below it."""
    for row in rows:
        if "each" not in row:
            yield row
            continue
        for number in count(1):
            if not facts.has(f"{row['each']}.{number}"):
                break
            yield {**row, "n": number}


def _choice(cell: Any, facts: Facts, row: Mapping, place: str) -> str:
    """What a cell says for a row: it stands there once, or is the first of a list whose condition holds."""
    for one in cell if isinstance(cell, list) else [cell]:
        if isinstance(one, str) or _kept(one, facts, row):
            return _said(one, facts.language)
    raise InputError(f"{place}: of this cell's choices none holds; end the list with one without `if`")


def _kept(part: Mapping, facts: Facts, row: Mapping | None = None) -> bool:
    conditions = part.get("if", [])
    conditions = [conditions] if isinstance(conditions, str) else conditions
    if row is not None:
        place = f"tables.yaml:{part[_LINE]}"
        conditions = [_HOLE.sub(lambda hole: _entry(row, hole[1], place), name) for name in conditions]
    return all(facts.has(name.removeprefix("not ")) != name.startswith("not ") for name in conditions)


def _row(row: Mapping, columns: Sequence[Mapping], facts: Facts, both: Mapping[str, str]) -> list[str]:
    place = f"tables.yaml:{row[_LINE]}"
    if "cells" in row:
        cells = row["cells"]
    elif set(row) <= {"if", "each", "n", _LINE, *LANGUAGES}:
        cells = [""] * (len(columns) - 1)
    else:
        cells = [column["cell"] for column in columns[1:]]
    if len(cells) != len(columns) - 1:
        raise InputError(f"{place}: {len(cells)} cells for {len(columns) - 1} columns")
    said = [_said(row, facts.language), *(_choice(cell, facts, row, place) for cell in cells)]
    return [
        facts.fill(_HOLE.sub(lambda hole: _entry(row, hole[1], place), text), place, both) for text in said
    ]


def _said(part: Any, language: str) -> Any:
    """What a part of a table is in one language: it stands there once, or for each."""
    return part[language] if isinstance(part, dict) else part


def _entry(row: Mapping, name: str, place: str) -> str:
    if name not in row:
        raise InputError(f"{place}: the row has no '{name}', which its table's columns ask for")
    return str(row[name])


def _without_line(words: Mapping[str, str]) -> dict[str, str]:
    return {word: said for word, said in words.items() if word != _LINE}


def _rows_of_run(name: str, facts: Facts, place: str) -> Sequence[Row]:
    """The rows of a run's table, at least one."""
    if name not in facts.tables:
        raise FieldError(f"{place}: unknown table '{name}'" + did_you_mean(name, facts.tables))
    if not facts.tables[name]:
        raise InputError(f"{place}: table '{name}' has no rows; leave it out with a conditional block")
    facts.used.add(f"table:{name}")
    return facts.tables[name]


def _run_table(name: str, columns: Sequence[Mapping] | None, facts: Facts, place: str) -> list[str]:
    rows = _rows_of_run(name, facts, place)
    known = list(rows[0])
    if columns is None:
        return markdown_table(rows, [(key, "", key.replace("_", " ")) for key in known], f"{place}: {name}")
    for column in columns:
        if column["key"] not in known:
            raise FieldError(
                f"tables.yaml:{column[_LINE]}: unknown column '{column['key']}'; "
                f"table '{name}' has {', '.join(known)}"
            )
    shown = [column for column in columns if not column.keys() & {"heading", "into"}]
    chosen = [(column["key"], column.get("format", ""), column[facts.language]) for column in shown]
    words = {
        column["key"]: _without_line(column.get("words", {}).get(facts.language, {})) for column in columns
    }
    limits = {column["key"]: column["limit"] for column in columns if "limit" in column}
    estimates = {column["key"] for column in columns if column.get("estimates")}
    said = [
        {key: shorter(in_words(value, words.get(key)), limits.get(key)) for key, value in row.items()}
        | {key: with_interval(row[key], facts.language) for key in estimates}
        for row in rows
    ]
    headings = [column["key"] for column in columns if column.get("heading")]
    behind = {
        column["into"]: (column["key"], _BRACKETS[facts.language]) for column in columns if "into" in column
    }
    return markdown_table(said, chosen, f"{place}: table '{name}'", headings, behind)


def markdown_table(
    rows: Sequence[Row],
    columns: Sequence[tuple[str, str, str]],
    place: str,
    headings: Sequence[str] = (),
    behind: Mapping[str, tuple[str, str]] = MappingProxyType({}),
) -> list[str]:
    """Build a pipe table of data.

    Args:
        rows: the table's rows; a missing or None cell stays empty, a float without format gets two decimals.
        columns: (key, format specification, heading in Markdown).
        place: what error messages begin with.
        headings: keys of what stands above a row, over the whole width (`report/tables.lua`).
        behind: key of a column -> key of what stands behind its cells, and the form of that.

    Returns:
        the lines of the table. Where a line is longer than 72 characters pandoc makes the table as wide as
        the text and wraps its cells; the dashes below the headings then give the relative column widths.
    """
    cells = [
        [_cell(row.get(key), spec, f"{place}, row {i}, column '{key}'") for key, spec, _ in columns]
        for i, row in enumerate(rows, 1)
    ]
    for i, (key, *_) in enumerate(columns):
        for row, line in zip(rows, cells, strict=True):
            if key in behind and (more := _cell(row.get(behind[key][0]), "", place)):
                line[i] += behind[key][1].format(more)
    heads = [heading for *_, heading in columns]
    numeric = [all(not isinstance(row.get(key), str) for row in rows) for key, *_ in columns]
    rules = [
        "-" * (3 + 2 * width) + ":" * right
        for width, right in zip(column_widths([heads, *cells]), numeric, strict=True)
    ]
    lines = []
    for row, line in zip(rows, cells, strict=True):
        above = [_cell(row.get(key), "", place) for key in headings]
        lines += [[f"*{text}*", *[""] * (len(columns) - 1)] for text in above if text]
        lines.append(line)
    return _pipe_table([heads, rules, *lines])


def _cell(value: Value | None, spec: str, place: str) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        if _POWER.fullmatch(value):
            return powers_of_ten(value, "markdown")
        return _unbroken(escape(value if len(value) <= CELL_LIMIT else value[:CELL_LIMIT].rstrip() + CUT))
    if isinstance(value, bool):
        return "✓" if value else ""
    return format_value(value, spec or ("" if isinstance(value, int) else ".2f"), place)


def _unbroken(cell: str) -> str:
    """A cell whose intervals, "0.55 to 0.61" or "[0.55, 0.61]", stand on one line each."""
    return _BRACKETED.sub("\\1\xa0", _ENDS.sub("\\1\xa0\\2\xa0", cell))


def _rule(width: int, right: bool) -> str:
    dashes = "-" * (width - 1)
    return dashes + ":" if right else ":" + dashes


def _pipe_table(lines: Sequence[Sequence[str]]) -> list[str]:
    return ["", *("| " + " | ".join(map(_unbroken, line)) + " |" for line in lines), ""]
