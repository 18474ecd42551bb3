"""Score files: what a reward model said about texts, one JSON object a row; enough for every analysis.

Rows are of two kinds.

    pairs    {"id", "prompt", "chosen", "rejected", "chosen_score", "rejected_score",
              "chosen_tokens", "rejected_tokens", "meta": {...}}
    replies  {"id", "prompt", "response", "score", "tokens", "finished", "meta": {...}}

Required are the texts and the scores; `prompt` is a text, or the list of messages of a longer conversation,
so that two that end alike are two prompts, and scoring a file again finds what was scored. A `conversation`
beside it, as in tables of such files and in files of earlier versions, has what only ends in `prompt`. Read
are JSON lines, JSON (plain or gzip) and Parquet, and the names other frameworks use (`LAYOUTS`); for any
other name there is `mapping`, from the name here to the name in the file:

    read_replies("scores.json", mapping={"response": "answer", "score": "reward"})

What cannot be read is refused with the file, its line, the key and the remedy. NaN and infinite scores are
refused, and numbers are written with every digit. A name with dots reaches into nested objects:
`{"score": "rm.score"}` reads `row["rm"]["score"]`. Notebooks take a mapping as text (`parse_mapping`).
"""

import gzip
import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from rlhf_hw.errors import InputError, UnknownName
from rlhf_hw.files import replacing
from rlhf_hw.preferences.rows import Place, RowFile
from rlhf_hw.preferences.templates import Message, as_prompt, as_reply

PAIR_KEYS = ("prompt", "chosen", "rejected", "chosen_score", "rejected_score")
REPLY_KEYS = ("prompt", "response", "score")
OPTIONAL = ("chosen_tokens", "rejected_tokens", "tokens", "finished", "meta")
MISSING = object()
# Names in the file for the names here; the first layout whose names are all in the first row is taken.
LAYOUTS: dict[str, dict[str, str]] = {
    "this project's": {},
    "align-anything's pairs": {
        "chosen": "better_response",
        "rejected": "worse_response",
        "chosen_score": "better_score",
        "rejected_score": "worse_score",
    },
}


def read_pairs(path: str | Path, mapping: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Scored preference pairs.

    Args:
        path: .json, .jsonl, .json.gz, .jsonl.gz or .parquet.
        mapping: name here -> name in the file, for names that no known layout has; the others keep theirs.

    Returns:
        Columns id, prompt (the last user turn), prompt_key (text that is equal for equal conversations),
        chosen, rejected, chosen_score, rejected_score, margin, and the optional columns that every row has.

    Raises:
        ValueError: unreadable JSON, or a score that is not a finite number.
        KeyError: a key is missing.
    """
    table = read_table(Path(path), PAIR_KEYS, mapping)
    table["margin"] = table["chosen_score"] - table["rejected_score"]
    return table


def read_replies(path: str | Path, mapping: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Scored replies, one for each prompt or several.

    Returns:
        Columns id, prompt, prompt_key, response, score, and the optional columns that every row has.
        Arguments and errors as in `read_pairs`.
    """
    return read_table(Path(path), REPLY_KEYS, mapping)


def read_table(path: Path, keys: Sequence[str], mapping: Mapping[str, str] | None) -> pd.DataFrame:
    """Rows with `keys` under the names of this project.

    Where a prompt is more than one turn, there is a column `conversation` with the messages of each: rows
    written from the table, and scored again, then ask what was asked.
    """
    if not path.exists():
        raise FileNotFoundError(f"no score file at {path}")
    placed = list(RowFile(path, nan=False))
    if not placed:
        raise InputError(f"{path} holds no rows: expected a JSON list or one JSON object a line")
    names = choose_names(*placed[0], keys, mapping)
    place = {key: names.get(key, key) for key in (*keys, *OPTIONAL)}
    extra = [
        key
        for key in OPTIONAL
        if key in names or all(find(row, place[key]) is not MISSING for _, row in placed)
    ]
    records = []
    for number, (where, row) in enumerate(placed):
        identity = find(row, names.get("id", "id"))
        record: dict[str, Any] = {"id": number if identity is MISSING else identity}
        for key in (*keys, *extra):
            record[key] = value_of(where, key, place[key], take(where, row, key, place[key]))
        whole = find(row, names.get("conversation", "conversation"))
        asked = record["prompt"]
        if whole is not MISSING and whole:
            asked = value_of(where, "prompt", "conversation", whole)
        record["prompt"] = next((m.content for m in reversed(asked) if m.role == "user"), "")
        record["prompt_key"] = prompt_key(asked)
        record["conversation"] = [{"role": m.role, "content": m.content} for m in asked]
        records.append(record)
    table = pd.DataFrame(records)
    longer = any(record["prompt"] != record["prompt_key"] for record in records)
    return table if longer else table.drop(columns="conversation")


def all_or_none(**paths: str) -> bool:
    """Whether files that only make sense together are given; their names are those of the parameters.

    Raises:
        ValueError: some are given and others are not.
    """
    missing = [name for name, path in paths.items() if not path]
    if missing and len(missing) < len(paths):
        given = ", ".join(name for name in paths if name not in missing)
        raise InputError(f"{given} is given and {', '.join(missing)} is not: give all of them, or none")
    return not missing


def parse_mapping(text: str) -> dict[str, str]:
    """A mapping as notebooks and command lines give it, from names here to names in the file.

    Args:
        text: `response=answer, score=rm.value`, or JSON: `{"response": "answer"}`; empty for none.

    Raises:
        ValueError: the text is neither, or has a name twice.
    """
    form = "write 'score=name in the file, response=...' or a JSON object of texts"
    if text.lstrip().startswith("{"):
        try:
            pairs = json.loads(text, object_pairs_hook=list)
        except json.JSONDecodeError as error:
            raise InputError(f"mapping {text!r} is not JSON ({error.msg}); {form}") from error
    else:
        parts = [part for part in text.split(",") if part.strip()]
        pairs = [tuple(side.strip() for side in part.split("=", 1)) for part in parts]
    if any(len(pair) != 2 or not all(isinstance(side, str) and side for side in pair) for pair in pairs):
        raise InputError(f"mapping {text!r}: every entry needs a name here and a name in the file; {form}")
    twice = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
    if twice:
        raise InputError(f"mapping {text!r}: {twice[0]!r} is mapped twice")
    return dict(pairs)


def choose_names(
    where: Place, row: dict, keys: Sequence[str], mapping: Mapping[str, str] | None
) -> Mapping[str, str]:
    """The known layout that the first row has, with the names that a mapping gives in their place.

    Raises:
        ValueError: the mapping has a name that this kind of file does not know.
        KeyError: no layout fits.
    """
    mapping, known = mapping or {}, [*keys, "id", "conversation", *OPTIONAL]
    unknown = sorted(set(mapping) - set(known))
    if unknown:
        raise InputError(f"{where.file}: mapping has {unknown}; give it names among {known}")
    for names in ({**layout, **mapping} for layout in LAYOUTS.values()):
        if all(find(row, names.get(key, key)) is not MISSING for key in keys):
            return names
    missing = [key for key in keys if find(row, mapping.get(key, key)) is MISSING]
    for key in missing:
        if key in mapping:
            raise UnknownName(
                f"{where}: no key {mapping[key]!r} for {key!r}; name one of {sorted(row)} in the mapping"
            )
    raise UnknownName(f"{where}: no {missing} among the keys {sorted(row)}; {remedy(missing[0])}")


def remedy(key: str) -> str:
    """How to say that `key` has another name in the file."""
    example = f"'{key}=<name in the file>, ...'"
    return f"pass mapping={{{key!r}: '<name in the file>', ...}}, in a notebook mapping={example}"


def find(row: Mapping, name: str) -> Any:
    """`row[name]`; where there is no such key, a name with dots reaches into nested objects; else MISSING."""
    if name in row:
        return row[name]
    head, dot, rest = name.partition(".")
    inner = row.get(head)
    return find(inner, rest) if dot and isinstance(inner, Mapping) else MISSING


def take(where: Place, row: dict, key: str, name: str) -> Any:
    """What stands under `name`, or a KeyError that says how to name it."""
    value = find(row, name)
    if value is MISSING:
        note = "" if key != name else f"; if it has another name, {remedy(key)}"
        raise UnknownName(f"{where}: no key {name!r} among {sorted(row)}; every row needs it{note}")
    return value


def value_of(where: Place, key: str, name: str, value: Any) -> Any:
    """A value as its key asks: a score as a finite float, a prompt as messages, a reply as text."""
    try:
        if key == "prompt":
            return as_prompt(value, name)
        if key in ("chosen", "rejected", "response"):
            return as_reply(value, name)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    if "score" not in key:
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        raise InputError(f"{where}: {name} is {value!r:.60}; expected one finite number")
    return float(value)


def prompt_key(prompt: Sequence[Message]) -> str:
    """A text that is equal exactly for equal prompts: the only user turn, or all messages as JSON."""
    fields = prompt_fields(prompt, prompt[-1].content)["prompt"]
    return fields if isinstance(fields, str) else json.dumps(fields, sort_keys=True, ensure_ascii=False)


def prompt_fields(prompt: Sequence[Message], question: str) -> dict[str, Any]:
    """What a row of a score file says about its prompt, so that it reads back as what it was.

    Args:
        prompt: Its messages.
        question: The last user turn.

    Returns:
        `prompt`: that turn where it is all there is, else the messages with `role` and `content`.
    """
    if len(prompt) == 1 and prompt[0].role == "user":
        return {"prompt": question}
    return {"prompt": [{"role": m.role, "content": m.content} for m in prompt]}


def write_scores(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Writes rows as JSON lines (gzip if the name ends in .gz), in one step and the same bytes each time.

    Raises:
        ValueError: a score or any other number is NaN or infinite; nothing is written then.
    """
    path = Path(path)
    lines = [as_line(row, f"{path}, row {number}") for number, row in enumerate(rows, start=1)]
    content = "".join(line + "\n" for line in lines).encode()
    with replacing(path, "wb") as stream:
        stream.write(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
    return path


def as_line(row: Mapping[str, Any], where: object) -> str:
    """A row as one line of JSON; `where` names it in the error if it holds what JSON cannot say."""
    try:
        return json.dumps(row, ensure_ascii=False, allow_nan=False, default=plain)
    except (TypeError, ValueError) as error:
        what = str(error) if isinstance(error, TypeError) else "a number is NaN or infinite"
        raise InputError(f"{where}: {what} and cannot be written; take it out, or mend it") from error


def plain(value: Any) -> Any:
    """Numbers of numpy and torch as Python's own, with every digit."""
    if not hasattr(value, "item"):
        raise TypeError(f"{value!r:.60} is a {type(value).__name__}, which JSON cannot say,")
    return value.item()
