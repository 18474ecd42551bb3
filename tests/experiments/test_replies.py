"""Replies of base, SFT and DPO to the same prompts are compared by one call; planted effects come out."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scored_replies import data_pairs, policies

from rlhf_hw.experiments.part_steps import compare_parts
from rlhf_hw.experiments.replies import compare, implicit_agreement
from rlhf_hw.experiments.steps import word_counts
from rlhf_hw.stats.intervals import Estimate

# over base: SFT +0.8 gold and what that is worth; DPO 0.5 gold below SFT, with 1.9 points more
GOOD_SFT, OVER_OPTIMISED = (0.8, 0.0), (0.3, 2.5)


def planted(dpo: list[tuple[float, float]], **more):
    """What `compare` finds where SFT raises gold in three trainings and DPO does what is asked."""
    tables = policies({"sft": [GOOD_SFT] * 3, "dpo": dpo, "reference": [(1.6, 0.0)] * 3})
    kl = {"dpo_sft": np.full((3, 80), 0.5)}
    return compare({"validation": tables}, kl, pairs=data_pairs(3), **more)


def test_a_dpo_that_raises_the_score_and_lowers_gold_is_found_out():
    found = planted([OVER_OPTIMISED] * 3)
    holds = {name for name, true in found.claims.items() if true}
    assert holds & {name for name in found.claims if name.startswith("sft_")} == {
        "sft_raises_score",
        "sft_raises_judge",
        "sft_raises_gold",
        "sft_length_controlled_survives",
        "sft_judge_length_controlled_survives",
        "sft_below_reference_by_gold",
        "sft_below_reference_by_score",
        "sft_below_reference_by_judge",
    }
    assert holds & {name for name in found.claims if name.startswith("dpo_") and "over_base" not in name} == {
        "dpo_raises_score",
        "dpo_raises_judge",
        "dpo_lowers_gold",
        "dpo_win_rate_beyond_judge",
        "dpo_score_beyond_gold",
        "dpo_judge_beyond_gold",
        "dpo_length_controlled_survives",
        "dpo_judge_length_controlled_survives",
        "dpo_above_reference_by_score",
        "dpo_below_reference_by_gold",
        "dpo_above_reference_by_score_below_by_gold",
        "dpo_below_reference_by_judge",
    }
    assert {"dpo_over_base_raises_gold", "dpo_over_base_score_beyond_gold"} <= holds
    assert {"order_worse_on_dpo_reference"} <= holds and "order_worse_on_sft_base" not in holds


def test_its_numbers_are_those_put_in():
    found = planted([OVER_OPTIMISED] * 3)
    sft, dpo = (found.steps["validation"][pair] for pair in ("sft_base", "dpo_sft"))
    assert sft["gold_difference"] == pytest.approx(0.8, abs=0.1)
    assert dpo["gold_difference"] == pytest.approx(-0.5, abs=0.1)
    assert dpo["score_difference"] == pytest.approx(1.9, abs=0.12) and dpo["kl"] == 0.5
    for judge in ("", "judge_"):  # lengths say nothing here
        equal, counted = (sft[f"{judge}win_rate{end}"] for end in ("_length_controlled", ""))
        assert equal == pytest.approx(counted, abs=0.05) and counted > 0.6
    assert found.price == pytest.approx(1.2, abs=0.03) == found.metrics["steps.price"]
    assert sft["explained"] == pytest.approx(1, abs=0.1) and "explained" in dpo
    assert dpo["gold_worth"] == pytest.approx(found.price * dpo["gold_difference"], abs=0.01)
    assert dpo["gold_worth"] + dpo["score_beyond_gold"] == pytest.approx(dpo["score_difference"])
    assert found.metrics["steps.validation.dpo_sft.gold_difference_trainings_low"] < -0.4
    assert found.metrics["inference.validation.sft.gold_mean"] - found.metrics[
        "inference.validation.base.gold_mean"
    ] == pytest.approx(sft["gold_difference"])
    assert found.order["data.large"] > 0.99 and found.order["dpo_reference.large_below_data"] > 0.3


def test_replicates_that_disagree_carry_no_claim():
    found = planted([(1.6, 0.0), (0.1, 0.0), (0.7, 0.0)])
    alone = compare({"validation": {p: t[:1] for p, t in policies({"dpo": [(1.6, 0.0)]}).items()}})
    assert alone.claims["dpo_over_base_raises_gold"] and alone.claims["dpo_over_base_raises_score"]
    dpo = {name for name, true in found.claims.items() if true and name.startswith("dpo_")}
    said = ("raises", "lowers", "above", "below", "beyond", "survives")
    over_sft = {name for name in dpo if "over_base" not in name}
    assert not [name for name in over_sft if any(word in name for word in said)], over_sft
    assert {"dpo_gold_open", "dpo_score_open", "dpo_judge_open"} <= dpo
    assert found.claims["sft_raises_gold"] and "explained" not in found.steps["validation"]["dpo_sft"]


def test_a_dpo_that_truly_improves_is_not_accused():
    found = planted([(1.4, 0.0)] * 3)
    assert found.claims["dpo_raises_gold"] and found.claims["dpo_raises_score"]
    suspicions = ("beyond", "worse", "above_reference_by_score_below_by_gold")
    assert not [name for name, true in found.claims.items() if true and any(w in name for w in suspicions)]


def test_gold_parts_stand_beside_gold():
    found = planted([OVER_OPTIMISED] * 3, parts=lambda prompt, reply: {"words": len(reply.split())})
    assert found.metrics["steps.validation.dpo_sft.gold_words"] == 0
    assert "steps.validation.dpo_sft.gold_words_trainings_low" in found.metrics


def test_recorded_replies_need_no_model_no_gold_and_no_texts_in_the_report():
    recorded = {p: [t.drop(columns="meta") for t in ts] for p, ts in policies({"dpo": [(0.5, 0.2)]}).items()}
    found = compare_parts({"validation": recorded}, show_texts="none")
    elsewhere = {"validation": policies({"dpo": [(0.5, 0.2)]})}  # another system's "gold"
    shown = compare(elsewhere, world=False)
    rest = {key: value for key, value in found.metrics.items() if not key.startswith("damage.")}
    assert shown.metrics | {"texts.shown": "none"} == rest and "gold" not in shown.cases[0]
    assert set(found.steps["validation"]) == {"dpo_base"} and found.tables == {} and found.order == {}
    assert not any("gold" in key or "judge" in key for key in found.metrics)
    assert not any("trainings" in key for key in found.metrics) and found.cases == []
    assert found.claims["dpo_over_base_raises_score"] and "dpo_raises_score" not in found.claims


def test_what_figures_and_tables_show_is_of_the_first_replicate():
    found = planted([OVER_OPTIMISED] * 3, describe=lambda prompt, reply: "parts")
    assert list(found.scores["validation"]) == list(found.lengths) == ["base", "SFT", "DPO", "reference"]
    assert found.lengths["base"][1].tolist()[:3] == [5, 6, 7]
    assert [row["model"] for row in found.cases[:3]] == ["base", "SFT", "DPO"]
    assert found.tables["samples"] == found.cases and found.cases[0]["parts of gold"] == "parts"
    assert "finished" not in found.described["validation", "reference"]  # no policy ended it


def test_replies_to_other_prompts_are_refused():
    tables = policies({"sft": [GOOD_SFT] * 2, "dpo": [GOOD_SFT] * 2})
    tables["dpo"][1] = tables["dpo"][1].iloc[::-1]
    with pytest.raises(ValueError, match="train: base and DPO replies must be to the same prompts"):
        compare({"validation": policies({"dpo": [GOOD_SFT]}), "train": tables})


def test_a_chinese_character_is_a_word():
    assert word_counts(["two words", "\u6ce1\u8336", ""]).tolist() == [2, 2, 0]


def test_implicit_correlation_is_spearmans_with_an_interval_around_it():
    generator = np.random.default_rng(0)
    score = generator.normal(size=200)
    table = pd.DataFrame({"implicit": score + generator.normal(size=200), "score": score})
    found = implicit_agreement([table])
    value, low, high = Estimate.of(found, "implicit_reward_correlation")
    assert value == pytest.approx(stats.spearmanr(table["implicit"], table["score"]).statistic)
    half = 1.96 * np.sqrt((1 + value**2 / 2) / 197)  # Bonett and Wright 2000, on Fisher's scale
    expected = np.tanh(np.arctanh(value) + np.array([-half, half]))
    assert (low, high) == pytest.approx(tuple(expected), abs=0.03)
    both = implicit_agreement([table, table])
    assert both["implicit_reward_correlation_trainings_low"] == pytest.approx(value)
