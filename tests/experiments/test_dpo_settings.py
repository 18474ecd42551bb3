"""The choice of DPO's settings: the rule, what it costs by gold, and prompts that stand apart."""

import numpy as np
import pandas as pd
import pytest

from rlhf_hw.experiments.dpo_settings import (
    Setting,
    by_rule,
    choose,
    edges,
    grid,
    pairs_of_replicates,
    prompts_apart,
)
from rlhf_hw.preferences.templates import Message, Preference

PROMPTS = 200


def judged(kl: float, **gains: float) -> pd.DataFrame:
    """Answers of a policy: the start's, zeros with noise, plus a gain by each judge."""
    noise = np.random.default_rng(0).normal(0, 1, PROMPTS)
    return pd.DataFrame({"kl": np.full(PROMPTS, kl)} | {name: noise + gain for name, gain in gains.items()})


def spread(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    noise = np.random.default_rng(seed).normal(0, 0.5, (PROMPTS, 3))
    return table.assign(
        **{name: table[name] + noise[:, n] for n, name in enumerate(("score", "judge", "gold"))}
    )


def test_grid_takes_every_rate_with_every_beta() -> None:
    assert grid("3e-5, 1e-4", "0.1,0.3") == [(3e-5, 0.1), (1e-4, 0.1), (3e-5, 0.3), (1e-4, 0.3)]
    for wrong in ("", "a", "0", "-1", "nan", "inf", "1e-5,,2e-5"):
        with pytest.raises(ValueError, match="learning_rates: expected numbers above 0"):
            grid(wrong, "0.1")


def test_the_highest_gain_within_the_budget_is_taken() -> None:
    assert by_rule([0.1, 0.5, 0.4, 0.9], [0.1, 1.0, 0.5, 4.0], budget=1.84) == 1
    assert by_rule([0.1, 0.5], [0.1, 1.84], budget=1.84) == 1
    assert by_rule([0.9, 0.5], [5.0, 3.0], budget=1.84) == 1  # all beyond: the one that moved least


def test_a_chosen_value_at_the_edge_of_those_tried_is_told() -> None:
    tried = grid("1e-5,1e-4,1e-3", "0.1")
    at = [edges(tried, setting)["choice_at_the_edge"] for setting in tried]
    assert at == [True, False, True]


def test_an_over_optimised_setting_is_chosen_by_score_and_its_cost_is_told() -> None:
    """The score rises on and on, the independent judge and gold fall behind."""
    settings = grid("1e-5,1e-4,1e-3", "0.1")
    start = judged(0, score=0, judge=0, gold=0)
    gains = [(1, {"score": 0.3, "judge": 0.3, "gold": 0.3}), (4, {"score": 0.6, "judge": 0.5, "gold": 0.1})]
    gains += [(30, {"score": 1.2, "judge": 0.2, "gold": -0.8})]
    tables = [spread(judged(kl, **gain), n) for n, (kl, gain) in enumerate(gains)]
    found = choose(settings, tables, start, budget=5)
    assert (found.chosen, found.best) == (1, {"score": 2, "judge": 1, "gold": 0})
    assert found.metrics["choice.learning_rate"] == 1e-4 and found.metrics["choice.kl"] == 4
    assert found.metrics["choice.score_best.gold_difference_high"] < -0.5
    assert found.metrics["choice.farthest.kl"] == 30 and found.metrics["choice.farthest.score_difference"] > 1
    assert found.metrics["choice.gold_lost"] == pytest.approx(0.2, abs=0.15)
    assert found.metrics["choice.gold_lost_low"] > 0
    assert [row["chosen"] for row in found.tables["dpo_settings"]] == [False, True, False]


def test_without_gold_or_judge_the_score_decides() -> None:
    start = judged(0, score=0)
    found = choose(
        [Setting(1e-5, 0.1), Setting(1e-4, 0.1)], [judged(3, score=0.1), judged(2, score=2)], start, 1.84
    )
    assert found.chosen == 1 and set(found.gains) == {"score"}
    assert found.claims["settings_tried"] and not found.claims["choice_by_judge"]
    assert found.claims["choice_beyond_budget"] and found.claims["choice_at_the_edge"]
    assert not any("gold" in key for key in found.metrics)


def test_prompts_apart_stand_in_no_other_set() -> None:
    pairs = [Preference((Message("user", f"Q{n}"),), "a", "b") for n in range(10)]
    found = prompts_apart([*pairs, pairs[9], pairs[0]], 4, pairs[8:9], 3)
    assert [p.question for p in found] == ["Q6", "Q7", "Q9"]
    with pytest.raises(ValueError, match="choice_prompts: 6 prompts are asked for, and 5 are left of 10"):
        prompts_apart(pairs, 4, pairs[8:9], 6)


def test_a_training_takes_no_pairs_of_the_next_replicate() -> None:
    assert pairs_of_replicates(3, 100, max_train=100, sft_max_train=7) == 300
    for size in (0, 101):
        with pytest.raises(ValueError, match=f"sft_max_train: expected 1 to replicate_pairs, 100.*{size}"):
            pairs_of_replicates(3, 100, max_train=50, sft_max_train=size)
