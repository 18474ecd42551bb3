"""Metrics against worked examples, scikit-learn, scipy, simulation, and a real recorded run where at hand."""

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
from scipy import special, stats
from sklearn import metrics as sk

from rlhf_hw.preferences import score_files
from rlhf_hw.stats import calibration, distributions, length
from rlhf_hw.stats.pairs import (
    accuracy,
    auc,
    compare_reward_models,
    confident_mistakes,
    gold_metrics,
    group_metrics,
    preference_metrics,
    random_heads_accuracy,
    sign_flip_p_value,
)

REAL = os.environ.get("RLHF_HW_REAL_DATA")


@pytest.fixture(scope="module")
def pairs():
    """Scores, lengths and prompts of 400 simulated pairs, two a prompt."""
    generator = np.random.default_rng(0)
    chosen, rejected = generator.normal(0.8, 1.3, 400), generator.normal(0, 1.3, 400)
    lengths = generator.integers(5, 200, (2, 400))
    return chosen, rejected, lengths[0], lengths[1], [f"prompt {row // 2}" for row in range(400)]


def test_accuracy_counts_ties_one_half():
    found = accuracy([1.0, -1.0, 0.0, 2.0])
    assert found["accuracy"] == 0.625 and found["pairs"] == 4 and found["ties"] == 1


def test_constant_scores_have_accuracy_one_half():
    found = preference_metrics([1.0] * 6, [1.0] * 6, chosen_lengths=range(6), rejected_lengths=[9] * 6)
    assert found["accuracy"] == 0.5 and found["auc"] == 0.5 and found["ece"] == 0.0
    assert found["log_loss"] == pytest.approx(np.log(2)) and found["brier"] == 0.25


def test_log_loss_brier_and_auc_equal_sklearn(pairs):
    chosen, rejected, *_ = pairs
    margins = chosen - rejected
    probability = special.expit(np.concatenate([margins, -margins]))
    labels = np.repeat([1, 0], margins.size)
    assert calibration.log_loss(margins) == pytest.approx(sk.log_loss(labels, probability))
    assert calibration.brier_score(margins) == pytest.approx(sk.brier_score_loss(labels, probability))
    pooled = np.concatenate([chosen, rejected])
    assert auc(chosen, rejected) == pytest.approx(sk.roc_auc_score(labels, pooled))


def test_correlations(pairs):
    chosen, rejected, lengths, _, prompts = pairs
    assert distributions.correlation(chosen, lengths) == pytest.approx(
        stats.spearmanr(chosen, lengths).statistic
    )
    assert distributions.correlation(chosen, [1.0] * 400) == 0
    # A level of its own for each prompt hides the order from the pooled correlation, not from the one within.
    scores, gold = np.array([1, 2, 3, 101, 102, 103.0]), np.array([50, 60, 70, 1, 2, 3.0])
    within = distributions.within_prompt_correlations(scores, gold, list("aaabbb"))
    assert within.tolist() == pytest.approx([1, 1])
    assert distributions.correlation(scores, gold) < 0


def test_random_heads_interval_covers_one_half_where_that_of_one_head_does_not():
    """Length-correlated hidden states: a single head is often far from one half, the average is not."""
    covered = alone = 0
    for seed in range(60):
        generator = np.random.default_rng(seed)
        states = generator.normal(size=(200, 8)) + np.linspace(0.6, 0, 8)  # chosen minus rejected
        margins = states @ generator.normal(size=(8, 24))
        found = random_heads_accuracy(margins)
        covered += found["accuracy_low"] <= 0.5 <= found["accuracy_high"]
        one = accuracy(margins[:, 0])
        alone += one["accuracy_low"] <= 0.5 <= one["accuracy_high"]
    assert covered >= 53 and alone < 30
    assert found["heads"] == 24 and found["head_low"] < found["accuracy"] < found["head_high"]
    right = (margins > 0).mean(axis=0)
    assert found["accuracy"] == pytest.approx(right.mean())
    assert found["head_sd"] == pytest.approx(right.std(ddof=1))


def test_length_metrics_of_a_model_that_only_sees_length(pairs):
    _, _, chosen_lengths, rejected_lengths, prompts = pairs
    found = length.length_metrics(chosen_lengths, rejected_lengths, chosen_lengths, rejected_lengths, prompts)
    assert found["accuracy_longer_chosen"] == 1 and found["accuracy_longer_rejected"] == 0
    assert found["accuracy_balanced"] == 0.5 and found["length_correlation"] == pytest.approx(1)
    table = length.accuracy_by_length_gap(
        chosen_lengths - rejected_lengths, chosen_lengths - rejected_lengths
    )
    assert table["pairs"].sum() == 400 and table["accuracy"].iloc[[0, -1]].tolist() == [0, 1]


def test_groups_and_gold():
    table = group_metrics([1.0, -1.0, 2.0, 3.0], ["b", "b", "a", "a"])
    assert table.index.tolist() == ["a", "b"] and table["accuracy"].tolist() == [1.0, 0.5]
    gold = gold_metrics([3.0, 1.0, 5.0], [2.0, 2.0, 0.0], [1.0, 1.0, 2.0], [0.0, 0.0, 2.0])
    assert gold["gold_accuracy"] == 0.5  # the third pair has equal gold


def test_mcnemar_is_the_exact_binomial_test():
    first, second = np.array([1, 1, 1, 1, 1, 1, -1, 1.0]), np.array([-1, -1, -1, -1, -1, -1, 1, 1.0])
    found = compare_reward_models(first, second)
    assert (found["only_first"], found["only_second"]) == (6, 1)
    assert found["p_value"] == pytest.approx(stats.binomtest(6, 7).pvalue)
    assert found["accuracy_difference"] == pytest.approx(5 / 8)
    assert compare_reward_models(first, first)["p_value"] == 1


def test_sign_flips_are_counted_exactly():
    differences = np.array([3, -1, 2, 2, 0])
    signs = np.array(list(itertools.product([-1, 1], repeat=5)))
    expected = (np.abs(signs @ differences) >= 6).mean()
    assert sign_flip_p_value(differences) == pytest.approx(expected)
    assert sign_flip_p_value(np.zeros(4, int)) == 1


def test_mcnemar_knows_that_pairs_of_a_prompt_agree():
    """Two equally good models, 50 prompts with 4 equal pairs each: at most one false alarm in twenty."""
    generator, alarms, blind = np.random.default_rng(0), 0, 0
    prompts = np.repeat(np.arange(50), 4)
    for _ in range(600):
        first, second = (np.repeat(generator.choice([-1.0, 1.0], 50), 4) for _ in range(2))
        alarms += compare_reward_models(first, second, prompts)["p_value"] <= 0.05
        blind += compare_reward_models(first, second)["p_value"] <= 0.05
    assert 0.01 < alarms / 600 < 0.07 and blind / 600 > 0.2


def test_confident_mistakes():
    assert confident_mistakes([1.0, -0.5, -3.0, 2.0, -1.0], 2).tolist() == [2, 4]
    assert confident_mistakes([1.0, 2.0]).size == 0


def test_all_metrics_are_finite_plain_numbers(pairs):
    chosen, rejected, chosen_lengths, rejected_lengths, prompts = pairs
    found = preference_metrics(
        chosen,
        rejected,
        prompts=prompts,
        chosen_lengths=chosen_lengths,
        rejected_lengths=rejected_lengths,
        gold_chosen=chosen + 1,
        gold_rejected=rejected,
        best_right=np.ones(400),
    )
    assert all(type(value) in (int, float) and np.isfinite(value) for value in found.values())
    assert found["accuracy_low"] < found["accuracy"] < found["accuracy_high"]
    assert preference_metrics(chosen, rejected)["accuracy"] == found["accuracy"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0, np.nan], [0.0, 0.0]), r"chosen\[1\] is nan"),
        (([1.0, 2.0], [0.0]), "rejected has 1 entries where 2 are expected"),
        (([], []), "non-empty"),
    ],
)
def test_unusable_scores_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        preference_metrics(*arguments)


def test_prompts_of_another_number_are_refused():
    with pytest.raises(ValueError, match="2 prompts for 3 rows"):
        accuracy([1.0, 2.0, 3.0], ["a", "b"])


@pytest.mark.real_data
@pytest.mark.skipif(not REAL, reason="RLHF_HW_REAL_DATA does not name the folder with the recorded run")
def test_a_real_recorded_run():
    table = score_files.read_pairs(Path(REAL) / "recorded-run" / "rm_scores_validation.jsonl.gz")
    found = preference_metrics(table["chosen_score"], table["rejected_score"], prompts=table["prompt_key"])
    assert found["pairs"] == 999 and (table["margin"] > 0).mean() == pytest.approx(0.745, abs=5e-4)
    assert found["accuracy"] == pytest.approx(0.745 + 2.5 / 999, abs=5e-4)  # five ties, one half each
    means = distributions.distribution_metrics(table["chosen_score"], table["rejected_score"])
    assert means["chosen_mean"] == pytest.approx(0.391, abs=5e-4)
    assert means["rejected_mean"] == pytest.approx(-0.457, abs=5e-4)
