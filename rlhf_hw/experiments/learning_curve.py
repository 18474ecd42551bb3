"""Accuracy against the number of training pairs: would more data help?

Each replicate of the reward model has smaller brothers, trained from the same base with the same settings on
the first n of its own pairs, and judged on the same held-out pairs; so are the baselines, fitted to the same
n pairs. The curve begins where nothing was learned: at 0 pairs the network has a random head, and its
accuracy is the average over many such heads; the baselines are undecided there. A curve that still rises at
its end asks for more pairs, one that lies flat below the best possible for another model. Each point carries
an interval over prompts and, with several replicates, one over trainings.

    found = measure_curve({500: tables, 1500: tables, pairs: tables}, train, heads)
    found.metrics["learning_curve.rise"], found.claims["more_pairs_help"]
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rlhf_hw.experiments.result import Result, prefixed
from rlhf_hw.experiments.scored_pairs import BASELINES, baseline_orders, right_orders
from rlhf_hw.preferences.templates import Preference
from rlhf_hw.stats.intervals import Estimate
from rlhf_hw.stats.pairs import random_heads_accuracy
from rlhf_hw.stats.replicates import beyond, replicated_lead, replicated_rate

Heads = tuple[np.ndarray, Sequence]  # margins of random heads, shape (pairs, heads), and each pair's prompt


@dataclass(frozen=True, kw_only=True)
class LearningCurve(Result):
    """Accuracy against the number of training pairs; `points` as in `curves`."""

    points: dict[str, list[dict[str, float]]]

    @property
    def accuracies(self) -> pd.DataFrame:
        """One row a size, one column a scorer."""
        return pd.DataFrame({n: {p["pairs"]: p["accuracy"] for p in c} for n, c in self.points.items()})


def measure_curve(
    tables: Mapping[int, Sequence[pd.DataFrame]],
    train: Sequence[Sequence[Preference]],
    heads: Heads | None = None,
    seed: int = 0,
) -> LearningCurve:
    """The curve of a reward model and of the baselines.

    Args:
        tables: number of training pairs -> the held-out pairs as each replicate scored them; the full
            model's number is the largest.
        train: each replicate's training pairs, in the order of training.
        heads: margins of random heads on the held-out pairs, for the start of the curve.
        seed: of resampling.
    """
    points = curves(tables, train, heads, seed)
    numbers = curve_metrics(tables, points)
    return LearningCurve(
        metrics=prefixed("learning_curve", numbers),
        claims={"more_pairs_help": beyond(numbers, "rise") > 0},
        points=points,
    )


def curves(
    tables: Mapping[int, Sequence[pd.DataFrame]],
    train: Sequence[Sequence[Preference]],
    heads: Heads | None = None,
    seed: int = 0,
) -> dict[str, list[dict[str, float]]]:
    """Points of the reward model's curve and of the baselines', which learn from the same first pairs.

    Args:
        tables, train, heads, seed: as in `measure_curve`.

    Returns:
        "reward model", "length" and "words" -> points {"pairs", "accuracy", "accuracy_low", "accuracy_high",
        with several replicates "accuracy_trainings_low", "accuracy_trainings_high"}, by size.
    """
    found: dict[str, list] = {"reward model": [], **{name: [] for name in BASELINES}}
    sizes = sorted(tables)
    if heads is not None:
        guess = Estimate.of(random_heads_accuracy(*heads, seed=seed), "accuracy")
        found["reward model"].append({"pairs": 0, **guess.named("accuracy")})
        for name in BASELINES:
            found[name].append({"pairs": 0, **Estimate(0.5, 0.5, 0.5).named("accuracy")})
    for size in sizes:
        prompts = tables[size][0]["prompt_key"]
        right = {"reward model": right_orders(tables[size])}
        right |= baseline_orders([part[:size] for part in train], tables[size][0])
        for name, values in right.items():
            rate = replicated_rate(values, prompts, seed=seed)
            found[name].append({"pairs": size, **rate.named("accuracy")})
    return found


def curve_metrics(
    tables: Mapping[int, Sequence[pd.DataFrame]], points: Mapping[str, list[dict[str, float]]]
) -> dict[str, float]:
    """Numbers of the curve; the caller adds the prefix of the keys.

    Returns:
        `<n>.accuracy` with its intervals, `<n>.length`, `<n>.words`, also for n = 0 where random heads are
        known; `first_pairs`, `first_accuracy` (of the smallest training), `last_pairs`, `last_accuracy`,
        `previous_pairs`, and `rise` with its intervals: accuracy of the full model minus that of the next
        smaller one, of the same replicate on the same held-out pairs.
    """
    found: dict[str, float] = {}
    for point in points["reward model"]:
        found |= {f"{point['pairs']}.{key}": value for key, value in point.items() if key != "pairs"}
    for name in BASELINES:
        found |= {f"{point['pairs']}.{name}": point["accuracy"] for point in points[name]}
    first, *_ = sorted(tables)
    *_, before, last = sorted(tables)
    for end, size in {"first": first, "last": last}.items():
        found |= {f"{end}_pairs": size, f"{end}_accuracy": found[f"{size}.accuracy"]}
    rise = replicated_lead(
        right_orders(tables[last]), right_orders(tables[before]), tables[last][0]["prompt_key"]
    )
    return found | {"previous_pairs": before} | rise.named("rise")
