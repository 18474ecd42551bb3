"""Score the texts of files with a reward model, from the shell: `rlhf-hw score`."""

from collections.abc import Sequence
from pathlib import Path

from rlhf_hw.errors import UnknownName
from rlhf_hw.models.scoring import RewardModel, score_groups
from rlhf_hw.preferences.score_files import write_scores


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

    Returns:
        The number of records written to `output` as JSON lines.
    """
    from rlhf_hw.preferences.reading import load_preferences, read_rows
    from rlhf_hw.preferences.templates import as_prompt, as_reply

    reward_model = RewardModel(model, dtype=dtype, reads_at=reads_at)
    if template:
        preferences, _ = load_preferences(",".join(map(str, files)), template, split, limit)
        records = reward_model.score_preferences(preferences)
    else:
        rows = [row for file in files for row in read_rows(str(file), split)][:limit]
        for number, row in enumerate(rows):
            missing = {"prompt", "response"} - set(row)
            if missing:
                raise UnknownName(
                    f"{files}, row {number}: key {sorted(missing)[0]!r} is missing; give --template for pairs"
                )
        prompts = [as_prompt(row["prompt"], "prompt") for row in rows]
        replies = [[as_reply(row["response"], "response")] for row in rows]
        groups = reward_model.tokenize(prompts, replies)
        scores = score_groups(reward_model.model, groups, reward_model.renderer.pad_id, dtype)[:, 0]
        records = [
            {**row, "id": row.get("id", number), "score": float(score), "tokens": int(tokens)}
            for number, (row, score, tokens) in enumerate(
                zip(rows, scores, groups.reply_lengths[:, 0], strict=True)
            )
        ]
    write_scores(output, records)
    return len(records)
