"""Replies of base and DPO to the same prompts are compared by one call."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from rlhf_hw.experiments.replies import compare, movement_metrics, word_counts
from rlhf_hw.stats.intervals import Estimate


def replies(score: float, gold: bool = True, count: int = 8) -> pd.DataFrame:
    """Scored replies, the more words the higher their score; `score` is added to all."""
    rows = [
        {"prompt": f"q{n}", "prompt_key": f"q{n}", "response": "tea " * (1 + (n + int(score)) % 5)}
        | {"score": n % 3 + score, "finished": n > 0, "meta": {"gold": n - score} if gold else {}}
        for n in range(count)
    ]
    return pd.DataFrame(rows)


@pytest.fixture
def sets():
    held_out = {"base": replies(0), "dpo": replies(1), "reference": replies(2)}
    return {"validation": held_out, "train": {"base": replies(0), "dpo": replies(-2)}}


def test_one_call_compares_and_holds_what_is_shown(sets):
    moved = {"validation": pd.DataFrame({"kl": [0.5] * 8, "implicit": range(8), "score": range(8)})}
    found = compare(sets, moved, describe=lambda prompt, reply: "parts")
    held_out = found.against_base["validation"]
    assert (held_out["win_rate"], held_out["gold_win_rate"], held_out["prompts"]) == (1.0, 0.0, 8)
    assert found.metrics["inference.train.win_rate"] == 0 and found.metrics["inference.validation.kl"] == 0.5
    assert found.metrics["inference.validation.implicit_reward_correlation"] == pytest.approx(1)
    assert found.metrics["inference.validation.dpo.finished"] == 7 / 8
    assert "finished" not in found.described["validation", "reference"]  # no policy ended it
    assert found.claims["dpo_raises_score"] and found.claims["dpo_lowers_gold"]
    assert list(found.scores["validation"]) == list(found.lengths) == ["base", "DPO", "reference"]
    assert found.lengths["base"][1].tolist() == [1, 2, 3, 4, 5, 1, 2, 3]
    assert found.win_rates["validation: true reward"].value == 0 and len(found.win_rates) == 6
    assert found.score_gains["train"].value == -2 and found.gold_gains["train"].value == 2
    assert found.tables["samples"] == found.cases and found.cases[0]["parts of gold"] == "parts"
    assert [row["model"] for row in found.cases[:2]] == ["base", "DPO"]
    assert found.moved.keys() == {"validation"}


def test_recorded_replies_need_no_model_no_gold_and_no_texts_in_the_report():
    sets = {"validation": {"base": replies(0, gold=False), "dpo": replies(1, gold=False)}}
    found = compare(sets, show_texts=False)
    elsewhere = {"validation": {"base": replies(0), "dpo": replies(1)}}  # another system's "gold"
    assert compare(elsewhere, world=False).metrics == found.metrics
    assert found.gold_gains == {} == found.moved and found.tables == {}
    assert not any("gold" in key for key in found.metrics) and "gold" not in found.cases[0]


def test_replies_to_other_prompts_are_refused(sets):
    sets["train"]["dpo"] = sets["train"]["dpo"].iloc[::-1]
    with pytest.raises(ValueError, match="train: base and DPO replies must be to the same prompts"):
        compare(sets)


def test_a_chinese_character_is_a_word():
    assert word_counts(["two words", "\u6ce1\u8336", ""]).tolist() == [2, 2, 0]


def test_implicit_correlation_is_spearmans_with_an_interval_around_it():
    generator = np.random.default_rng(0)
    score = generator.normal(size=200)
    table = pd.DataFrame({"kl": 2.0, "implicit": score + generator.normal(size=200), "score": score})
    found = movement_metrics(table)
    value, low, high = Estimate.of(found, "implicit_reward_correlation")
    assert Estimate.of(found, "kl") == (2, 2, 2)
    assert value == pytest.approx(stats.spearmanr(table["implicit"], table["score"]).statistic)
    half = 1.96 * np.sqrt((1 + value**2 / 2) / 197)  # Bonett and Wright 2000, on Fisher's scale
    expected = np.tanh(np.arctanh(value) + np.array([-half, half]))
    assert (low, high) == pytest.approx(tuple(expected), abs=0.03)
