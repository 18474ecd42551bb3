"""Signs that a reply is unfamiliar to a reward model, from the last hidden state where its score is read.

One is the distance of that state from those of training replies (Lee et al. 2018). The other is the
disagreement of an ensemble of score heads, each fitted by the Bradley-Terry likelihood to another bootstrap
sample of training pairs on the frozen states: an ensemble of the last layer only, which costs seconds where
one of whole models (Coste et al. 2024) costs several trainings, and which therefore underestimates the
disagreement.

    known = FamiliarStates(training_states(reward_model, train))
    known.signs(states_of(reward_model, prompts, replies))
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import LogisticRegression

from rlhf_hw.models.batches import TokenizedGroups, group_tokens, tokenize_preferences
from rlhf_hw.models.forward import end_states
from rlhf_hw.models.scoring import RewardModel
from rlhf_hw.preferences.templates import Preference

ROWS = 32  # at a time
HEADS = 8
STRENGTH = 0.1  # sklearn's C; the states are standardized, and there are about as many of them as pairs


def states_of(
    reward_model: RewardModel, prompts: Sequence[list[int]], replies: Sequence[list[int]]
) -> np.ndarray:
    """Last hidden states at the last ids of replies, one a prompt, shape (replies, width).

    One reply a row: with so short prompts, two replies behind one prompt take longer than the prompt twice.
    """
    return states_of_groups(reward_model, group_tokens(prompts, [[ids] for ids in replies]))[:, 0]


def training_states(reward_model: RewardModel, preferences: Sequence[Preference]) -> np.ndarray:
    """States of chosen and rejected replies, shape (pairs, 2, width)."""
    groups, _, _ = tokenize_preferences(preferences, reward_model.renderer)
    return states_of_groups(reward_model, groups).astype(float)


def states_of_groups(reward_model: RewardModel, groups: TokenizedGroups) -> np.ndarray:
    """`forward.end_states` a few rows of like length at a time, shape (groups, replies, width).

    A trial has a hundred texts of very different length: padded to the longest, they take twice the time.
    """
    model, pad, dtype = reward_model.model, reward_model.renderer.pad_id, reward_model.dtype
    order = np.argsort(groups.lengths, kind="stable")
    parts = [order[start : start + ROWS] for start in range(0, len(order), ROWS)]
    states = np.concatenate([end_states(model, groups.select(part), pad, dtype) for part in parts])
    return states[np.argsort(order, kind="stable")]


class FamiliarStates:
    """What training replies look like to a reward model; other replies are held against it.

    Args:
        training: from `training_states`, of some hundreds of training pairs, shape (pairs, 2, width).
    """

    def __init__(self, training: np.ndarray):
        flat = np.asarray(training, dtype=float).reshape(-1, training.shape[-1])
        self.covariance = LedoitWolf().fit(flat)  # shrunk (Ledoit and Wolf 2004)
        self.heads = fitted_heads(training, flat)
        known = flat @ self.heads
        self.level, self.spread_of_scores = known.mean(axis=0), known.std(axis=0)

    def distance(self, states: ArrayLike) -> np.ndarray:
        """Mahalanobis distance from the training replies (Lee et al. 2018).

        Args:
            states: shape (replies, width).

        Returns:
            Shape (replies,), divided by sqrt(width), so that familiar text is near 1.
        """
        states = np.asarray(states, dtype=float)
        return np.sqrt(self.covariance.mahalanobis(states) / states.shape[1])

    def disagreement(self, states: ArrayLike) -> np.ndarray:
        """Standard deviation of the scores that the ensemble of heads gives.

        Args:
            states: shape (replies, width).

        Returns:
            Shape (replies,), in standard deviations of the training replies' scores; the level that each head
            leaves open is set by the training replies.
        """
        scores = (np.asarray(states, dtype=float) @ self.heads - self.level) / self.spread_of_scores
        return scores.std(axis=1)

    def signs(self, states: ArrayLike) -> np.ndarray:
        """Both signs of unfamiliarity, shape (replies, 2): distance, disagreement."""
        return np.column_stack([self.distance(states), self.disagreement(states)])


def fitted_heads(training: np.ndarray, flat: np.ndarray) -> np.ndarray:
    """Weights of an ensemble of score heads, each fitted to a bootstrap sample, shape (width, heads)."""
    scale = flat.std(axis=0) + 1e-9
    difference = (training[:, 0] - training[:, 1]) / scale
    generator, weights = np.random.default_rng(0), []
    for _ in range(HEADS):
        drawn = difference[generator.integers(0, len(difference), len(difference))]
        sign = generator.choice([-1.0, 1.0], len(drawn))
        model = LogisticRegression(C=STRENGTH, fit_intercept=False, max_iter=500).fit(
            drawn * sign[:, None], sign
        )
        weights.append(model.coef_[0] / scale)
    return np.column_stack(weights)
