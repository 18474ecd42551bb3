"""The earlier report's riddle on its own replies, as one experiment.

    replies = read_earlier(folder)
    found = solve_riddle(replies, read_judges(scores, replies))
    found.metrics["earlier.plain.harmless.dpo_base_test.length"]

Judges that differ in their seeds only are taken together, and each number has an interval over prompts and
one over their trainings. What several kinds of judges have in common is in `found.signs`, one row a judge.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rlhf_hw.experiments.earlier_run.gap_parts import gap_parts
from rlhf_hw.experiments.earlier_run.judged_replies import GENERATED, Judges
from rlhf_hw.experiments.earlier_run.own_pairs import PER, own_numbers, text_numbers
from rlhf_hw.experiments.result import Result, prefixed
from rlhf_hw.experiments.steps import at_equal_length
from rlhf_hw.stats.calibration import outcomes
from rlhf_hw.stats.distributions import correlation
from rlhf_hw.stats.replicates import Replicated, beyond, replicated_mean, replicated_rate

SETS = {"test": ("test DPO", "test base"), "train": ("train DPO", "train base")}
Group = tuple[str, str]  # rendering, kind of pairs learned from


@dataclass(frozen=True, kw_only=True)
class EarlierReplies(Result):
    """What the earlier run's replies say of its riddle.

    Attributes:
        parts: (rendering, kind of pairs) -> contrast -> part -> number with its intervals, from `gap_parts`.
        levels: The same key -> "own pairs", "pairs", "base", "DPO" -> (words, scores above the mean of the
            run's pairs), means over seeds, for a figure.
        signs: One row a judge: `rendering`, `kind`, `seed`, `slope` (by its own pairs), `slope_here` (among
            samples of one model), `difference` (DPO minus base on test prompts), `win_rate`.
    """

    parts: dict[Group, dict[str, dict[str, Replicated]]]
    levels: dict[Group, dict[str, tuple[np.ndarray, np.ndarray]]]
    signs: pd.DataFrame


def solve_riddle(replies: pd.DataFrame, judges: Mapping[Group, Judges], *, seed: int = 0) -> EarlierReplies:
    """Everything that notebook 13 tells.

    Args:
        replies: From `read_earlier`.
        judges: From `read_judges`.
        seed: Of resampling.

    Returns:
        Metrics under `earlier`: `texts.*` (`text_numbers`), and for each `<rendering>.<kind>`: `own.*`
        (`own_numbers`), `<contrast>.<part>` (`gap_parts`), `slope_here`, `<set>.*` (`wins`), `cut.*`
        (`cut_numbers`); `signs.*` (`sign_numbers`).
    """
    metrics = prefixed("texts", text_numbers(replies))
    parts, claims = {}, {}
    for group, judged in judges.items():
        name = ".".join(group)
        parts[group] = split = gap_parts(judged.scores, replies)
        numbers = prefixed("own", own_numbers(judged, replies))
        for contrast, found in split.items():
            for part, number in found.items():
                key = "slope_here" if contrast == "slope" else f"{contrast}.{part}"
                numbers |= number.named(key)
        for which, (first, second) in SETS.items():
            numbers |= prefixed(which, wins(judged, replies, first, second, seed))
        numbers |= prefixed("cut", cut_numbers(judged, replies, split))
        claims |= {f"{'_'.join(group)}_{key}": holds for key, holds in group_claims(numbers).items()}
        metrics |= prefixed(name, numbers)
    signs = sign_table(replies, judges)
    metrics |= prefixed("signs", sign_numbers(signs))
    return EarlierReplies(
        metrics=prefixed("earlier", metrics),
        claims={f"earlier_{name}": holds for name, holds in (claims | common_claims(claims)).items()},
        parts=parts,
        levels={group: levels_of(judged, replies) for group, judged in judges.items()},
        signs=signs,
    )


def wins(judged: Judges, replies: pd.DataFrame, first: str, second: str, seed: int) -> dict[str, float]:
    """The n-th reply of one source against the n-th of another: who wins, as counted and at equal length.

    Returns:
        `win_rate` and `win_rate_length_controlled` of the first, with their intervals.
    """
    sides = [(replies["source"] == source).to_numpy() for source in (first, second)]
    prompts = list(replies["prompt"][sides[0]])
    rates = [outcomes(row[sides[0]] - row[sides[1]]) for row in judged.scores]
    tables = [
        [replies[side].assign(score=row[side]).reset_index(drop=True) for row in judged.scores]
        for side in sides
    ]
    found = replicated_rate(rates, prompts, seed=seed).named("win_rate")
    return found | at_equal_length(*tables, prompts, seed=seed)


def cut_numbers(
    judged: Judges, replies: pd.DataFrame, split: Mapping[str, Mapping[str, Replicated]]
) -> dict[str, float]:
    """The differences once the longer reply is cut to the other's length and scored again.

    Returns:
        `dpo_base_test` and `dpo_base_test_length`: DPO minus base where both are equally long, and what the
        cut took away; `<policy>_chosen` and `<policy>_chosen_length`: the same of a policy's replies to
        training prompts, each beside the chosen reply of its prompt. Nothing where cut replies have no score.
    """
    if judged.cut is None:
        return {}
    source = replies["source"].to_numpy()
    generated = [name for name in source if name in GENERATED]
    cut = {name: judged.cut[:, np.array(generated) == name] for name in GENERATED}
    whole = {name: judged.scores[:, source == name] for name in GENERATED}
    asked = {name: list(replies["prompt"][source == name]) for name in GENERATED}
    pairs = {"dpo_base_test": (cut["test DPO"] - cut["test base"], whole["test DPO"] - whole["test base"])}
    prompts = {"dpo_base_test": asked["test base"]}
    rows = {p: n for n, p in reversed(list(enumerate(replies["prompt"])))}  # a chosen reply stands first
    for name, policy in (("train base", "base_chosen"), ("train DPO", "dpo_chosen")):
        chosen = judged.scores[:, [rows[prompt] for prompt in asked[name]]]
        pairs[policy], prompts[policy] = (cut[name] - chosen, whole[name] - chosen), asked[name]
    found: dict[str, float] = {}
    for name, (after, before) in pairs.items():
        found |= replicated_mean(before, prompts[name]).named(f"{name}_gap")
        found |= replicated_mean(after, prompts[name]).named(name)
        found |= replicated_mean(before - after, prompts[name]).named(f"{name}_length")
    return found


def group_claims(numbers: Mapping[str, float]) -> dict[str, bool]:
    """What judges of one kind and rendering allow to say, beyond both intervals."""
    found = {}
    for policy in ("base", "dpo"):
        side = beyond(numbers, f"{policy}_pairs.gap")
        found |= {f"{policy}_above_pairs": side > 0, f"{policy}_below_pairs": side < 0}
    for which in SETS:
        side = beyond(numbers, f"dpo_base_{which}.gap")
        found |= {f"{which}_dpo_below": side < 0, f"{which}_dpo_above": side > 0}
        side = beyond(numbers, f"{which}.win_rate_length_controlled", 0.5)
        found |= {
            f"{which}_dpo_loses_at_equal_length": side < 0,
            f"{which}_dpo_wins_at_equal_length": side > 0,
        }
    side = beyond(numbers, "own.slope")
    return found | {"pays_for_length": side > 0, "charges_for_length": side < 0}


def common_claims(claims: Mapping[str, bool]) -> dict[str, bool]:
    """What holds for every kind of judge and every rendering, and what for some.

    Returns:
        `all_<claim>` and `some_<claim>` for the claims of `group_claims`.
    """
    names = {name.split("_", 2)[2] for name in claims}
    held = {name: [holds for key, holds in claims.items() if key.split("_", 2)[2] == name] for name in names}
    found = {f"all_{name}": all(each) for name, each in sorted(held.items())}
    return found | {f"some_{name}": any(each) for name, each in sorted(held.items())}


def sign_table(replies: pd.DataFrame, judges: Mapping[Group, Judges]) -> pd.DataFrame:
    """Each judge by itself: what it pays for length, and whether DPO lies above its base."""
    source = replies["source"].to_numpy()
    dpo, base = (source == name for name in SETS["test"])
    rows = []
    for (rendering, kind), judged in judges.items():
        longer = judged.own[0]["chosen_words"] - judged.own[0]["rejected_words"]
        for number, seed in enumerate(judged.seeds):
            scores = judged.scores[number]
            difference = scores[dpo] - scores[base]
            slope = PER * (longer @ judged.own[number]["margin"]) / (longer @ longer)
            here = gap_slope(scores, replies)
            row = {"rendering": rendering, "kind": kind, "seed": seed, "slope": slope, "slope_here": here}
            row |= {"difference": difference.mean(), "win_rate": outcomes(difference).mean()}
            rows.append(row)
    return pd.DataFrame(rows)


def gap_slope(scores: np.ndarray, replies: pd.DataFrame) -> float:
    """Score for `PER` words more among samples of one model to one prompt, by a straight line."""
    inside = replies["source"].isin(GENERATED).to_numpy()
    table = replies[inside].assign(score=scores[inside])
    centred = table[["words", "score"]] - table.groupby(["prompt", "source"])[["words", "score"]].transform(
        "mean"
    )
    return float(PER * (centred["words"] @ centred["score"]) / (centred["words"] @ centred["words"]))


def sign_numbers(signs: pd.DataFrame) -> dict[str, float]:
    """Does DPO lie below its base exactly where a judge pays for length, as shorter replies let expect?

    Returns:
        `judges`, their number; `below`, how many put DPO below its base; `agree` and `agree_here`, how many
        do so where their slope is above zero and not where it is below; `correlation` and `correlation_here`,
        rank correlation of slope and difference.
    """
    below = signs["difference"] < 0
    found = {"judges": len(signs), "below": int(below.sum())}
    for ending, slope in (("", signs["slope"]), ("_here", signs["slope_here"])):
        found[f"agree{ending}"] = int(((slope > 0) == below).sum())
        found[f"correlation{ending}"] = correlation(slope, signs["difference"])
    return found


def levels_of(judged: Judges, replies: pd.DataFrame) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Words and scores of the own pairs, the run's pairs, base and DPO, the run's pairs' mean being zero."""
    source, scores = replies["source"], judged.scores.mean(axis=0)
    names = {
        "pairs": ["chosen", "rejected"],
        "base": ["train base", "test base"],
        "DPO": ["train DPO", "test DPO"],
    }
    inside = {name: source.isin(which).to_numpy() for name, which in names.items()}
    zero = scores[inside["pairs"]].mean()
    sides = [(f"{side}_words", f"{side}_score") for side in ("chosen", "rejected")]
    own_words = np.concatenate([judged.own[0][words] for words, _ in sides]).astype(float)
    own = np.mean([np.concatenate([table[score] for _, score in sides]) for table in judged.own], axis=0)
    found = {"own pairs": (own_words, own - zero)}
    words = replies["words"].to_numpy(float)
    return found | {name: (words[rows], scores[rows] - zero) for name, rows in inside.items()}
