"""Policies answer prompts; a reward model scores the answers beside a reference, the data's chosen reply."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from transformers import PreTrainedModel

from rlhf_hw.models.batches import TokenizedGroups, group_tokens
from rlhf_hw.models.generation import Reply, generate
from rlhf_hw.models.log_probs import exact_kl, log_probs_groups
from rlhf_hw.models.rendering import Renderer
from rlhf_hw.models.scoring import RewardModel
from rlhf_hw.preferences.score_files import read_replies, write_scores
from rlhf_hw.preferences.templates import Preference


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
    folder: Path,
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
        folder: Where the score files `generated_<name>_<policy>.jsonl` go.
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
        path = folder / f"generated_{name}_{policy}.jsonl"
        questions = [p.question for p in preferences]
        write_scores(
            path, reply_rows(questions, written, scores[:, column], gold, row=[p.row for p in preferences])
        )
        tables[policy] = read_replies(path)
    return Answers(list(preferences), replies, tables)


def reply_groups(answers: Answers, renderer: Renderer, policies: Sequence[str]) -> TokenizedGroups:
    """The sampled replies as tokens, exactly as drawn: a cut reply has no end token."""
    prompts = renderer.prompt_ids([p.prompt for p in answers.preferences])
    replies = [[answers.replies[policy][i].ids for policy in policies] for i in range(len(prompts))]
    return group_tokens(prompts, replies)


def movement(
    answers: Answers,
    policies: Mapping[str, PreTrainedModel],
    renderer: Renderer,
    beta: float,
    dtype: str = "auto",
) -> pd.DataFrame:
    """How far DPO has moved from its base, one row a prompt.

    Args:
        answers: With replies of "base" and "dpo".
        policies: "base" and "dpo".
        renderer: The policies' renderer.
        beta: DPO's.
        dtype: "auto", "bf16" or "fp32".

    Returns:
        `kl`: exact KL of the DPO policy from the base on its own reply, in nats. `implicit` and `score`:
        DPO's implicit reward and the reward model's score of its reply, both minus those of the base reply;
        differences within a prompt are free of the level that either reward leaves open.
    """
    pad, both = renderer.pad_id, (policies["dpo"], policies["base"])
    kl = exact_kl(*both, reply_groups(answers, renderer, ["dpo"]), pad, dtype)[:, 0]
    groups = reply_groups(answers, renderer, ["base", "dpo"])
    ratios = [log_probs_groups(model, groups, pad, dtype) for model in both]
    implicit = beta * (ratios[0] - ratios[1])
    scores = answers.tables["dpo"]["score"].to_numpy() - answers.tables["base"]["score"].to_numpy()
    return pd.DataFrame({"kl": kl, "implicit": implicit[:, 1] - implicit[:, 0], "score": scores})


def gold_of(table: pd.DataFrame) -> np.ndarray | None:
    """The true rewards in a table of replies, or None where one is unknown."""
    if "meta" not in table or not all("gold" in meta for meta in table["meta"]):
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
