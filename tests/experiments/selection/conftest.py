"""A made-up world of replies with a quality and a length: too much length is bad. No model is needed."""

import numpy as np
import pytest

from rlhf_hw.experiments.selection.over_inputs import ManyReplies, Variations
from rlhf_hw.experiments.selection.reward_overoptimization import reward_overoptimization
from rlhf_hw.experiments.selection.state_heads import ReadPairs

SMALL = Variations(
    sizes=(20, 80, 300),
    rates=(0.0, 0.2, 0.4, 0.5),
    draws=3,
    members=4,
    member_pairs=60,
    flip_rate=0.2,
    directions=(1, 2, 99),
)
NOISE = 0.22  # of annotators, in units of gold


def made_world(seed: int = 0, prompts: int = 40, samples: int = 64, directions: int = 16) -> ManyReplies:
    """Gold is quality minus what excess of length costs; states hold both and much else."""
    rng = np.random.default_rng(seed)

    def texts(*shape: int):
        states = rng.normal(size=(*shape, directions))
        gold = states[..., 0] - np.maximum(states[..., 1], 0) ** 2
        return states, gold, states[..., 1]

    def pairs(count: int) -> ReadPairs:
        states, gold, length = texts(count, 2)
        change, longer = gold[:, 0] - gold[:, 1], length[:, 0] - length[:, 1]
        sign = np.where(change + NOISE * rng.logistic(size=count) > 0, 1.0, -1.0)
        likes = change + longer + NOISE * rng.logistic(size=count)
        differences = sign[:, None] * (states[:, 0] - states[:, 1])
        return ReadPairs(
            differences, [f"q{n}" for n in range(count)], (sign * likes > 0) * 1.0, sign * change
        )

    states, gold, length = texts(prompts, samples)
    scores = states[..., 0] + 0.6 * rng.normal(size=(3, *gold.shape))  # blind to what length costs
    return ManyReplies(
        gold.round(1), 40 + 15 * length, scores, scores.mean(axis=0), states, pairs(1200), pairs(300)
    )


@pytest.fixture(scope="session")
def world() -> ManyReplies:
    return made_world()


@pytest.fixture(scope="session")
def found(world):
    return reward_overoptimization(world, SMALL, fitted=16)
