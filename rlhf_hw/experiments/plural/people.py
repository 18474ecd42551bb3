"""Real people's votes in one result: from the votes where they are at hand, else as they were kept.

    found = people_votes(read_votes(path), parts=8)      or, without votes,      found = read_kept_people()

Votes may be licensed otherwise than this project, and stay where they are. What is kept of them are rates and
their intervals, all under `plural.people.`, among them what the figure shows.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from rlhf_hw.experiments.plural.argument_votes import ArgumentVotes, folds
from rlhf_hw.experiments.plural.vote_models import (
    Foretold,
    disagreement_bins,
    foretell,
    learn_reward,
    vote_numbers,
)
from rlhf_hw.experiments.plural.voters import (
    KnownVotes,
    agreement_by_stance,
    gains_of_knowing,
    known_annotators,
    known_votes,
)
from rlhf_hw.experiments.result import Result, prefixed
from rlhf_hw.paths import DATA
from rlhf_hw.stats.replicates import beyond
from rlhf_hw.workers import in_workers

PREFIX = "plural.people."
CONTROLS = 20  # draws of swapped votes: a single one lies beside one half by luck
KEPT_PEOPLE = DATA / "kept" / "10_plural_preferences" / "metrics.json"


def people_votes(votes: ArgumentVotes, parts: int = 8, seed: int = 0) -> Result:
    """What models of other debates foretell of people's votes, and what it helps to know who votes.

    The parts are worked on side by side; what is random is drawn before.

    Args:
        votes: From `argument_votes.read_votes`.
        parts: Into so many parts the debates are divided; each is foretold from the others.
        seed: Of the division.

    Returns:
        Metrics under `plural.people.`: those of `vote_numbers`, `agreement_by_stance`, `known_annotators`;
        `bin_<n>.foretold`, `.real` with its interval. And the claims of `people_claims`.
    """
    sides = list(folds(votes, parts, seed))
    known = [known_votes(votes, *both) for both in sides]
    swapping, naming = np.random.default_rng(seed), np.random.default_rng(seed)
    swaps = [swapping.random((CONTROLS, len(train))) >= 0.5 for train, _ in sides]
    names = [naming.permutation(one.mine.sum()) if one.theirs.any() else None for one in known]
    calls = [(votes, *one, seed) for one in zip(sides, known, swaps, names, strict=True)]
    told, gains = zip(*in_workers(people_of_part, calls, "debates"), strict=True)
    order = np.argsort(np.concatenate([held_out for _, held_out in sides]))
    found = Foretold(**{n: np.concatenate([part[n] for part in told], axis=-1)[..., order] for n in told[0]})
    numbers = vote_numbers(votes, found) | agreement_by_stance(votes)
    numbers |= known_annotators(votes, known, gains)
    for n, row in enumerate(disagreement_bins(votes, found)):
        numbers |= prefixed(f"bin_{n}", row)
    return Result(metrics=prefixed(PREFIX[:-1], numbers), claims=people_claims(numbers))


def people_of_part(
    votes: ArgumentVotes,
    sides: tuple[np.ndarray, np.ndarray],
    known: KnownVotes,
    swaps: np.ndarray,
    names: np.ndarray | None,
    seed: int,
) -> tuple[dict[str, np.ndarray], tuple[np.ndarray, np.ndarray] | None]:
    """One part: what `foretell` and `gains_of_knowing` say of it, from one reward of the other debates."""
    learned = learn_reward(votes, sides[0], seed)
    gains = None if names is None else gains_of_knowing(votes, known, learned, names)
    return foretell(votes, sides, learned, swaps), gains


def people_claims(numbers: Mapping[str, float]) -> dict[str, bool]:
    """What the intervals over debates allow to say; of numbers that are not there, nothing."""

    def side(key: str, bound: float = 0.0) -> int:
        return beyond(numbers, key, bound) if f"{key}_low" in numbers else 0

    return {
        "people_foretell_disagreement": side("rank_correlation") > 0,
        "people_beat_length": side("length_lead") > 0,
        "people_spread_helps": side("spread_gain") > 0,
        "people_ties_foretold": side("tie_auroc", 0.5) > 0,
        "people_stance_matters": side("stance_gain") > 0,
        "people_annotators_help": side("annotator_gain") > 0,
        "people_names_carry": side("annotator_lead") > 0,
    }


def disagreement_of(metrics: Mapping[str, float]) -> list[dict[str, float]]:
    """The bins of real against foretold disagreement, from metrics, for a figure."""
    rows = []
    while f"{PREFIX}bin_{len(rows)}.foretold" in metrics:
        head = f"{PREFIX}bin_{len(rows)}."
        rows.append({key[len(head) :]: value for key, value in metrics.items() if key.startswith(head)})
    return rows


def read_kept_people(path: Path = KEPT_PEOPLE) -> Result | None:
    """What was kept of people's votes, marked by `plural.people.kept`; None where nothing was."""
    if not path.exists():
        return None
    kept = json.loads(path.read_text(encoding="utf-8"))
    metrics = {key: value for key, value in kept.items() if key.startswith(PREFIX)}
    if not metrics:
        return None
    numbers = {key[len(PREFIX) :]: value for key, value in metrics.items()}
    return Result(metrics=metrics | {f"{PREFIX}kept": 1}, claims=people_claims(numbers))
