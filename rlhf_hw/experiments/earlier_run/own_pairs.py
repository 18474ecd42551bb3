"""What the pairs that a judge was trained for say of long replies, and how few of them there are.

A reward model's own held-out pairs tell what it pays for length, where both replies of a pair are read by it:

    margin_i = f(words of chosen) - f(words of rejected) + noise,

f a curve of straight pieces without a level, which pairs leave open. Carried on to the lengths of generated
replies it foretells how far length alone takes them above the run's pairs, and DPO below its base; the
replies that this carries beyond are counted.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from rlhf_hw.experiments.earlier_run.gap_parts import CONTRASTS, PER, both, longest_replies
from rlhf_hw.experiments.earlier_run.judged_replies import Judges
from rlhf_hw.stats.calibration import outcomes
from rlhf_hw.stats.intervals import cluster_codes, mean_interval, rate_interval
from rlhf_hw.stats.jackknife import jackknife_intervals
from rlhf_hw.stats.length import KNOTS, least_squares, length_basis
from rlhf_hw.stats.replicates import replicated_rate

RARE = 0.99  # quantile of the own replies' words beyond which a reply is called longer than they are


def own_numbers(judges: Judges, replies: pd.DataFrame) -> dict[str, float]:
    """What held-out pairs say of a judge, and of replies as long as the run's.

    Returns:
        `accuracy` on them; `slope`, what `PER` words more are worth within a pair; `foretold.<contrast>` of
        `gap_parts.CONTRASTS`: the length part as the own pairs have it; each with its intervals. `pairs` and
        `replies`, their number; `longer_chosen` (+ interval, ties left out); `words_mean` and `words_rare`
        (the `RARE` quantile) of their replies; `as_long` and `as_long_share`, how many of them have at least
        as many words as the mean base reply to a test prompt; `<source>_beyond`, the share of a source's
        replies longer than `words_rare`.
    """
    first = judges.own[0]
    prompts = list(first["prompt_key"])
    margins = np.array([table["margin"] for table in judges.own])
    longer = (first["chosen_words"] - first["rejected_words"]).to_numpy(float)
    found = replicated_rate([outcomes(row) for row in margins], prompts).named("accuracy")
    found |= curve_numbers(judges, replies, margins, prompts)
    if (uneven := longer != 0).any():
        chosen = rate_interval(
            outcomes(longer[uneven]), [p for p, u in zip(prompts, uneven, strict=True) if u]
        )
        found |= chosen.named("longer_chosen")
    lengths = first[["chosen_words", "rejected_words"]].to_numpy(float).ravel()
    rare = float(np.quantile(lengths, RARE))
    typical = replies["words"][replies["source"] == "test base"].mean()
    found |= {
        "pairs": len(first),
        "replies": lengths.size,
        "words_mean": float(lengths.mean()),
        "words_rare": rare,
    }
    found |= {"as_long": int((lengths >= typical).sum()), "as_long_share": float((lengths >= typical).mean())}
    for source, rows in replies.groupby("source", sort=False):
        found[f"{key_of(source)}_beyond"] = float((rows["words"] > rare).mean())
    return found


def key_of(source: str) -> str:
    """A source in the key of a metric: "test base" becomes `base_test`."""
    where, _, who = source.rpartition(" ")
    return f"{who.lower()}_{where}" if where else who


def curve_numbers(
    judges: Judges, replies: pd.DataFrame, margins: np.ndarray, prompts: Sequence
) -> dict[str, float]:
    """`slope` and `foretold.<contrast>` of `own_numbers`."""
    sides = [judges.own[0][f"{side}_words"].to_numpy(float) for side in ("chosen", "rejected")]
    lengths = np.concatenate(sides)
    unit = lengths.std() or 1.0
    knots = np.unique(np.quantile(lengths, KNOTS)) / unit
    design = np.subtract(*(length_basis(side / unit, knots)[:, 1:] for side in sides))
    line = np.subtract(*sides)[:, None] / unit
    means = {
        source: length_basis(rows["words"].to_numpy(float) / unit, knots)[:, 1:].mean(axis=0)
        for source, rows in replies.groupby("source")
    }
    wanted = {
        name: sum(w * means[s] for s, w in first.items()) - sum(w * means[s] for s, w in second.items())
        for name, (first, second) in CONTRASTS.items()
        if {*first, *second} <= set(means)
    }
    targets = np.array(list(wanted.values())).T

    def statistic(weights: np.ndarray, row: np.ndarray) -> np.ndarray:
        slope = least_squares(weights, line, row) * PER / unit
        return np.column_stack([slope, least_squares(weights, design, row) @ targets])

    codes, every = cluster_codes(prompts, len(prompts)), np.ones((1, len(prompts)))
    together = jackknife_intervals(lambda weights: statistic(weights, margins.mean(axis=0)), codes)
    alone = np.array([statistic(every, row)[0] for row in margins])
    names = ["slope", *(f"foretold.{name}" for name in wanted)]
    return {
        key: number
        for column, (name, estimate) in enumerate(zip(names, together, strict=True))
        for key, number in both(estimate, alone[:, column]).named(name).items()
    }


def text_numbers(replies: pd.DataFrame) -> dict[str, float]:
    """What any report can know of the run without a model.

    Returns:
        `<source>.<measure>` with its interval over prompts for words, repetition and the kinds, `pairs` being
        chosen and rejected replies together, `base_longest` and `base_before` those of
        `gap_parts.longest_replies`; `<source>.prompts`, how many prompts they answer, and `.words_least`, the
        words of the shortest; `longest_pair`, the words of the longest reply of a pair, and
        `<source>.beyond_pairs`, the share of replies that are longer.
    """
    paired = replies["source"].isin(["chosen", "rejected"])
    longest = replies["words"][paired].max()
    groups = {key_of(source): rows for source, rows in replies.groupby("source", sort=False)}
    groups["pairs"] = replies[paired]
    for name, inside in zip(("base_longest", "base_before"), longest_replies(replies), strict=True):
        if inside.any():
            groups[name] = replies[inside]
    found: dict[str, float] = {"longest_pair": float(longest)}
    for name, rows in groups.items():
        prompts = list(rows["prompt"])
        found |= {f"{name}.prompts": len(set(prompts)), f"{name}.words_least": float(rows["words"].min())}
        for measure in [c for c in rows.columns if c not in ("source", "prompt", "response")]:
            share = measure != "words" and measure != "repetition"
            interval = rate_interval if share else mean_interval
            found |= interval(rows[measure].to_numpy(float), prompts).named(f"{name}.{measure}")
        beyond = (rows["words"] > longest).to_numpy(float)
        found |= rate_interval(beyond, prompts).named(f"{name}.beyond_pairs")
    return found
