"""One reward against several, for two groups of annotators that agree about quality and not about length.

`judge_groups` is one replicate: it draws annotators and their votes, fits each model, and says of every
held-out pair whether the model orders it as the larger group ("thorough") and as the smaller ("brief") truly
wants it. What a model has that serves a group is its reward for that group; a single reward is the same for
both. All rewards are linear in the same features, so that only the plurality of the models differs.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import roc_auc_score

from rlhf_hw.experiments.plural.crowd import (
    NEUTRAL,
    Votes,
    WorldPairs,
    ask,
    population,
    prompt_features,
    right_for,
    typical,
)
from rlhf_hw.experiments.plural.gated_heads import fit_gate, fit_heads, gate_shares
from rlhf_hw.stats.choice_models import (
    TIE_MODELS,
    TIED,
    MeanVariance,
    choice_loss,
    fit_bradley_terry,
    fit_mean_variance,
    fit_ties,
)
from rlhf_hw.stats.populations import Mixture, fit_mixture

GROUPS = ("thorough", "brief")  # the larger one and the smaller one
TIE_THRESHOLD = 0.4  # of utility, in units of gold, where annotators may call a tie
SHUFFLES = 20  # of labels: one reward that knows nothing can be right or wrong about length by luck
NEW = 1_000_000  # added to a seed: other users of the same kind
RATING_NOISE = 0.5  # deviation of the ratings that objective heads learn from, in units of gold


@dataclass(frozen=True)
class Crowd:
    """Who is asked, and how much.

    Attributes:
        users: All annotators.
        each: Comparisons of each.
        majority: Share of the larger group.
        spread: Standard deviation of tastes within a group, in units of gold.
    """

    users: int = 200
    each: int = 30
    majority: float = 0.7
    spread: float = 0.1

    @property
    def sizes(self) -> dict[str, int]:
        """Users of each group; none of a group without any."""
        large = round(self.majority * self.users)
        return {g: n for g, n in zip(GROUPS, (large, self.users - large), strict=True) if n}


def draw_votes(
    crowd: Crowd, pairs: WorldPairs, seed: int, threshold: float = 0.0
) -> tuple[Votes, np.ndarray]:
    """Votes of a crowd, and the group of each user by its place in `GROUPS`, shape (users,)."""
    base = replace(NEUTRAL, tie_threshold=threshold)
    people = population(crowd.sizes, seed, base, crowd.spread)
    votes = ask(people, pairs, crowd.each, random.Random(f"{seed}/votes"))
    return votes, np.repeat([GROUPS.index(g) for g in crowd.sizes], list(crowd.sizes.values()))


def matched(mixture: Mixture, group: np.ndarray) -> tuple[np.ndarray, float]:
    """Rewards of a mixture in the order of `GROUPS`, and the share of users whose group it finds.

    Which part of a mixture is which group nothing in the votes can say; the pairing that puts most users into
    their own group is taken.

    Args:
        mixture: With as many parts as `GROUPS`.
        group: True group of each user, shape (users,).
    """
    said = mixture.members.argmax(axis=1)
    table = np.array([[np.sum((group == g) & (said == k)) for k in range(2)] for g in range(2)])
    order = linear_sum_assignment(-table)[1]
    return mixture.rewards[order], float(table[[0, 1], order].sum() / group.size)


def fit_groups(votes: Votes, pairs: WorldPairs, group: np.ndarray, mixture: Mixture) -> dict[str, np.ndarray]:
    """Rewards for each group under each model, shape (2, D): "single", "mixture", "known groups" (one reward
    for each, learned from the votes of its members) and "mean and variance"."""
    differences, outcomes = pairs.differences[votes.rows], votes.outcomes
    single = fit_bradley_terry(differences, outcomes)
    mine = [group[votes.users] == g for g in range(2)]
    known = [fit_bradley_terry(differences[own], outcomes[own]) if own.any() else single for own in mine]
    return {
        "single": np.stack([single, single]),
        "mixture": matched(mixture, group)[0],
        "known groups": np.array(known),
    }


def shuffled_rewards(votes: Votes, pairs: WorldPairs, seed: int) -> np.ndarray:
    """Rewards learned from labels in random order, shape (`SHUFFLES`, D): they know nothing."""
    rng, differences = np.random.default_rng(seed), pairs.differences[votes.rows]
    labels = [rng.permutation(votes.outcomes) for _ in range(SHUFFLES)]
    return np.array([fit_bradley_terry(differences, mixed) for mixed in labels])


def judge_groups(
    crowd: Crowd, train: WorldPairs, held_out: WorldPairs, seed: int
) -> tuple[dict[str, np.ndarray], dict[str, float], dict[str, np.ndarray]]:
    """One replicate: which held-out pairs each model orders as each group wants, and what else it knows.

    Returns:
        "<model>.<group>" -> 1 right, 0 wrong, shape (pairs,), of several trainings their mean; numbers of
        `spread_numbers`, `members_found` (share of users whose group the mixture finds) and `gain` (nats a
        vote by which the mixture foretells new users better than one reward); the rewards of `fit_groups`.
    """
    votes, group = draw_votes(crowd, train, seed)
    mixture = fit_mixture(train.differences[votes.rows], votes.outcomes, votes.users, seed=seed)
    rewards = fit_groups(votes, train, group, mixture)
    spread = fit_mean_variance(train.first[votes.rows], train.second[votes.rows], votes.outcomes)
    numbers = spread_numbers(spread, rewards, held_out)
    numbers["members_found"] = matched(mixture, group)[1]
    numbers["gain"] = gain_for_new_users(mixture, rewards["single"][0], crowd, held_out, seed)
    models = {name: pair[:, None] for name, pair in rewards.items()}
    models["mean and variance"] = np.stack([spread.mean[None]] * 2)
    models["shuffled labels"] = np.stack([shuffled_rewards(votes, train, seed)] * 2)
    right = {}
    for name, pair in models.items():
        for g, tried in zip(GROUPS, pair, strict=True):
            wanted = held_out.wanted(typical(g))
            found = [right_for(held_out.differences @ reward, wanted) for reward in tried]
            right[f"{name}.{g}"] = np.mean(found, axis=0)
    return right, numbers, rewards


def judge_two(crowd: Crowd, train: WorldPairs, held_out: WorldPairs, seed: int) -> dict[str, np.ndarray]:
    """What the single reward and the mixture order rightly, as `judge_groups` gives it."""
    votes, group = draw_votes(crowd, train, seed)
    differences = train.differences[votes.rows]
    mixture = fit_mixture(differences, votes.outcomes, votes.users, seed=seed)
    single = fit_bradley_terry(differences, votes.outcomes)
    rewards = {"single": (single, single), "mixture": matched(mixture, group)[0]}
    return {
        f"{model}.{g}": right_for(held_out.differences @ reward, held_out.wanted(typical(g)))
        for model, pair in rewards.items()
        for g, reward in zip(GROUPS, pair, strict=True)
    }


def gain_for_new_users(
    mixture: Mixture, single: np.ndarray, crowd: Crowd, pairs: WorldPairs, seed: int
) -> float:
    """Nats a vote by which a mixture foretells what users not seen before say, beyond one reward."""
    votes, _ = draw_votes(crowd, pairs, seed + NEW)
    differences = pairs.differences[votes.rows]
    together = mixture.likelihoods(differences, votes.outcomes, votes.users).sum()
    return float((together + choice_loss(single, differences, votes.outcomes)) / len(votes.rows))


def members_by_comparisons(
    crowd: Crowd, counts: tuple[int, ...], train: WorldPairs, held_out: WorldPairs, seed: int
) -> dict[str, np.ndarray]:
    """What EM finds when the same number of votes comes from more users, each with fewer comparisons.

    Returns:
        "<count>" -> 1 where the reward found for the smaller group orders a held-out pair as it wants, shape
        (pairs,); "<count>.members" -> share of users whose group is found, shape ().
    """
    total, found = crowd.users * crowd.each, {}
    wanted = held_out.wanted(typical(GROUPS[1]))
    for count in counts:
        asked = replace(crowd, users=total // count, each=count)
        votes, group = draw_votes(asked, train, seed)
        mixture = fit_mixture(train.differences[votes.rows], votes.outcomes, votes.users, seed=seed)
        rewards, members = matched(mixture, group)
        found[str(count)] = right_for(held_out.differences @ rewards[1], wanted)
        found[f"{count}.members"] = np.array(members)
    return found


def disputed(pairs: WorldPairs) -> np.ndarray:
    """Pairs that the two groups want in opposite order, shape (pairs,)."""
    first, second = (np.sign(pairs.wanted(typical(group))) for group in GROUPS)
    return first * second < 0


def spread_numbers(
    model: MeanVariance, rewards: Mapping[str, np.ndarray], pairs: WorldPairs
) -> dict[str, float]:
    """What a mean-variance model says of hidden context.

    Returns:
        `explained`, its r^2; and how well disputed pairs are told from the others, as areas under the ROC
        curve: by the spread (`auroc_spread`), by its own certainty |z| (`auroc_z`), by how small the single
        reward's margin is (`auroc_margin`), by how far the mixture's two margins disagree (`auroc_mixture`).
    """
    split = disputed(pairs)
    margins = pairs.differences @ rewards["mixture"].T
    clues = {
        "spread": model.deviations(pairs.first, pairs.second),
        "z": -np.abs(model.z(pairs.first, pairs.second)),
        "margin": -np.abs(pairs.differences @ rewards["single"][0]),
        "mixture": -margins[:, 0] * margins[:, 1],
    }
    both = np.concatenate([pairs.first, pairs.second])
    areas = {f"auroc_{name}": float(roc_auc_score(split, clue)) for name, clue in clues.items()}
    return {"explained": model.explained(both)} | areas


def tie_numbers(crowd: Crowd, train: WorldPairs, held_out: WorldPairs, seed: int) -> dict[str, float]:
    """Annotators who may call a tie: what models with ties make of indifference and of dispute.

    Returns:
        `share`, of votes that are ties; for each model in `TIE_MODELS` areas under the ROC curve with which
        its probability of a tie tells pairs that a group is truly indifferent about
        (`<model>.indifferent`, both groups together) and pairs the groups dispute (`<model>.disputed`).
        `dropped` is the length of the single reward learned without the ties over that of Rao and Kupper's:
        above 1, dropping ties makes differences look larger.
    """
    votes, _ = draw_votes(crowd, train, seed, TIE_THRESHOLD)
    differences = train.differences[votes.rows]
    wanted = np.array([held_out.wanted(typical(group)) for group in GROUPS])
    opposed = (np.sign(wanted[0]) * np.sign(wanted[1]) < 0) & (np.abs(wanted) > TIE_THRESHOLD).all(axis=0)
    indifferent = (np.abs(wanted) < TIE_THRESHOLD).all(axis=0)
    found = {"share": float((votes.said == TIED).mean())}
    lengths = {}
    for name, model in TIE_MODELS.items():
        reward, tendency = fit_ties(differences, np.eye(3)[votes.said], name)
        likely = model(held_out.differences @ reward, tendency)[:, TIED]
        found[f"{name}.indifferent"] = float(roc_auc_score(indifferent, likely))
        found[f"{name}.disputed"] = float(roc_auc_score(opposed, likely))
        lengths[name] = np.linalg.norm(reward)
    kept = votes.decided
    without = fit_bradley_terry(train.differences[kept.rows], kept.outcomes)
    return found | {"dropped": float(np.linalg.norm(without) / lengths["rao_kupper"])}


def judge_gate(
    crowd: Crowd, train: WorldPairs, held_out: WorldPairs, seed: int, visible: bool
) -> dict[str, np.ndarray]:
    """A gate over objective heads, from anonymous votes: who judges shows in the prompt, or does not.

    Args:
        visible: Prompts that ask for brevity are judged by the smaller group, all others by the larger. Else
            groups judge any prompt, in the crowd's shares.

    Returns:
        "single" and "gate" -> 1 where the order is that of the group which judges the pair, shape (pairs,);
        where that is hidden, it is the smaller group.
    """
    asked = {name: np.array([prompt_features(x) for x in p.prompts]) for name, p in _both(train, held_out)}
    votes, group = draw_votes(crowd, train, seed)
    wants = {name: np.array([p.wanted(typical(g)) for g in GROUPS]) for name, p in _both(train, held_out)}
    who = group[votes.users]
    outcomes = votes.outcomes
    if visible:
        chosen = asked["train"][votes.rows, 1].astype(int)
        fits = who == chosen
        votes, outcomes = Votes(*(part[fits] for part in votes)), outcomes[fits]
    differences = train.differences[votes.rows]
    heads = fit_heads(np.concatenate([train.first, train.second]), _ratings(train, seed))
    weights, _ = fit_gate(differences @ heads, asked["train"][votes.rows], outcomes)
    judge = asked["held_out"][:, 1].astype(int) if visible else np.ones(len(held_out.prompts), dtype=int)
    wanted = wants["held_out"][judge, np.arange(judge.size)]
    single = fit_bradley_terry(differences, outcomes)
    gated = (gate_shares(weights, asked["held_out"]) * (held_out.differences @ heads)).sum(axis=1)
    margins = {"single": held_out.differences @ single, "gate": gated}
    return {name: right_for(margin, wanted) for name, margin in margins.items()}


def _both(train: WorldPairs, held_out: WorldPairs):
    return (("train", train), ("held_out", held_out))


def _ratings(pairs: WorldPairs, seed: int) -> np.ndarray:
    """Noisy ratings of all replies on three objectives: quality, detail (length), brevity; shape (2 n, 3)."""
    replies = [pair[side] for side in (0, 1) for pair in pairs.seen]
    length = typical("thorough")
    clean = np.array([[r.gold, _taste(length, r), -_taste(length, r)] for r in replies])
    return clean + RATING_NOISE * np.random.default_rng(seed).normal(size=clean.shape)


def _taste(annotator, reply) -> float:
    """What a reply is worth to an annotator beyond its gold."""
    return annotator.utility(replace(reply, gold=0.0), replace(reply, gold=0.0, words=0, praise=0, refusal=0))
