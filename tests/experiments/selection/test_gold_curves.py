"""Gold against proxy: brute force on small sets, the divergence and its formula, peaks and parabolas."""

from itertools import combinations, product

import numpy as np
import pytest

from rlhf_hw.experiments.best_of_n import kl_bound
from rlhf_hw.experiments.selection.gold_curves import (
    GoldCurve,
    after_peak,
    doublings,
    gold_curve,
    parabola,
    proxy_numbers,
    selection_kl,
    standardised,
    with_length_bonus,
)


def test_curves_are_means_over_all_subsets():
    generator = np.random.default_rng(0)
    proxy, gold = generator.normal(size=(2, 3, 8)), generator.normal(size=(3, 8)).round(1)
    sizes = doublings(8)
    curve = gold_curve(proxy, gold, sizes)
    assert curve.gold.shape == curve.own.shape == curve.kl.shape == (2, 3, 4)
    for training, prompt, (place, n) in product(range(2), range(3), enumerate(sizes)):
        score = proxy[training, prompt]
        best = [max(rows, key=lambda row: score[row]) for rows in combinations(range(8), int(n))]
        expected = gold[prompt][best].mean() - gold[prompt].mean()
        assert curve.gold[training, prompt, place] == pytest.approx(expected)


@pytest.mark.parametrize("n", [1, 2, 7, 64, 512])
def test_without_ties_the_divergence_is_the_formula_and_with_ties_below(n):
    generator = np.random.default_rng(n)
    assert selection_kl(generator.normal(size=512), [n]) == pytest.approx([kl_bound(n)], abs=1e-9)
    for places in (0, 1):
        (tied,) = selection_kl(generator.normal(size=512).round(places), [n])
        assert -1e-9 <= tied <= kl_bound(n) + 1e-9 and (n == 1 or tied < kl_bound(n))


def test_of_a_few_outcomes_the_divergence_is_that_of_all_draws():
    scores = np.array([0.0, 0, 1, 1, 1, 2, 2, 2])
    policy = np.array([2, 3, 3]) / 8
    for n, found in zip((2, 3), selection_kl(scores, (2, 3)), strict=True):
        chosen = np.zeros(3)
        for draws in product(range(3), repeat=n):
            chosen[max(draws)] += np.prod(policy[list(draws)])
        assert found == pytest.approx(np.sum(chosen * np.log(chosen / policy)))
    eight = np.repeat(np.arange(8), 2)
    assert kl_bound(256) == pytest.approx(
        4.55, abs=0.01
    )  # the formula, where 8 outcomes allow no more than ln 8
    assert selection_kl(eight, [256]) == pytest.approx([np.log(8)], abs=1e-3)


def test_a_peak_is_not_sought_where_it_is_measured():
    rising = np.tile(np.arange(5.0), (2, 4, 1))
    assert after_peak(rising).tolist() == [[0] * 4] * 2
    falling = np.tile([0.0, 2, 3, 1], (1, 4, 1))
    assert after_peak(falling) == pytest.approx(-2)
    noise = np.random.default_rng(0).normal(size=(1, 4000, 6))
    assert abs(after_peak(noise).mean()) < 0.1  # nothing rises or falls
    assert (noise[..., -1] - noise.max(axis=-1)).mean() < -1  # the same with a peak of its own
    with pytest.raises(ValueError, match="two are needed"):
        after_peak(rising[:, :1])


def test_a_parabola_is_found_again_and_foretells_itself():
    sizes = doublings(64)
    distance = np.sqrt([kl_bound(n) for n in sizes])
    gold = np.array([[2 * distance - distance**2, 3 * distance - 0.5 * distance**2]])
    curve = GoldCurve(sizes, gold, gold, np.zeros_like(gold))
    coefficients, forecast = parabola(curve, fitted=8)
    assert coefficients[0] == pytest.approx(np.array([[2, 1], [3, 0.5]]))
    assert forecast == pytest.approx(gold)
    numbers = proxy_numbers(curve, fitted=8)
    assert numbers["forecast_error"] == pytest.approx(0) and numbers["beta"] == pytest.approx(0.75)


def test_scores_are_brought_to_one_scale_and_length_is_added_in_it():
    generator = np.random.default_rng(0)
    scores, words = 7 + 3 * generator.normal(size=(2, 5, 50)), generator.integers(5, 99, (5, 50))
    known = standardised(scores)
    assert np.allclose(known.mean(axis=-1), 0) and np.allclose((known**2).mean(axis=(1, 2)), 1)
    assert standardised(np.ones((2, 3))).tolist() == [[0] * 3] * 2
    added = with_length_bonus(scores, words, 0.5) - known
    assert np.allclose(added, 0.5 * standardised(words.astype(float)))
