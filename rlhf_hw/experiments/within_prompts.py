"""Does a reward model order several replies to the same prompt as gold does?

Best-of-n sampling and reinforcement learning ask for that order. Spearman's correlation is taken within each
prompt, so that easy and hard prompts play no part: among replies of the data's own writers, and among replies
that a policy samples.

    table = replies_beside_data(asked, policy, renderer, reward_model, path, gold, written)
    order_within_prompts(table)["gold_spearman_within"]
"""

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
from transformers import PreTrainedModel

from rlhf_hw.experiments.answers import gold_of, reply_rows
from rlhf_hw.models.generation import Reply, generate
from rlhf_hw.models.rendering import Renderer
from rlhf_hw.models.scoring import RewardModel
from rlhf_hw.preferences.score_files import read_replies, write_scores
from rlhf_hw.preferences.templates import Preference
from rlhf_hw.stats.pairs import gold_within_prompts


def replies_beside_data(
    preferences: Sequence[Preference],
    policy: PreTrainedModel,
    renderer: Renderer,
    reward_model: RewardModel,
    path: Path,
    gold: Callable[[str, str], float],
    written: Sequence[Sequence[str]],
    samples: int = 4,
    **sampling,
) -> pd.DataFrame:
    """The data's two replies to each prompt, more written and sampled ones, scored by reward model and gold.

    Args:
        preferences: One a prompt.
        policy: Causal language model to sample from.
        renderer: The policy's renderer.
        reward_model: Scores the replies.
        path: The score file; `source` in `meta` is chosen, rejected, written or sampled.
        gold: The simulated world's true reward.
        written: More replies to each prompt, equally many, from the source of the data's own.
        samples: Replies sampled for each prompt.
        sampling: Passed to `generation.generate`.

    Returns:
        The score file as a table, the replies to one prompt next to each other.
    """
    prompts = [p.prompt for p in preferences]
    sampled = iter(generate(policy, renderer, prompts, samples=samples, title="replies", **sampling))
    given = [(p.chosen, p.rejected, *more) for p, more in zip(preferences, written, strict=True)]
    ids = iter(renderer.reply_ids([text for texts in given for text in texts]))
    replies = [
        [*(Reply(text, next(ids), True) for text in texts), *islice(sampled, samples)] for texts in given
    ]
    scores = reward_model.score(prompts, [[reply.text for reply in group] for group in replies])
    size = len(replies[0])
    sources = ["chosen", "rejected", *["written"] * len(written[0]), *["sampled"] * samples]
    rows = reply_rows(
        [p.question for p in preferences for _ in range(size)],
        [reply for group in replies for reply in group],
        scores.ravel(),
        gold,
        row=[p.row for p in preferences for _ in range(size)],
        source=sources * len(preferences),
    )
    write_scores(path, rows)
    return read_replies(path)


def order_within_prompts(table: pd.DataFrame, seed: int = 0) -> dict[str, float]:
    """How far the scores of `replies_beside_data` order the replies to one prompt as gold does.

    Args:
        table: From `replies_beside_data`.
        seed: Seed of the bootstrap.

    Returns:
        Keys of `stats.pairs.gold_within_prompts`: gold_spearman_within among the replies from the source of
        the data, gold_spearman_sampled among those that a model sampled.
    """
    sampled = np.array([meta["source"] == "sampled" for meta in table["meta"]])
    truth, found = gold_of(table), {}
    for name, rows in {"gold_spearman_within": ~sampled, "gold_spearman_sampled": sampled}.items():
        scores, prompts = table["score"][rows], table["prompt_key"][rows]
        found |= gold_within_prompts(scores, truth[rows], prompts, name=name, seed=seed)
    return found
