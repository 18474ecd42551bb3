"""A reward for each user, from few comparisons of that user's own.

Users are those of one group of the world with a wide spread of tastes in length and praise, so that hardly
two want the same. Models learn from many users with many comparisons each; then users come that were not
among them, and show a few comparisons. How well is each foretold?

- "single": one Bradley-Terry reward for all.
- "alone": a reward from the user's own comparisons only.
- "low rank": mean reward and two directions (`stats.populations`), the user's place in them as compared.
- "user variable": the network of `user_variable` reads the comparisons.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlhf_hw.experiments.plural.crowd import NEUTRAL, Votes, WorldPairs, ask, right_for
from rlhf_hw.experiments.plural.user_variable import fit_user_variable
from rlhf_hw.stats.choice_models import fit_bradley_terry
from rlhf_hw.stats.populations import fit_low_rank, place_user
from rlhf_hw.world.annotators import Annotator, users

USER_MODELS = ("single", "alone", "low rank", "user variable")
CONTEXTS = (0, 1, 2, 4, 8, 16, 32)  # comparisons that a new user shows
RANK = 2


@dataclass(frozen=True)
class Individuals:
    """Users, and how far apart their tastes are.

    Attributes:
        known: Users that models learn from.
        each: Comparisons of each.
        new: Users that come afterwards; the same in every replicate.
        spread: Standard deviation of their tastes, in units of gold: for 15 words more, and for a sentence
            of praise. 0: all want the same.
        steps: Of training the network.
    """

    known: int = 120
    each: int = 48
    new: int = 60
    spread: float = 0.8
    steps: int = 600


def draw_users(people: Individuals, seed: int, count: int) -> list[Annotator]:
    """So many users with tastes of their own."""
    return users(count, spread=people.spread, seed=seed, base=NEUTRAL)


def chosen_minus_rejected(votes: Votes, pairs: WorldPairs, count: int) -> np.ndarray:
    """Every user's comparisons, shape (`count` users, comparisons of each, D)."""
    signed = pairs.differences[votes.rows] * (2 * votes.outcomes - 1)[:, None]
    return signed.reshape(count, -1, signed.shape[1])


def judge_users(
    people: Individuals,
    train: WorldPairs,
    held_out: WorldPairs,
    seed: int,
    contexts: Sequence[int] = CONTEXTS,
) -> dict[str, np.ndarray]:
    """One replicate: how often each model orders held-out pairs as new users want.

    Returns:
        "<model>.<comparisons shown>" -> share of held-out pairs for each new user, shape (new users,).
    """
    crowd = draw_users(people, seed, people.known)
    votes = ask(crowd, train, people.each, random.Random(f"{seed}/known"))
    differences = train.differences[votes.rows]
    single = fit_bradley_terry(differences, votes.outcomes)
    low_rank = fit_low_rank(differences, votes.outcomes, votes.users, rank=RANK)
    shown = chosen_minus_rejected(votes, train, people.known)
    sizes = [n for n in contexts if n < people.each]
    network = fit_user_variable(shown, sizes, start=single, steps=people.steps, seed=seed)
    new = draw_users(people, -1, people.new)
    said = ask(new, train, max(*contexts, 1), random.Random(f"{seed}/new"))
    context = chosen_minus_rejected(said, train, people.new)
    found: dict[str, list[float]] = {f"{model}.{n}": [] for model in USER_MODELS for n in contexts}
    for user, comparisons in zip(new, context, strict=True):
        wanted = held_out.wanted(user)
        for n in contexts:
            seen, won = comparisons[:n], np.ones(n)
            rewards = (
                single,
                fit_bradley_terry(seen, won, penalty=1.0) if n else np.zeros_like(single),
                low_rank.reward(place_user(low_rank, seen, won)),
                network.weights_for(seen),
            )
            for model, reward in zip(USER_MODELS, rewards, strict=True):
                right = right_for(held_out.differences @ reward, wanted).mean()
                found[f"{model}.{n}"].append(float(right))
    return {name: np.array(values) for name, values in found.items()}
