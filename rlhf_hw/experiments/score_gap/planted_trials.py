"""Does the decomposition of a score gap find faults that were put in? Trials with a real reward model.

Of the two replies of a preference pair one plays the generated reply, the other the reference. For a planted
fault both take both parts in turn, so that the two sides are equal in everything and the gap is the fault's
alone; a clean world leaves the parts to a coin, so that its gap is chance, which the decomposition must not
mistake for a fault. In noisy trials there is both, a fault and a coin. Each trial has prompts of its own.

    items = make_items(reward_model.renderer, preferences)
    faults = make_faults(reward_model.renderer, items, ends) + make_world_faults(reward_model.renderer, items)
    trials = run_trials(items, faults, instruments)

A fault that moves the scores by less than `HEARD` standard deviations is silent: this reward model does not
mind it, and there is no gap to be explained. What trials show is counted by `trial_counts`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlhf_hw.errors import InputError
from rlhf_hw.experiments.score_gap.decompose import SMALLEST, named_parts, of_replies
from rlhf_hw.experiments.score_gap.faults import Fault, Item
from rlhf_hw.experiments.score_gap.instruments import Instruments

SHARE = (0.8, 1.2)  # of the gap; what a planted fault must get: more is as wrong as less
HEARD = SMALLEST / SHARE[0]  # the least share of a gap of this size is still large enough to be named
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
        faults: keys of the planted faults, none in a clean world.
        planted: their names; factors: the parts to blame.
        gap: in score points; scale: standard deviation of the reference scores.
        shares: each part as a share of the gap; zeros in a clean world.
        named: parts that the decomposition blames, largest first.
        noisy: a coin decided which reply is called generated.
    """

    faults: tuple[str, ...]
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
        """Share of the gap that goes to the planted parts; a part that was not measured has none."""
        return sum(self.shares.get(factor, 0.0) for factor in self.factors)

    @property
    def right(self) -> bool:
        """Whether the planted parts together get about the whole gap, neither less nor more (`SHARE`)."""
        return SHARE[0] <= self.share <= SHARE[1]

    @property
    def found(self) -> bool:
        """Something is named, and nothing before a planted part; of a couple, one may drown the other."""
        first = self.named[: len(self.factors)]
        return bool(first) and self.factors.issuperset(first)


def run_trial(
    items: Sequence[Item],
    faults: Sequence[Fault],
    instruments: Instruments,
    seed: int = 0,
    noisy: bool = False,
) -> Trial:
    """Plants faults (none: a clean world) in the replies to some prompts and takes the gap apart.

    Args:
        items: the prompts of this trial.
        faults: at most one for each part, planted in this order.
        instruments: what the gap is measured with.
        seed: of the coin.
        noisy: let the coin decide which reply is called generated, as in a clean world.
    """
    noisy = noisy or not faults
    coin = np.random.default_rng(seed).integers(0, 2, size=len(items))
    cast = [(n, part) for n in range(len(items)) for part in ((int(coin[n]),) if noisy else (0, 1))]
    pairs = [items[n].pair(part) for n, part in cast]
    scale = float(np.std(of_replies(instruments.score, [pair.reference for pair in pairs])))
    for fault in faults:
        pairs = [fault.plant(pair, items[n]) for pair, (n, _) in zip(pairs, cast, strict=True)]
    measured = instruments.measure(pairs, [items[n].question for n, _ in cast])
    parts = measured.parts(instruments.price)
    means = {name: float(part.mean()) for name, part in parts.items()}
    gap = means.pop("gap")
    return Trial(
        tuple(fault.key for fault in faults),
        tuple(fault.name for fault in faults),
        frozenset(fault.factor for fault in faults),
        gap,
        scale,
        {name: value / gap if faults and gap else 0.0 for name, value in means.items()},
        named_parts(parts, scale, [n for n, _ in cast]),
        noisy,
    )


def run_trials(
    items: Sequence[Item],
    faults: Sequence[Fault],
    instruments: Instruments,
    *,
    trials: int = 10,
    prompts: int = 50,
) -> list[Trial]:
    """Single faults, couples and noisy trials of those that are heard alone, clean worlds: `trials` of each.

    Args:
        items: prompts for all trials, in their order; where there are as many as `trials` x `prompts`, each
            trial has prompts of its own, else the last ones take some of the first again.
        prompts: of a trial.

    Raises:
        ValueError: fewer items than one trial needs.
    """
    if len(items) < prompts:
        raise InputError(f"{len(items)} prompts are fewer than the {prompts} of one trial")
    found = []
    for start in range(0, trials * prompts, prompts):
        chosen = [items[n % len(items)] for n in range(start, start + prompts)]
        single = [run_trial(chosen, [fault], instruments, start) for fault in faults]
        by_gap = sorted(zip(faults, single, strict=True), key=lambda pair: abs(pair[1].gap))
        heard = [fault for fault, one in by_gap if not one.silent]
        loudest = {fault.factor: fault for fault in heard}
        couples = [[loudest[a], loudest[b]] for a, b in COUPLES if a in loudest and b in loudest]
        found += [run_trial(chosen, [], instruments, start), *single]
        found += [run_trial(chosen, couple, instruments, start) for couple in couples]
        found += [run_trial(chosen, [fault], instruments, start, noisy=True) for fault in heard]
    return found
