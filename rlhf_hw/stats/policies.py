"""Which of two policies answers better, judged by scores of their replies to the same prompts.

Raw means of two reward models, or of replies to different prompts, cannot be compared: the Bradley-Terry
reward has no zero. Replies of two policies to one prompt under one reward model can:

    win rate = mean over prompts of [r(A) > r(B)] + [r(A) = r(B)] / 2,

with its interval over prompts (`stats.intervals.rate_interval`). Beside it stand the paired difference and
both again at equal length (module `stats.length_control`; Dubois et al. 2024).

    compare_policies(dpo_scores, base_scores, prompts, dpo_words, base_words)["win_rate"]
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from rlhf_hw.stats.calibration import outcomes
from rlhf_hw.stats.intervals import as_vector, mean_interval, rate_interval
from rlhf_hw.stats.length_control import length_controlled_difference, length_controlled_win_rate
from rlhf_hw.stats.pairs import gold_agreement
from rlhf_hw.stats.replicates import beyond


def win_rate(first: ArrayLike, second: ArrayLike, prompts: Sequence | None = None, *, seed: int = 0):
    """Share of prompts on which the first policy scores higher, ties one half.

    Args:
        first, second: scores of the two replies to each prompt, shape (prompts,).
        prompts: identifies prompts that occur more than once, for the interval.

    Returns:
        win_rate (+_low, _high), wins, losses, win_ties, prompts (the number of comparisons).
    """
    first = as_vector(first, "first")
    difference = first - as_vector(second, "second", first.size)
    return {
        **rate_interval(outcomes(difference), prompts, seed=seed).named("win_rate"),
        "wins": int((difference > 0).sum()),
        "losses": int((difference < 0).sum()),
        "win_ties": int((difference == 0).sum()),
        "prompts": first.size,
    }


def score_difference(first: ArrayLike, second: ArrayLike, prompts=None, *, seed: int = 0) -> dict[str, float]:
    """Mean paired difference with its interval, and in units of its own spread (Cohen's d_z).

    Returns:
        score_difference (+_low, _high), score_difference_sd, and score_difference_effect where the
        differences vary.
    """
    first = as_vector(first, "first")
    difference = first - as_vector(second, "second", first.size)
    found = mean_interval(difference, prompts, seed=seed).named("score_difference")
    if difference.size > 1:
        found["score_difference_sd"] = spread = float(difference.std(ddof=1))
        if spread > 0:
            found["score_difference_effect"] = float(difference.mean() / spread)
    return found


def compare_policies(
    first: ArrayLike,
    second: ArrayLike,
    prompts: Sequence | None = None,
    first_lengths: ArrayLike | None = None,
    second_lengths: ArrayLike | None = None,
    *,
    gold_first: ArrayLike | None = None,
    gold_second: ArrayLike | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Everything notebook 05 reports about two policies; the caller adds the prefix of the keys.

    Args:
        first, second: scores of the policy in question and of the one it is compared with, shape (prompts,).
        first_lengths, second_lengths: both or neither; adds the length-controlled keys.
        gold_first, gold_second: both or neither; adds the `gold_` keys.

    Returns:
        The keys of `win_rate` and `score_difference`; length_difference (+_low, _high) and the keys of
        `length_controlled_win_rate` and, where lengths differ on more than one prompt, of
        `length_controlled_difference`; gold_win_rate, gold_difference (each with _low, _high),
        gold_gain_in_sd (in standard deviations of the second policy's gold) and the keys of `gold_agreement`.
    """
    found = win_rate(first, second, prompts, seed=seed) | score_difference(first, second, prompts, seed=seed)
    if first_lengths is not None:
        lengths = (first_lengths, second_lengths)
        longer = np.subtract(*lengths)
        found |= mean_interval(longer, prompts, seed=seed).named("length_difference")
        found |= length_controlled_win_rate(first, second, *lengths, prompts, seed=seed)
        if np.ptp(longer) > 0:
            found |= length_controlled_difference(first, second, *lengths, prompts, seed=seed)
    if gold_first is not None:
        gold = (
            as_vector(gold_first, "gold_first", len(first)),
            as_vector(gold_second, "gold_second", len(first)),
        )
        gained = gold[0] - gold[1]
        found |= rate_interval(outcomes(gained), prompts, seed=seed).named("gold_win_rate")
        found |= mean_interval(gained, prompts, seed=seed).named("gold_difference")
        found |= gold_agreement(np.subtract(first, second), gained, prompts, seed=seed)
        if np.ptp(gold[1]) > 0:
            found["gold_gain_in_sd"] = found["gold_difference"] / float(gold[1].std(ddof=1))
    return found


def statements(found: Mapping[str, float]) -> dict[str, bool]:
    """What the intervals of `compare_policies` allow to say of DPO (first) against its base (second).

    Where `found` has intervals over trainings as well, a statement holds beyond both (`replicates.beyond`).
    """
    score, longer = beyond(found, "score_difference"), beyond(found, "length_difference")
    known = "gold_difference_low" in found
    gold = beyond(found, "gold_difference") if known else 0
    return {
        "dpo_raises_score": score > 0,
        "dpo_lowers_score": score < 0,
        "dpo_raises_gold": gold > 0,
        "dpo_lowers_gold": gold < 0,
        "dpo_gold_open": known and gold == 0,
        "length_controlled_survives": beyond(found, "win_rate_length_controlled", 0.5) > 0,
        "dpo_longer": longer > 0,
        "dpo_shorter": longer < 0,
    }


def cases(
    first: ArrayLike, second: ArrayLike, count: int = 3, skip: ArrayLike | None = None
) -> dict[str, list[int]]:
    """Row numbers worth reading: the largest gains, the largest losses, and ties (or the closest calls).

    Args:
        first, second: scores of the two replies to each prompt, shape (prompts,).
        count: rows of each kind, at most.
        skip: True where a row is not worth reading, such as two equal replies; shape (prompts,).

    Returns:
        `gains` and `losses` (largest first; never of the wrong sign), `ties` (smallest difference first).
    """
    first = as_vector(first, "first")
    difference = first - as_vector(second, "second", first.size)
    shown = np.ones(first.size, dtype=bool) if skip is None else ~np.asarray(skip, dtype=bool)
    order, closest = (
        [int(row) for row in np.argsort(values, kind="stable") if shown[row]]
        for values in (difference, np.abs(difference))
    )
    return {
        "gains": [row for row in order[::-1][:count] if difference[row] > 0],
        "losses": [row for row in order[:count] if difference[row] < 0],
        "ties": closest[:count],
    }


def case_rows(
    tables: Mapping[str, pd.DataFrame],
    picked: Mapping[str, Sequence[int]],
    names: Mapping[str, str],
    gold: Mapping[str, ArrayLike | None],
    describe: Callable[[str, str], str] | None = None,
) -> list[dict]:
    """Chosen cases as a table to read, one row a reply.

    Args:
        tables: policy -> score file as a table, with the same prompts in the same order.
        picked: kind of case -> row numbers, from `cases`.
        names: policies to show, in order, and what to call them.
        gold: policy -> true rewards, or None where they are unknown.
        describe: (prompt, reply) -> the parts of gold as text; asked where gold is known.
    """
    rows = []
    for kind, row in ((kind, row) for kind, found in picked.items() for row in found):
        for number, (policy, name) in enumerate(names.items()):
            prompt, reply, score = (tables[policy][key][row] for key in ("prompt", "response", "score"))
            head = "" if number else f"{kind}: {prompt}"
            line = {"case": head, "model": name, "reply": reply, "score": round(float(score), 2)}
            if gold[policy] is not None:
                line["gold"] = round(float(gold[policy][row]), 2)
                line |= {"parts of gold": describe(prompt, reply)} if describe else {}
            rows.append(line)
    return rows
