"""All that choosing hard by a reward shows, in one result: curves, small reward models, remedies, labels.

    study = ManyReplies(**arrays, ...)
    found = reward_overoptimization(study, Variations(sizes=(25, 100, 400)))
    found.metrics["over.bonus.fall"], found.claims["over_bonus_turns"]

"Trainings" are the run's reward models, which share neither pairs nor seed, or for the small reward models
draws of pairs and flips.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rlhf_hw.experiments.best_of_n import best_by_score, kl_bound
from rlhf_hw.experiments.result import Result, prefixed
from rlhf_hw.experiments.selection.data_filter import label_filter_numbers, reply_filter_numbers
from rlhf_hw.experiments.selection.ensembles import remedy_numbers
from rlhf_hw.experiments.selection.gold_curves import (
    FITTED,
    curve_rows,
    doublings,
    gold_curve,
    proxy_numbers,
    with_length_bonus,
)
from rlhf_hw.experiments.selection.head_trials import (
    direction_numbers,
    head_numbers,
    judge_labels,
    label_numbers,
)
from rlhf_hw.experiments.selection.over_expectations import over_claims
from rlhf_hw.experiments.selection.over_inputs import ManyReplies, Variations
from rlhf_hw.experiments.selection.state_heads import Labels, draw_heads
from rlhf_hw.experiments.selection.suspect_labels import (
    calibration_numbers,
    flip_numbers,
    reliability_rows,
)
from rlhf_hw.stats.replicates import replicated_mean

BONUS = 1.0  # planted: a deviation of length counts as much as a deviation of the score


@dataclass(frozen=True, kw_only=True)
class OverOptimization(Result):
    """What was found; beside the numbers, rows for figures.

    Attributes:
        curves: Proxy -> one row for each n, from `gold_curves.curve_rows`.
        by_pairs, by_flips, by_directions: Number of pairs, share of flips, number of directions seen ->
            numbers with `accuracy`, `gold_most`.
        favoured: The same of models whose labels favour length.
        remedies: Case -> keys of `remedy_numbers`.
        reliability: Share of flips -> rows of confidence and accuracy.
    """

    curves: dict[str, pd.DataFrame]
    by_pairs: dict[int, dict[str, float]]
    by_flips: dict[float, dict[str, float]]
    by_directions: dict[int, dict[str, float]]
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
        (`label_numbers`, `direction_numbers`), `over.remedies.<case>.*`, `over.calibration.*`,
        `over.flips.*`, `over.filters.labels.*` (`label_filter_numbers`), `over.filters.*`
        (`reply_filter_numbers`).
    """
    wanted = variations or Variations()
    proxies = proxies_of(replies)
    curves, numbers = proxy_curves(replies, proxies, fitted, seed)
    labelled = judge_labels(replies, wanted, seed)
    by_pairs, by_flips, of_labels = label_numbers(labelled, wanted)
    cases = remedy_cases(replies, wanted, seed)
    clean, noisy = (labelled[Labels(rate)] for rate in (0.0, wanted.flip_rate))
    prompts = replies.held_out.prompts
    calibrated = calibration_numbers(clean.margins, noisy.margins, prompts, wanted.flip_rate, seed=seed)
    numbers |= prefixed("calibration", calibrated)
    numbers |= prefixed("flips", flip_numbers(replies.train, wanted.flip_rate, wanted.draws, seed=seed))
    by_directions, of_directions = direction_numbers(replies, labelled[Labels()], wanted, seed)
    numbers |= prefixed("labels", of_labels | of_directions)
    left = label_filter_numbers(replies.train, replies.held_out, wanted.flip_rate, wanted.draws, seed=seed)
    kept = reply_filter_numbers(proxies, replies.gold, replies.words, wanted.kept_share, seed=seed)
    numbers |= prefixed("filters", prefixed("labels", left) | kept)
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
        by_directions=by_directions,
        favoured=head_numbers(labelled[Labels(favour_length=True)]),
        remedies=cases,
        reliability={
            rate: reliability_rows(labelled[Labels(rate)].margins, prompts) for rate in wanted.rates[:-1]
        },
    )


def middle(replies: ManyReplies) -> int:
    """The n that remedies are also looked at, an eighth of the largest."""
    return max(1, int(doublings(replies.gold.shape[1])[-1]) // 8)


def proxies_of(replies: ManyReplies) -> dict[str, np.ndarray]:
    """The run's reward models, the same with a planted bonus for length, and gold itself."""
    bonus = with_length_bonus(replies.scores, replies.words, BONUS)
    return {"model": replies.scores, "bonus": bonus, "gold": replies.gold[None]}


def proxy_curves(
    replies: ManyReplies, proxies: Mapping[str, np.ndarray], fitted: int, seed: int = 0
) -> tuple[dict[str, pd.DataFrame], dict[str, float]]:
    """Gold and each proxy of what the proxy chooses."""
    gold, sizes = replies.gold, doublings(replies.gold.shape[1])
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
