"""The gap of one policy, measured: replies beside references, scored in every cell, and what may explain it.

score = once(reward_model.score_ids)
gap = measure_gap(reward_model, score, read_replies(...), preferences, training, ends, gold)
gap.cells[frozenset()].mean()
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rlhf_hw.errors import UnknownName
from rlhf_hw.experiments.score_gap.decompose import Compute, gap_cells, gold_price
from rlhf_hw.experiments.score_gap.edits import Pair, corrected, make_pairs
from rlhf_hw.experiments.score_gap.unfamiliarity import unfamiliarity
from rlhf_hw.experiments.scored_pairs import gold_columns
from rlhf_hw.models.rendering import Renderer
from rlhf_hw.models.scoring import RewardModel
from rlhf_hw.preferences.templates import Preference


@dataclass(frozen=True)
class PolicyGap:
    """A policy's replies beside the references for the same prompts; arrays have one entry a pair.

    Attributes:
        pairs: Both replies as ids, as they were scored.
        preferences: Those that gave the prompts and the references.
        compared: Share of the replies that could be paired (an empty one cannot).
        cells: Corrected factors -> r(generated) - r(reference).
        gold: Gold of the corrected generated reply minus that of the corrected reference, or None.
        unfamiliar: Signs of unfamiliar text, shape (pairs, 2), from `unfamiliarity`.
    """

    pairs: list[Pair]
    preferences: list[Preference]
    compared: float
    cells: dict[frozenset[str], np.ndarray]
    gold: np.ndarray | None
    unfamiliar: np.ndarray

    @property
    def prompts(self) -> list[tuple]:
        """Identifies prompts, for the bootstrap."""
        return [p.prompt for p in self.preferences]

    def read_at(self, side: str) -> set[int]:
        """Ids at which the scores of a side, "generated" or "reference", are read."""
        return {getattr(pair, side).reply_ids[-1] for pair in self.pairs}

    def minus(self, other: "PolicyGap") -> "PolicyGap":
        """The gain of this policy over another, as a gap: both gaps are to the same references.

        Only prompts that both have count; an empty reply of one policy has left one out.
        """
        places = {preference.row: place for place, preference in enumerate(other.preferences)}
        here = [n for n, preference in enumerate(self.preferences) if preference.row in places]
        there = [places[self.preferences[n].row] for n in here]
        return PolicyGap(
            [self.pairs[n] for n in here],
            [self.preferences[n] for n in here],
            min(self.compared, other.compared),
            {cell: values[here] - other.cells[cell][there] for cell, values in self.cells.items()},
            None if self.gold is None or other.gold is None else self.gold[here] - other.gold[there],
            self.unfamiliar[here] - other.unfamiliar[there],
        )


def measure_gap(
    reward_model: RewardModel,
    score: Compute,
    replies: pd.DataFrame,
    preferences: Sequence[Preference],
    training: np.ndarray,
    ends: frozenset[int],
    gold: Callable[[str, str], float] | None = None,
) -> PolicyGap:
    """Measure a policy's gap in every cell, and the two signs that may explain what no correction removes.

    Args:
        reward_model: Whose renderer scored the replies.
        score: Its `score_ids`, or that through `decompose.once`.
        replies: From `score_files.read_replies`, as `pair_replies` takes them.
        preferences: Those that gave the prompts.
        training: From `unfamiliarity.training_states`.
        ends: Ids that end a sentence, from `edits.sentence_end_ids`.
        gold: (question, reply) -> true reward, for instance `world.gold.gold`; None where it is unknown.
    """
    pairs, chosen = pair_replies(reward_model.renderer, replies, preferences)
    return PolicyGap(
        pairs,
        chosen,
        len(pairs) / len(replies),
        gap_cells(pairs, score, ends),
        None if gold is None else gold_gap(reward_model.renderer, pairs, chosen, ends, gold),
        unfamiliarity(reward_model, pairs, training, ends),
    )


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


def gold_gap(
    renderer: Renderer,
    pairs: Sequence[Pair],
    preferences: Sequence[Preference],
    ends: frozenset[int],
    gold: Callable[[str, str], float],
) -> np.ndarray:
    """Gold of the corrected generated reply minus gold of the corrected reference, shape (pairs,)."""
    return np.array(
        [
            gold(preference.question, renderer.decode(pair.generated.content))
            - gold(preference.question, renderer.decode(pair.reference.content))
            for pair, preference in zip(corrected(pairs, ends), preferences, strict=True)
        ]
    )


def price_from_pairs(pairs: pd.DataFrame) -> float | None:
    """Points that a reward model pays for a unit of gold, by its scored pairs; None where gold is unknown."""
    gold = gold_columns(pairs)
    return gold_price(pairs["margin"], gold["gold_chosen"] - gold["gold_rejected"]) if gold else None
