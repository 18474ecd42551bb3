"""Signs that a reply is unfamiliar to a reward model, from the last hidden state where its score is read.

One is the distance of that state from those of training replies (Lee et al. 2018). The other is the
disagreement of an ensemble of score heads, each fitted by the Bradley-Terry likelihood to another bootstrap
sample of training pairs on the frozen states: an ensemble of the last layer only, which costs seconds where
one of whole models (Coste et al. 2024) costs several trainings, and which therefore underestimates the
disagreement.

    unfamiliarity(reward_model, pairs, training_states(reward_model, train), ends)
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import LogisticRegression

from rlhf_hw.experiments.score_gap.decompose import of_replies
from rlhf_hw.experiments.score_gap.edits import Pair, ScoredReply, corrected
from rlhf_hw.models.batches import group_tokens, tokenize_preferences
from rlhf_hw.models.forward import end_states
from rlhf_hw.models.scoring import RewardModel
from rlhf_hw.preferences.templates import Preference

HEADS = 8
STRENGTH = 0.1  # sklearn's C; the states are standardized, and there are about as many of them as pairs


def states_of(reward_model: RewardModel, replies: Sequence[ScoredReply]) -> np.ndarray:
    """Last hidden states where the scores are read, shape (replies, width); equal texts computed once."""

    def states(prompts: Sequence[list[int]], contents: Sequence[list[int]]) -> np.ndarray:
        groups = group_tokens(prompts, [[ids] for ids in contents])
        return end_states(reward_model.model, groups, reward_model.renderer.pad_id, reward_model.dtype)[:, 0]

    return of_replies(states, replies)


def training_states(reward_model: RewardModel, preferences: Sequence[Preference]) -> np.ndarray:
    """States of chosen and rejected replies, shape (pairs, 2, width)."""
    groups, _, _ = tokenize_preferences(preferences, reward_model.renderer)
    states = end_states(reward_model.model, groups, reward_model.renderer.pad_id, reward_model.dtype)
    return states.astype(float)


def hidden_distance(states: ArrayLike, familiar: ArrayLike) -> np.ndarray:
    """Mahalanobis distance of hidden states from those of familiar texts (Lee et al. 2018).

    Args:
        states: shape (replies, width).
        familiar: states of replies from the training distribution, shape (replies, width); their covariance
            is shrunk (Ledoit and Wolf 2004).

    Returns:
        Shape (replies,), divided by sqrt(width), so that familiar text is near 1.
    """
    model = LedoitWolf().fit(np.asarray(familiar, dtype=float))
    return np.sqrt(model.mahalanobis(np.asarray(states, dtype=float)) / np.shape(states)[1])


def head_spread(states: np.ndarray, training: np.ndarray) -> np.ndarray:
    """Standard deviation of the scores that an ensemble of heads gives.

    Args:
        states: shape (replies, width).
        training: shape (pairs, 2, width), chosen first.

    Returns:
        Shape (replies,), in standard deviations of the training replies' scores; the level that each head
        leaves open is set by the training replies.
    """
    flat = training.reshape(-1, training.shape[-1])
    scale = flat.std(axis=0) + 1e-9
    difference = (training[:, 0] - training[:, 1]) / scale
    generator, scores = np.random.default_rng(0), []
    for _ in range(HEADS):
        drawn = difference[generator.integers(0, len(difference), len(difference))]
        sign = generator.choice([-1.0, 1.0], len(drawn))
        model = LogisticRegression(C=STRENGTH, fit_intercept=False, max_iter=500).fit(
            drawn * sign[:, None], sign
        )
        weight = model.coef_[0] / scale
        known = flat @ weight
        scores.append((states @ weight - known.mean()) / known.std())
    return np.std(scores, axis=0)


def unfamiliarity(
    reward_model: RewardModel, pairs: Sequence[Pair], training: np.ndarray, ends: frozenset[int]
) -> np.ndarray:
    """Signs of unfamiliar text, corrected generated reply minus corrected reference.

    Args:
        training: from `training_states`, of some hundreds of training pairs.

    Returns:
        Shape (prompts, 2): hidden-state distance, spread of the heads.
    """
    sides = zip(*((pair.generated, pair.reference) for pair in corrected(pairs, ends)), strict=True)
    states = [states_of(reward_model, side) for side in sides]
    flat = training.reshape(-1, training.shape[-1])
    signs = [np.column_stack([hidden_distance(side, flat), head_spread(side, training)]) for side in states]
    return signs[0] - signs[1]
