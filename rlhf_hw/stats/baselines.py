"""Accuracies that need no language model: what a reward model has to beat.

Both baselines return margins for validation pairs, as a reward model does, so that every metric (accuracy
with its interval, calibration, McNemar's test against the reward model) applies to them unchanged.

- Length only: the longer reply wins, if it did so in training; else the shorter.
- Bag of words: logistic regression on the difference of the TF-IDF vectors of the two replies,
  p = sigmoid(w . (x(chosen) - x(rejected))): a Bradley-Terry model whose reward is a weighted count of words.

Neither sees the prompt. So they cannot know whether a reply suits its question: on the topic, of the length
that was asked for. A reward model that beats them may owe it to reading the prompt alone.

    margins = bag_of_words_margins(train_chosen, train_rejected, chosen, rejected)
    pairs.accuracy(margins, prompts)
"""

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from rlhf_hw.errors import InputError
from rlhf_hw.stats.text import words


def length_margins(
    train_chosen: Sequence[str], train_rejected: Sequence[str], chosen: Sequence[str], rejected: Sequence[str]
) -> np.ndarray:
    """Margins of the length-only baseline: difference in words, with the sign that wins in training.

    Args:
        train_chosen, train_rejected: replies the direction is learnt from.
        chosen, rejected: replies it is judged on.

    Returns:
        Shape (pairs,), in words; 0 where both replies have the same number.
    """
    return length_direction(train_chosen, train_rejected) * length_gap(chosen, rejected)


def length_direction(chosen: Sequence[str], rejected: Sequence[str]) -> float:
    """1 where the longer reply was chosen more often, or as often, else -1."""
    return 1.0 if np.sign(length_gap(chosen, rejected)).sum() >= 0 else -1.0


def length_gap(chosen: Sequence[str], rejected: Sequence[str]) -> np.ndarray:
    """Words of the chosen reply minus words of the rejected one, shape (pairs,)."""
    if len(chosen) != len(rejected) or not len(chosen):
        raise InputError(
            f"{len(chosen)} chosen and {len(rejected)} rejected replies: expected pairs, at least one"
        )
    return np.array(
        [len(words(left)) - len(words(right)) for left, right in zip(chosen, rejected, strict=True)], float
    )


def bag_of_words_margins(
    train_chosen: Sequence[str],
    train_rejected: Sequence[str],
    chosen: Sequence[str],
    rejected: Sequence[str],
    *,
    max_features: int = 50_000,
    strength: float = 1.0,
) -> np.ndarray:
    """Margins of a logistic regression on TF-IDF differences of words and word pairs; the prompt is not seen.

    Args:
        train_chosen, train_rejected: replies the vocabulary and the weights are learnt from.
        chosen, rejected: replies it is judged on.
        max_features: the most frequent 1- and 2-grams that are kept.
        strength: inverse of the L2 penalty (scikit-learn's C).

    Returns:
        Log-odds that the chosen reply is better, shape (pairs,).
    """
    for side in ((train_chosen, train_rejected), (chosen, rejected)):
        length_gap(*side)  # refuses unequal or empty sides
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=2, max_features=max_features, sublinear_tf=True)
    vectorizer.fit([*train_chosen, *train_rejected])
    # A model without intercept treats (x, better) and (-x, worse) alike; turning every second pair around
    # gives scikit-learn the two classes it asks for and leaves the likelihood as it is.
    turn = np.where(np.arange(len(train_chosen)) % 2 == 0, 1.0, -1.0)
    features = (vectorizer.transform(train_chosen) - vectorizer.transform(train_rejected)).multiply(
        turn[:, None]
    )
    model = LogisticRegression(C=strength, fit_intercept=False, max_iter=1000).fit(features.tocsr(), turn > 0)
    return model.decision_function(vectorizer.transform(chosen) - vectorizer.transform(rejected))
