"""Score the texts of files with a reward model and write them as a score file: `rlhf-hw score`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlhf_hw.errors import InputError, UnknownName
from rlhf_hw.files import check_target
from rlhf_hw.models.scoring import RewardModel, score_groups
from rlhf_hw.preferences.reading import load_preferences, read_rows
from rlhf_hw.preferences.score_files import write_scores
from rlhf_hw.preferences.templates import as_prompt, as_reply


def score_texts(
    files: Sequence[str | Path],
    model: str,
    output: str | Path,
    template: str | None = None,
    split: str = "validation",
    limit: int | None = None,
    dtype: str = "auto",
    reads_at: str | None = None,
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

    Returns:
        The number of records written.

    Raises:
        KeyError: a reply's row has no `prompt` or no `response`.
        ValueError: the output cannot be written or is one of the files, or a row holds what JSON cannot say.
    """
    check_target(output, [model, *files])
    if limit is not None and limit < 1:
        raise InputError(f"limit: expected 1 or more rows, found {limit}")
    reward_model = RewardModel(model, dtype=dtype, reads_at=reads_at)
    if template:
        preferences, _ = load_preferences(",".join(map(str, files)), template, split, limit)
        records = reward_model.score_preferences(preferences)
    else:
        rows = [row for file in files for row in read_rows(str(file), split)][:limit]
        records = score_replies(reward_model, rows, ", ".join(map(str, files)))
    write_scores(output, records)
    return len(records)


def score_replies(
    reward_model: RewardModel, rows: Sequence[Mapping[str, Any]], source: str
) -> list[dict[str, Any]]:
    """The rows of single replies with `id`, `score` and `tokens`; `source` is their name in messages."""
    for number, row in enumerate(rows):
        missing = {"prompt", "response"} - set(row)
        if missing:
            raise UnknownName(
                f"{source}, row {number}: key {sorted(missing)[0]!r} is missing; give --template for pairs"
            )
    prompts = [as_prompt(row["prompt"], "prompt") for row in rows]
    groups = reward_model.tokenize(prompts, [[as_reply(row["response"], "response")] for row in rows])
    pad_id, dtype = reward_model.renderer.pad_id, reward_model.dtype
    scores = score_groups(reward_model.model, groups, pad_id, dtype)[:, 0]
    return [
        {**row, "id": row.get("id", number), "score": float(score), "tokens": int(tokens)}
        for number, (row, score, tokens) in enumerate(
            zip(rows, scores, groups.reply_lengths[:, 0], strict=True)
        )
    ]
