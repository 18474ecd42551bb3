"""Several replies to a prompt, ranked by one annotator: K of them are K (K - 1) / 2 pairs that share replies.

The ranking is Plackett and Luce's: sorted by utility plus noise with a Gumbel distribution, so that each two
of the replies stand in the order that a Bradley-Terry annotator of the same temperature would give them. One
draw of noise counts for all pairs of a reply, as it does when a person ranks.

    ranked = rank_replies(preferences, count=5, seed=0)
    ranked.texts[0]          the replies to the first prompt, best first
    pairs_apart(ranked)      two of them for each prompt
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlhf_hw.errors import InputError
from rlhf_hw.preferences.templates import Message, Preference
from rlhf_hw.world.annotators import Annotator, Features
from rlhf_hw.world.build import more_replies

# in units of gold: about three of four labels are then those of gold
TEMPERATURE = 1.5
NOTHING = Features(0.0, 0, 0)


@dataclass(frozen=True)
class RankedReplies:
    """Replies to G prompts, K to each, in the order of an annotator, best first.

    Attributes:
        prompts: As conversations.
        texts: Shape (G, K).
        gold: What each is truly worth, shape (G, K).
    """

    prompts: Sequence[Sequence[Message]]
    texts: Sequence[Sequence[str]]
    gold: np.ndarray

    @property
    def count(self) -> int:
        """K."""
        return self.gold.shape[1]


def rank_replies(
    preferences: Sequence[Preference], count: int, seed: int = 0, temperature: float = TEMPERATURE
) -> RankedReplies:
    """Let the data's writers reply in turn, and an annotator rank what they wrote.

    Args:
        preferences: Comparisons of the world; of each only the prompt is used.
        count: Replies to each, at least two.
        seed: Of writing and of the annotator's noise.
        temperature: Of that noise, in units of gold.
    """
    if count < 2:
        raise InputError(f"a ranking needs at least two replies to a prompt, not {count}")
    written, judge = more_replies(preferences, count, seed), Annotator()
    seen = [[Features.of(p.question, t) for t in row] for p, row in zip(preferences, written, strict=True)]
    gold = np.array([[each.gold for each in row] for row in seen])
    utility = np.array([[judge.utility(each, NOTHING) for each in row] for row in seen])
    order = np.argsort(-utility - temperature * np.random.default_rng(seed).gumbel(size=gold.shape), axis=1)
    texts = [[row[k] for k in places] for row, places in zip(written, order, strict=True)]
    return RankedReplies([p.prompt for p in preferences], texts, np.take_along_axis(gold, order, axis=1))


def pair_places(count: int) -> np.ndarray:
    """Which two of K ranked replies make each pair, the better one first; shape (K (K - 1) / 2, 2)."""
    return np.column_stack(np.triu_indices(count, k=1))


def all_pairs(ranked: RankedReplies) -> RankedReplies:
    """Every pair as a ranking of two, shape (G K (K - 1) / 2, 2), those of a prompt after each other."""
    places = pair_places(ranked.count)
    return _chosen(
        ranked, np.repeat(np.arange(len(ranked.texts)), len(places)), np.tile(places, (len(ranked.texts), 1))
    )


def pairs_apart(ranked: RankedReplies, seed: int = 0) -> RankedReplies:
    """One pair of each prompt, drawn from all of them; shape (G, 2)."""
    places = pair_places(ranked.count)
    drawn = np.random.default_rng([seed, 1]).integers(len(places), size=len(ranked.texts))
    return _chosen(ranked, np.arange(len(ranked.texts)), places[drawn])


def first_prompts(ranked: RankedReplies, count: int) -> RankedReplies:
    """The first prompts alone."""
    return RankedReplies(ranked.prompts[:count], ranked.texts[:count], ranked.gold[:count])


def _chosen(ranked: RankedReplies, rows: np.ndarray, places: np.ndarray) -> RankedReplies:
    texts = [[ranked.texts[row][k] for k in two] for row, two in zip(rows, places, strict=True)]
    return RankedReplies([ranked.prompts[row] for row in rows], texts, ranked.gold[rows[:, None], places])
