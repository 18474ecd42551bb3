"""Let two policies answer the same prompts, and have a reward model score the replies beside a reference."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats
from transformers import PreTrainedModel

from rlhf_hw.models.batches import TokenizedGroups, group_tokens
from rlhf_hw.models.generation import Reply, generate
from rlhf_hw.models.log_probs import exact_kl, log_probs_groups
from rlhf_hw.models.rendering import Renderer
from rlhf_hw.models.scoring import RewardModel
from rlhf_hw.pipeline.run_folder import Run
from rlhf_hw.preferences.score_files import read_replies, write_scores
from rlhf_hw.preferences.templates import Preference
from rlhf_hw.stats.distributions import correlation
from rlhf_hw.stats.intervals import DRAWS, mean_interval, percentile_interval
from rlhf_hw.stats.pairs import gold_within_prompts


@dataclass(frozen=True)
class Answers:
    """The replies to one set of prompts.

    Attributes:
        preferences: The prompts, each with the reference reply (`chosen`).
        replies: Sampled replies by policy.
        tables: Score files as tables, by policy and for "reference".
    """

    preferences: list[Preference]
    replies: dict[str, list[Reply]]
    tables: dict[str, pd.DataFrame]


def sample_prompts(preferences: Sequence[Preference], count: int, seed: int) -> list[Preference]:
    """Up to `count` preferences with different prompts, drawn at random."""
    unique = list({p.prompt: p for p in reversed(preferences)}.values())[::-1]
    order = np.random.default_rng(seed).permutation(len(unique))[: count or None]
    return [unique[i] for i in sorted(order)]


def answer(
    preferences: Sequence[Preference],
    policies: Mapping[str, PreTrainedModel],
    renderer: Renderer,
    reward_model: RewardModel,
    results: Run,
    name: str,
    gold: Callable[[str, str], float] | None = None,
    **sampling,
) -> Answers:
    """Sample a reply of each policy to each prompt, score them beside the reference, and write score files.

    The policies draw with the same random numbers, and the prompt is computed once for all replies to it.

    Args:
        preferences: The prompts; `chosen` is the reference reply.
        policies: Causal language models by name.
        renderer: The policies' renderer.
        reward_model: Scores the replies.
        results: Where the score files `generated_<name>_<policy>` go.
        name: Name of the set of prompts.
        gold: The simulated world's true reward, or None.
        sampling: Passed to `generation.generate`.
    """
    prompts = [p.prompt for p in preferences]
    replies = {
        policy: generate(model, renderer, prompts, **sampling, title=f"{name}: {policy}")
        for policy, model in policies.items()
    }
    references = [
        Reply(p.chosen, ids, True)
        for p, ids in zip(preferences, renderer.reply_ids([p.chosen for p in preferences]), strict=True)
    ]
    everything = replies | {"reference": references}
    texts = [[everything[policy][i].text for policy in everything] for i in range(len(prompts))]
    scores = reward_model.score(prompts, texts)
    tables = {}
    for column, (policy, written) in enumerate(everything.items()):
        path = results.scores(f"generated_{name}_{policy}")
        questions = [p.question for p in preferences]
        write_scores(
            path, reply_rows(questions, written, scores[:, column], gold, row=[p.row for p in preferences])
        )
        tables[policy] = read_replies(path)
    return Answers(list(preferences), replies, tables)


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


def reply_groups(answers: Answers, renderer: Renderer, policies: Sequence[str]) -> TokenizedGroups:
    """The sampled replies as tokens, exactly as drawn: a cut reply has no end token."""
    prompts = renderer.prompt_ids([p.prompt for p in answers.preferences])
    replies = [[answers.replies[policy][i].ids for policy in policies] for i in range(len(prompts))]
    return group_tokens(prompts, replies)


def divergence(
    answers: Answers,
    policy: PreTrainedModel,
    reference: PreTrainedModel,
    renderer: Renderer,
    dtype: str = "auto",
) -> dict[str, float]:
    """Mean exact KL of the DPO policy from the reference on its own replies: `kl` with interval, in nats."""
    values = exact_kl(policy, reference, reply_groups(answers, renderer, ["dpo"]), renderer.pad_id, dtype)
    return mean_interval(values[:, 0]).named("kl")


def implicit_against_score(
    answers: Answers,
    policy: PreTrainedModel,
    reference: PreTrainedModel,
    renderer: Renderer,
    beta: float,
    dtype: str = "auto",
) -> pd.DataFrame:
    """Implicit reward and reward-model score of each prompt's DPO reply, both minus those of its base reply.

    Differences within a prompt are free of the level that either reward leaves open.
    """
    groups = reply_groups(answers, renderer, ["base", "dpo"])
    ratios = [log_probs_groups(model, groups, renderer.pad_id, dtype) for model in (policy, reference)]
    implicit = beta * (ratios[0] - ratios[1])
    scores = answers.tables["dpo"]["score"].to_numpy() - answers.tables["base"]["score"].to_numpy()
    return pd.DataFrame({"implicit": implicit[:, 1] - implicit[:, 0], "score": scores})


def implicit_correlation(differences: pd.DataFrame, draws: int = DRAWS, seed: int = 0) -> dict[str, float]:
    """Spearman correlation of the columns of `implicit_against_score`, with its interval over prompts.

    Returns:
        implicit_reward_correlation (+_low, _high).
    """
    rows = np.random.default_rng(seed).integers(0, len(differences), (draws, len(differences)))
    ranks = [stats.rankdata(differences[name].to_numpy()[rows], axis=1) for name in ("implicit", "score")]
    first, second = (part - part.mean(axis=1, keepdims=True) for part in ranks)
    norm = np.sqrt((first**2).sum(axis=1) * (second**2).sum(axis=1))
    drawn = np.divide((first * second).sum(axis=1), norm, out=np.zeros(draws), where=norm > 0)
    value = correlation(differences["implicit"], differences["score"])
    return percentile_interval(value, drawn).named("implicit_reward_correlation")


def order_within_prompts(table: pd.DataFrame, seed: int = 0) -> dict[str, float]:
    """How far the scores of `replies_beside_data` order the replies to one prompt as gold does.

    Args:
        table: From `replies_beside_data`.
        seed: Seed of the bootstrap.

    Returns:
        Keys of `pairs.gold_within_prompts`: gold_spearman_within among the replies from the source of the
        data, gold_spearman_sampled among those that a model sampled.
    """
    sampled = np.array([meta["source"] == "sampled" for meta in table["meta"]])
    truth, found = gold_of(table), {}
    for name, rows in {"gold_spearman_within": ~sampled, "gold_spearman_sampled": sampled}.items():
        scores, prompts = table["score"][rows], table["prompt_key"][rows]
        found |= gold_within_prompts(scores, truth[rows], prompts, name=name, seed=seed)
    return found


def gold_of(table: pd.DataFrame) -> np.ndarray | None:
    """The true rewards in a table of replies, or None."""
    if "meta" not in table or "gold" not in table["meta"].iloc[0]:
        return None
    return np.array([m["gold"] for m in table["meta"]])


def reply_rows(
    prompts: Sequence[str],
    replies: Sequence,
    scores: np.ndarray,
    gold: Callable[[str, str], float] | None = None,
    **extra: Sequence,
) -> list[dict]:
    """Records of generated replies in the layout of reply score files.

    Args:
        prompts: The last user turns.
        replies: `generation.Reply` objects, one a prompt.
        scores: Their rewards, shape (P,).
        gold: The simulated world's true reward, or None.
        extra: Further values for `meta`, one a prompt each.
    """
    rows = []
    for number, (prompt, reply, score) in enumerate(zip(prompts, replies, scores, strict=True)):
        meta = {name: values[number] for name, values in extra.items()}
        if gold is not None:
            meta["gold"] = gold(prompt, reply.text)
        rows.append(
            {
                "id": number,
                "prompt": prompt,
                "response": reply.text,
                "score": float(score),
                "tokens": len(reply.ids),
                "finished": reply.finished,
                "meta": meta,
            }
        )
    return rows
