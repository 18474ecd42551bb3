"""Does a reward model order several replies to the same prompt as gold does?

Best-of-n sampling and reinforcement learning ask for that order. Spearman's correlation is taken within each
prompt, so that easy and hard prompts play no part: among replies of the data's own writers, and among replies
that a policy samples.

    beside = replies_beside_data(asked, policy, renderer, gold, written)
    table = score_beside(beside, reward_model, path)
    order_within_prompts([table])["gold_spearman_within"]
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
from rlhf_hw.stats.distributions import within_prompt_correlations
from rlhf_hw.stats.replicates import replicated_mean


@dataclass(frozen=True)
class RepliesBeside:
    """Several replies to each prompt, not yet scored.

    Attributes:
        preferences: One a prompt.
        replies: To each prompt, equally many.
        sources: Of the replies to any prompt, in their order: chosen, rejected, written, sampled.
        gold: The true reward of every reply, prompt by prompt.
    """

    preferences: list[Preference]
    replies: list[list[Reply]]
    sources: list[str]
    gold: list[float]


def replies_beside_data(
    preferences: Sequence[Preference],
    policy: PreTrainedModel,
    renderer: Renderer,
    gold: Callable[[str, str], float],
    written: Sequence[Sequence[str]],
    samples: int = 4,
    **sampling,
) -> RepliesBeside:
    """The data's two replies to each prompt, more written ones, and sampled ones.

    Args:
        preferences: One a prompt.
        policy: Causal language model to sample from.
        renderer: The policy's renderer.
        gold: The simulated world's true reward.
        written: More replies to each prompt, equally many, from the source of the data's own.
        samples: Replies sampled for each prompt.
        sampling: Passed to `generation.generate`.
    """
    prompts = [p.prompt for p in preferences]
    sampled = iter(generate(policy, renderer, prompts, samples=samples, title="replies", **sampling))
    given = [(p.chosen, p.rejected, *more) for p, more in zip(preferences, written, strict=True)]
    ids = iter(renderer.reply_ids([text for texts in given for text in texts]))
    replies = [
        [*(Reply(text, next(ids), True) for text in texts), *islice(sampled, samples)] for texts in given
    ]
    sources = ["chosen", "rejected", *["written"] * len(written[0]), *["sampled"] * samples]
    worth = [gold(p.question, r.text) for p, group in zip(preferences, replies, strict=True) for r in group]
    return RepliesBeside(list(preferences), replies, sources, worth)


def score_beside(beside: RepliesBeside, reward_model: RewardModel, path: Path) -> pd.DataFrame:
    """Score these replies; one score file, which is returned as a table, the replies to one prompt together.

    Args:
        beside: From `replies_beside_data`.
        reward_model: Scores the replies.
        path: The score file; `source` in `meta` is chosen, rejected, written or sampled.
    """
    asked, size = beside.preferences, len(beside.sources)
    texts, known = [[reply.text for reply in group] for group in beside.replies], iter(beside.gold)
    scores = reward_model.score([p.prompt for p in asked], texts)
    rows = reply_rows(
        [p.question for p in asked for _ in range(size)],
        [reply for group in beside.replies for reply in group],
        scores.ravel(),
        lambda _prompt, _reply: next(known),
        row=[p.row for p in asked for _ in range(size)],
        source=beside.sources * len(asked),
    )
    write_scores(path, rows)
    return read_replies(path)


def order_within_prompts(tables: Sequence[pd.DataFrame], seed: int = 0) -> dict[str, float]:
    """How far the scores order the replies to one prompt as gold does, on average over prompts and trainings.

    Args:
        tables: From `score_beside`, the same replies scored by each replicate.
        seed: Of resampling.

    Returns:
        gold_spearman_within among the replies from the source of the data, gold_spearman_sampled among those
        that a model sampled, gold_spearman_drop: the first minus the second on the same prompts; each with
        its intervals (`Replicated.named`), and `<name>_prompts`, those whose replies differ in score and in
        gold. gold_sd_within, gold_sd_sampled: standard deviation of gold among the replies to one prompt.
    """
    sampled, truth = np.array([meta["source"] == "sampled" for meta in tables[0]["meta"]]), gold_of(tables[0])
    parts = {"within": ~sampled, "sampled": sampled}
    orders = {name: within_prompt_orders(tables, truth, rows) for name, rows in parts.items()}
    both = [
        table.loc[:, table.columns.isin(other.columns)]
        for table, other in ((orders["within"], orders["sampled"]), (orders["sampled"], orders["within"]))
    ]
    orders["drop"] = both[0] - both[1]
    found: dict[str, float] = {}
    for name, table in orders.items():
        if table.size:
            mean = replicated_mean(table.to_numpy(), seed=seed)
            found |= mean.named(f"gold_spearman_{name}") | {f"gold_spearman_{name}_prompts": table.shape[1]}
    for name, rows in parts.items():
        spread = pd.Series(truth[rows]).groupby(tables[0]["prompt_key"].to_numpy()[rows]).std()
        found |= {f"gold_sd_{name}": float(spread.mean())} if spread.notna().any() else {}
    return found


def within_prompt_orders(tables: Sequence[pd.DataFrame], truth: np.ndarray, rows: np.ndarray) -> pd.DataFrame:
    """Rank correlation of score and gold within each prompt: one row a replicate, one column a prompt.

    Prompts that some replicate does not order at all are left out for all, so that the rows stay the same.
    """
    prompts = tables[0]["prompt_key"][rows]
    found = [within_prompt_correlations(table["score"][rows], truth[rows], prompts) for table in tables]
    return pd.DataFrame(found).dropna(axis="columns")
