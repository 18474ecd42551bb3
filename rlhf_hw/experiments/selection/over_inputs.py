"""What choosing hard by a reward is studied on: many replies with pairs to learn from, and what is varied."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlhf_hw.errors import InputError
from rlhf_hw.experiments.selection.state_heads import ReadPairs


@dataclass(frozen=True)
class ManyReplies:
    """Many replies to a few prompts, and pairs to learn from.

    Attributes:
        gold, words: Shape (prompts, samples).
        scores: Of the run's reward models, shape (trainings, prompts, samples).
        averaged: Of one model with the mean of their weights, shape (prompts, samples).
        states: Shape (prompts, samples, D).
        train, held_out: Pairs as read, in the same directions.
    """

    gold: np.ndarray
    words: np.ndarray
    scores: np.ndarray
    averaged: np.ndarray
    states: np.ndarray
    train: ReadPairs
    held_out: ReadPairs


@dataclass(frozen=True)
class Variations:
    """What is varied of the small reward models.

    Attributes:
        sizes: Numbers of pairs, rising; the last is that of all other comparisons.
        rates: Shares of flipped labels, rising from 0 to one half, which is the control.
        draws: Of pairs and flips.
        members: Of an ensemble.
        member_pairs: Pairs of each member.
        member_flips: Share of flipped labels there.
        flip_rate: Share of flipped labels that are to be found or dropped, and of those whose calibration is
            looked at.
        directions: Numbers of main directions of the states that a reward model sees, rising; those that the
            states lack are left out, and all are tried as well.
        kept_share: Of a prompt's replies that a filter keeps.
    """

    sizes: Sequence[int] = (25, 100, 400)
    rates: Sequence[float] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
    draws: int = 6
    members: int = 4
    member_pairs: int = 100
    member_flips: float = 0.25
    flip_rate: float = 0.2
    directions: Sequence[int] = (4, 16, 64)
    kept_share: float = 0.1

    def __post_init__(self) -> None:
        if self.rates[0] != 0 or self.rates[-1] != 0.5:
            raise InputError(f"rates of flips go from 0 to 0.5, the control; found {list(self.rates)}")
        if not self.flip_rate or self.flip_rate not in self.rates:
            raise InputError(f"flip_rate {self.flip_rate} is none of the rates above 0, {list(self.rates)}")
