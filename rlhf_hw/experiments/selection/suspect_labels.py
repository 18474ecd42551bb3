"""What flipped labels do to confidence, and whether they can be found.

Symmetric flips at a rate e turn a preference probability P into (1 - e) P + e (1 - P): order stays,
confidence shrinks. A model that learns them well is calibrated to labels flipped alike and too unsure of
honest ones.
Confidence is read from the predicted winner (`stats.calibration`).

A label is suspect where the reward model is against it. Asked is a model that has not seen the pair (five
folds by prompt) and, beside it, the one that was trained on it (Wang et al. 2024 use ensembles' margins).
"""

from collections.abc import Sequence

import numpy as np
from scipy.special import expit

from rlhf_hw.experiments.selection.state_heads import PENALTY, ReadPairs, flipped
from rlhf_hw.stats.calibration import expected_calibration_error, outcomes, reliability_curve
from rlhf_hw.stats.choice_models import fit_bradley_terry
from rlhf_hw.stats.intervals import cluster_codes
from rlhf_hw.stats.ranking import auroc_parts, influence_interval
from rlhf_hw.stats.replicates import replicated, replicated_mean, trainings_interval

FOLDS = 5
BINS = 8


def calibration_numbers(
    honest: np.ndarray, noisy: np.ndarray, prompts: Sequence[str], rate: float, *, seed: int = 0
) -> dict[str, float]:
    """Confidence against truth on held-out pairs with honest labels.

    Args:
        honest: Margins, chosen over rejected, of models of honest labels, shape (models, pairs).
        noisy: The same of models of labels that were flipped at the rate.
        prompts: Of each pair.
        rate: Of flips.
        seed: Of resampling.

    Returns:
        For `honest` and `noisy`: `<name>.over_confidence`, mean confidence minus accuracy, on honest labels;
        `<name>.ece`, the calibration error on them, with an interval over models. `noisy.alike`, the
        over-confidence to be expected on labels flipped at the same rate. `less_sure`, that of `honest` minus
        that of `noisy`.
    """
    found: dict[str, float] = {"rate": rate}
    beyond_right: dict[str, np.ndarray] = {}
    for name, margins in (("honest", honest), ("noisy", noisy)):
        confidence, right = expit(np.abs(margins)), np.array([outcomes(row) for row in margins])
        beyond_right[name] = confidence - right
        found |= replicated_mean(confidence - right, prompts, seed=seed).named(f"{name}.over_confidence")
        errors = [expected_calibration_error(row, bins=BINS) for row in margins]
        ends = trainings_interval(errors)
        found |= ends.named(f"{name}.ece") if ends else {f"{name}.ece": errors[0]}
        if name == "noisy":
            alike = confidence - (1 - rate) * right - rate * (1 - right)
            found |= replicated_mean(alike, prompts, seed=seed).named("noisy.alike")
    apart = beyond_right["honest"] - beyond_right["noisy"]
    return found | replicated_mean(apart, prompts, seed=seed).named("less_sure")


def reliability_rows(margins: np.ndarray, prompts: Sequence[str], *, seed: int = 0) -> list[dict]:
    """Confidence against share right in bins, over all models; rows for a figure."""
    codes = np.tile(cluster_codes(prompts, margins.shape[1]), len(margins))
    return reliability_curve(margins.ravel(), codes, bins=BINS, seed=seed).to_dict("records")


def flip_numbers(pairs: ReadPairs, rate: float, draws: int, *, seed: int = 0) -> dict[str, float]:
    """How well margins tell flipped labels from others, as areas under the ROC curve.

    Args:
        pairs: Of which a share is flipped.
        rate: That share.
        draws: Of flips.
        seed: Of flips and folds.

    Returns:
        `unseen`, `seen` (the model trained on all of them), `truth` (by the difference in gold, which nobody
        has: what could be found), each with intervals over prompts and over draws; `seen_less`, unseen minus
        seen; `rate`, `pairs`.
    """
    codes, fold = cluster_codes(pairs.prompts, len(pairs.prompts)), folds_of(pairs.prompts, seed)
    areas: dict[str, list[tuple[float, np.ndarray]]] = {"unseen": [], "seen": [], "truth": []}
    for draw in range(draws):
        turned = flipped(len(codes), rate, 1000 * seed + draw)
        sign = np.where(turned, -1.0, 1.0)
        said = pairs.differences * sign[:, None]
        margins = {"seen": said @ fitted_head(said), "truth": pairs.gold * sign}
        margins["unseen"] = unseen_margins(said, fold)
        for name, values in margins.items():
            areas[name].append(auroc_parts(-values, turned, codes))
    values = {name: np.array([one[0] for one in each]) for name, each in areas.items()}
    parts = {name: np.mean([one[1] for one in each], axis=0) for name, each in areas.items()}
    values["seen_less"] = values["unseen"] - values["seen"]
    parts["seen_less"] = parts["unseen"] - parts["seen"]
    found: dict[str, float] = {"rate": rate, "pairs": len(codes)}
    for name, each in values.items():
        found |= replicated(influence_interval(float(each.mean()), parts[name]), each).named(name)
    return found


def folds_of(prompts: Sequence[str], seed: int) -> np.ndarray:
    """One of five folds for each pair, the same for all pairs of a prompt."""
    codes = cluster_codes(prompts, len(prompts))
    return np.random.default_rng(seed).permutation(codes.max() + 1)[codes] % FOLDS


def unseen_margins(differences: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Margin of each pair's first reply by a head of the other folds, shape (pairs,).

    Args:
        differences: State of the reply that is called chosen minus the other's, shape (pairs, D).
        fold: Of each pair.
    """
    margins = np.zeros(len(fold))
    for k in np.unique(fold):
        margins[fold == k] = differences[fold == k] @ fitted_head(differences[fold != k])
    return margins


def fitted_head(differences: np.ndarray) -> np.ndarray:
    """The head that these pairs teach, the first reply of each chosen, shape (D,)."""
    return fit_bradley_terry(differences, np.ones(len(differences)), penalty=PENALTY)
