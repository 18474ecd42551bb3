"""Does the decomposition of a score gap find faults that were put in? Trials with a real reward model.

Of the two replies of a preference pair one plays the generated reply, the other the reference. For a planted
fault both take both parts in turn, so that the two sides are equal in everything and the gap is the fault's
alone; a clean world leaves the parts to a coin, so that its gap is chance, which the decomposition must not
mistake for a fault. In noisy trials there is both, a fault and a coin. Each trial has prompts of its own.

    items = make_items(reward_model.renderer, preferences)
    faults = make_faults(reward_model.renderer, items, ends)
    trials = run_trials(items, faults, reward_model.score_ids, ends)
    planted_metrics(trials)

A fault that moves the scores by less than `HEARD` standard deviations is silent: this reward model does not
mind it, and there is no gap to be explained. Such trials are counted apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlhf_hw.errors import InputError
from rlhf_hw.experiments.score_gap.decompose import (
    ORDER,
    SMALLEST,
    Compute,
    gap_cells,
    named_factors,
    of_replies,
    once,
    shapley_values,
)
from rlhf_hw.experiments.score_gap.edits import FACTORS
from rlhf_hw.experiments.score_gap.faults import Fault, Item

SHARE = 0.8  # of the gap; what a planted fault must get
HEARD = SMALLEST / SHARE  # SHARE of a gap of this size is still large enough to be named
# Two faults at a time. A cut reply has no tail, so truncation and read-out cannot both show.
COUPLES = (
    ("readout", "length"),
    ("template", "repetition"),
    ("truncation", "template"),
    ("length", "repetition"),
)


@dataclass(frozen=True)
class Trial:
    """One decomposition: what was planted, and what it found.

    Attributes:
        planted: names of the faults, none in a clean world; factors: the factors to blame.
        gap: in score points; scale: standard deviation of the reference scores.
        shares: each part as a share of the gap; zeros in a clean world.
        named: factors that the decomposition blames, largest first.
        noisy: a coin decided which reply is called generated.
    """

    planted: tuple[str, ...]
    factors: frozenset[str]
    gap: float
    scale: float
    shares: dict[str, float]
    named: list[str]
    noisy: bool

    @property
    def silent(self) -> bool:
        """Whether the planted faults leave the scores where they are."""
        return bool(self.planted) and abs(self.gap) < HEARD * self.scale

    @property
    def share(self) -> float:
        """Share of the gap that goes to the planted factors."""
        return sum(self.shares[factor] for factor in self.factors)

    @property
    def correct(self) -> bool:
        """The planted factors are named first and together get at least SHARE of the gap."""
        return self.found and self.share >= SHARE

    @property
    def found(self) -> bool:
        """Something is named, and nothing before a planted factor; of a couple, one may drown the other."""
        first = self.named[: len(self.factors)]
        return bool(first) and self.factors.issuperset(first)


def run_trial(
    items: Sequence[Item],
    faults: Sequence[Fault],
    score: Compute,
    ends: frozenset[int],
    seed: int = 0,
    noisy: bool = False,
) -> Trial:
    """Plants faults (none: a clean world) in the replies to some prompts and takes the gap apart.

    Args:
        items: the prompts of this trial.
        faults: at most one for each factor, planted in this order.
        score: as in `decompose.gap_cells`.
        ends: ids that end a sentence.
        seed: of the coin.
        noisy: let the coin decide which reply is called generated, as in a clean world.
    """
    noisy = noisy or not faults
    coin = np.random.default_rng(seed).integers(0, 2, size=len(items))
    cast = [(n, part) for n in range(len(items)) for part in ((int(coin[n]),) if noisy else (0, 1))]
    pairs = [items[n].pair(part) for n, part in cast]
    scale = float(np.std(of_replies(score, [pair.reference for pair in pairs])))
    for fault in faults:
        pairs = [fault.plant(pair, items[n]) for pair, (n, _) in zip(pairs, cast, strict=True)]
    cells = gap_cells(pairs, score, ends, ORDER)
    values = dict(zip(FACTORS, shapley_values(cells, FACTORS, ORDER).mean(axis=1), strict=True))
    values["rest"] = cells[frozenset(FACTORS)].mean()
    gap = float(cells[frozenset()].mean())
    return Trial(
        tuple(fault.name for fault in faults),
        frozenset(fault.factor for fault in faults),
        gap,
        scale,
        {name: float(value / gap) if faults and gap else 0.0 for name, value in values.items()},
        named_factors(cells, scale, FACTORS, [n for n, _ in cast], stages=ORDER),
        noisy,
    )


def run_trials(
    items: Sequence[Item],
    faults: Sequence[Fault],
    score: Compute,
    ends: frozenset[int],
    *,
    trials: int = 10,
    prompts: int = 50,
    seed: int = 0,
) -> list[Trial]:
    """Single faults, couples and noisy trials of those that are heard alone, clean worlds: `trials` of each.

    Args:
        items: prompts for all trials; as many as `trials` x `prompts` give each trial prompts of its own.
        prompts: of a trial.
        seed: of the choice of prompts.

    Raises:
        ValueError: fewer items than one trial needs.
    """
    if len(items) < prompts:
        raise InputError(f"{len(items)} prompts are fewer than the {prompts} of one trial")
    generator, score = np.random.default_rng(seed), once(score)
    order, found = generator.permutation(len(items)), []
    for trial in range(trials):
        if trials * prompts > len(items):
            order = generator.permutation(len(items))
        start = trial * prompts if trials * prompts <= len(items) else 0
        chosen = [items[n] for n in order[start : start + prompts]]
        single = [run_trial(chosen, [fault], score, ends, seed + trial) for fault in faults]
        by_gap = sorted(zip(faults, single, strict=True), key=lambda pair: abs(pair[1].gap))
        heard = [fault for fault, one in by_gap if not one.silent]
        loudest = {fault.factor: fault for fault in heard}
        couples = [[loudest[a], loudest[b]] for a, b in COUPLES if a in loudest and b in loudest]
        found += [run_trial(chosen, [], score, ends, seed + trial), *single]
        found += [run_trial(chosen, couple, score, ends, seed + trial) for couple in couples]
        found += [run_trial(chosen, [fault], score, ends, seed + trial, noisy=True) for fault in heard]
    return found


def planted_metrics(trials: Sequence[Trial]) -> dict[str, float]:
    """What the trials prove, under the keys of `score_gap`.

    Returns:
        planted.trials (single faults that the model minds), planted.share_enough (in how many the fault got
        enough of the gap), planted.correct (and was named first as well), planted.share_min (the smallest
        share of the gap that a planted fault got), planted.silent, where two faults at a time were heard
        planted.couples and planted.couples_correct,
        planted.noisy and planted.noisy_found (trials with a coin; in how many the fault was named first),
        planted.false_alarms (clean worlds in which something was blamed), clean.trials.
    """
    clean = [t for t in trials if not t.planted]
    noisy = [t for t in trials if t.planted and t.noisy]
    heard = [t for t in trials if t.planted and not t.noisy and not t.silent]
    single, couples = ([t for t in heard if len(t.planted) == count] for count in (1, 2))
    found = {
        "planted.trials": len(single),
        "planted.share_enough": sum(t.share >= SHARE for t in single),
        "planted.correct": sum(t.correct for t in single),
        "planted.noisy": len(noisy),
        "planted.noisy_found": sum(t.found for t in noisy),
        "planted.silent": sum(t.silent for t in trials if not t.noisy),
        "planted.false_alarms": sum(bool(t.named) for t in clean),
        "clean.trials": len(clean),
    }
    if couples:
        found |= {
            "planted.couples": len(couples),
            "planted.couples_correct": sum(t.correct for t in couples),
        }
    return found | ({"planted.share_min": min(t.share for t in single)} if single else {})


def share_table(trials: Sequence[Trial]) -> tuple[np.ndarray, list[str], list[str]]:
    """Mean shares for `figures.score_gap.planted_matrix`: what was planted against what it was attributed to.

    Returns:
        Shape (planted, attributed), names of the rows, names of the columns. Silent and noisy trials are left
        out, and single faults stand before couples.
    """
    columns = [*FACTORS, "rest"]
    rows: dict[str, list[list[float]]] = {}
    for trial in sorted(trials, key=lambda t: len(t.planted)):
        if trial.planted and not trial.silent and not trial.noisy:
            rows.setdefault(" + ".join(trial.planted), []).append([trial.shares[name] for name in columns])
    if not rows:
        raise InputError("every planted fault was silent: this reward model minds none of them")
    return np.array([np.mean(values, axis=0) for values in rows.values()]), list(rows), columns
