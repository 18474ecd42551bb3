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

from rlhf_hw.experiments.earlier_run.gap_parts import bend_numbers, gap_parts
from rlhf_hw.experiments.earlier_run.judged_replies import GENERATED, Judges
from rlhf_hw.experiments.earlier_run.own_pairs import PER, own_numbers, text_numbers
from rlhf_hw.experiments.result import Result, prefixed
from rlhf_hw.experiments.steps import at_equal_length
from rlhf_hw.stats.calibration import outcomes
from rlhf_hw.stats.distributions import correlation
from rlhf_hw.stats.length import within
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
        signs: One row a judge: `rendering`, `kind`, `seed`, `slope` (by its own pairs; NaN without them),
            `slope_here` (among samples of one model), `difference` (DPO minus base on test prompts),
            `win_rate`.
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
        Metrics under `earlier`: `texts.*` (`text_numbers`), and for each `<rendering>.<kind>`: `seeds`, how
        many judges; `learned_pairs`, of how many pairs, where all of them learned from as many;
        `<contrast>.<part>` (`gap_parts`), `slope_here`, `bend`, `<set>.*` (`wins`), `run_accuracy`,
        `own.*` (`own_numbers`), `cut.*` (`cut_numbers`); `signs.*` (`sign_numbers`).
    """
    metrics = prefixed("texts", text_numbers(replies))
    parts, claims = {}, {}
    for group, judged in judges.items():
        parts[group] = gap_parts(judged.scores, judged.replies)
        numbers = group_numbers(judged, replies, parts[group], seed)
        claims |= {f"{'_'.join(group)}_{key}": holds for key, holds in group_claims(numbers).items()}
        metrics |= prefixed(".".join(group), numbers)
    signs = sign_table(judges)
    metrics |= prefixed("signs", sign_numbers(signs))
    claims |= common_claims(claims) | {"one_seed": all(len(judged.seeds) == 1 for judged in judges.values())}
    return EarlierReplies(
        metrics=prefixed("earlier", metrics),
        claims={f"earlier_{name}": holds for name, holds in claims.items()},
        parts=parts,
        levels={group: levels_of(judged) for group, judged in judges.items()},
        signs=signs,
    )


def group_numbers(
    judged: Judges, replies: pd.DataFrame, split: Mapping[str, Mapping[str, Replicated]], seed: int
) -> dict[str, float]:
    """All numbers of judges of one kind and rendering; without those of files that have no scores."""
    numbers: dict[str, float] = {"seeds": len(judged.seeds)}
    if len(set(judged.learned)) == 1:
        numbers["learned_pairs"] = judged.learned[0]
    for contrast, found in split.items():
        for part, number in found.items():
            numbers |= number.named("slope_here" if contrast == "slope" else f"{contrast}.{part}")
    known = set(judged.replies["source"])
    for which, (first, second) in SETS.items():
        if {first, second} <= known:
            numbers |= prefixed(which, wins(judged, first, second, seed))
    if "chosen" in known:
        numbers |= run_accuracy(judged).named("run_accuracy")
    if judged.own:
        numbers |= prefixed("own", own_numbers(judged, replies))
    return numbers | bend_numbers(judged.scores, judged.replies) | prefixed("cut", cut_numbers(judged))


def run_accuracy(judged: Judges) -> Replicated:
    """How often a judge orders the run's own pairs as labelled."""
    chosen, rejected = ((judged.replies["source"] == side).to_numpy() for side in ("chosen", "rejected"))
    right = [outcomes(row[chosen] - row[rejected]) for row in judged.scores]
    return replicated_rate(right, list(judged.replies["prompt"][chosen]))


def wins(judged: Judges, first: str, second: str, seed: int) -> dict[str, float]:
    """The n-th reply of one source against the n-th of another: who wins, as counted and at equal length.

    Returns:
        `win_rate` and `win_rate_length_controlled` of the first, with their intervals.
    """
    replies = judged.replies
    sides = [(replies["source"] == source).to_numpy() for source in (first, second)]
    prompts = list(replies["prompt"][sides[0]])
    rates = [outcomes(row[sides[0]] - row[sides[1]]) for row in judged.scores]
    tables = [
        [replies[side].assign(score=row[side]).reset_index(drop=True) for row in judged.scores]
        for side in sides
    ]
    found = replicated_rate(rates, prompts, seed=seed).named("win_rate")
    return found | at_equal_length(*tables, prompts, seed=seed)


def cut_numbers(judged: Judges) -> dict[str, float]:
    """The differences once the longer reply is cut to the other's length and scored again.

    Returns:
        `dpo_base_test` and `dpo_base_test_length`: DPO minus base where both are equally long, and what the
        cut took away; `<policy>_chosen` and `<policy>_chosen_length`: the same of a policy's replies to
        training prompts, each beside the chosen reply of its prompt; the difference as scored is their sum.
        Nothing where cut replies have no score, and the latter only where pairs have one.
    """
    if not judged.cut:
        return {}
    source, prompt = judged.replies["source"].to_numpy(), list(judged.replies["prompt"])
    whole = {name: judged.scores[:, source == name] for name in set(source)}
    asked = {name: list(judged.replies["prompt"][source == name]) for name in set(source)}
    sides = {"dpo_base_test": ("test DPO", judged.cut["test base"], whole["test base"])}
    if "chosen" in whole:
        rows = {p: n for n, p in reversed(list(enumerate(prompt)))}  # a chosen reply stands first
        for policy in ("base", "DPO"):
            if (name := f"train {policy}") not in whole:
                continue
            chosen = judged.scores[:, [rows[one] for one in asked[name]]]
            sides[f"{policy.lower()}_chosen"] = (name, chosen, chosen)
    found: dict[str, float] = {}
    for key, (name, other_cut, other) in sides.items():
        after, before = judged.cut[name] - other_cut, whole[name] - other
        found |= replicated_mean(after, asked[name]).named(key)
        found |= replicated_mean(before - after, asked[name]).named(f"{key}_length")
    return found


def group_claims(numbers: Mapping[str, float]) -> dict[str, bool]:
    """What judges of one kind and rendering allow to say, beyond their intervals."""

    def side(key: str, bound: float = 0.0) -> int:
        return beyond(numbers, key, bound) if f"{key}_low" in numbers else 0

    found = {}
    for policy in ("base", "dpo"):
        way = side(f"{policy}_pairs.gap")
        found |= {f"{policy}_above_pairs": way > 0, f"{policy}_below_pairs": way < 0}
    for which in SETS:
        way, equal = side(f"dpo_base_{which}.gap"), side(f"{which}.win_rate_length_controlled", 0.5)
        found |= {f"{which}_dpo_below": way < 0, f"{which}_dpo_above": way > 0}
        found[f"{which}_dpo_loses_at_equal_length"] = equal < 0
        found[f"{which}_dpo_wins_at_equal_length"] = equal > 0
        rest = side(f"dpo_base_{which}.rest")
        found |= {f"{which}_rest_below": rest < 0, f"{which}_rest_above": rest > 0}
    found["bends_back"] = side("bend") * side("slope_here") < 0
    way = side("own.slope")
    return found | {"pays_for_length": way > 0, "charges_for_length": way < 0}


def common_claims(claims: Mapping[str, bool]) -> dict[str, bool]:
    """What holds for every kind of judge and every rendering, and what for some.

    Returns:
        `all_<claim>` and `some_<claim>` for the claims of `group_claims`, and `<kind>_<claim>` where it holds
        in every rendering; `judges_disagree`: some put DPO below its base on test prompts, some above.
    """
    names = {name.split("_", 2)[2] for name in claims}
    held = {name: [holds for key, holds in claims.items() if key.split("_", 2)[2] == name] for name in names}
    found = {f"all_{name}": all(each) for name, each in sorted(held.items())}
    found |= {f"some_{name}": any(each) for name, each in sorted(held.items())}
    for kind in sorted({name.split("_", 2)[1] for name in claims}):
        each = {
            name: [h for key, h in claims.items() if key.split("_", 1)[1] == f"{kind}_{name}"]
            for name in names
        }
        found |= {f"{kind}_{name}": all(holds) for name, holds in sorted(each.items())}
    return found | {"judges_disagree": found["some_test_dpo_below"] and found["some_test_dpo_above"]}


def sign_table(judges: Mapping[Group, Judges]) -> pd.DataFrame:
    """Each judge by itself: what it pays for length, and whether DPO lies above its base."""
    rows = []
    for (rendering, kind), judged in judges.items():
        dpo, base = ((judged.replies["source"] == name).to_numpy() for name in SETS["test"])
        for number, seed in enumerate(judged.seeds):
            scores = judged.scores[number]
            difference = scores[dpo] - scores[base]
            row = {"rendering": rendering, "kind": kind, "seed": seed}
            row["slope"] = own_slope(judged.own[number]) if judged.own else np.nan
            row["slope_here"] = sample_slope(scores, judged.replies)
            row |= {"difference": difference.mean(), "win_rate": outcomes(difference).mean()}
            rows.append(row)
    return pd.DataFrame(rows)


def own_slope(pairs: pd.DataFrame) -> float:
    """Score for `PER` words more within a pair, by a straight line."""
    longer = pairs["chosen_words"] - pairs["rejected_words"]
    return float(PER * (longer @ pairs["margin"]) / (longer @ longer))


def sample_slope(scores: np.ndarray, replies: pd.DataFrame) -> float:
    """Score for `PER` words more among samples of one model to one prompt, by a straight line."""
    inside = replies["source"].isin(GENERATED).to_numpy()
    cells = replies[inside].groupby(["prompt", "source"]).ngroup().to_numpy()
    words, centred = within(np.column_stack([replies["words"], scores])[inside], cells).T
    return float(PER * (words @ centred) / (words @ words))


def sign_numbers(signs: pd.DataFrame) -> dict[str, float]:
    """Does DPO lie below its base exactly where a judge pays for length, as shorter replies let expect?

    Returns:
        `judges`, their number; `below`, how many put DPO below its base; `agree` and `agree_here`, how many
        do so where their slope is above zero and not where it is below; `correlation` and `correlation_here`,
        rank correlation of slope and difference. Those of own pairs only where every judge has scored some.
    """
    below = signs["difference"] < 0
    found = {"judges": len(signs), "below": int(below.sum())}
    for ending, slope in (("", signs["slope"]), ("_here", signs["slope_here"])):
        if slope.notna().all():
            found[f"agree{ending}"] = int(((slope > 0) == below).sum())
            found[f"correlation{ending}"] = correlation(slope, signs["difference"])
    return found


def levels_of(judged: Judges) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Words and scores of what was scored: own pairs, the run's pairs, base, DPO.

    Zero is the mean of the run's pairs or, without them, of base replies to test prompts.
    """
    source, scores = judged.replies["source"], judged.scores.mean(axis=0)
    names = {"pairs": ["chosen", "rejected"]} | {p: [f"{s} {p}" for s in SETS] for p in ("base", "DPO")}
    inside = {name: source.isin(which).to_numpy() for name, which in names.items()}
    zero = scores[inside["pairs"] if inside["pairs"].any() else source == "test base"].mean()
    words = judged.replies["words"].to_numpy(float)
    found = {name: (words[rows], scores[rows] - zero) for name, rows in inside.items() if rows.any()}
    if not judged.own:
        return found
    sides = [(f"{side}_words", f"{side}_score") for side in ("chosen", "rejected")]
    own_words = np.concatenate([judged.own[0][count] for count, _ in sides]).astype(float)
    own = np.mean([np.concatenate([table[score] for _, score in sides]) for table in judged.own], axis=0)
    return {"own pairs": (own_words, own - zero)} | found
