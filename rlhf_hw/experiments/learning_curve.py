"""Accuracy against the number of training pairs: would more data help?

Smaller reward models are trained from the same base on the first n pairs, with the settings that the full
model's checkpoint keeps of its own training, and judged on the same held-out pairs; so are the baselines,
fitted to the same n pairs. A curve that still rises at its end asks for more pairs, one that lies flat below
the best possible for another model. Each point is one training run: intervals cover the choice of held-out
prompts only.

    settings, train = trained_on(checkpoint)
    sizes = curve_sizes("500,1500", len(train))
    tables = {n: train_and_score(settings, n, held_out, path(n)) for n in sizes} | {len(train): scored}
    found = measure_curve(tables, train)
    found.metrics["learning_curve.rise"], found.claims["more_pairs_help"]
"""

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from rlhf_hw.errors import InputError
from rlhf_hw.experiments.result import Result, prefixed
from rlhf_hw.experiments.scored_pairs import baseline_margins, score_pairs
from rlhf_hw.models.scoring import RewardModel
from rlhf_hw.preferences.reading import load_preferences
from rlhf_hw.preferences.templates import Preference
from rlhf_hw.stats.intervals import Estimate
from rlhf_hw.stats.pairs import accuracy, compare_reward_models
from rlhf_hw.training.checkpoints import RECORD
from rlhf_hw.training.config import RewardTraining
from rlhf_hw.training.launch import run_training

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LearningCurve(Result):
    """Accuracy against the number of training pairs; `points` as in `curves`."""

    points: dict[str, list[dict[str, float]]]

    @property
    def accuracies(self) -> pd.DataFrame:
        """One row a size, one column a scorer."""
        return pd.DataFrame({n: {p["pairs"]: p["accuracy"] for p in c} for n, c in self.points.items()})


def trained_on(checkpoint: str | Path) -> tuple[RewardTraining, list[Preference]]:
    """The settings a reward model was trained with, from the record beside its weights, and its pairs.

    Raises:
        FileNotFoundError: there is no record; another system trained it.
    """
    path = Path(checkpoint) / RECORD
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: no record of how this reward model was trained, so that smaller ones could be trained "
            "alike; leave learning_curve_pairs empty"
        )
    settings = RewardTraining.model_validate(json.loads(path.read_text(encoding="utf-8"))["config"])
    source = (settings.train_dataset, settings.train_template, settings.train_split, settings.max_train)
    return settings, load_preferences(*source)[0]


def curve_sizes(text: str, pairs: int) -> list[int]:
    """Sizes of the smaller training sets; those that are not smaller are left out, and that is logged.

    A profile names the sizes, but how many pairs there are depends on the data and on `max_train`.

    Args:
        text: numbers of pairs, "500,1500"; empty for none.
        pairs: those of the full model; it is the curve's last point.

    Raises:
        ValueError: not whole numbers above 0.
    """
    parts = [part.strip() for part in str(text).split(",") if part.strip()]
    if not all(part.isdecimal() and int(part) for part in parts):
        raise InputError(f"learning_curve_pairs: expected numbers such as '500,1500', found {text!r}")
    sizes = sorted({int(part) for part in parts})
    smaller = [size for size in sizes if size < pairs]
    if smaller != sizes:
        log.warning("learning curve: the full model has %d pairs, so its sizes are %s", pairs, smaller)
    return smaller


def train_and_score(
    settings: RewardTraining, size: int, held_out: Sequence[Preference], path: Path, num_processes: int = 1
) -> pd.DataFrame:
    """Train on the first `size` pairs and score the held-out ones; the scores stay, the weights do not.

    Args:
        settings: of the full model.
        size: number of pairs.
        held_out: pairs to judge by.
        path: the score file.
        num_processes: as in `launch.run_training`.
    """
    folder = path.with_suffix(".model")
    changes = {"max_train": size, "output_dir": folder, "log_dir": None, "eval_dataset": None}
    smaller = settings.model_copy(update=changes | {"report_to": "none", "save_steps": 0, "resume": False})
    run_training("rm", smaller, num_processes)
    model = RewardModel(
        folder,
        dtype=settings.dtype,
        max_prompt_tokens=settings.max_prompt_tokens,
        max_reply_tokens=settings.max_reply_tokens,
    )
    table = score_pairs(model, held_out, path)
    shutil.rmtree(folder)
    return table


def measure_curve(
    tables: Mapping[int, pd.DataFrame], train: Sequence[Preference], seed: int = 0
) -> LearningCurve:
    """The curve of a reward model and of the baselines.

    Args:
        tables: number of training pairs -> scored held-out pairs; the full model's is the largest.
        train: the training pairs, in the order of training sets.
        seed: of resampling.
    """
    points = curves(tables, train, seed)
    numbers = curve_metrics(tables, points, seed)
    return LearningCurve(
        metrics=prefixed("learning_curve", numbers),
        claims={"more_pairs_help": numbers["rise_low"] > 0},
        points=points,
    )


def curves(
    tables: Mapping[int, pd.DataFrame], train: Sequence[Preference], seed: int = 0
) -> dict[str, list[dict[str, float]]]:
    """Points of the reward model's curve and of the baselines', which learn from the same first pairs.

    Args:
        tables: number of training pairs -> scored held-out pairs.
        train: the training pairs, in the order of training sets.
        seed: of resampling.

    Returns:
        "reward model", "length" and "words" -> points {"pairs", "accuracy", "low", "high"}, by size.
    """
    found: dict[str, list] = {"reward model": [], "length": [], "words": []}
    for size, table in sorted(tables.items()):
        margins = {"reward model": table["margin"]} | baseline_margins(train[:size], table)
        for name, values in margins.items():
            rate = Estimate(*list(accuracy(values, table["prompt_key"], seed=seed).values())[:3])
            point = {"pairs": size, "accuracy": rate.value, "low": rate.low, "high": rate.high}
            found[name].append(point)
    return found


def curve_metrics(
    tables: Mapping[int, pd.DataFrame], points: Mapping[str, list[dict[str, float]]], seed: int = 0
) -> dict[str, float]:
    """Numbers of the curve; the caller adds the prefix of the keys.

    Returns:
        `<n>.accuracy` (+_low, _high), `<n>.length`, `<n>.words`; `first_pairs`, `first_accuracy`,
        `last_pairs`, `last_accuracy`, `previous_pairs`, and `rise` (+_low, _high): accuracy of the full model
        minus that of the next smaller one on the same held-out pairs.
    """
    found: dict[str, float] = {}
    for point in points["reward model"]:
        rate = Estimate(point["accuracy"], point["low"], point["high"])
        found |= rate.named(f"{point['pairs']}.accuracy")
    for name in ("length", "words"):
        found |= {f"{point['pairs']}.{name}": point["accuracy"] for point in points[name]}
    *_, before, last = sorted(tables)
    ends = {"first": points["reward model"][0], "last": points["reward model"][-1]}
    found |= {f"{end}_{key}": point[key] for end, point in ends.items() for key in ("pairs", "accuracy")}
    table = tables[last]
    rise = compare_reward_models(
        table["margin"], np.asarray(tables[before]["margin"]), table["prompt_key"], seed=seed
    )
    keys = {f"rise{end}": rise[f"accuracy_difference{end}"] for end in ("", "_low", "_high")}
    return found | {"previous_pairs": before} | keys
