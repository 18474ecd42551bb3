"""The price of gold, what it explains, and how often scores order pairs as gold does."""

import numpy as np
import pytest
from scored_replies import PRICE, data_pairs

from rlhf_hw.experiments.over_optimisation import (
    Price,
    Source,
    explained_by_gold,
    order_metrics,
    parting_claims,
    price_of_gold,
)


def test_the_price_is_the_slope_that_was_put_in():
    price = price_of_gold(data_pairs(3))
    value, prompts, trainings = price.replicated
    assert value == pytest.approx(PRICE, abs=0.02) and price.drawn.shape == (2000, 3)
    assert prompts.low < PRICE < prompts.high and trainings.low < value < trainings.high
    assert price.of_judges.values.tolist() == [*price.values[1:], price.values[0]]
    assert price_of_gold([]) is None
    unknown = [table.drop(columns="meta") for table in data_pairs(2)]
    assert price_of_gold(unknown) is None


def test_a_rise_in_score_without_gold_is_not_explained():
    generator = np.random.default_rng(0)
    gold, price = 0.5 + generator.normal(size=(2, 100)), price_of_gold(data_pairs(2))
    found = explained_by_gold(PRICE * gold + 0.6, gold, price, range(100))
    share = PRICE * gold.mean() / (PRICE * gold.mean() + 0.6)
    assert found["explained"] == pytest.approx(share, abs=0.02)
    assert found["score_beyond_gold_low"] < 0.6 < found["score_beyond_gold_high"]
    assert found["score_beyond_gold_trainings_low"] > 0.4
    claims = parting_claims({"dpo_sft": found, "sft_base": {}}, {})
    assert claims == {"dpo_score_beyond_gold": True}
    assert "explained" not in explained_by_gold(gold * 0, gold, price, range(100))  # no rise to explain


def test_an_uncertain_price_widens_what_it_explains():
    gold = np.ones((1, 50))
    found = explained_by_gold(gold, gold, Price(np.ones(1), np.linspace(0.5, 1.5, 2000)[:, None]), range(50))
    assert found["gold_worth_low"] == pytest.approx(0.525, abs=0.01)
    assert found["gold_worth_high"] == pytest.approx(1.475, abs=0.01)
    assert not parting_claims({"dpo_sft": found}, {})["dpo_score_beyond_gold"]


def source(right: float, gap: float, seed: int, pairs: int = 300) -> Source:
    """Pairs at one gap in gold of either sign, ordered rightly at a rate, by three reward models."""
    generator = np.random.default_rng(seed)
    gold = gap * generator.choice([-1.0, 1.0], (3, pairs))
    sign = np.where(generator.random((3, pairs)) < right, 1, -1)
    return Source(sign * gold, gold, [f"{seed}: {n}" for n in range(pairs)])


def test_sources_are_compared_at_matched_differences_in_gold():
    policy = source(0.7, 2.0, 1)
    found = order_metrics(
        {"data": source(0.97, 2.0, 0), "dpo_reference": policy, "near": source(0.6, 0.5, 2)}
    )
    assert found["data.large"] == pytest.approx(0.97, abs=0.02) and found["data.large_pairs"] == 900
    assert found["dpo_reference.large"] == pytest.approx(0.7, abs=0.04)
    assert found["dpo_reference.large_below_data"] == pytest.approx(0.27, abs=0.05)
    assert "data.small" not in found and "near.large" not in found
    assert found["near.small"] == pytest.approx(0.6, abs=0.05) and "near.small_below_data" not in found
    claims = parting_claims({}, found)
    assert claims == {"order_worse_on_dpo_reference": True}


def test_no_difference_between_sources_is_no_claim():
    found = order_metrics({"data": source(0.9, 2.0, 0), "dpo_reference": source(0.9, 2.0, 1)})
    assert not parting_claims({}, found)["order_worse_on_dpo_reference"]


def test_few_pairs_give_no_rate():
    few = source(0.9, 2.0, 0, pairs=3)
    assert order_metrics({"data": few}) == {}
