"""Score the texts of files with a reward model and write them as a score file: `rlhf-hw score`."""

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_hw.errors import InputError, UnknownName
from rlhf_hw.files import check_target
from rlhf_hw.models.batches import TokenizedGroups, tokenize_preferences
from rlhf_hw.models.scoring import RewardModel, pair_records, score_groups
from rlhf_hw.preferences.asked import AskedRow, refuse_more_conversation
from rlhf_hw.preferences.reading import load_preferences
from rlhf_hw.preferences.rows import Place
from rlhf_hw.preferences.score_files import as_line, write_scores
from rlhf_hw.preferences.sources import read_rows
from rlhf_hw.preferences.templates import Message, Preference, as_prompt, as_reply

log = logging.getLogger(__name__)
# endings of names of files that hold something else than JSON
OTHER_FORMS = {".parquet", ".arrow", ".csv", ".tsv", ".yaml", ".yml", ".zip", ".bz2", ".xz", ".zst"}


@dataclass(frozen=True)
class Asked:
    """A prompt and its reply, and the row that they come from."""

    prompt: tuple[Message, ...]
    reply: str
    row: dict[str, Any]


def score_texts(
    files: Sequence[str | Path],
    model: str,
    output: str | Path,
    template: str | None = None,
    split: str = "validation",
    limit: int | None = None,
    dtype: str = "auto",
    reads_at: str | None = None,
    untrained: bool = False,
) -> int:
    """Score pairs (with a template) or single replies (JSON lines with `prompt` and `response`) from files.

    Args:
        files: What to score.
        model: Checkpoint folder or hub id of the reward model.
        output: The score file, JSON lines; it is replaced when everything is scored, or stays as it was.
        template: How rows are read as pairs; None: each row is one reply.
        split: Of data sets that have several.
        limit: Rows to score; None for all.
        dtype: "auto", "bf16" or "fp32".
        reads_at: For another system's model, where it reads its score, see `models.foreign`.
        untrained: Whether a model without a head is scored with a random one.

    Returns:
        The number of records written.

    Raises:
        KeyError: a reply's row has no `prompt` or no `response`.
        ValueError: the output cannot be written or is one of the files, or a row holds what JSON cannot say.
    """
    if not model.strip():
        raise InputError("model: expected the folder or hub id of a reward model, found an empty name")
    if "" in map(str, files):
        raise InputError("files: one of the names is empty; name what to score")
    check_target(output, [model, *files])
    _refuse_other_form(Path(output))
    if limit is not None and limit < 1:
        raise InputError(f"limit: expected 1 or more rows, found {limit}")
    sources = [str(file) for file in files]
    if template:
        pairs, _ = load_preferences(",".join(sources), template, split, limit)
        for pair in pairs:
            as_line(pair.meta, pair.place)
    else:
        rows = (placed for source in sources for placed in read_rows(source, split))
        replies = [asked_reply(place, row) for place, row in islice(rows, limit and min(limit, sys.maxsize))]
    reward_model = RewardModel(model, dtype=dtype, reads_at=reads_at, untrained=untrained)
    records = score_pairs_of(reward_model, pairs) if template else score_replies(reward_model, replies)
    write_scores(output, records)
    return len(records)


def _refuse_other_form(output: Path) -> None:
    """Refuse a name that says another form than is written: whoever reads it goes by that."""
    ending = output.suffix
    if ending.lower() in OTHER_FORMS or ending.lower() == ".gz" != ending:
        raise InputError(f"{output}: scores are JSON lines; let the name end in .jsonl or .jsonl.gz")


def asked_reply(place: Place, row: dict[str, Any]) -> Asked:
    """A single reply from its row, which may come from a score file.

    Raises:
        KeyError, ValueError: it has no `prompt` or `response`, or holds what a score file could not.
    """
    missing = sorted({"prompt", "response"} - set(row))
    if missing:
        raise UnknownName(f"{place}: key {missing[0]!r} is missing; give --template for pairs")
    as_line(row, place)
    key = "conversation" if row.get("conversation") else "prompt"  # as score files once had it
    try:
        asked = AskedRow(row)
        reply = Asked(as_prompt(asked[key], key), as_reply(asked["response"], "response"), row)
        refuse_more_conversation(asked.unread(), "a single reply is scored without it")
        return reply
    except InputError as error:
        raise InputError(f"{place}: {error}") from error


def score_replies(reward_model: RewardModel, replies: Sequence[Asked]) -> list[dict[str, Any]]:
    """The rows of single replies with `id`, `score` and `tokens`."""
    groups = reward_model.tokenize([asked.prompt for asked in replies], [[asked.reply] for asked in replies])
    scores = _score(reward_model, groups)[:, 0]
    tokens = groups.reply_lengths[:, 0]
    return [
        {**asked.row, "id": asked.row.get("id", n), "score": float(scores[n]), "tokens": int(tokens[n])}
        for n, asked in enumerate(replies)
    ]


def score_pairs_of(reward_model: RewardModel, preferences: Sequence[Preference]) -> list[dict[str, Any]]:
    """Records of pairs; those whose replies are equal where they are cut are left out, and counted."""
    groups, kept, counts = tokenize_preferences(preferences, reward_model.renderer)
    if equal := counts["equal_after_truncation"]:
        log.warning("%d pairs are left out: their replies are equal where they are cut", equal)
    return pair_records([preferences[k] for k in kept], groups, _score(reward_model, groups))


def _score(reward_model: RewardModel, groups: TokenizedGroups) -> np.ndarray:
    """Rewards, shape (G, K); what was too long is told."""
    renderer = reward_model.renderer
    for what, lengths, limit in (
        ("prompts", groups.prompt_lengths, renderer.max_prompt_tokens),
        ("replies", groups.reply_lengths, renderer.max_reply_tokens),
    ):
        if full := int((lengths >= limit).sum()):
            log.warning("%d of %d %s fill %d tokens; what was longer is cut", full, lengths.size, what, limit)
    return score_groups(reward_model.model, groups, renderer.pad_id, reward_model.dtype)
