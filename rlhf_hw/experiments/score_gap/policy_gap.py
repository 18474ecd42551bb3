"""The gap of one policy, measured: replies beside references, scored in every cell, and what may explain it.

gap = measure_gap(instruments, renderer, read_replies(...), preferences)
gap.cells[frozenset()].mean()
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rlhf_hw.errors import UnknownName
from rlhf_hw.experiments.score_gap.decompose import gold_price
from rlhf_hw.experiments.score_gap.edits import Pair, make_pairs
from rlhf_hw.experiments.score_gap.instruments import Instruments, Measured
from rlhf_hw.experiments.scored_pairs import gold_columns
from rlhf_hw.models.rendering import Renderer
from rlhf_hw.preferences.templates import Message, Preference


@dataclass(frozen=True)
class PolicyGap(Measured):
    """A policy's replies beside the references for the same prompts; arrays have one entry a pair.

    Attributes:
        pairs: Both replies as ids, as they were scored.
        preferences: Those that gave the prompts and the references.
        compared: Share of the replies that could be paired (an empty one cannot).
    """

    pairs: list[Pair]
    preferences: list[Preference]
    compared: float

    @property
    def prompts(self) -> list[tuple[Message, ...]]:
        """Identifies prompts, for intervals."""
        return [p.prompt for p in self.preferences]

    @property
    def rows(self) -> list[int]:
        """The preferences' rows in their data set."""
        return [p.row for p in self.preferences]

    def read_at(self, side: str) -> set[int]:
        """Ids at which the scores of a side, "generated" or "reference", are read."""
        return {getattr(pair, side).reply_ids[-1] for pair in self.pairs}

    def at(self, rows: Sequence[int]) -> "PolicyGap":
        """The same for some of its rows, in the order given."""
        places = {row: place for place, row in enumerate(self.rows)}
        here = [places[row] for row in rows]
        return PolicyGap(
            {cell: values[here] for cell, values in self.cells.items()},
            None if self.gold is None else self.gold[here],
            None if self.unfamiliar is None else self.unfamiliar[here],
            [self.pairs[n] for n in here],
            [self.preferences[n] for n in here],
            self.compared,
        )

    def minus(self, other: "PolicyGap") -> Measured:
        """The gain of this policy over another on the same rows, as a gap: they share their references."""

        def difference(mine: np.ndarray | None, theirs: np.ndarray | None) -> np.ndarray | None:
            return None if mine is None or theirs is None else mine - theirs

        return Measured(
            {cell: values - other.cells[cell] for cell, values in self.cells.items()},
            difference(self.gold, other.gold),
            difference(self.unfamiliar, other.unfamiliar),
        )


def measure_gap(
    instruments: Instruments, renderer: Renderer, replies: pd.DataFrame, preferences: Sequence[Preference]
) -> PolicyGap:
    """Measure a policy's gap in every cell, and what may explain what no correction removes.

    Args:
        instruments: From `instruments.instruments_for`.
        renderer: The reward model's, which rendered the replies for their scores.
        replies: From `score_files.read_replies`, as `pair_replies` takes them.
        preferences: Those that gave the prompts.
    """
    pairs, chosen = pair_replies(renderer, replies, preferences)
    found = instruments.measure(pairs, [preference.question for preference in chosen])
    compared = len(pairs) / len(replies)
    return PolicyGap(found.cells, found.gold, found.unfamiliar, pairs, chosen, compared)


def pair_replies(
    renderer: Renderer, replies: pd.DataFrame, preferences: Sequence[Preference]
) -> tuple[list[Pair], list[Preference]]:
    """Pairs each generated reply with the chosen reply to its prompt, as ids, as both were scored.

    Args:
        renderer: The reward model's.
        replies: With `finished`, and `row` in `meta`, the preference's row; empty replies are left out.
        preferences: Those that gave the prompts.

    Returns:
        The pairs, and the preference of each.

    Raises:
        KeyError: a reply's row is not among the preferences.
    """
    known = {preference.row: preference for preference in preferences}
    rows = [meta["row"] for meta in replies["meta"]]
    missing = [row for row in rows if row not in known]
    if missing:
        raise UnknownName(
            f"replies to row {missing[0]} ({len(missing)} in all), which is not in the data set given"
        )
    chosen = [known[row] for row in rows]
    texts = (list(replies["response"]), [p.chosen for p in chosen])
    contents = [reply_contents(renderer, side) for side in texts]
    kept = [n for n in range(len(rows)) if contents[0][n] and contents[1][n]]
    pairs = make_pairs(
        renderer.prompt_ids([chosen[n].prompt for n in kept]),
        *([side[n] for n in kept] for side in contents),
        renderer.suffix,
        finished=[bool(replies["finished"].iloc[n]) for n in kept],
        closed=True,  # replies are scored as text, which the renderer ends with the end token
    )
    return pairs, [chosen[n] for n in kept]


def reply_contents(renderer: Renderer, texts: Sequence[str]) -> list[list[int]]:
    """Ids of replies as scored, without the tail."""
    return [ids[: -len(renderer.suffix)] for ids in renderer.reply_ids(texts)]


def price_from_pairs(pairs: pd.DataFrame) -> float | None:
    """Points that a reward model pays for a unit of gold, by its scored pairs; None where gold is unknown."""
    gold = gold_columns(pairs)
    return gold_price(pairs["margin"], gold["gold_chosen"] - gold["gold_rejected"]) if gold else None
