"""What it helps to know who votes on two arguments: people of one stance, and annotators one by one."""

import numpy as np
from scipy.special import log_expit

from rlhf_hw.experiments.plural.argument_votes import (
    ArgumentVotes,
    argument_features,
    folds,
    surface_features,
)
from rlhf_hw.experiments.plural.vote_models import SMALL_RIDGE, fit_on_counts
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


def known_annotators(votes: ArgumentVotes, parts: int, seed: int = 0) -> dict[str, float]:
    """What it helps to know who votes: rewards of annotators learned on other debates.

    Returns:
        `annotator_gain`: nats a vote by which an annotator's own reward in a low-rank model foretells votes
        on unseen debates better than one reward for all; `stranger_gain`, the same where the votes it
        learned from have strangers' names, a control; `annotator_lead`, the difference of the two; with
        intervals over debates. `known_annotators`, the mean number of them.
    """
    rng = np.random.default_rng(seed)
    own, strange, where, counts = [], [], [], []
    for train, held_out in folds(votes, parts, seed):
        features = _small_features(votes, train, seed)
        mine, theirs = (np.isin(votes.rows, part) & (votes.said != TIED) for part in (train, held_out))
        often = np.flatnonzero(np.bincount(votes.users[mine], minlength=votes.users.max() + 1) >= FEWEST)
        mine, theirs = mine & np.isin(votes.users, often), theirs & np.isin(votes.users, often)
        counts.append(often.size)
        if not theirs.any():
            continue
        where.append(votes.debates[votes.rows[theirs]])
        names = votes.users[mine]
        own.append(_gain_of_places(votes, features, (mine, theirs), names))
        strange.append(_gain_of_places(votes, features, (mine, theirs), rng.permutation(names)))
    found: dict[str, float] = {"known_annotators": float(np.mean(counts))}
    if not own:
        return found
    gains = {"annotator_gain": np.concatenate(own), "stranger_gain": np.concatenate(strange)}
    gains["annotator_lead"] = gains["annotator_gain"] - gains["stranger_gain"]
    for name, values in gains.items():
        found |= mean_interval(values, np.concatenate(where)).named(name)
    return found


def _small_features(votes: ArgumentVotes, train: np.ndarray, seed: int) -> np.ndarray:
    """Differences of surface features and of the reward of `train`, shape (pairs, D)."""
    learned_from = np.unique([votes.first[train], votes.second[train]])
    table = argument_features(votes.texts, learned_from, seed)
    away = table[votes.first] - table[votes.second]
    reward = fit_on_counts(away[train], votes.counts[train])
    return np.hstack([away[:, : len(surface_features(""))], (away @ reward)[:, None]])


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
