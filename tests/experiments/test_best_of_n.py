"""Best-of-n: an unbiased estimate over all subsets, and what selection by a wrong score brings."""

from itertools import combinations

import numpy as np
import pytest
from scored_replies import PRICE, data_pairs, scored

from rlhf_hw.experiments.best_of_n import best_by_score, best_of_n, best_weights, kl_bound
from rlhf_hw.experiments.over_optimisation import price_of_gold


def test_the_estimate_is_the_mean_over_all_subsets():
    generator = np.random.default_rng(0)
    scores, values = generator.normal(size=(2, 4, 6))
    for n in (1, 2, 5, 6):
        subsets = [list(rows) for rows in combinations(range(6), n)]
        kept = [[rows[np.argmax(score[rows])] for rows in subsets] for score in scores]
        expected = [value[rows].mean() for value, rows in zip(values, kept, strict=True)]
        assert best_by_score(scores, values, n) == pytest.approx(expected)


def test_equal_scores_share_their_places():
    assert best_by_score(np.zeros((1, 4)), np.array([[1.0, 2.0, 3.0, 6.0]]), 4) == pytest.approx([3])
    tied = np.array([[0.0, 1.0, 1.0]])
    assert best_by_score(tied, np.array([[9.0, 2.0, 4.0]]), 2) == pytest.approx([3])
    assert best_weights(16, 16).tolist()[-2:] == [0, 1] and best_weights(5, 3).sum() == pytest.approx(1)
    with pytest.raises(ValueError, match="best of 5 needs at least 5 samples, found 4"):
        best_weights(4, 5)


def test_the_bound_on_the_divergence_is_the_known_formula():
    assert kl_bound(1) == 0 and kl_bound(16) == pytest.approx(np.log(16) - 15 / 16)


def samples(bonus: float, prompts: int = 40, count: int = 8, seed: int = 0):
    """Samples of three replicates; the score holds gold at its price and `bonus` times something else."""
    generator, tables = np.random.default_rng(seed), []
    for _ in range(3):
        gold, other = generator.normal(size=(2, prompts * count))
        noise = 0.1 * generator.normal(size=(2, prompts * count))
        table = scored(gold, PRICE * gold + bonus * other + noise[0], PRICE * gold + noise[1])
        asked = [f"q{n // count}" for n in range(prompts * count)]
        tables.append(table.assign(prompt=asked, prompt_key=asked))
    return tables


def test_selection_by_a_good_score_is_selection_by_gold():
    found = best_of_n(samples(0.0), price_of_gold(data_pairs(3)))
    assert found.curves["n"].tolist() == [1, 2, 4, 8] and found.curves["gold"].iloc[0] == pytest.approx(0)
    assert found.metrics["gold_8"] == pytest.approx(found.metrics["gold_best_8"], abs=0.05)
    assert found.metrics["gold_8"] == pytest.approx(1.42, abs=0.1)  # mean of the largest of eight normals
    assert found.metrics["explained"] == pytest.approx(1, abs=0.05)
    assert (found.metrics["n"], found.metrics["gold"]) == (8, found.metrics["gold_8"])
    assert found.metrics["kl_8"] == kl_bound(8) and "gold_8_trainings_low" in found.metrics
    assert found.claims["best_of_n_raises_gold"] and not found.claims["best_of_n_score_beyond_gold"]


def test_selection_by_a_score_that_likes_something_else_is_found_out():
    found = best_of_n(samples(2.0), price_of_gold(data_pairs(3)))
    assert found.claims["best_of_n_score_beyond_gold"] and found.claims["best_of_n_raises_score"]
    assert found.metrics["explained"] < 0.5 and found.metrics["judge_8"] < 0.5 * found.metrics["score_8"]
    assert found.metrics["gold_worth"] + found.metrics["score_beyond_gold"] == pytest.approx(
        found.metrics["score_8"]
    )


def test_selection_by_a_score_that_is_against_gold_lowers_it():
    tables = samples(0.0)
    against = [table.assign(score=-table["score"]) for table in tables]
    found = best_of_n(against)
    assert found.claims["best_of_n_lowers_gold"] and found.claims["best_of_n_gold_falls_late"]
    assert found.claims["best_of_n_raises_score"] and "explained" not in found.metrics
