"""Pairs of the simulated world, people who judge them, and what each of them truly wants.

The texts are comparisons of the data; who judges them, and so every label, is drawn here. The groups
"thorough" and "brief" of `world.annotators` value gold alike and disagree about length: they are opposite
where the longer reply is not much better or worse. Users of one group differ a little, or, with a wide
spread, much.

    world = WorldPairs.of(preferences)
    votes = ask(population({"thorough": 140, "brief": 60}, seed=1), world, each=30, rng=rng)
    fit_bradley_terry(world.differences[votes.rows], votes.outcomes)
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from rlhf_hw.errors import InputError
from rlhf_hw.preferences.templates import Preference
from rlhf_hw.stats.choice_models import FIRST, SECOND, TIED
from rlhf_hw.world.annotators import WORDS_SD, Annotator, Features, users
from rlhf_hw.world.gold import PARTS, gold_parts
from rlhf_hw.world.text import read_prompt

NEUTRAL = Annotator(length_bias=0.0)  # what all share before a group adds its tastes
NOTHING = Features(gold=0.0, words=0, praise=0)
SAID = {1: FIRST, 2: SECOND, 0: TIED}


class Scale(NamedTuple):
    """Mean and deviation of each feature over some replies; features that never vary stay 0."""

    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of(cls, table: np.ndarray) -> "Scale":
        """From features, shape (n, D)."""
        deviation = table.std(axis=0)
        return cls(table.mean(axis=0), np.where(deviation > 0, deviation, np.inf))

    def apply(self, table: np.ndarray) -> np.ndarray:
        """The features with mean 0 and deviation 1."""
        return (table - self.mean) / self.deviation


def known_features(prompt: str, reply: str) -> np.ndarray:
    """What a reward model of these experiments sees of a reply: gold's parts, words, praise, refusal."""
    seen = Features.of(prompt, reply)
    parts = gold_parts(prompt, reply)
    return np.array([*(parts[p] for p in PARTS), seen.words / WORDS_SD, seen.praise, seen.refusal])


def prompt_features(prompt: str) -> np.ndarray:
    """What a gate sees of a prompt: 1, brevity wanted, unsafe, points asked for, two topics."""
    request = read_prompt(prompt)
    if request is None:
        raise InputError(f"the prompt is not of the simulated world: {prompt!r:.80}")
    return np.array([1.0, request.brief, request.unsafe, request.number / 4, len(request.topics) > 1])


@dataclass(frozen=True)
class WorldPairs:
    """Pairs of replies as reward models and as annotators see them.

    Attributes:
        prompts: The prompt of each pair.
        first, second: Features of the replies for models, shape (pairs, D), in units of `scale`.
        seen: The replies of each pair for annotators.
        scale: Of the features.
    """

    prompts: Sequence[str]
    first: np.ndarray
    second: np.ndarray
    seen: Sequence[tuple[Features, Features]]
    scale: Scale

    @classmethod
    def of(
        cls,
        preferences: Sequence[Preference],
        scale: Scale | None = None,
        tables: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> "WorldPairs":
        """From comparisons of the world, in the order of their rows; their labels are not used.

        Args:
            preferences: The comparisons.
            scale: That of other pairs; of these where None.
            tables: Features of the first and the second replies, shape (pairs, D), instead of
                `known_features`: states of a language model, for instance.
        """
        prompts = [p.question for p in preferences]
        replies = [in_order(p) for p in preferences]
        if tables is None:
            known = [[known_features(x, y) for y in ys] for x, ys in zip(prompts, replies, strict=True)]
            tables = tuple(np.array(side) for side in zip(*known, strict=True))
        seen = [tuple(Features.of(x, y) for y in ys) for x, ys in zip(prompts, replies, strict=True)]
        scale = scale or Scale.of(np.concatenate(tables))
        return cls(prompts, *(scale.apply(table) for table in tables), seen, scale)

    @cached_property
    def differences(self) -> np.ndarray:
        """Features of the first minus those of the second, shape (pairs, D)."""
        return self.first - self.second

    def wanted(self, annotator: Annotator) -> np.ndarray:
        """How much more the annotator likes the first reply, in units of gold, shape (pairs,)."""
        return np.array([annotator.utility(*both) for both in self.seen])


def in_order(preference: Preference) -> tuple[str, str]:
    """The first and the second reply of a row, whichever was chosen."""
    both = preference.chosen, preference.rejected
    return both[::-1] if preference.meta.get("chosen_index") == 2 else both


def utility_of(annotator: Annotator, reply: Features) -> float:
    """What a reply is worth to an annotator, in units of gold."""
    return annotator.utility(reply, NOTHING)


def typical(group: str) -> Annotator:
    """The middle of a group, for what the group wants."""
    return users(1, group, spread=0.0, base=NEUTRAL)[0]


def population(
    sizes: Mapping[str, int], seed: int, base: Annotator = NEUTRAL, spread: float = 0.1
) -> list[Annotator]:
    """So many users of each group, one group after the other; `spread` as in `world.annotators.users`."""
    return [user for group, size in sizes.items() for user in users(size, group, spread, seed, base)]


class Votes(NamedTuple):
    """Comparisons: who (`users`), which pair (`rows`) and what was `said`; whole numbers, shape (n,)."""

    users: np.ndarray
    rows: np.ndarray
    said: np.ndarray

    @property
    def outcomes(self) -> np.ndarray:
        """1 where the first reply won, 0 where the second did; there must be no ties."""
        return (self.said == FIRST).astype(float)

    @property
    def decided(self) -> "Votes":
        """Those that are no ties."""
        return Votes(*(part[self.said != TIED] for part in self))


def ask(crowd: Sequence[Annotator], pairs: WorldPairs, each: int, rng: random.Random) -> Votes:
    """Every user judges `each` pairs, drawn without repetition where there are as many."""
    found, count = [], len(pairs.seen)
    for code, user in enumerate(crowd):
        drawn = rng.sample(range(count), each) if each <= count else rng.choices(range(count), k=each)
        found += [(code, row, SAID[user.prefer(*pairs.seen[row], rng)]) for row in drawn]
    return Votes(*np.array(found, dtype=int).T)


def right_for(margins: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """1 where a margin has the sign of what is wanted, 1/2 where either is 0, else 0; shape (pairs,)."""
    return (1 + np.sign(margins) * np.sign(wanted)) / 2
