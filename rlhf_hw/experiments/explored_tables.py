"""Tables of the replies or pairs in anybody's files, with scores or without, for the reply explorer.

    kind, table = read_anything(Path("replies.jsonl"))      "replies", columns as of `read_replies`

Files with scores are read as score files (`preferences.score_files`). Without scores there may be replies,
pairs, and the rows of any data set that a template reads (`preferences.templates`). A file without scores is
welcome here alone: whoever else reads score files refuses it.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from rlhf_hw.errors import InputError
from rlhf_hw.preferences.reading import load_preferences
from rlhf_hw.preferences.rows import Place, RowFile
from rlhf_hw.preferences.score_files import (
    LAYOUTS,
    MISSING,
    OPTIONAL,
    PAIR_KEYS,
    REPLY_KEYS,
    find,
    prompt_key,
    read_pairs,
    read_replies,
    read_table,
)

_READERS = {"pairs": read_pairs, "replies": read_replies}
_KEYS = {"pairs": PAIR_KEYS, "replies": REPLY_KEYS}
_TEXTS = {kind: [key for key in keys if "score" not in key] for kind, keys in _KEYS.items()}
_SCORES = {kind: [key for key in keys if "score" in key] for kind, keys in _KEYS.items()}
_LABELS = {"overall_response", "better_response_id"}  # of the homework's rows, in either edition

log = logging.getLogger(__name__)


def read_anything(
    file: Path, mapping: Mapping[str, str] | None = None, template: str | None = None
) -> tuple[str, pd.DataFrame]:
    """Pairs or replies, whichever a file holds, with scores where it has them.

    Args:
        file: JSON lines, JSON (also gzipped) or Parquet.
        mapping: Other names of its keys (`score_files.parse_mapping`); those of the other kind count nothing.
        template: How its rows are read where they are pairs without scores; those of the homework, of both
            editions, are known without it.

    Returns:
        "pairs" or "replies", and the columns of `read_pairs` or `read_replies`; where no row has a score,
        those of the scores are NaN, and there is no `margin`.

    Raises:
        InputError: the file holds neither, or some rows have scores that the first has not.
        UnknownName: a row lacks a key that the first has, scores included.
        FileNotFoundError: there is no such file.
    """
    placed = list(RowFile(file, nan=False))
    if not placed:
        raise InputError(f"{file} holds no rows: expected a JSON list or one JSON object a line")
    place, row = placed[0]
    names = {kind: _of_kind(kind, mapping or {}) for kind in _KEYS}
    fitting = [kind for kind, texts in _TEXTS.items() if len(_known(row, texts, names[kind])) == len(texts)]
    for kind in fitting:
        if _known(row, _SCORES[kind], names[kind]) or names[kind].keys() & _SCORES[kind]:
            return kind, _READERS[kind](file, names[kind])
    if "replies" not in fitting and (template or row.keys() & _LABELS):
        return "pairs", _by_template(file, template or "HOMEWORK")
    if not fitting:
        raise InputError(
            f"{place}: neither a pair ({', '.join(_TEXTS['pairs'])}) nor a reply "
            f"({', '.join(_TEXTS['replies'])}) among the keys {sorted(row)}; name other keys by --mapping "
            "'prompt=<name in the file>, ...', or say by --template how the rows of pairs are read"
        )
    kind = fitting[0]
    _refuse_mixed(placed, _SCORES[kind], names[kind])
    if unread := sorted(row.keys() - {*_TEXTS[kind], *names[kind].values(), "id", "conversation", *OPTIONAL}):
        by = f"--mapping {_SCORES[kind][0]}=..."
        log.info("%s: no scores; if they stand under one of %s, name it by %s", file, unread, by)
    return kind, _without_scores(read_table(file, _TEXTS[kind], names[kind]), _SCORES[kind])


def _of_kind(kind: str, mapping: Mapping[str, str]) -> dict[str, str]:
    """A mapping without the keys that only the other kind of file has."""
    others = {key for keys in _KEYS.values() for key in keys} - set(_KEYS[kind])
    return {key: name for key, name in mapping.items() if key not in others}


def _known(row: Mapping, keys: Sequence[str], mapping: Mapping[str, str]) -> dict[str, str]:
    """Those of the keys that a row has, with the name there, by any layout or the mapping."""
    names = [(key, {**layout, **mapping}.get(key, key)) for layout in LAYOUTS.values() for key in keys]
    return {key: name for key, name in names if find(row, name) is not MISSING}


def _refuse_mixed(
    placed: Sequence[tuple[Place, Mapping]], scores: Sequence[str], mapping: Mapping[str, str]
) -> None:
    """Refuse rows with a score where the first row has none."""
    first = placed[0][0]
    for place, row in placed:
        if some := _known(row, scores, mapping):
            raise InputError(
                f"{place}: has {min(some.values())!r}, and {first.unit} {first.number} has none; give every "
                "row its score, or take the scores out of all"
            )


def _by_template(file: Path, template: str) -> pd.DataFrame:
    """Pairs read as training would read them; those that it would drop are counted in a message."""
    pairs, _ = load_preferences(str(file.resolve()), template)
    rows = [
        {"id": pair.row, "prompt": pair.question, "prompt_key": prompt_key(pair.prompt)}
        | {"conversation": [message._asdict() for message in pair.prompt]}
        | {"chosen": pair.chosen, "rejected": pair.rejected, "meta": dict(pair.meta)}
        for pair in pairs
    ]
    return _without_scores(pd.DataFrame(rows), _SCORES["pairs"])


def _without_scores(table: pd.DataFrame, scores: Sequence[str]) -> pd.DataFrame:
    return table.assign(**dict.fromkeys(scores, np.nan))
