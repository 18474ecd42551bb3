r"""Best-of-n sampling: the harder one chooses by the reward model, the more it matters whether it is right.

Of n samples of a policy the reward model keeps the one that it scores highest. From N samples to a prompt the
expected quality of the kept one follows without drawing anew, over all subsets of size n: with the samples in
rising order of score, the i-th (from 1) is the best of a subset with the probability

    C(i - 1, n - 1) / C(N, n),

an unbiased estimate (Nakano et al. 2021, WebGPT, appendix I). Score, judge and gold of the kept reply are
then curves in n. The divergence of best-of-n from its policy is at most log n - (n - 1) / n nats (Beirami
et al. 2024), so the curves can be laid beside a trained policy's.

    best_of_n(samples, price)["gold_16"]
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import gammaln

from rlhf_hw.errors import InputError
from rlhf_hw.experiments.over_optimisation import Price, explained_by_gold
from rlhf_hw.experiments.steps import JUDGES, replies_by
from rlhf_hw.stats.replicates import beyond, replicated_mean


@dataclass(frozen=True)
class BestOfN:
    """What choosing among n samples by the reward model brings, over one sample.

    Attributes:
        metrics: For n = 2, 4, ... and each judge `<judge>_<n>`, the gain over one sample, with both
            intervals, and `kl_<n>`, the bound; where gold is known `gold_best_<n>`, the gain of choosing by
            gold itself. Without a number: those of the largest n, which is `n`, and the keys of
            `explained_by_gold` for it; `<judge>_late`, the gain of the last doubling.
        claims: `best_of_n_raises_<judge>`, `best_of_n_lowers_<judge>`, `best_of_n_score_beyond_gold`,
            `best_of_n_<judge>_falls_late`.
        curves: One row for each n: `n`, `kl`, and for each judge its gain with `_low` and `_high`.
    """

    metrics: dict[str, float]
    claims: dict[str, bool]
    curves: pd.DataFrame


def best_weights(samples: int, n: int) -> np.ndarray:
    """Probability that the sample of each rank is the best of a random subset of size n; shape (samples,)."""
    if not 1 <= n <= samples:
        raise InputError(f"best of {n} needs at least {n} samples, found {samples}")
    rank = np.arange(1, samples + 1)
    with np.errstate(invalid="ignore"):
        log = gammaln(rank) - gammaln(n) - gammaln(rank - n + 1)
    log -= gammaln(samples + 1) - gammaln(n + 1) - gammaln(samples - n + 1)
    return np.where(rank >= n, np.exp(log), 0.0)


def best_by_score(scores: np.ndarray, values: np.ndarray, n: int) -> np.ndarray:
    """Expected value of the best of n samples by score.

    Args:
        scores, values: Shape (prompts, samples). Equal scores share their places.
        n: Samples chosen from.

    Returns:
        Shape (prompts,).
    """
    weights, found = best_weights(scores.shape[1], n), np.zeros(len(scores))
    for row, (score, value) in enumerate(zip(scores, values, strict=True)):
        _, place, count = np.unique(score, return_inverse=True, return_counts=True)
        shared = np.bincount(place, value) / count  # mean value of the samples of equal score
        order = np.repeat(shared, count)
        found[row] = weights @ order
    return found


def kl_bound(n: int) -> float:
    """The largest divergence of best-of-n from its policy, in nats."""
    return float(np.log(n) - (n - 1) / n)


def best_of_n(samples: Sequence[pd.DataFrame], price: Price | None = None, *, seed: int = 0) -> BestOfN:
    """The curves of best-of-n sampling over replicates.

    Args:
        samples: Scored samples of each replicate, those of one prompt next to each other, as many for each.
        price: Of gold, of the same replicates; None where it is unknown.
        seed: Of resampling.
    """
    prompts = list(dict.fromkeys(samples[0]["prompt_key"]))
    count = len(samples[0]) // len(prompts)
    known = [{n: v.reshape(-1, count) for n, v in replies_by(table).items()} for table in samples]
    judges = [judge for judge in JUDGES if all(judge in one for one in known)]
    sizes = [2**power for power in range(int(np.log2(count)) + 1)]

    def gain(by: str, judge: str, n: int) -> np.ndarray:
        best = [best_by_score(one[by], one[judge], n) - one[judge].mean(axis=1) for one in known]
        return np.array(best)

    metrics: dict[str, float] = {"prompts": len(prompts), "samples": count}
    claims, rows = {}, []
    for n in sizes:
        found = {"kl": kl_bound(n)}
        for judge in judges:
            found |= replicated_mean(gain("score", judge, n), prompts, seed=seed).named(judge)
        if "gold" in judges:
            found |= replicated_mean(gain("gold", "gold", n), prompts, seed=seed).named("gold_best")
        rows.append({"n": n} | found)
        metrics |= {_with_n(key, n): value for key, value in found.items()} if n > 1 else {}
    if len(sizes) < 2:
        return BestOfN(metrics, claims, pd.DataFrame(rows))
    metrics |= rows[-1]
    for judge in judges:
        late = gain("score", judge, sizes[-1]) - gain("score", judge, sizes[-2])
        metrics |= replicated_mean(late, prompts, seed=seed).named(f"{judge}_late")
        side = beyond(rows[-1], judge)
        claims |= {f"best_of_n_raises_{judge}": side > 0, f"best_of_n_lowers_{judge}": side < 0}
        claims[f"best_of_n_{judge}_falls_late"] = beyond(metrics, f"{judge}_late") < 0
        claims[f"best_of_n_{judge}_rises_late"] = beyond(metrics, f"{judge}_late") > 0
    if price is not None and "gold" in judges:
        gains = (gain("score", judge, sizes[-1]) for judge in ("score", "gold"))
        metrics |= explained_by_gold(*gains, price, prompts, seed=seed)
        claims["best_of_n_score_beyond_gold"] = beyond(metrics, "score_beyond_gold") > 0
    return BestOfN(metrics, claims, pd.DataFrame(rows))


def _with_n(key: str, n: int) -> str:
    """`gold_low` as `gold_16_low`: the number stands before the ends of an interval."""
    for end in ("_trainings_low", "_trainings_high", "_low", "_high"):
        if key.endswith(end):
            return f"{key.removesuffix(end)}_{n}{end}"
    return f"{key}_{n}"
