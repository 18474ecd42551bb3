"""Models of a choice between two replies whose rewards are linear in features: fits that take milliseconds.

With `d` = features of the first reply minus those of the second, reward r = w . features and m = w . d:

    Bradley-Terry (1952)      P(first) = sigmoid(m)
    mean and variance         P(first) = Phi(m / sqrt(s1^2 + s2^2)),  log s^2 = v . (features, features^2)
                              (distributional preference learning: Siththaranjan et al. 2024)
    Rao and Kupper (1967)     P(first) = e^r1 / (e^r1 + theta e^r2), the rest is tie
    Davidson (1970)           weights e^(r1), e^(r2), and nu sqrt(e^(r1) e^(r2)) for a tie

A ridge penalty holds w where the data say little. Nothing here sees a text or a model.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_expit, log_ndtr, logsumexp

from rlhf_hw.errors import InputError

FIRST, SECOND, TIED = 0, 1, 2  # columns of the probabilities with ties; what was said, in `fit_ties`
LARGEST = 8.0  # of log s^2, either way, lest a reply without near ones gets an endless spread
STEPS = 50  # Newton's, at most
_NORMAL = 0.5 * np.log(2 * np.pi)


def choice_loss(weights, differences, outcomes, *, offset=0.0, counts=1.0, penalty=0.0) -> float:
    """Negative log-likelihood of Bradley-Terry choices plus penalty / 2 |w|^2, in nats.

    Args:
        weights: w, shape (D,).
        differences: d, shape (n, D).
        outcomes: 1 where the first reply won, 0 where the second did, shape (n,).
        offset: what is added to m, shape (n,).
        counts: how often each row counts, shape (n,).
        penalty: strength of the ridge.
    """
    margins = differences @ weights + offset
    said = outcomes * log_expit(margins) + (1 - outcomes) * log_expit(-margins)
    return float(-np.sum(counts * said) + 0.5 * penalty * weights @ weights)


def fit_bradley_terry(
    differences: np.ndarray,
    outcomes: np.ndarray,
    *,
    offset=0.0,
    counts=1.0,
    penalty=0.1,
    start=None,
    steps=STEPS,
) -> np.ndarray:
    """The weights with the least `choice_loss`, by Newton's method with halved steps.

    Args:
        differences, outcomes, offset, counts, penalty: as there; no rows give zeros.
        start: where to begin, shape (D,); zeros when None.
        steps: of Newton's, at most; none makes the loss larger.

    Returns:
        Shape (D,).

    Raises:
        InputError: the penalty is not above 0, without which the least may lie at infinity.
    """
    if penalty <= 0:
        raise InputError(f"penalty must be above 0, not {penalty}: choices can be separable")
    weights = np.zeros(differences.shape[1]) if start is None else np.array(start, dtype=float)
    how = {"offset": offset, "counts": counts, "penalty": penalty}
    loss = choice_loss(weights, differences, outcomes, **how)
    for _ in range(steps):
        likely = expit(differences @ weights + offset)
        slope = differences.T @ (counts * (likely - outcomes)) + penalty * weights
        bend = differences.T @ ((counts * likely * (1 - likely))[:, None] * differences)
        step = np.linalg.solve(bend + penalty * np.eye(len(weights)), slope)
        if step @ slope < 1e-9 * (1 + loss):
            break
        for size in 0.5 ** np.arange(20):
            nearer = choice_loss(weights - size * step, differences, outcomes, **how)
            if nearer < loss:
                break
        else:
            break
        weights, loss = weights - size * step, nearer
    return weights


class MeanVariance(NamedTuple):
    """A reward with a spread: `mean` (D,) and `spread` (2 D,), the weights w and v."""

    mean: np.ndarray
    spread: np.ndarray

    def means(self, features: np.ndarray) -> np.ndarray:
        """Mean reward of each reply, shape (n,)."""
        return features @ self.mean

    def variances(self, features: np.ndarray) -> np.ndarray:
        """s^2 of each reply, shape (n,); 1 for a reply whose features are all 0."""
        return np.exp(np.clip(_with_squares(features) @ self.spread, -LARGEST, LARGEST))

    def deviations(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """sqrt(s1^2 + s2^2) of each pair, shape (n,)."""
        return np.sqrt(self.variances(first) + self.variances(second))

    def z(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """What Phi is taken of, shape (n,): the difference of means in deviations."""
        return (self.means(first) - self.means(second)) / self.deviations(first, second)

    def explained(self, features: np.ndarray) -> float:
        """r^2 = Var[mean] / (Var[mean] + E[s^2]) over replies: 1 where nobody's context is hidden."""
        between = self.means(features).var()
        return float(between / (between + self.variances(features).mean()))


def _with_squares(features: np.ndarray) -> np.ndarray:
    return np.hstack([features, features**2])


def mean_variance_loss(
    parameters, first, second, outcomes, counts=1.0, penalty=0.0, squared=None
) -> tuple[float, np.ndarray]:
    """Negative log-likelihood of choices under `MeanVariance` with its gradient, in nats.

    Args:
        parameters: w and v one after the other, shape (3 D,).
        first, second: features of the replies, shape (n, D).
        outcomes: 1 where the first won, else 0, shape (n,).
        counts: how often each row counts, shape (n,).
        penalty: strength of the ridge on both.
        squared: both sides with their squares beside them, shape (n, 2 D) each, for one who asks often.
    """
    mean, spread = np.split(parameters, [first.shape[1]])
    sides = squared or [_with_squares(side) for side in (first, second)]
    spreads = [np.exp(np.clip(side @ spread, -LARGEST, LARGEST)) for side in sides]
    deviation, away = np.sqrt(spreads[0] + spreads[1]), first - second
    z = away @ mean / deviation
    sign = 2 * outcomes - 1
    said = log_ndtr(sign * z)
    towards = -counts * sign * np.exp(-0.5 * z**2 - _NORMAL - said)  # d loss / d z
    pull = towards * z / deviation**2
    slope_spread = -0.5 * sum(side.T @ (s * pull) for s, side in zip(spreads, sides, strict=True))
    slope = np.concatenate([away.T @ (towards / deviation), slope_spread]) + penalty * parameters
    return float(-np.sum(counts * said) + 0.5 * penalty * parameters @ parameters), slope


def fit_mean_variance(first, second, outcomes, *, counts=1.0, penalty: float = 0.1) -> MeanVariance:
    """The `MeanVariance` with the least `mean_variance_loss`; features best have mean 0 and deviation 1."""
    start, fixed = np.zeros(3 * first.shape[1]), [_with_squares(side) for side in (first, second)]
    found = _minimised(
        lambda p: mean_variance_loss(p, first, second, outcomes, counts, penalty, fixed), start
    )
    return MeanVariance(*np.split(found, [first.shape[1]]))


def rao_kupper(margins: np.ndarray, log_theta: float) -> np.ndarray:
    """Log-probabilities of first, second and tie, shape (n, 3); log theta of 0 leaves no tie."""
    wins, losses = log_expit(margins - log_theta), log_expit(-margins - log_theta)
    with np.errstate(divide="ignore"):
        return np.stack([wins, losses, np.log(np.expm1(2 * log_theta)) + wins + losses], axis=1)


def davidson(margins: np.ndarray, log_nu: float) -> np.ndarray:
    """Log-probabilities of first, second and tie, shape (n, 3)."""
    parts = np.stack([margins / 2, -margins / 2, np.full_like(margins, log_nu)], axis=1)
    return parts - logsumexp(parts, axis=1, keepdims=True)


TIE_MODELS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "rao_kupper": rao_kupper,
    "davidson": davidson,
}


def fit_ties(differences, said, model: str = "rao_kupper", *, penalty=0.1) -> tuple[np.ndarray, float]:
    """Weights of the reward, and the tendency to ties of a model in `TIE_MODELS` (log theta or log nu).

    Args:
        differences: d, shape (n, D).
        said: How often `FIRST`, `SECOND` and `TIED` were said of each row, shape (n, 3).

    Raises:
        InputError: there is no tie among them, so that nothing tells how often there are.
    """
    picked = np.asarray(said, dtype=float)
    if not picked[:, TIED].any():
        raise InputError("a model with ties needs comparisons that were called ties; there is none")

    def loss(parameters):
        weights, tendency = parameters[:-1], np.exp(np.clip(parameters[-1], -20, 5))
        if model == "davidson":
            tendency = parameters[-1]
        values, slopes = _tie_slopes(model, differences @ weights, tendency, picked)
        scale = 1.0 if model == "davidson" else tendency  # by the logarithm of log theta, which is above 0
        slope = np.append(differences.T @ slopes[0] + penalty * weights, scale * slopes[1])
        return values + 0.5 * penalty * weights @ weights, slope

    found = _minimised(loss, np.append(np.zeros(differences.shape[1]), -1.0))
    return found[:-1], float(found[-1] if model == "davidson" else np.exp(found[-1]))


def _tie_slopes(model, margins, tendency, picked) -> tuple[float, tuple[np.ndarray, float]]:
    """Negative log-likelihood, with its slopes by each margin and by the tendency."""
    logs = TIE_MODELS[model](margins, tendency)
    value = -np.where(picked > 0, picked * logs, 0.0).sum()
    if model == "davidson":
        pull = picked.sum(axis=1, keepdims=True) * np.exp(logs) - picked
        return value, (0.5 * (pull[:, FIRST] - pull[:, SECOND]), float(pull[:, TIED].sum()))
    up, down = expit(tendency - margins), expit(tendency + margins)
    won, lost = picked[:, FIRST] + picked[:, TIED], picked[:, SECOND] + picked[:, TIED]
    more = 2 / -np.expm1(-2 * tendency)
    by_tendency = (won * up + lost * down).sum() - more * picked[:, TIED].sum()
    return value, (lost * down - won * up, float(by_tendency))


def _minimised(function, start: np.ndarray) -> np.ndarray:
    """Where a function with its gradient is least, from `start`."""
    return minimize(function, start, jac=True, method="L-BFGS-B", options={"maxiter": 300}).x
