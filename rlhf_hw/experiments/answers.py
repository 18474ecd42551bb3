"""Policies answer prompts; reward models score the answers beside the references, the data's chosen replies.

Every replicate has an SFT policy, a DPO policy and a reward model of its own; the base model is common to
all. A replicate's replies are scored by its own reward model and by a *judge*, the reward model of the next
replicate, which learned from other pairs with another seed. Sampling, scoring and divergences of the
replicates run side by side (module `workers`).

    answers = answer({"validation": preferences}, base, replicates, folder, settings, gold=gold)
    answers.tables["validation"]["dpo"][1]     scored replies of the second replicate's DPO policy
    answers.moved["dpo_sft"]                   DPO's divergence from SFT, in nats: (replicates, prompts)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from rlhf_hw.experiments.replicate_work import (
    STARTS,
    AnswerSettings,
    Checkpoints,
    Prompts,
    divergences,
    sample_sets,
    score_sets,
)
from rlhf_hw.models.generation import Reply
from rlhf_hw.models.rendering import Renderer
from rlhf_hw.preferences.score_files import prompt_fields, read_replies, write_scores
from rlhf_hw.preferences.templates import Preference
from rlhf_hw.workers import in_workers

Gold = Callable[[str, str], float]
JUDGE = "judge_score"  # in `meta` of a reply: what the judge says
SAMPLES = "samples"  # the set of several samples to each prompt, from which best-of-n chooses


@dataclass(frozen=True)
class Answers:
    """The replies to several sets of prompts, by set, policy and replicate.

    Attributes:
        tables: Set -> "base", "sft", "dpo", "reference" -> score files as tables, one a replicate. The base's
            replies and the references are the same in all; their scores are not.
        moved: On validation prompts, all or the first of them: "sft_base", "dpo_sft", "dpo_base" -> exact
            KL of the first from the second on the first's own replies, in nats, (replicates, prompts).
        implicit: For each replicate, on validation prompts: `implicit` and `score`, DPO's implicit reward
            over beta and the reward model's score of its reply, both minus those of the SFT reply to the
            same prompt.
        samples: Scored samples of each replicate's SFT policy, several a prompt; empty where none were
            asked for.
    """

    tables: dict[str, dict[str, list[pd.DataFrame]]]
    moved: dict[str, np.ndarray]
    implicit: list[pd.DataFrame]
    samples: list[pd.DataFrame]


def sample_prompts(
    preferences: Sequence[Preference], count: int, seed: int, *, ordered: bool = True
) -> list[Preference]:
    """Up to `count` preferences with different prompts, drawn at random; all for 0.

    They stand in the order of the data, or as they were drawn where they are not to be `ordered`.
    """
    unique = list({p.prompt: p for p in reversed(preferences)}.values())[::-1]
    order = np.random.default_rng(seed).permutation(len(unique))[: count or None]
    return [unique[i] for i in (sorted(order) if ordered else order)]


def answer(
    asked: Mapping[str, Sequence[Preference]],
    base: Path,
    replicates: Sequence[Checkpoints],
    folder: Path,
    settings: AnswerSettings,
    *,
    gold: Gold | None = None,
    named: Callable[[str, int], str],
) -> Answers:
    """Sample a reply of each policy to each prompt, score them beside the reference, and write score files.

    All policies draw with the same random numbers.

    Args:
        asked: Set -> prompts; `chosen` is the reference reply. "validation" must be there.
        base: Checkpoint of the base model.
        replicates: The checkpoints of each.
        folder: Where the score files `generated_<set>_<policy>.jsonl` go, one for each replicate.
        settings: How to sample and score.
        gold: The simulated world's true reward, or None.
        named: (name, replicate) -> the name of a replicate's file, from `pipeline.graph.replica`.

    Returns:
        Their tables. `meta` holds the preference's `row`, its `source` where the data are mixed, `gold` where
        that is known, and with two replicates and more what the judge says (`JUDGE`).
    """
    prompts = {name: [p.prompt for p in preferences] for name, preferences in asked.items()}
    if settings.best_of:
        prompts[SAMPLES] = prompts["validation"][: settings.best_of_prompts or None]
    written = _sample_all(prompts, base, replicates, settings)
    for name, preferences in asked.items():
        texts = [p.chosen for p in preferences]
        ids = Renderer.load(base, **settings.limits).reply_ids(texts)
        written[name, "reference", 0] = [Reply(*one, True) for one in zip(texts, ids, strict=True)]
    scores, moved = _judge_all(prompts, written, base, replicates, settings)
    tables: dict[str, dict[str, list[pd.DataFrame]]] = {name: {} for name in prompts}
    for name, policy in dict.fromkeys(key[:2] for key in written):
        known = asked[name] if name in asked else asked["validation"][: len(prompts[name])]
        for k in range(len(replicates)):
            replies = written.get((name, policy, k)) or written[name, policy, 0]
            path = folder / named(f"generated_{name}_{policy}.jsonl", k)
            asked_for = [p for p in known for _ in range(len(replies) // len(known))]
            score, judge = scores[k][name, policy]
            extra = {"row": [p.row for p in asked_for]} | ({} if judge is None else {JUDGE: judge})
            if all("source" in p.meta for p in asked_for):  # mixed data: some may not be shown
                extra["source"] = [p.meta["source"] for p in asked_for]
            write_scores(path, reply_rows(asked_for, replies, score, gold, **extra))
            tables[name].setdefault(policy, []).append(read_replies(path))
    samples = tables.pop(SAMPLES, {}).get("sft", [])
    by_pair = {pair: np.array([one[pair] for one in moved]) for pair in moved[0] if pair != "implicit"}
    return Answers(tables, by_pair, _implicit(tables["validation"], moved), samples)


def _sample_all(
    prompts: Prompts, base: Path, replicates: Sequence[Checkpoints], settings: AnswerSettings
) -> dict:
    """(set, policy, replicate) -> replies; the base's stand under replicate 0."""
    sets = {name: texts for name, texts in prompts.items() if name != SAMPLES}
    calls = [(base, sets, 1, settings)]
    owners = [("base", 0)]
    for k, checkpoints in enumerate(replicates):
        calls += [(checkpoints[policy], sets, 1, settings) for policy in STARTS]
        owners += [(policy, k) for policy in STARTS]
    if SAMPLES in prompts:  # the longest begin first, so that none is waited for at the end
        several = {SAMPLES: prompts[SAMPLES]}
        calls = [(one["sft"], several, settings.best_of, settings) for one in replicates] + calls
        owners = [("sft", k) for k in range(len(replicates))] + owners
    found = in_workers(sample_sets, calls, title="sampling")
    return {
        (name, policy, k): replies
        for (policy, k), sets in zip(owners, found, strict=True)
        for name, replies in sets.items()
    }


def _judge_all(
    prompts: Prompts,
    written: Mapping,
    base: Path,
    replicates: Sequence[Checkpoints],
    settings: AnswerSettings,
):
    """The scores and the divergences of each replicate.

    Returns:
        For each replicate (set, policy) -> (scores by its reward model, by its judge or None); and for each
        replicate what `divergences` returns.
    """
    count, calls = len(replicates), []
    for k, checkpoints in enumerate(replicates):
        # as the judge of the replicate before it, this reward model sees that one's replies too
        wanted = {key: r for key, r in written.items() if key[2] in (k, (k - 1) % count) or _common(key)}
        calls.append((score_sets, checkpoints["reward_model"], prompts, wanted, settings))
    for k, checkpoints in enumerate(replicates):
        mine = {
            policy: replies[: settings.kl_prompts or None]
            for (name, policy, replicate), replies in written.items()
            if name == "validation" and (policy == "base" or (policy in STARTS and replicate == k))
        }
        known = {"base": base, **checkpoints}
        asked = prompts["validation"][: settings.kl_prompts or None]
        calls.append((divergences, known, asked, mine, settings))
    found = in_workers(_call, calls, title="scoring")
    by_model, moved = found[:count], found[count:]
    scores = []
    for k in range(count):
        judge = by_model[(k + 1) % count] if count > 1 else {}
        mine = [key for key in by_model[k] if key[2] == k or _common(key)]
        scores.append({key[:2]: (by_model[k][key], judge.get(key)) for key in mine})
    return scores, moved


def _call(function: Callable, *arguments):
    return function(*arguments)


def _common(key: tuple[str, str, int]) -> bool:
    """Whether the replies under this key are the same for all replicates."""
    return key[1] in ("base", "reference")


def _implicit(tables: Mapping[str, Sequence[pd.DataFrame]], moved: Sequence[Mapping]) -> list[pd.DataFrame]:
    """Changes of implicit reward and of score from the SFT reply to the DPO reply, for each replicate."""
    scores = [
        dpo["score"].to_numpy() - sft["score"].to_numpy()
        for dpo, sft in zip(tables["dpo"], tables["sft"], strict=True)
    ]
    return [
        pd.DataFrame({"implicit": one["implicit"], "score": score[: len(one["implicit"])]})
        for one, score in zip(moved, scores, strict=True)
    ]


def gold_of(table: pd.DataFrame) -> np.ndarray | None:
    """The true rewards in a table of replies, or None where one is unknown."""
    return meta_column(table, "gold")


def meta_column(table: pd.DataFrame, name: str) -> np.ndarray | None:
    """A number that stands in `meta` of each reply, or None where one lacks it."""
    if "meta" not in table or not all(name in meta for meta in table["meta"]):
        return None
    return np.array([meta[name] for meta in table["meta"]])


def reply_rows(
    asked: Sequence[Preference],
    replies: Sequence,
    scores: np.ndarray,
    gold: Gold | None = None,
    **extra: Sequence,
) -> list[dict]:
    """Records of generated replies in the layout of reply score files.

    Args:
        asked: The pairs whose prompts are answered.
        replies: `generation.Reply` objects, one a prompt.
        scores: Their rewards, shape (P,).
        gold: The simulated world's true reward, or None.
        extra: Further values for `meta`, one a prompt each.
    """
    rows = []
    for number, (pair, reply, score) in enumerate(zip(asked, replies, scores, strict=True)):
        meta = {name: values[number] for name, values in extra.items()}
        if gold is not None:
            meta["gold"] = gold(pair.question, reply.text)
        rows.append(
            {
                "id": number,
                **prompt_fields(pair.prompt, pair.question),
                "response": reply.text,
                "score": float(score),
                "tokens": len(reply.ids),
                "finished": reply.finished,
                "meta": meta,
            }
        )
    return rows
