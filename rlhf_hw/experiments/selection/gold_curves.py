r"""Gold against proxy: what the best of n replies by a score is truly worth, for n from 1 to hundreds.

All n come from the same N replies to a prompt (`experiments.best_of_n`, Nakano et al. 2021). The curves are
laid over the distance d = sqrt(KL) of best-of-n from its policy and fitted by

    R(d) = d (alpha - beta d)                             (Gao, Schulman and Hilton 2023, equation 1),

which turns over at d = alpha / (2 beta). The divergence is log n - (n - 1) / n where no two replies have the
same score, and less otherwise (Beirami et al. 2024). Let F be the score's distribution under the policy. A
reply of a score that has no mass of its own is chosen with the density n F^(n-1) over its own, and

    int n u^(n-1) log(n u^(n-1)) du = u^n ((n - 1) log u + log n - (n - 1) / n);

a score whose replies have the mass q = b - a, from F = a to F = b, is chosen with the probability b^n - a^n
and adds (b^n - a^n) log((b^n - a^n) / q). `selection_kl` takes F from the N replies, and a score that two of
them share for a mass.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import xlogy

from rlhf_hw.errors import InputError
from rlhf_hw.experiments.best_of_n import best_weights, kl_bound
from rlhf_hw.stats.replicates import replicated_mean

FITTED = 64  # largest n that the parabola is fitted to
LATE = 3  # doublings of n that count as the first and as the last


@dataclass(frozen=True)
class GoldCurve:
    """What choosing by one proxy brings over a single reply.

    Attributes:
        sizes: n, shape (S,): 1, 2, 4, ...
        own: Gain in the proxy, in its deviations within a prompt, shape (trainings, prompts, S).
        gold: Gain in gold, the same shape.
        kl: Divergence from the policy, in nats, the same shape.
    """

    sizes: np.ndarray
    own: np.ndarray
    gold: np.ndarray
    kl: np.ndarray


def doublings(samples: int) -> np.ndarray:
    """1, 2, 4, ... up to the number of samples."""
    return 2 ** np.arange(int(np.log2(samples)) + 1)


def standardised(scores: np.ndarray) -> np.ndarray:
    """Scores with mean 0 for each prompt, and deviation 1 within prompts on average.

    Bradley-Terry scores are compared within a prompt alone; so their level is none, and their scale is one.

    Args:
        scores: Shape (..., prompts, samples).
    """
    centred = scores - scores.mean(axis=-1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(axis=(-2, -1), keepdims=True))
    return centred / np.where(deviation > 0, deviation, 1.0)


def with_length_bonus(scores: np.ndarray, words: np.ndarray, weight: float) -> np.ndarray:
    """Scores to which a planted bias adds `weight` of their deviations for a deviation of length.

    Args:
        scores: Shape (..., prompts, samples).
        words: Shape (prompts, samples).
        weight: 1 makes length as important as all that the score holds.
    """
    return standardised(scores) + weight * standardised(np.asarray(words, dtype=float))


def selection_kl(scores: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """Divergence of the best of n from the policy that the scores were drawn from, in nats, for each n.

    Args:
        scores: Of the policy's replies to one prompt, shape (N,).
        sizes: n, replies chosen from.
    """
    counts = np.unique(scores, return_counts=True)[1]
    edges = np.concatenate([[0], np.cumsum(counts)]) / counts.sum()
    low, high, tied, n = edges[:-1], edges[1:], counts > 1, np.asarray(sizes)[:, None]
    chosen = high**n - low**n
    ties = xlogy(chosen, np.where(chosen > 0, chosen, 1.0) / (high - low))
    alone = _up_to(high, n) - _up_to(low, n)
    return np.where(tied, ties, alone).sum(axis=1)


def _up_to(u: np.ndarray, n: np.ndarray) -> np.ndarray:
    """The integral of n u^(n-1) log(n u^(n-1)) from 0 to u."""
    return (n - 1) * xlogy(u**n, u) + u**n * (np.log(n) - (n - 1) / n)


def gold_curve(proxy: np.ndarray, gold: np.ndarray, sizes: Sequence[int]) -> GoldCurve:
    """The curves of one proxy.

    Args:
        proxy: Scores of each training, shape (trainings, prompts, samples).
        gold: Shape (prompts, samples).
        sizes: n, the first 1.
    """
    known, weights = standardised(proxy), np.array([best_weights(gold.shape[1], int(n)) for n in sizes])
    own = np.array([[_best(row, row, weights) for row in one] for one in known])
    true = np.array([[_best(*rows, weights) for rows in zip(one, gold, strict=True)] for one in known])
    kl = np.array([[selection_kl(row, sizes) for row in one] for one in proxy])
    return GoldCurve(np.asarray(sizes), own - own[..., :1], true - true[..., :1], kl)


def _best(scores: np.ndarray, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Expected value of the best by score for each n, whose weights of ranks have shape (S, N)."""
    place, count = np.unique(scores, return_inverse=True, return_counts=True)[1:]
    shared = np.bincount(place, weights=values) / count  # replies of equal score share their places
    return weights @ np.repeat(shared, count)


def after_peak(gold: np.ndarray) -> np.ndarray:
    """Gold at the largest n minus gold at its peak, where the peak of each prompt is that of the others.

    A peak that was sought in the same numbers would lie too high.

    Args:
        gold: Shape (trainings, prompts, S).

    Returns:
        Shape (trainings, prompts).
    """
    mean, prompts = gold.mean(axis=0), gold.shape[1]
    if prompts < 2:
        raise InputError("a peak is sought on the other prompts: at least two are needed")
    peaks = (mean.sum(axis=0) - mean).argmax(axis=1)
    return gold[..., -1] - gold[:, np.arange(prompts), peaks]


def parabola(curve: GoldCurve, fitted: int = FITTED) -> tuple[np.ndarray, np.ndarray]:
    """alpha and beta of each prompt's gold, and its forecast for every n, by least squares on n <= `fitted`.

    The fit is linear in the curve, so the mean of the prompts' fits is the fit of the mean curve.

    Returns:
        Shapes (trainings, prompts, 2) and (trainings, prompts, S).
    """
    distance = np.sqrt([kl_bound(int(n)) for n in curve.sizes])
    basis = np.stack([distance, -(distance**2)], axis=1)
    small = curve.sizes <= fitted
    found = curve.gold[..., small] @ np.linalg.pinv(basis[small]).T
    return found, found @ basis.T


def proxy_numbers(curve: GoldCurve, fitted: int = FITTED, *, seed: int = 0) -> dict[str, float]:
    """One proxy's numbers, with both intervals where they are means over prompts.

    Returns:
        `gold_<n>`; `gold_most`, `own_most` (largest n); `fall` (`after_peak`); `gold_late`, `own_late`, what
        the last doublings add; `flattening`, what the first add beyond that; `alpha`, `beta`; `forecast`,
        `forecast_error` (minus what was found), both for the largest n; `kl_<n>`, `divergence_saved`, the
        formula minus the divergence at the largest n; `least_step`, the smallest step of gold at any prompt;
        `peak`, the n at which mean gold is largest.
    """
    gold, late = curve.gold, min(LATE, len(curve.sizes) - 1)
    coefficients, forecast = parabola(curve, fitted)
    tables = {f"gold_{n}": gold[..., k] for k, n in enumerate(curve.sizes) if n > 1}
    tables |= {
        "gold_most": gold[..., -1],
        "own_most": curve.own[..., -1],
        "fall": after_peak(gold),
        "gold_late": gold[..., -1] - gold[..., -1 - late],
        "own_late": curve.own[..., -1] - curve.own[..., -1 - late],
        "flattening": gold[..., late] - gold[..., -1] + gold[..., -1 - late],
        "alpha": coefficients[..., 0],
        "beta": coefficients[..., 1],
        "forecast": forecast[..., -1],
        "forecast_error": forecast[..., -1] - gold[..., -1],
    }
    found: dict[str, float] = {}
    for name, table in tables.items():
        found |= replicated_mean(table, seed=seed).named(name)
    kl = curve.kl.mean(axis=(0, 1))
    found |= {f"kl_{n}": float(one) for n, one in zip(curve.sizes, kl, strict=True) if n > 1}
    return found | {
        "divergence_saved": kl_bound(int(curve.sizes[-1])) - float(kl[-1]),
        "least_step": float(np.diff(gold, axis=-1).min()),
        "peak": int(curve.sizes[gold.mean(axis=(0, 1)).argmax()]),
    }


def curve_rows(curve: GoldCurve, fitted: int = FITTED) -> pd.DataFrame:
    """One row for each n: `n`, `formula`, `kl`, `forecast`; `gold` and `own` with `_low`, `_high`."""
    forecast, rows = parabola(curve, fitted)[1], []
    for k, n in enumerate(curve.sizes):
        row = {"n": int(n), "formula": kl_bound(int(n)), "kl": float(curve.kl[..., k].mean())}
        for name, table in (("gold", curve.gold), ("own", curve.own)):
            row |= replicated_mean(table[..., k]).prompts.named(name)
        rows.append(row | {"forecast": float(forecast[..., k].mean())})
    return pd.DataFrame(rows)
