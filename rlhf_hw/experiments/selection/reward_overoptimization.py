"""All that choosing hard by a reward shows, in one result: curves, small reward models, remedies, labels.

    study = ManyReplies(**arrays, ...)
    found = reward_overoptimization(study, Variations(sizes=(25, 100, 400)))
    found.metrics["over.bonus.fall"], found.claims["over_bonus_turns"]

"Trainings" are the run's reward models, which share neither pairs nor seed, or for the small reward models
draws of pairs and flips.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rlhf_hw.errors import InputError
from rlhf_hw.experiments.best_of_n import best_by_score, kl_bound
from rlhf_hw.experiments.result import Result, prefixed
from rlhf_hw.experiments.selection.ensembles import remedy_numbers
from rlhf_hw.experiments.selection.gold_curves import (
    FITTED,
    curve_rows,
    doublings,
    gold_curve,
    proxy_numbers,
    with_length_bonus,
)
from rlhf_hw.experiments.selection.over_expectations import over_claims
from rlhf_hw.experiments.selection.state_heads import (
    JudgedHeads,
    Labels,
    ReadPairs,
    draw_heads,
    judge_heads,
)
from rlhf_hw.experiments.selection.suspect_labels import (
    calibration_numbers,
    flip_numbers,
    reliability_rows,
)
from rlhf_hw.stats.replicates import replicated_mean, replicated_rate

BONUS = 1.0  # planted: a deviation of length counts as much as a deviation of the score


@dataclass(frozen=True)
class ManyReplies:
    """Many replies to a few prompts, and pairs to learn from.

    Attributes:
        gold, words: Shape (prompts, samples).
        scores: Of the run's reward models, shape (trainings, prompts, samples).
        averaged: Of one model with the mean of their weights, shape (prompts, samples).
        states: Shape (prompts, samples, D).
        train, held_out: Pairs as read, in the same directions.
    """

    gold: np.ndarray
    words: np.ndarray
    scores: np.ndarray
    averaged: np.ndarray
    states: np.ndarray
    train: ReadPairs
    held_out: ReadPairs


@dataclass(frozen=True)
class Variations:
    """What is varied of the small reward models.

    Attributes:
        sizes: Numbers of pairs, rising; the last is that of all other comparisons.
        rates: Shares of flipped labels, rising from 0 to one half, which is the control.
        draws: Of pairs and flips.
        members: Of an ensemble.
        member_pairs: Pairs of each member.
        member_flips: Share of flipped labels there.
        flip_rate: Share of flipped labels that are to be found, and of those whose calibration is looked at.
    """

    sizes: Sequence[int] = (25, 100, 400)
    rates: Sequence[float] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
    draws: int = 6
    members: int = 4
    member_pairs: int = 100
    member_flips: float = 0.25
    flip_rate: float = 0.2

    def __post_init__(self) -> None:
        if self.rates[0] != 0 or self.rates[-1] != 0.5:
            raise InputError(f"rates of flips go from 0 to 0.5, the control; found {list(self.rates)}")
        if self.flip_rate not in self.rates:
            raise InputError(f"flip_rate {self.flip_rate} is none of the rates {list(self.rates)}")


@dataclass(frozen=True, kw_only=True)
class OverOptimization(Result):
    """What was found; beside the numbers, rows for figures.

    Attributes:
        curves: Proxy -> one row for each n, from `gold_curves.curve_rows`.
        by_pairs, by_flips: Number of pairs, share of flips -> numbers with `accuracy`, `gold_most`.
        favoured: The same of models whose labels favour length.
        remedies: Case -> keys of `remedy_numbers`.
        reliability: Share of flips -> rows of confidence and accuracy.
    """

    curves: dict[str, pd.DataFrame]
    by_pairs: dict[int, dict[str, float]]
    by_flips: dict[float, dict[str, float]]
    favoured: dict[str, float]
    remedies: dict[str, dict[str, float]]
    reliability: dict[float, list[dict]]


def reward_overoptimization(
    replies: ManyReplies, variations: Variations | None = None, *, fitted: int = FITTED, seed: int = 0
) -> OverOptimization:
    """Everything; models are not needed any more.

    Args:
        replies: From `many_replies.make_many`.
        variations: Of the small reward models.
        fitted: Largest n that parabolas are fitted to.
        seed: Of draws.

    Returns:
        Metrics `over.model.*`, `over.bonus.*`, `over.gold.*` (keys of `proxy_numbers`), `over.labels.*`
        (`label_numbers`), `over.remedies.<case>.*`, `over.calibration.*`, `over.flips.*`.
    """
    wanted = variations or Variations()
    curves, numbers = proxy_curves(replies, fitted, seed)
    labelled = judge_labels(replies, wanted, seed)
    by_pairs, by_flips, of_labels = label_numbers(labelled, wanted)
    cases = remedy_cases(replies, wanted, seed)
    clean, noisy = (labelled[Labels(rate)] for rate in (0.0, wanted.flip_rate))
    prompts = replies.held_out.prompts
    calibrated = calibration_numbers(clean.margins, noisy.margins, prompts, wanted.flip_rate, seed=seed)
    numbers |= prefixed("calibration", calibrated)
    numbers |= prefixed("flips", flip_numbers(replies.train, wanted.flip_rate, wanted.draws, seed=seed))
    numbers |= prefixed("labels", of_labels)
    for case, found in cases.items():
        numbers |= prefixed(f"remedies.{case}", found)
    count = replies.gold.shape
    numbers |= {"prompts": count[0], "samples": count[1], "trainings": len(replies.scores), "fitted": fitted}
    numbers |= {"bonus.weight": BONUS, "draws": wanted.draws, "middle": middle(replies)}
    return OverOptimization(
        metrics=prefixed("over", numbers),
        claims=over_claims(numbers),
        curves=curves,
        by_pairs=by_pairs,
        by_flips=by_flips,
        favoured=head_numbers(labelled[Labels(favour_length=True)]),
        remedies=cases,
        reliability={
            rate: reliability_rows(labelled[Labels(rate)].margins, prompts) for rate in wanted.rates[:-1]
        },
    )


def middle(replies: ManyReplies) -> int:
    """The n that remedies are also looked at, an eighth of the largest."""
    return max(1, int(doublings(replies.gold.shape[1])[-1]) // 8)


def proxy_curves(
    replies: ManyReplies, fitted: int, seed: int = 0
) -> tuple[dict[str, pd.DataFrame], dict[str, float]]:
    """The run's reward models, the same with a planted bonus for length, and gold itself."""
    gold, sizes = replies.gold, doublings(replies.gold.shape[1])
    proxies = {
        "model": replies.scores,
        "bonus": with_length_bonus(replies.scores, replies.words, BONUS),
        "gold": gold[None],
    }
    curves = {name: gold_curve(proxy, gold, sizes) for name, proxy in proxies.items()}
    numbers: dict[str, float] = {}
    for name, curve in curves.items():
        numbers |= prefixed(name, proxy_numbers(curve, fitted, seed=seed))
        middle_gain = curve.gold[..., -1 - min(3, len(sizes) - 1)]
        numbers |= replicated_mean(middle_gain, seed=seed).named(f"{name}.gold_middle")
        numbers[f"{name}.divergence"] = float(curve.kl[..., -1].mean())
    numbers |= {"most": int(sizes[-1]), "formula": kl_bound(int(sizes[-1]))}
    below = curves["gold"].gold[..., -1] - curves["model"].gold[..., -1]
    numbers |= replicated_mean(below, seed=seed).named("model.below_gold")
    for name, proxy in proxies.items():
        chosen = [best_by_score(one, replies.words, int(sizes[-1])) for one in proxy]
        numbers |= replicated_mean(chosen, seed=seed).named(f"{name}.words")
    numbers["words"] = float(replies.words.mean())
    return {name: curve_rows(curve, fitted) for name, curve in curves.items()}, numbers


def judge_labels(replies: ManyReplies, wanted: Variations, seed: int = 0) -> dict[Labels | int, JudgedHeads]:
    """Small reward models by who labelled their pairs, and by how many there are."""
    size, sizes = wanted.sizes[-1], doublings(replies.gold.shape[1])

    def judged(pairs: int, labels: Labels) -> JudgedHeads:
        heads = draw_heads(replies.train, pairs, labels, wanted.draws, seed)
        return judge_heads(heads, replies.held_out, replies.states, replies.gold, sizes)

    kinds = [*(Labels(rate) for rate in wanted.rates), Labels(favour_length=True)]
    found: dict[Labels | int, JudgedHeads] = {labels: judged(size, labels) for labels in kinds}
    return found | {pairs: judged(pairs, Labels()) for pairs in wanted.sizes[:-1]} | {size: found[kinds[0]]}


def label_numbers(
    found: Mapping[Labels | int, JudgedHeads], wanted: Variations
) -> tuple[dict[int, dict[str, float]], dict[float, dict[str, float]], dict[str, float]]:
    """Accuracy and gold of small reward models, and what pairs and flips change.

    Returns:
        Number of pairs -> numbers; share of flips -> numbers; and as metrics: `few.*`, `many.*` (pairs),
        `noisy.*` (flips that are to be found), `flipped.*` (the largest share below one half), `shuffled.*`,
        `favour_length.*`, each with `accuracy`, `gold_most`, `fall`; `pairs_gain`, `noise_cost`,
        `length_cost`: differences of `gold_most`.
    """
    by_pairs = {size: head_numbers(found[size]) for size in wanted.sizes}
    by_flips = {rate: head_numbers(found[Labels(rate)]) for rate in wanted.rates}
    kinds = {
        "few": wanted.sizes[0],
        "many": wanted.sizes[-1],
        "noisy": Labels(wanted.flip_rate),
        "flipped": Labels(wanted.rates[-2]),
        "shuffled": Labels(wanted.rates[-1]),
        "favour_length": Labels(favour_length=True),
    }
    numbers: dict[str, float] = {
        "few_pairs": wanted.sizes[0],
        "many_pairs": wanted.sizes[-1],
        "flipped_share": wanted.rates[-2],
        "noisy_share": wanted.flip_rate,
    }
    for name, kind in kinds.items():
        numbers |= prefixed(name, head_numbers(found[kind]))
    most = {name: found[kind].curve.gold[..., -1] for name, kind in kinds.items()}
    for name, other in (("pairs_gain", "few"), ("noise_cost", "flipped"), ("length_cost", "favour_length")):
        numbers |= replicated_mean(most["many"] - most[other]).named(name)
    return by_pairs, by_flips, numbers


def head_numbers(heads: JudgedHeads) -> dict[str, float]:
    """`accuracy` on held-out pairs, `gold_most` and `fall` of best-of-n, with both intervals."""
    numbers = replicated_rate(heads.right).named("accuracy")
    curve = proxy_numbers(heads.curve)
    return numbers | {k: v for k, v in curve.items() if k.startswith(("gold_most", "fall"))}


def remedy_cases(replies: ManyReplies, wanted: Variations, seed: int = 0) -> dict[str, dict[str, float]]:
    """Ensembles of the run's reward models, of these with a bias that all share, and of small noisy ones."""
    gold, sizes = replies.gold, (middle(replies), int(doublings(replies.gold.shape[1])[-1]))
    biased = with_length_bonus(replies.scores, replies.words, BONUS)
    count = wanted.draws * wanted.members
    heads = draw_heads(replies.train, wanted.member_pairs, Labels(wanted.member_flips), count, seed)
    small = np.einsum("psd,hd->hps", replies.states.astype(float), heads)
    noisy = small.reshape(wanted.draws, wanted.members, *gold.shape)
    averaged = {"averaged": replies.averaged[None]}
    return {
        "own": remedy_numbers(replies.scores[None], gold, sizes, averaged, seed=seed),
        "biased": remedy_numbers(biased[None], gold, sizes, seed=seed),
        "noisy": remedy_numbers(noisy, gold, sizes, seed=seed),
    }
