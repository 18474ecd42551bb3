"""Areas under the ROC curve: scikit-learn's value, an interval that covers, and clusters that widen it."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from rlhf_hw.stats.ranking import auroc_parts, influence_interval


def test_the_value_is_that_of_scikit_learn_with_ties_too():
    generator = np.random.default_rng(0)
    positive = generator.random(60) < 0.3
    scores = (generator.normal(size=60) + positive).round(1)
    value, parts = auroc_parts(scores, positive, np.arange(60))
    assert value == pytest.approx(roc_auc_score(positive, scores)) and parts.sum() == pytest.approx(0)


def test_its_interval_covers_the_area_of_all_prompts():
    generator, area = np.random.default_rng(1), norm.cdf(1 / np.sqrt(2))
    held = 0
    for _ in range(200):
        positive = np.arange(120) < 40
        found = influence_interval(
            *auroc_parts(generator.normal(size=120) + positive, positive, np.arange(120))
        )
        held += found.low <= area <= found.high
    assert 0.91 <= held / 200 <= 0.99


def test_rows_of_one_prompt_count_as_one():
    generator = np.random.default_rng(2)
    positive, scores = np.arange(50) < 20, generator.normal(size=50)
    single = influence_interval(*auroc_parts(scores, positive, np.arange(50)))
    twice = influence_interval(
        *auroc_parts(np.tile(scores, 2), np.tile(positive, 2), np.tile(np.arange(50), 2))
    )
    assert twice == pytest.approx(single)
    assert influence_interval(*auroc_parts(scores, positive, np.zeros(50, int)))[1:] == (-np.inf, np.inf)
    with pytest.raises(ValueError, match="both kinds"):
        auroc_parts(scores, np.ones(50, bool), np.arange(50))
