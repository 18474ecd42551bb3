"""What it helps to know who votes on two arguments: people of one stance, and annotators one by one."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import log_expit

from rlhf_hw.experiments.plural.argument_votes import ArgumentVotes
from rlhf_hw.experiments.plural.vote_models import SMALL_RIDGE, LearnedReward
from rlhf_hw.stats.choice_models import FIRST, TIED, fit_bradley_terry
from rlhf_hw.stats.intervals import mean_interval
from rlhf_hw.stats.populations import fit_low_rank

FEWEST = 20  # votes on other debates from which an annotator counts as known
RANK_OF_VOTERS = 2
TURNS = 4  # of fitting places and basis


def agreement_by_stance(votes: ArgumentVotes) -> dict[str, float]:
    """Do voters who share a stance agree more? Two voters of one pair of arguments, ties aside.

    Returns:
        `stance_same`, `stance_opposite`: how often they agree, means over debates; `stance_gain`, the
        difference; with intervals over debates. Nothing where no debate has voters of both.
    """
    counts = np.zeros((len(votes.gold), 2, 2))
    use = (votes.said != TIED) & (votes.stances != 0)
    np.add.at(counts, (votes.rows[use], (votes.stances[use] < 0).astype(int), votes.said[use]), 1)
    size = counts.sum(axis=2)
    same = np.stack([(counts * (counts - 1)).sum((1, 2)) / 2, (size * (size - 1)).sum(1) / 2])
    apart = np.stack([(counts[:, 0] * counts[:, 1]).sum(1), size[:, 0] * size[:, 1]])
    rates = []
    for debate in np.unique(votes.debates):
        here = votes.debates == debate
        sums = [table[:, here].sum(axis=1) for table in (same, apart)]
        if all(total > 0 for _, total in sums):
            rates.append([agreed / total for agreed, total in sums])
    if not rates:
        return {}
    table = np.array(rates)
    found = mean_interval(table[:, 0]).named("stance_same") | mean_interval(table[:, 1]).named(
        "stance_opposite"
    )
    return found | mean_interval(table[:, 0] - table[:, 1]).named("stance_gain")


class KnownVotes(NamedTuple):
    """Votes of annotators who voted often enough on the debates learned from.

    Attributes:
        mine, theirs: Which votes are learned from, and which are foretold; masks, shape (votes,).
        count: Of these annotators.
    """

    mine: np.ndarray
    theirs: np.ndarray
    count: int


def known_votes(votes: ArgumentVotes, train: np.ndarray, held_out: np.ndarray) -> KnownVotes:
    """Those of annotators with `FEWEST` votes on the pairs learned from, ties aside."""
    mine, theirs = (np.isin(votes.rows, part) & (votes.said != TIED) for part in (train, held_out))
    often = np.flatnonzero(np.bincount(votes.users[mine], minlength=votes.users.max() + 1) >= FEWEST)
    return KnownVotes(mine & np.isin(votes.users, often), theirs & np.isin(votes.users, often), often.size)


def gains_of_knowing(
    votes: ArgumentVotes, known: KnownVotes, learned: LearnedReward, strangers: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Nats that each vote foretold gains from its annotator's own reward, and from a stranger's.

    Args:
        votes: All.
        known: Which of them.
        learned: Reward of the debates learned from; annotators' rewards are of it and of the surface.
        strangers: In which order names are dealt out anew for the control, shape (votes learned from,).
    """
    features = np.hstack([learned.away[:, : learned.surface], (learned.away @ learned.reward)[:, None]])
    names, sides = votes.users[known.mine], (known.mine, known.theirs)
    own, strange = (_gain_of_places(votes, features, sides, who) for who in (names, names[strangers]))
    return own, strange


def known_annotators(
    votes: ArgumentVotes,
    known: Sequence[KnownVotes],
    gains: Sequence[tuple[np.ndarray, np.ndarray] | None],
) -> dict[str, float]:
    """What it helps to know who votes: rewards of annotators learned on other debates.

    Args:
        votes: All.
        known: Of each part of the debates.
        gains: What `gains_of_knowing` returned for it; None where nothing was to be foretold.

    Returns:
        `annotator_gain`: nats a vote by which an annotator's own reward in a low-rank model foretells votes
        on unseen debates better than one reward for all; `stranger_gain`, the same where the votes it
        learned from have strangers' names, a control; `annotator_lead`, the difference of the two; with
        intervals over debates. `known_annotators`, the mean number of them.
    """
    found: dict[str, float] = {"known_annotators": float(np.mean([one.count for one in known]))}
    parts = [(one, gain) for one, gain in zip(known, gains, strict=True) if gain is not None]
    if not parts:
        return found
    where = np.concatenate([votes.debates[votes.rows[one.theirs]] for one, _ in parts])
    own, strange = (np.concatenate([gain[side] for _, gain in parts]) for side in (0, 1))
    columns = {"annotator_gain": own, "stranger_gain": strange, "annotator_lead": own - strange}
    for name, values in columns.items():
        found |= mean_interval(values, where).named(name)
    return found


def _gain_of_places(votes: ArgumentVotes, features: np.ndarray, sides, users: np.ndarray) -> np.ndarray:
    """Nats that each held-out vote gains from its annotator's place, learned from votes under these names."""
    mine, theirs = sides
    learned = features[votes.rows[mine]], (votes.said[mine] == FIRST).astype(float)
    alike = fit_bradley_terry(*learned, penalty=SMALL_RIDGE)
    model = fit_low_rank(*learned, users, rank=RANK_OF_VOTERS, rounds=TURNS, penalty=SMALL_RIDGE)
    number = {user: place for place, user in enumerate(dict.fromkeys(users.tolist()))}
    own = model.reward(model.places[[number[user] for user in votes.users[theirs]]])
    shown = features[votes.rows[theirs]]
    sign = np.where(votes.said[theirs] == FIRST, 1, -1)
    return log_expit(sign * (shown * own).sum(axis=1)) - log_expit(sign * (shown @ alike))
