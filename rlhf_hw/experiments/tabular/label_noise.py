r"""Where DPO, cDPO, rDPO and IPO end when labels are flipped at a known rate e.

Two replies, the first preferred with probability p by those who label rightly; what the data show is
:math:`q = (1 - e) p + e (1 - p)`. The minima of the four losses over infinitely many labels:

| loss | :math:`\beta h` |
|---|---|
| DPO | :math:`\mathrm{logit}(q)` |
| cDPO, told e | :math:`\mathrm{logit}((1 - e) q + e (1 - q))`: as if labels were flipped once more |
| rDPO, told e | :math:`\mathrm{logit}(p)`: unbiased (Chowdhury et al. 2024) |
| IPO | :math:`(2 q - 1) / 2`, hence 1 - 2e times what it is without noise (Azar et al. 2024) |

As shares of the margin without noise these are in the order rDPO = 1 > IPO > DPO > cDPO for every p > 1/2 and
0 < e < 1/2. For logit(q) / (q - 1/2) grows with q above 1/2, so DPO keeps less than the 1 - 2e that IPO does,
and cDPO is DPO with more noise. Finite labels are a sum over the binomial distribution: nothing is drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.special import expit, logit, xlogy
from scipy.stats import binom

from rlhf_hw.experiments.tabular.policy_classes import Comparisons, PolicyClass
from rlhf_hw.training.losses import dpo, ipo, robust_dpo

NOISE_LOSSES = ("rDPO", "IPO", "DPO", "cDPO")  # in the order of what they keep
LOGISTIC_LOSSES = ("rDPO", "DPO", "cDPO")


@dataclass(frozen=True)
class NoiseWorld:
    """Sizes of the world.

    Attributes:
        agreement: p, how often the first reply is preferred without flips.
        rates: Shares of flipped labels.
        beta: The tie to the reference.
        labels: Few and many labels of the pair, for regrets.
    """

    agreement: float = 0.9
    rates: Sequence[float] = (0.0, 0.1, 0.2, 0.3, 0.4)
    beta: float = 0.5
    labels: Sequence[int] = (10, 30, 100, 300, 1000, 3000)


def share_of_labels(agreement: float, rate: float) -> float:
    """How often labels say that the first reply is better."""
    return (1 - rate) * agreement + rate * (1 - agreement)


def derived_margin(name: str, q: np.ndarray | float, rate: float) -> np.ndarray:
    """beta h at the minimum where a share q of the labels is for the first reply; infinite without one.

    Args:
        name: One of `NOISE_LOSSES`.
        q: Shape (...), 0 to 1.
        rate: The rate of flips that cDPO and rDPO are told.
    """
    q = np.asarray(q, dtype=np.float64)
    if name == "IPO":
        return (2 * q - 1) / 2
    if name == "rDPO":
        q = np.clip((q - rate) / (1 - 2 * rate), 0, 1)
    if name == "cDPO":
        q = share_of_labels(q, rate)
    return logit(q)


def found_margin(name: str, world: NoiseWorld, rate: float) -> float:
    """The same for infinitely many labels, found by minimizing the library's loss."""
    losses = {
        "DPO": partial(dpo, beta=world.beta),
        "cDPO": partial(dpo, beta=world.beta, label_smoothing=rate),
        "rDPO": partial(robust_dpo, beta=world.beta, label_smoothing=rate),
        "IPO": partial(ipo, beta=world.beta),
    }
    q = share_of_labels(world.agreement, rate)
    table = PolicyClass.whole(np.log([0.5, 0.5]))
    weights = table.learn(Comparisons.of(np.array([[0, q], [1 - q, 0]])), world.beta, losses[name])
    return float(world.beta * (weights[0] - weights[1]))


def regret(margin: np.ndarray, world: NoiseWorld) -> np.ndarray:
    """What a margin beta h costs in RLHF's objective against the best policy, in units of reward.

    The reward difference is logit(p), the reference gives one half to each reply.
    """

    def value(bh: np.ndarray) -> np.ndarray:
        first = expit(bh / world.beta)
        divergence = np.log(2) + xlogy(first, first) + xlogy(1 - first, 1 - first)
        return first * logit(world.agreement) - world.beta * divergence

    return value(np.asarray(logit(world.agreement))) - value(margin)


@dataclass(frozen=True)
class NoiseFound:
    """What noise does to the four losses; nothing is random.

    Attributes:
        kept: By loss, the share of the margin without noise that is kept at each rate, shape (rates,).
        regrets: By logistic loss, the mean regret at the middle rate for each number of labels, shape
        (labels,). none: How often so many labels leave rDPO without a minimum, shape (labels,). error: The
        largest difference of a minimum that was found from the one derived, in beta h. order: By how much
        two losses that follow each other in the derived order are apart at least. same: By how much the
        minima of the three logistic losses differ without noise. rate: The middle rate.
    """

    kept: dict[str, np.ndarray]
    regrets: dict[str, np.ndarray]
    none: np.ndarray
    error: float
    order: float
    same: float
    rate: float


def measure_noise(world: NoiseWorld) -> NoiseFound:
    """All of it."""
    rates = np.asarray(world.rates)
    found = {name: np.array([found_margin(name, world, e) for e in rates]) for name in NOISE_LOSSES}
    derived = {
        name: np.array([derived_margin(name, share_of_labels(world.agreement, e), e) for e in rates])
        for name in NOISE_LOSSES
    }
    kept = {name: values / values[0] for name, values in found.items()}
    noisy = np.array([kept[name][rates > 0] for name in NOISE_LOSSES])
    rate = float(rates[len(rates) // 2])
    regrets: dict[str, list[float]] = {name: [] for name in LOGISTIC_LOSSES}
    none = []
    for labels in world.labels:
        counts = np.arange(labels + 1)
        chances, q = binom.pmf(counts, labels, share_of_labels(world.agreement, rate)), counts / labels
        for name, values in regrets.items():
            values.append(float(chances @ regret(derived_margin(name, q, rate), world)))
        none.append(float(chances[(q >= 1 - rate) | (q <= rate)].sum()))
    return NoiseFound(
        kept=kept,
        regrets={name: np.array(values) for name, values in regrets.items()},
        none=np.array(none),
        error=float(max(np.abs(found[name] - derived[name]).max() for name in NOISE_LOSSES)),
        order=float((noisy[:-1] - noisy[1:]).min()),
        same=float(np.ptp([found[name][0] for name in LOGISTIC_LOSSES])),
        rate=rate,
    )
