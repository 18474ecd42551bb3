"""Many small reward models at once: linear ones on the states of a language model, fitted in milliseconds.

The states stay as they are, so a reward model is a direction in them, found by Bradley-Terry with a ridge
(`stats.choice_models`). What is asked of it is what is asked of a large one: how does it order held-out
pairs, and what is the best of n replies by it worth? How many pairs it saw and who labelled them is varied.

    head = fit_head(pairs, rows, Labels(flips=0.2), seed)
    judge_heads([head], held_out, replies, sizes).gold
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rlhf_hw.experiments.plural.crowd import NEUTRAL, in_order
from rlhf_hw.experiments.selection.gold_curves import GoldCurve, gold_curve
from rlhf_hw.preferences.templates import Preference
from rlhf_hw.stats.calibration import outcomes
from rlhf_hw.stats.choice_models import fit_bradley_terry
from rlhf_hw.world.annotators import Features

PENALTY = 10.0  # of the ridge, chosen by accuracy on held-out pairs in a trial
FAVOURED = 1.0  # of gold that a deviation of length is worth to annotators who favour length


@dataclass(frozen=True)
class ReadPairs:
    """Pairs as small reward models see them.

    Attributes:
        differences: State of the chosen minus that of the rejected reply, shape (pairs, D).
        prompts: Of each pair.
        favoured: 1 where annotators who favour length choose the chosen reply, too, else 0; shape (pairs,).
        gold: Gold of the chosen minus that of the rejected reply, shape (pairs,).
    """

    differences: np.ndarray
    prompts: Sequence[str]
    favoured: np.ndarray
    gold: np.ndarray

    @classmethod
    def of(cls, preferences: Sequence[Preference], states: np.ndarray, seed: int = 0) -> "ReadPairs":
        """From comparisons of the world and the states of their replies, shape (pairs, 2, D)."""
        rng, favoured, gold = random.Random(seed), [], []
        taste = replace(NEUTRAL, name="favours length", length_bias=FAVOURED)
        for pair in preferences:
            first, second = in_order(pair)
            seen = Features.of(pair.question, first), Features.of(pair.question, second)
            likes = (first, second)[taste.prefer(*seen, rng) - 1]
            favoured.append(likes == pair.chosen)
            change = seen[0].gold - seen[1].gold
            gold.append(change if first == pair.chosen else -change)
        differences = (states[:, 0] - states[:, 1]).astype(float)
        questions = [pair.question for pair in preferences]
        return cls(differences, questions, np.array(favoured, dtype=float), np.array(gold))


@dataclass(frozen=True)
class Labels:
    """Who labels the pairs.

    Attributes:
        flips: Share of labels that are turned at random; one half shuffles them.
        favour_length: Whether annotators label who favour length, in place of those of the data.
    """

    flips: float = 0.0
    favour_length: bool = False


@dataclass(frozen=True)
class JudgedHeads:
    """What small reward models of one kind are like.

    Attributes:
        margins: Of the chosen over the rejected reply of held-out pairs, shape (heads, pairs).
        curve: Gold against proxy.
    """

    margins: np.ndarray
    curve: GoldCurve

    @property
    def right(self) -> np.ndarray:
        """1 where a held-out pair is ordered as labelled, shape (heads, pairs)."""
        return np.array([outcomes(row) for row in self.margins])


def rows_of(draw: int, size: int, pool: int) -> np.ndarray:
    """The pairs of one draw: no two draws share one, as long as there are enough."""
    return (draw * size + np.arange(size)) % pool


def flipped(pairs: int, rate: float, seed: int) -> np.ndarray:
    """Which labels are turned, shape (pairs,): each with the probability `rate`."""
    return np.random.default_rng([seed, pairs]).random(pairs) < rate


def fit_head(pairs: ReadPairs, rows: np.ndarray, labels: Labels, seed: int) -> np.ndarray:
    """The direction of reward that some pairs teach, shape (D,)."""
    said = pairs.favoured[rows] if labels.favour_length else np.ones(len(rows))
    turned = flipped(len(rows), labels.flips, seed)
    return fit_bradley_terry(pairs.differences[rows], np.where(turned, 1 - said, said), penalty=PENALTY)


def draw_heads(pairs: ReadPairs, size: int, labels: Labels, draws: int, seed: int = 0) -> np.ndarray:
    """Heads of several draws of pairs and flips, shape (draws, D)."""
    pool = len(pairs.prompts)
    return np.array([fit_head(pairs, rows_of(k, size, pool), labels, 1000 * seed + k) for k in range(draws)])


def judge_heads(
    heads: np.ndarray, held_out: ReadPairs, states: np.ndarray, gold: np.ndarray, sizes: Sequence[int]
) -> JudgedHeads:
    """Held-out pairs and best-of-n by each head.

    Args:
        heads: Shape (heads, D).
        held_out: Pairs with the labels of the data.
        states: Of the replies, shape (prompts, samples, D).
        gold: Of the replies, shape (prompts, samples).
        sizes: n.
    """
    proxy = np.einsum("psd,hd->hps", states.astype(float), heads)
    return JudgedHeads(heads @ held_out.differences.T, gold_curve(proxy, gold, sizes))
