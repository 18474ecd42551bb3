"""Length in pairs that people have judged: what simple scorers make of it, before and after balancing.

Nobody knows what these replies are truly worth, so there is no coefficient at equal quality. What can be seen
is accuracy where the chosen reply is the longer one and where it is the shorter one: a scorer that leans on
length is good at the first and bad at the second. Balanced pairs are fewer; as many at random are a control.

    found = people_lengths({"helpful": judged_by_people("helpful")})
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from rlhf_hw.experiments.hard_pairs import unpaired
from rlhf_hw.experiments.length_bias.remedies import balanced_rows
from rlhf_hw.experiments.result import Result, prefixed
from rlhf_hw.paths import local_copy
from rlhf_hw.preferences.reading import load_preferences
from rlhf_hw.preferences.templates import Preference
from rlhf_hw.stats.baselines import bag_of_words_margins, length_gap
from rlhf_hw.stats.calibration import outcomes
from rlhf_hw.stats.intervals import rate_interval
from rlhf_hw.stats.replicates import beyond, replicated_mean, replicated_rate

OWNER = "Anthropic/hh-rlhf"
PEOPLE = {
    "helpful": ("helpful-base", "helpful-online", "helpful-rejection-sampled"),
    "harmless": ("harmless-base",),
}
TRAINED_ON = ("all", "random", "balanced")


class PeoplePairs(NamedTuple):
    """Pairs to learn from, and pairs to judge on."""

    train: Sequence[Preference]
    held_out: Sequence[Preference]


def judged_by_people(part: str, limit: int = 0) -> PeoplePairs | None:
    """Pairs of HH-RLHF from the folder that RLHF_HW_REAL_DATA names; None where they are not there.

    Args:
        part: "helpful" or "harmless".
        limit: At most so many pairs to learn from and to judge on; 0 for all.
    """
    folders = [f"{OWNER}//{name}" for name in PEOPLE[part]]
    places = [local_copy(folder) for folder in folders]
    if not all(place is not None and place.exists() for place in places):
        return None
    source = ", ".join(folders)
    return PeoplePairs(
        *(load_preferences(source, "HH", split, limit or None)[0] for split in ("train", "validation"))
    )


@dataclass(frozen=True, kw_only=True)
class PeopleLengths(Result):
    """Length in people's pairs: in `parts`, by part, the numbers of `numbers_by_length`."""

    parts: dict[str, dict[str, float]]


def people_lengths(parts: Mapping[str, PeoplePairs], draws: int = 3, seed: int = 0) -> PeopleLengths:
    """What a length rule and a bag of words make of people's pairs.

    Args:
        parts: "helpful" and "harmless", from `judged_by_people`; those that are not at hand left out.
        draws: How often balanced pairs, and as many at random, are drawn; in place of trainings.
        seed: Of drawing.

    Returns:
        Metrics under `length_bias.people.`: those of `numbers_by_length` for each part. And the claims
        `people_<part>_splits`, `people_<part>_balance_narrows`, `people_<part>_balance_costs`.
    """
    metrics, claims = {}, {}
    found = {part: numbers_by_length(pairs, draws, seed) for part, pairs in parts.items()}
    for part, numbers in found.items():
        metrics |= prefixed(f"length_bias.people.{part}", numbers)
        claims[f"people_{part}_splits"] = beyond(numbers, "all.split") > 0
        way = 1 if numbers["random.split"] > 0 else -1
        claims[f"people_{part}_balance_narrows"] = way * beyond(numbers, "lowered") > 0
        claims[f"people_{part}_balance_costs"] = beyond(numbers, "cost") > 0
    return PeopleLengths(metrics=metrics, claims=claims, parts=found)


def numbers_by_length(pairs: PeoplePairs, draws: int, seed: int) -> dict[str, float]:
    """Numbers of one part.

    Returns:
        `train`, `held_out`, `balanced_pairs`: numbers of pairs; `longer_chosen`, the share of held-out pairs
        of unequal length whose longer reply was chosen, which is the accuracy of the length rule;
        `<trained on>.accuracy`, `.longer`, `.shorter`, `.split` of a bag of words, trained on one of
        `TRAINED_ON`: on held-out pairs, on those whose chosen reply is the longer one, on the others, and the
        difference; `lowered`, the split with as many pairs at random minus that with balanced ones; `cost`,
        accuracy lost against them; all with their intervals.
    """
    rng = np.random.default_rng(seed)
    texts = [[[getattr(p, side) for p in part] for side in ("chosen", "rejected")] for part in pairs]
    longer, gaps = (length_gap(*part) for part in texts)
    rows = {"all": [np.arange(len(longer))], "random": [], "balanced": []}
    for _ in range(draws):
        rows["balanced"].append(balanced_rows(longer, np.ones(len(longer)), rng))
        size = len(rows["balanced"][-1])
        rows["random"].append(np.sort(rng.choice(len(longer), size, replace=False)))
    right = {name: np.array([_right(texts, part) for part in drawn]) for name, drawn in rows.items()}
    prompts = np.array([str(p.prompt) for p in pairs.held_out])
    found: dict[str, float] = {
        "train": len(longer),
        "held_out": len(gaps),
        "balanced_pairs": len(rows["balanced"][0]),
    }
    found |= rate_interval(outcomes(gaps[gaps != 0]), prompts[gaps != 0]).named("longer_chosen")
    for name, values in right.items():
        sides = [replicated_rate(values[:, side], prompts[side]) for side in (gaps > 0, gaps < 0)]
        found |= replicated_rate(values, prompts).named(f"{name}.accuracy")
        found |= sides[0].named(f"{name}.longer") | sides[1].named(f"{name}.shorter")
        found |= unpaired(*sides).named(f"{name}.split")
    ahead = right["random"] - right["balanced"]
    weigh = np.where(gaps > 0, 1 / (gaps > 0).mean(), -1 / (gaps < 0).mean()) * (gaps != 0)
    found |= replicated_mean(ahead * weigh, prompts).named("lowered")
    return found | replicated_mean(ahead, prompts).named("cost")


def _right(texts: Sequence[Sequence[Sequence[str]]], rows: np.ndarray) -> np.ndarray:
    """1 where a bag of words, learned from these rows, orders a pair as people did, 1/2 for a tie, else 0."""
    train = [[side[row] for row in rows] for side in texts[0]]
    return outcomes(bag_of_words_margins(*train, *texts[1]))
