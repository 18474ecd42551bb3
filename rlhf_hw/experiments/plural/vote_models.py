"""What models learned on other debates foretell of people's votes: which argument, and how divided.

    learned = learn_reward(votes, train)                 from all debates but those held out
    foretell(votes, (train, held_out), learned, swaps)   what that foretells of these; `Foretold` has all
    vote_numbers(votes, found), disagreement_bins(votes, found)

What it helps to know who votes: module `voters`.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import expit
from scipy.stats import norm, spearmanr
from sklearn.metrics import roc_auc_score

from rlhf_hw.experiments.plural.argument_votes import (
    ArgumentVotes,
    argument_features,
    surface_features,
)
from rlhf_hw.experiments.plural.crowd import right_for
from rlhf_hw.stats.baselines import length_gap
from rlhf_hw.stats.choice_models import (
    FIRST,
    SECOND,
    TIED,
    fit_bradley_terry,
    fit_mean_variance,
    fit_ties,
    rao_kupper,
)
from rlhf_hw.stats.intervals import mean_interval, rate_difference_interval, rate_interval
from rlhf_hw.stats.replicates import replicated_rate

RIDGE = 30.0  # on weights of features with deviation 1: debates differ more than pairs do
SMALL_RIDGE = 3.0  # the same for models of a few features
BINS = 8


@dataclass(frozen=True)
class Foretold:
    """Predictions for every pair by models of other debates; each of shape (pairs,), unless it says another.

    Attributes:
        margins: Log-odds of the first argument, Bradley-Terry on the votes that are no ties.
        spread_share: Probability of the first under the mean-variance model.
        tie: Probability of a tie (Rao and Kupper).
        shuffled: Log-odds of models whose votes were swapped at random, shape (draws, pairs).
    """

    margins: np.ndarray
    spread_share: np.ndarray
    tie: np.ndarray
    shuffled: np.ndarray


class LearnedReward(NamedTuple):
    """A Bradley-Terry reward of arguments, learned from some debates.

    Attributes:
        table: Features of all arguments, shape (texts, D): surface first, then words.
        away: Of the first minus the second of each pair, shape (pairs, D).
        reward: Weights, shape (D,).
    """

    table: np.ndarray
    away: np.ndarray
    reward: np.ndarray

    @property
    def surface(self) -> int:
        """How many features are of the surface."""
        return len(surface_features(""))


def learn_reward(votes: ArgumentVotes, train: np.ndarray, seed: int = 0) -> LearnedReward:
    """The reward that the votes on some pairs teach; nothing of the others is looked at."""
    table = argument_features(votes.texts, np.unique([votes.first[train], votes.second[train]]), seed)
    away = table[votes.first] - table[votes.second]
    return LearnedReward(table, away, fit_on_counts(away[train], votes.counts[train]))


def foretell(
    votes: ArgumentVotes, sides: tuple[np.ndarray, np.ndarray], learned: LearnedReward, swaps: np.ndarray
) -> dict[str, np.ndarray]:
    """Predictions for the pairs of one part, by the names of `Foretold`.

    The reward is a Bradley-Terry model of surface and words. The models with a spread and with ties see that
    reward and the surface: they say how divided people are, and need few numbers for it.

    Args:
        votes: All.
        sides: Pairs learned from, and those held out.
        learned: From the first.
        swaps: Whether the votes on each pair learned from are swapped for the control, shape (draws, pairs).
    """
    train, held_out = sides
    table, away, reward = learned
    wins = votes.counts[train]
    swapped = [np.where(swap[:, None], wins[:, [SECOND, FIRST, TIED]], wins) for swap in swaps]
    small = np.hstack([table[:, : learned.surface], (table @ reward)[:, None]])
    first, second = small[votes.first], small[votes.second]
    twice = [np.concatenate([side[train]] * 2) for side in (first, second)]
    outcomes, counts = np.repeat([1.0, 0.0], len(train)), wins[:, [FIRST, SECOND]].T.ravel()
    spread = fit_mean_variance(*twice, outcomes, counts=counts, penalty=SMALL_RIDGE)
    ties, tendency = fit_ties((first - second)[train], wins, penalty=SMALL_RIDGE)
    return {
        "margins": away[held_out] @ reward,
        "spread_share": norm.cdf(spread.z(first[held_out], second[held_out])),
        "tie": np.exp(rao_kupper((first - second)[held_out] @ ties, tendency)[:, TIED]),
        "shuffled": np.array([away[held_out] @ fit_on_counts(away[train], one) for one in swapped]),
    }


def fit_on_counts(differences: np.ndarray, wins: np.ndarray) -> np.ndarray:
    """Bradley-Terry weights from how often each side won, shape (D,); ties say nothing.

    Args:
        differences: Features of the first minus those of the second, shape (pairs, D).
        wins: Votes, shape (pairs, 3).
    """
    decided = wins[:, [FIRST, SECOND]].sum(axis=1)
    share = wins[:, FIRST] / np.maximum(decided, 1)
    return fit_bradley_terry(differences, share, counts=decided, penalty=RIDGE)


def vote_numbers(votes: ArgumentVotes, found: Foretold) -> dict[str, float]:
    """How well other debates foretell these: the better argument, disagreement and ties.

    Returns:
        Each with its interval over debates:
        `accuracy` on the pairs whose better argument the corpus has settled;
        `shuffled_mean`, the mean of the same over the draws of the control, and `shuffled_draws`, how many
        these are. One draw teaches an arbitrary direction, which all pairs of a debate are judged by: it can
        lie beyond its interval over debates on either side of one half. So there is an interval over draws,
        too, under the names of `stats.replicates`;
        `length_accuracy` of the rule that the longer wins, `length_lead`, the accuracy minus that;
        `one_voter`, how often one voter agrees with the majority of the others;
        `disagreement`, `disagreement_foretold`: probability that two voters are opposed;
        `rank_correlation`, `rank_correlation_spread` of the two within a debate, by both models;
        `spread_gain`, nats a vote by which the mean-variance model foretells better than the plain one;
        `tie_auroc`. Besides what `counts_of` gives.
    """
    settled = np.isin(votes.gold, (FIRST, SECOND))
    truth, where = np.where(votes.gold == FIRST, 1, -1)[settled], votes.debates[settled]
    longer = length_gap([votes.texts[i] for i in votes.first], [votes.texts[i] for i in votes.second])
    said = {"": found.margins, "length_": longer}
    numbers: dict[str, float] = {}
    for name, margins in said.items():
        right = right_for(margins[settled], truth)
        numbers |= rate_interval(right, where).named(f"{name}accuracy")
    control = replicated_rate(right_for(found.shuffled[:, settled], truth), where)
    numbers |= control.named("shuffled_mean") | {"shuffled_draws": len(found.shuffled)}
    ahead = right_for(found.margins[settled], truth) - right_for(longer[settled], truth)
    numbers |= rate_difference_interval(ahead, where).named("length_lead")
    numbers |= rate_interval(*one_against_others(votes)).named("one_voter")
    known = np.isfinite(votes.disagreement)
    shares = {"": expit(found.margins), "_spread": found.spread_share}
    numbers |= mean_interval(votes.disagreement[known], votes.debates[known]).named("disagreement")
    opposed = 2 * shares[""] * (1 - shares[""])
    numbers |= mean_interval(opposed[known], votes.debates[known]).named("disagreement_foretold")
    for name, share in shares.items():
        by_debate = rank_by_debate(votes, 2 * share * (1 - share))
        numbers |= mean_interval(by_debate).named(f"rank_correlation{name}")
    decided = votes.said != TIED
    logs = [_said_log(share, votes)[decided] for share in shares.values()]
    numbers |= mean_interval(logs[1] - logs[0], votes.debates[votes.rows][decided]).named("spread_gain")
    ties = [
        roc_auc_score(votes.said[here] == TIED, found.tie[votes.rows[here]])
        for here in (votes.debates[votes.rows] == d for d in np.unique(votes.debates))
    ]
    return numbers | mean_interval(ties).named("tie_auroc") | counts_of(votes)


def counts_of(votes: ArgumentVotes) -> dict[str, float]:
    """What the corpus holds: `pairs`, `settled`, `votes`, `annotators`, `debates`, `ties` (share of votes).

    `repeatable` is the correlation of two pairs of voters in whether they are opposed.
    """
    halves = opposed_halves(votes)
    return {
        "pairs": len(votes.gold),
        "settled": int(np.isin(votes.gold, (FIRST, SECOND)).sum()),
        "votes": len(votes.said),
        "annotators": int(votes.users.max() + 1),
        "debates": int(votes.debates.max() + 1),
        "ties": float((votes.said == TIED).mean()),
        "repeatable": float(np.corrcoef(halves)[0, 1]),
    }


def _said_log(share: np.ndarray, votes: ArgumentVotes) -> np.ndarray:
    """Log-probability of each vote, shape (votes,); of a tie it means nothing."""
    likely = np.where(votes.said == FIRST, share[votes.rows], 1 - share[votes.rows])
    return np.log(np.clip(likely, 1e-9, 1))


def one_against_others(votes: ArgumentVotes) -> tuple[np.ndarray, np.ndarray]:
    """Votes that are no ties beside the pair's other votes: 1 where the majority of these says the same, 0
    where it does not, 1/2 where they are even; and each vote's debate."""
    decided = votes.said != TIED
    rows, first = votes.rows[decided], votes.said[decided] == FIRST
    counts = votes.counts[rows]
    others = (counts[:, FIRST] - first) - (counts[:, SECOND] - ~first)
    return (1 + np.sign(others) * np.where(first, 1, -1)) / 2, votes.debates[rows]


def opposed_halves(votes: ArgumentVotes) -> np.ndarray:
    """Of pairs where four see a difference: are the first two opposed, and the last two; shape (2, n)."""
    decided = votes.said != TIED
    rows, first = votes.rows[decided], votes.said[decided] == FIRST
    starts = np.flatnonzero(np.r_[True, rows[1:] != rows[:-1]])
    long = starts[np.diff(np.r_[starts, rows.size]) >= 4]
    return np.array([first[long] != first[long + 1], first[long + 2] != first[long + 3]], dtype=float)


def rank_by_debate(votes: ArgumentVotes, foretold_disagreement: np.ndarray) -> list[float]:
    """Spearman's correlation of real and foretold disagreement within each debate."""
    known = np.isfinite(votes.disagreement)
    inside = [known & (votes.debates == debate) for debate in np.unique(votes.debates)]
    pairs = [(votes.disagreement[here], foretold_disagreement[here]) for here in inside]
    return [float(spearmanr(*both).statistic) for both in pairs if len(both[0]) > 2]


def disagreement_bins(votes: ArgumentVotes, found: Foretold) -> list[dict[str, float]]:
    """Real against foretold disagreement in bins of equally many pairs.

    Returns:
        Rows of `foretold`, `real` with its interval over debates, `pairs`.
    """
    share = expit(found.margins)
    opposed, known = 2 * share * (1 - share), np.flatnonzero(np.isfinite(votes.disagreement))
    order = known[np.argsort(opposed[known])]
    rows = []
    for part in np.array_split(order, BINS):
        real = mean_interval(votes.disagreement[part], votes.debates[part]).named("real")
        rows.append({"foretold": float(opposed[part].mean()), **real, "pairs": len(part)})
    return rows
