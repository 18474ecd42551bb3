"""Differences between the scores of two sources of replies, split into length, kind of text, and rest.

Without the reward model at hand nothing can be edited and scored again, so this is a regression (after Oaxaca
1973 and Blinder 1973). What length and kind are worth is learned among the replies of *one* source to *one*
prompt,

    score_i = level(prompt, source) + f(words_i) + sum_k b_k kind_ik + noise,

f a curve of straight pieces with knots at the terciles of the words. Neither the question nor the difference
that is to be explained can lend itself to f or b. The difference of two sources' means is then

    gap = [mean f of one - mean f of the other]            length
        + b_k (share of kind k in one - in the other)      each kind
        + rest,

and the parts add up. "Length" is what goes with length among samples of one model: a longer sample may hold
more, and what that is worth counts as length, as where sentences are cut (module `score_gap.edits`).

Learned across the prompts of a source instead, length and kind may stand for the sort of question; what such
prices leave over, `rest_across`, stands beside (the truth usually lies between the two, as in
`stats.length.length_share`). Intervals are those of `stats.replicates`, the one over prompts from the
jackknife.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from rlhf_hw.experiments.earlier_run.reply_forms import KINDS
from rlhf_hw.stats.calibration import equal_mass_bins
from rlhf_hw.stats.intervals import Estimate, cluster_codes
from rlhf_hw.stats.jackknife import jackknife_intervals
from rlhf_hw.stats.length import KNOTS, least_squares, length_basis, within
from rlhf_hw.stats.replicates import Replicated, as_replicates, replicated

PAIRS_MEAN = {"chosen": 0.5, "rejected": 0.5}
CONTRASTS: Mapping[str, tuple[Mapping[str, float], Mapping[str, float]]] = {
    "base_pairs": ({"train base": 1.0}, PAIRS_MEAN),
    "dpo_pairs": ({"train DPO": 1.0}, PAIRS_MEAN),
    "dpo_base_train": ({"train DPO": 1.0}, {"train base": 1.0}),
    "dpo_base_test": ({"test DPO": 1.0}, {"test base": 1.0}),
    "test_base_pairs": ({"test base": 1.0}, PAIRS_MEAN),
    "test_dpo_pairs": ({"test DPO": 1.0}, PAIRS_MEAN),
}
PARTS_OF_GAP = ("gap", "length", "kind", *KINDS, "rest")  # kind is the sum of KINDS
PER = 100.0  # words, of the slope
EIGHTHS = 8  # by their words, as the figure's bins
BEFORE = 2  # eighths that the longest is held against


def gap_parts(scores: np.ndarray, replies: pd.DataFrame) -> dict[str, dict[str, Replicated]]:
    """Each of `CONTRASTS` split into its parts.

    Args:
        scores: Shape (judges, replies).
        replies: With `source`, `prompt`, `words` and `KINDS`, from `judged_replies.read_earlier`.

    Returns:
        Contrast -> `PARTS_OF_GAP`, and `rest_across`, the rest by prices that are learned across prompts; and
        "slope" -> {"words": what `PER` words more are worth, on average over generated replies}.
    """
    found = contrast_parts(scores, Regression.of(replies))
    across = contrast_parts(scores, Regression.of(replies, across=True))
    for contrast, parts in found.items():
        if contrast != "slope":
            parts["rest_across"] = across[contrast]["rest"]
    return found


def contrast_parts(scores: np.ndarray, fit: "Regression") -> dict[str, dict[str, Replicated]]:
    """Parts of all contrasts, and the slope, by one regression."""
    table = as_replicates(scores)

    def named(values: Sequence) -> dict[str, dict]:
        found = iter(values)
        parts = {contrast: {part: next(found) for part in PARTS_OF_GAP} for contrast in fit.contrasts}
        return parts | {"slope": {"words": next(found)}}

    together = named(jackknife_intervals(lambda weights: fit.parts(weights, table.mean(axis=0)), fit.prompts))
    every = np.ones((1, table.shape[1]))
    alone = [named(fit.parts(every, row)[0]) for row in table]
    return {
        contrast: {part: both(found, [one[contrast][part] for one in alone]) for part, found in parts.items()}
        for contrast, parts in together.items()
    }


def longest_replies(replies: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Masks of the longest eighth of base's replies, to both sets of prompts, and of the quarter before."""
    base = replies["source"].str.endswith(" base").to_numpy()
    codes = np.full(len(replies), -1 - BEFORE)
    if base.any():
        codes[base] = equal_mass_bins(replies["words"].to_numpy(float)[base], EIGHTHS)
    last = codes.max()
    return base & (codes == last), base & (codes >= last - BEFORE) & (codes < last)


def bend_numbers(scores: np.ndarray, replies: pd.DataFrame) -> dict[str, float]:
    """Does a score go on at the long end of base's replies as it does among shorter ones, or turn?

    Among samples a straight line would hide it, and so does the curve of `gap_parts`, whose last knot lies
    below these lengths.

    Args:
        scores: Shape (judges, replies).
        replies: As of `gap_parts`.

    Returns:
        `bend`: the mean score of the first of `longest_replies` less that of the second, with its intervals;
        nothing where one of them answers fewer than two prompts.
    """
    sides = longest_replies(replies)
    if min(replies["prompt"][side].nunique() for side in sides) < 2:
        return {}
    table, prompts = as_replicates(scores), cluster_codes(list(replies["prompt"]), len(replies))

    def difference(weights: np.ndarray, row: np.ndarray) -> np.ndarray:
        longest, before = ((weights[:, side] @ row[side]) / weights[:, side].sum(axis=1) for side in sides)
        return (longest - before)[:, None]

    (together,) = jackknife_intervals(lambda weights: difference(weights, table.mean(axis=0)), prompts)
    every = np.ones((1, table.shape[1]))
    return both(together, [float(difference(every, row)[0, 0]) for row in table]).named("bend")


def both(estimate: Estimate, values: Sequence[float]) -> Replicated:
    """A number with its interval over prompts and, from one value a judge, that over trainings."""
    return replicated(estimate, values)


class Regression(NamedTuple):
    """The regression of `gap_parts`.

    Attributes:
        design: Shape (replies, columns): the pieces of the length, then `KINDS`.
        slopes: What `PER` words add to each column, on average over generated replies.
        cells: Of each reply, within which prices are learned. prompts: Of each reply, as numbers.
        sources: Indicators, shape (replies, sources).
        contrasts: Name -> weight of each source.
        across: Prices are learned across the prompts of a source; cells are of no account then.
    """

    design: np.ndarray
    slopes: np.ndarray
    cells: np.ndarray
    prompts: np.ndarray
    sources: np.ndarray
    contrasts: dict[str, np.ndarray]
    across: bool

    @classmethod
    def of(cls, replies: pd.DataFrame, *, across: bool = False) -> "Regression":
        """The regression for these replies; contrasts of sources that are not among them are left out."""
        lengths = replies["words"].to_numpy(float)
        unit = lengths.std() or 1.0
        knots = np.unique(np.quantile(lengths, KNOTS)) / unit
        pieces = length_basis(lengths / unit, knots)[:, 1:]
        design = np.column_stack([pieces, replies[list(KINDS)].to_numpy(float)])
        group = replies["source"].replace(dict.fromkeys(PAIRS_MEAN, "pairs"))
        generated = lengths[(group != "pairs").to_numpy()] / unit
        steps = [1.0, *((generated > knot).mean() for knot in knots), *([0.0] * len(KINDS))]
        known = list(dict.fromkeys(replies["source"]))
        contrasts = {
            name: np.array([first.get(s, 0.0) - second.get(s, 0.0) for s in known])
            for name, (first, second) in CONTRASTS.items()
            if {*first, *second} <= set(known)
        }
        cells = cluster_codes(list(zip(replies["prompt"], group, strict=True)), len(replies))
        prompts = cluster_codes(list(replies["prompt"]), len(replies))
        sources = (replies["source"].to_numpy()[:, None] == np.array(known)).astype(float)
        return cls(design, np.array(steps) * PER / unit, cells, prompts, sources, contrasts, across)

    def prices(self, weights: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """What each column of the design is worth, shape (k, columns)."""
        if self.across:  # a level for each source
            design = np.column_stack([self.design, self.sources])
            return least_squares(weights, design, scores)[:, : self.design.shape[1]]
        centred = within(np.column_stack([self.design, scores]), self.cells)
        return least_squares(weights, centred[:, :-1], centred[:, -1])

    def parts(self, weights: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """All parts of all contrasts, then the slope.

        Args:
            weights: Shape (k, replies), equal in each prompt.
            scores: Shape (replies,).

        Returns:
            Shape (k, contrasts * parts + 1).
        """
        prices = self.prices(weights, scores)
        count = weights @ self.sources
        level = (weights * scores) @ self.sources / count
        means = np.einsum("kr,rs,rc->ksc", weights, self.sources, self.design, optimize=True)
        means /= count[:, :, None]
        pieces, columns = self.design.shape[1] - len(KINDS), []
        for contrast in self.contrasts.values():
            gap = level @ contrast
            worth = prices * (contrast @ means)
            length, kinds = worth[:, :pieces].sum(axis=1), worth[:, pieces:]
            kind = kinds.sum(axis=1)
            columns += [gap, length, kind, *kinds.T, gap - length - kind]
        return np.column_stack([*columns, prices @ self.slopes])
