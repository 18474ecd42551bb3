"""How good a reward model is on preference pairs: accuracy, baselines, over-fitting, calibration, length.

Everything the analysis uses passes through a score file, so that recorded scores take the same way as fresh
ones and the figures can be drawn again without a model: first `scored_pairs.score_pairs`, then `evaluate`.

    pairs = score_pairs(reward_model, held_out, folder / "validation.jsonl")
    found = evaluate(pairs, train)
    found.metrics["rm.validation.accuracy"], found.claims["rm_beats_length"]
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rlhf_hw.experiments.result import Result, prefixed, table_metrics
from rlhf_hw.experiments.scored_pairs import (
    baseline_margins,
    best_judge,
    best_possible,
    gold_columns,
    score_columns,
)
from rlhf_hw.experiments.within_prompts import order_within_prompts
from rlhf_hw.preferences.templates import Preference
from rlhf_hw.stats.baselines import length_direction
from rlhf_hw.stats.calibration import reliability_curve, scale_margins
from rlhf_hw.stats.intervals import Estimate
from rlhf_hw.stats.length import accuracy_by_length_gap
from rlhf_hw.stats.pairs import (
    accuracy,
    accuracy_gap,
    compare_reward_models,
    confident_mistakes,
    group_metrics,
    preference_metrics,
)

BASELINES = ("length", "words")
OOD_KEYS = ("accuracy", "accuracy_low", "accuracy_high", "gold_spearman")


@dataclass(frozen=True, kw_only=True)
class PairEvaluation(Result):
    """What scored pairs say about a reward model.

    Attributes:
        validation: Numbers of the held-out pairs, the keys of `preference_metrics`, and the best possible
            accuracy where it is known.
        best: The best possible accuracy, or None.
        scorers: Accuracy of the reward model, the baselines and the second model, one row each.
        tests: McNemar's test of the reward model against each of the others, one row each.
        fitted: Accuracy on pairs it was trained on; overfitting: that minus the accuracy on held-out pairs.
            Without such pairs empty and None.
        reliability: Calibration curves by name, for `figures.scores.calibration_curve`.
        margins: Of the held-out pairs.
        by_length: Accuracy by how much longer the chosen reply is; None where lengths are unknown.
        groups: Accuracy by group, the lowest first; None where a pair has no group.
        outside: Numbers out of distribution; within: order of several replies to one prompt. May be empty.
        examples: Pairs to read: the surest, the closest call, the most confident mistakes.
    """

    validation: dict[str, float]
    best: float | None
    scorers: pd.DataFrame
    tests: pd.DataFrame
    fitted: dict[str, float]
    overfitting: Estimate | None
    reliability: dict[str, pd.DataFrame]
    margins: pd.Series
    by_length: pd.DataFrame | None
    groups: pd.DataFrame | None
    outside: dict[str, float]
    within: dict[str, float]
    examples: pd.DataFrame

    @property
    def rates(self) -> dict[str, Estimate]:
        """Accuracy of each scorer with its interval."""
        return {name: Estimate.of(row, "accuracy") for name, row in self.scorers.iterrows()}


def evaluate(
    pairs: pd.DataFrame,
    train: Sequence[Preference] = (),
    *,
    fitted: pd.DataFrame | None = None,
    outside: pd.DataFrame | None = None,
    beside: pd.DataFrame | None = None,
    second: np.ndarray | None = None,
    curve: Result | None = None,
    group: str = "",
    examples: int = 3,
    seed: int = 0,
) -> PairEvaluation:
    """Evaluate a reward model by its scores; what is not given is left out.

    Args:
        pairs: Held-out pairs with its scores, from `score_files.read_pairs`.
        train: Its training pairs, to fit the baselines on.
        fitted: Scored pairs of the training set. outside: scored pairs out of distribution.
        beside: Scored replies, several to a prompt, from `within_prompts.replies_beside_data`.
        second: Margins of another reward model for the same pairs, from `scored_pairs.same_pairs`.
        curve: The learning curve.
        group: Key of the rows' `meta` whose groups are judged apart. examples: confident mistakes to show.
        seed: Of resampling.
    """
    margins, prompts, best = pairs["margin"], pairs["prompt_key"], best_possible(pairs)
    validation = preference_metrics(**score_columns(pairs), best_right=best_judge(pairs), seed=seed)
    metrics = prefixed("rm.validation", validation)
    known = {} if best is None else {"best_possible_accuracy": best}
    scorers, tests = compare_scorers(pairs, train, second, seed)
    metrics |= prefixed("data", known) | scorer_metrics(scorers, tests)
    claims = baseline_claims(tests, train) if train else {}
    claims["reaches_95_percent_of_best"] = best is not None and validation["accuracy"] >= 0.95 * best
    on_train, gap = ({}, None) if fitted is None else overfitting(fitted, pairs, seed)
    if gap is not None:
        metrics |= prefixed("rm.trained_on", on_train) | gap.named("rm.overfitting_gap")
        claims["overfits"] = gap.low > 0
    strange = {} if outside is None else outside_metrics(outside, seed)
    within = {} if beside is None else order_within_prompts(beside, seed)
    metrics |= prefixed("rm.ood", strange) | prefixed("rm.validation", within)
    curve = curve or Result()
    return PairEvaluation(
        metrics=metrics | curve.metrics,
        claims=claims | curve.claims,
        validation=validation | known,
        best=best,
        scorers=scorers,
        tests=tests,
        fitted=on_train,
        overfitting=gap,
        reliability=reliability(margins, prompts, seed),
        margins=margins,
        by_length=accuracy_by_tokens(pairs),
        groups=by_group(pairs, group, seed),
        outside=strange,
        within=within,
        examples=telling_pairs(pairs, examples),
    )


def compare_scorers(
    pairs: pd.DataFrame, train: Sequence[Preference], second: np.ndarray | None, seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The reward model beside the baselines and another model on the same pairs.

    Returns:
        `accuracy_table` of all of them, and `mcnemar_table` of the reward model against the others.
    """
    margins = {"reward model": pairs["margin"].to_numpy()}
    margins |= baseline_margins(train, pairs) if train else {}
    margins |= {} if second is None else {"second model": second}
    return tuple(table(margins, pairs["prompt_key"], seed) for table in (accuracy_table, mcnemar_table))


def scorer_metrics(scorers: pd.DataFrame, tests: pd.DataFrame) -> dict[str, float]:
    """Numbers of the tables of `compare_scorers`: accuracy (+_low, _high) of the baselines, and all tests."""
    rates = {name: Estimate.of(row, "accuracy") for name, row in scorers.iterrows() if name in BASELINES}
    found = {k: v for name, rate in rates.items() for k, v in rate.named(f"baseline.{name}.accuracy").items()}
    return found | table_metrics("mcnemar", tests)


def accuracy_table(margins: Mapping[str, np.ndarray], prompts: Sequence, seed: int = 0) -> pd.DataFrame:
    """Accuracy with interval of several scorers on the same pairs, one row each."""
    rows = {name: accuracy(values, prompts, seed=seed) for name, values in margins.items()}
    return pd.DataFrame(rows).T[["accuracy", "accuracy_low", "accuracy_high", "pairs", "ties"]]


def mcnemar_table(margins: Mapping[str, np.ndarray], prompts: Sequence, seed: int = 0) -> pd.DataFrame:
    """McNemar's test of the first scorer against each of the others on the same pairs, one row each.

    Args:
        margins: name -> margins, the reward model in question first.
        prompts: prompt of each pair.

    Returns:
        Index: the other scorer. Columns: `only_first`, `only_second` (pairs that one alone has right),
        `p_value`, `accuracy_difference` (+_low, _high).
    """
    first, *others = margins
    rows = {n: compare_reward_models(margins[first], margins[n], prompts, seed=seed) for n in others}
    names = ["only_first", "only_second", "p_value"]
    names += [f"accuracy_difference{end}" for end in ("", "_low", "_high")]
    return pd.DataFrame.from_dict(rows, orient="index", columns=names)


def verdict(row: Mapping[str, float]) -> str:
    """What a row of `mcnemar_table` allows to say of the first scorer: better, worse, no difference shown."""
    low, high = (row[f"accuracy_difference{end}"] for end in ("_low", "_high"))
    words = "better" if low > 0 else "worse" if high < 0 else "no difference shown"
    return f"{words} [{low:+.3f}, {high:+.3f}]"


def baseline_claims(tests: pd.DataFrame, train: Sequence[Preference]) -> dict[str, bool]:
    """What the tests against the baselines allow to say, and which length the length rule prefers."""
    low, high = (tests[f"accuracy_difference{end}"] for end in ("_low", "_high"))
    shorter = length_direction([p.chosen for p in train], [p.rejected for p in train]) < 0
    said = {f"rm_beats_{name}": low[name] > 0 for name in BASELINES}
    said |= {"words_beat_rm": high["words"] < 0, "shorter_wins": shorter}
    return {name: bool(holds) for name, holds in said.items()}


def overfitting(fitted: pd.DataFrame, pairs: pd.DataFrame, seed: int = 0) -> tuple[dict, Estimate]:
    """Accuracy (+_low, _high) on pairs of the training set, and that minus the one on held-out pairs."""
    on_train = accuracy(fitted["margin"], fitted["prompt_key"], seed=seed)
    keys = (fitted["prompt_key"], pairs["prompt_key"])
    gap = accuracy_gap(fitted["margin"], pairs["margin"], *keys, seed=seed)
    return Estimate.of(on_train, "accuracy").named("accuracy"), gap


def outside_metrics(outside: pd.DataFrame, seed: int = 0) -> dict[str, float]:
    """Accuracy (+_low, _high) of pairs out of distribution, and where gold is known gold_spearman."""
    found = preference_metrics(**score_columns(outside), seed=seed)
    return {key: found[key] for key in OOD_KEYS if key in found}


def reliability(margins: pd.Series, prompts: pd.Series, seed: int = 0) -> dict[str, pd.DataFrame]:
    """Calibration curves: as trained, and after the margins are divided by one fitted temperature."""
    scaled = {"as trained": margins, "after temperature scaling": scale_margins(margins, prompts)}
    return {name: reliability_curve(values, prompts, seed=seed) for name, values in scaled.items()}


def accuracy_by_tokens(pairs: pd.DataFrame) -> pd.DataFrame | None:
    """Accuracy by how many tokens longer the chosen reply is, where tokens were counted."""
    if "chosen_tokens" not in pairs:
        return None
    longer = pairs["chosen_tokens"] - pairs["rejected_tokens"]
    return accuracy_by_length_gap(pairs["margin"], longer, pairs["prompt_key"])


def by_group(pairs: pd.DataFrame, group: str, seed: int = 0) -> pd.DataFrame | None:
    """Accuracy of each group that `meta[group]` names, the lowest first; None if a pair has none."""
    labels = [row.get(group) for row in pairs["meta"]] if group and "meta" in pairs else [None]
    if None in labels:
        return None
    table = group_metrics(pairs["margin"], labels, pairs["prompt_key"], seed=seed)
    return table.sort_values("accuracy")


def telling_pairs(pairs: pd.DataFrame, mistakes: int = 3) -> pd.DataFrame:
    """Pairs to read: the surest right one, the closest call, and the most confident mistakes."""
    margin = pairs["margin"].to_numpy()
    worst = list(confident_mistakes(margin, mistakes))
    kinds = ["surest right", "closest call", *["confident mistake"] * len(worst)]
    shown = ["prompt", "chosen", "rejected", "chosen_score", "rejected_score", "margin"]
    rows = [np.argmax(margin), np.argmin(np.abs(margin)), *worst]
    return pairs[shown].assign(**gold_columns(pairs)).iloc[rows].set_index(pd.Index(kinds))
