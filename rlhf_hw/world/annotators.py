"""Simulated annotators who compare two replies, with the dials of real ones.

An annotator prefers reply 1 to reply 2 with probability

    P = (1 - flip) * sigmoid(u / temperature) + flip * sigmoid(-u / temperature)
    u = (gold_1 - gold_2) + length_bias * (words_1 - words_2) / WORDS_SD
        + praise_bias * (praise_1 - praise_2) + refusal_bias * (refusal_1 - refusal_2)

and calls it a tie when |u| is below `tie_threshold`. This is the Bradley-Terry model (1952) with attributes
that gold does not value, and label noise. Groups of annotators differ in these tastes (`GROUPS`), users
within a group a little.

    >>> same = Features(gold=1.0, words=30, praise=0)
    >>> Annotator().compare(same, same)
    0.5
"""

import math
import random
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from rlhf_hw.errors import InputError, UnknownName
from rlhf_hw.world.gold import gold, praise_count, refuses

WORDS_SD = 15.0  # words; standard deviation of the length of the writer's replies

TIE = 0  # what `Annotator.prefer` returns when neither reply wins


@dataclass(frozen=True)
class Features:
    """What an annotator sees of a reply."""

    gold: float
    words: int
    praise: int
    refusal: int = 0

    @classmethod
    def of(cls, prompt: str, reply: str) -> "Features":
        """Reads the features from the texts."""
        return cls(gold(prompt, reply), len(reply.split()), praise_count(reply), int(refuses(reply)))


@dataclass(frozen=True)
class Annotator:
    """One annotator.

    Attributes:
        name: user name, stored with every comparison.
        group: name of the group in `GROUPS` the annotator belongs to; "standard" adds nothing.
        temperature: noise of the judgement, in units of gold; above 0.
        flip: share of answers that are swapped by mistake, from 0 to below one half.
        length_bias: gold that one standard deviation of extra length is worth.
        praise_bias: gold that one flattering sentence is worth.
        refusal_bias: gold that a refusal is worth, whether it is needed or not.
        tie_threshold: differences in utility below this are ties.
    """

    name: str = "standard"
    group: str = "standard"
    temperature: float = 0.22
    flip: float = 0.05
    length_bias: float = 0.1
    praise_bias: float = 0.0
    refusal_bias: float = 0.0
    tie_threshold: float = 0.0

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise InputError(f"temperature must be above 0, not {self.temperature}")
        if not 0 <= self.flip < 0.5:
            raise InputError(f"flip must be from 0 to below 0.5, not {self.flip}")
        if self.tie_threshold < 0:
            raise InputError(f"tie_threshold must be 0 or above, not {self.tie_threshold}")

    def utility(self, first: Features, second: Features) -> float:
        """How much more the annotator likes the first reply, in units of gold."""
        return (
            (first.gold - second.gold)
            + self.length_bias * (first.words - second.words) / WORDS_SD
            + self.praise_bias * (first.praise - second.praise)
            + self.refusal_bias * (first.refusal - second.refusal)
        )

    def compare(self, first: Features, second: Features) -> float:
        """P(the first reply is preferred), given that the pair is no tie."""
        sigmoid = 0.5 * (1 + math.tanh(0.5 * self.utility(first, second) / self.temperature))
        return self.flip + (1 - 2 * self.flip) * sigmoid

    def is_tie(self, first: Features, second: Features) -> bool:
        """True when the annotator cannot tell the replies apart."""
        return abs(self.utility(first, second)) < self.tie_threshold

    def prefer(self, first: Features, second: Features, rng: random.Random) -> int:
        """One answer: 1 or 2 for the better reply, `TIE` for none."""
        if self.is_tie(first, second):
            return TIE
        return 1 if rng.random() < self.compare(first, second) else 2


# What a group changes in an annotator: it adds these tastes to the biases.
GROUPS: dict[str, dict[str, float]] = {
    "standard": {},
    "thorough": {"length_bias": 0.8},
    "brief": {"length_bias": -0.8},
    "cautious": {"refusal_bias": 1.5, "length_bias": -0.1},
}


def users(
    count: int, group: str = "standard", spread: float = 0.1, seed: int = 0, base: Annotator | None = None
) -> list[Annotator]:
    """Individual annotators of one group.

    Args:
        count: how many.
        group: a name in `GROUPS`; it adds its tastes to those of `base`.
        spread: standard deviation of the length and praise bias between users, in units of gold.
        seed: seed of the differences between users.
        base: dials that all share; the default `Annotator()` when None.

    Raises:
        KeyError: the group is not known.
    """
    if group not in GROUPS:
        raise UnknownName(f"group {group!r} is not known; choose one of {', '.join(GROUPS)}")
    rng = random.Random(f"{seed}/{group}")
    base = base or Annotator()
    tastes = {dial: getattr(base, dial) + value for dial, value in GROUPS[group].items()}
    return [
        replace(
            base,
            **{
                **tastes,
                "name": f"{group}-{number:02d}",
                "group": group,
                "length_bias": tastes.get("length_bias", base.length_bias) + rng.gauss(0, spread),
                "praise_bias": base.praise_bias + rng.gauss(0, spread),
            },
        )
        for number in range(1, count + 1)
    ]


def best_possible_accuracy(probabilities: Iterable[float]) -> float:
    """Accuracy of a judge who knows every annotator's true probability: the mean of max(P, 1 - P).

    Raises:
        ValueError: there is no comparison.
    """
    values = np.array(list(probabilities))
    if not values.size:
        raise InputError("best possible accuracy needs at least one comparison")
    return float(np.maximum(values, 1 - values).mean())
