"""Win rates, length control, statistics of replies: worked examples, references, simulation, a real run."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rlhf_hw.errors import InputError
from rlhf_hw.preferences import score_files
from rlhf_hw.stats import length, pairs, policies, text

REAL = os.environ.get("RLHF_HW_REAL_DATA")


def test_win_rate_of_a_worked_example():
    found = policies.win_rate([1.0, 2.0, 3.0, 4.0], [0.0, 2.0, 5.0, 1.0])
    assert found["win_rate"] == 0.625
    assert (found["wins"], found["losses"], found["win_ties"], found["prompts"]) == (2, 1, 1, 4)


def test_paired_difference_is_sharper_than_its_parts():
    generator = np.random.default_rng(0)
    level = generator.normal(0, 10, 300)  # each prompt has its own level
    found = policies.score_difference(level + generator.normal(0.5, 1, 300), level)
    assert found["score_difference_low"] > 0 and found["score_difference"] == pytest.approx(0.5, abs=0.2)
    assert found["score_difference_effect"] == pytest.approx(0.5, abs=0.2)


def test_cases_are_of_the_right_sign():
    found = policies.cases([5.0, 1.0, 1.0, 0.0], [1.0, 1.0, 0.0, 3.0], count=3)
    assert found == {"gains": [0, 2], "losses": [3], "ties": [1, 2, 3]}


def test_cases_leave_out_what_is_skipped():
    found = policies.cases([5.0, 1.0, 1.0, 0.0], [1.0, 1.0, 0.0, 3.0], 3, skip=[False, True, False, False])
    assert found == {"gains": [0, 2], "losses": [3], "ties": [2, 3, 0]}


def test_case_rows_name_the_prompt_once_and_give_gold_where_it_is_known():
    tables = {
        name: pd.DataFrame({"prompt": ["p", "q"], "response": [name, name], "score": [score, 0.0]})
        for name, score in (("base", 1.234), ("dpo", 2.0))
    }
    gold = {"base": [0.5, 0.0], "dpo": None}
    rows = policies.case_rows(tables, {"gains": [0]}, {"base": "base", "dpo": "DPO"}, gold, "{} {}".format)
    assert rows[0] == {
        "case": "gains: p",
        "model": "base",
        "reply": "base",
        "score": 1.23,
        "gold": 0.5,
        "parts of gold": "p base",
    }
    assert rows[1:] == [{"case": "", "model": "DPO", "reply": "dpo", "score": 2.0}]


def test_statements_need_intervals_beyond_zero():
    generator = np.random.default_rng(0)
    base, words = generator.normal(size=300), generator.integers(20, 60, 300)
    longer = words + generator.integers(0, 5, 300)
    found = policies.compare_policies(base + 0.5, base, None, longer, words)
    assert found["length_difference"] == pytest.approx((longer - words).mean())
    said = policies.statements(found)
    assert {name for name, holds in said.items() if holds} == {
        "dpo_raises_score",
        "length_controlled_survives",
        "dpo_longer",
    }
    same = policies.compare_policies(base, base, None, words, words, gold_first=base, gold_second=base)
    assert [name for name, holds in policies.statements(same).items() if holds] == ["dpo_gold_open"]


def test_gold_agreement_counts_prompts_with_unequal_gold_and_ties_one_half():
    found = pairs.gold_agreement([1.0, -1.0, 0.0, 4.0], [1.0, 1.0, 1.0, 0.0])
    assert found["gold_agreement"] == pytest.approx((1 + 0 + 0.5) / 3)
    assert pairs.gold_agreement([1.0], [0.0]) == {}


def test_gold_tells_an_overoptimised_policy():
    generator = np.random.default_rng(0)
    base = generator.normal(size=400)
    found = policies.compare_policies(base + 1, base, gold_first=base - 0.5, gold_second=base)
    assert found["win_rate"] == 1 and found["gold_win_rate"] == 0 and found["gold_agreement"] == 0
    assert found["gold_gain_in_sd"] == pytest.approx(-0.5 / base.std(ddof=1))


@pytest.mark.parametrize("within_prompts", [False, True])
def test_length_share_finds_the_part_that_length_pays(within_prompts):
    generator = np.random.default_rng(0)
    prompts = np.repeat(np.arange(500), 2)
    level = np.repeat(generator.normal(0, 1, 500), 2)
    lengths = generator.uniform(20, 120, 1000)
    reference = 0.02 * lengths + level + generator.normal(0, 0.3, 1000)
    new_lengths = generator.uniform(60, 160, 500)
    generated = 0.02 * new_lengths + level[::2] + 1.0 + generator.normal(0, 0.3, 500)
    found = length.length_share(
        reference, lengths, generated, new_lengths, prompts, np.arange(500), within_prompts=within_prompts
    )
    assert found["rise_length"] == pytest.approx(0.8, abs=0.12) and found["rise_rest"] == pytest.approx(
        1, abs=0.12
    )
    assert found["rise_length_share_low"] < 0.8 / 1.8 < found["rise_length_share_high"]
    assert found["rise_length"] + found["rise_rest"] == pytest.approx(found["rise"])


def test_length_share_is_finite_without_shared_prompts():
    generator = np.random.default_rng(1)
    lengths, new_lengths = generator.uniform(20, 120, 24), generator.uniform(60, 160, 6)
    arguments = (0.02 * lengths, lengths, 0.02 * new_lengths + 1, new_lengths)
    found = length.length_share(*arguments, list("abcdefghijkl") * 2, range(6))
    assert np.isfinite(list(found.values())).all()
    assert found["rise_length_low"] < found["rise"] - 1 < found["rise_length_high"]
    with pytest.raises(InputError, match="two reference replies of different length"):
        length.length_share(*arguments, range(24), range(6), within_prompts=True)


def test_the_share_of_a_rise_that_may_be_none_is_left_out():
    generator = np.random.default_rng(2)
    scores, lengths = generator.normal(size=(2, 20)), generator.uniform(20, 120, (2, 20))
    found = length.length_share(scores[0], lengths[0], scores[1], lengths[1], range(20), range(20))
    assert found["rise_low"] < 0 < found["rise_high"] and "rise_length_share" not in found


def test_slope_is_the_least_squares_line():
    generator = np.random.default_rng(0)
    lengths, scores = generator.uniform(0, 300, 200), generator.normal(size=200)
    found = length.score_length_slope(scores, lengths, per=100)
    assert found["score_length_slope"] == pytest.approx(100 * np.polyfit(lengths, scores, 1)[0])
    with pytest.raises(ValueError, match="all lengths are equal"):
        length.score_length_slope(scores, np.ones(200))


def test_words_sentences_and_repetition():
    assert text.words("Two words, \u4e24\u4e2a\u8bcd.") == [
        "Two",
        "words,",
        "\u4e24",
        "\u4e2a",
        "\u8bcd",
        ".",
    ]
    assert text.sentences("One. Two!\nThree") == ["One.", "Two!", "Three"]
    assert text.repetition("a b c d e") == 0
    assert text.repetition("a b c a b c") == pytest.approx(1 / 4)  # abc bca cab abc
    assert text.sentence_repetition("Yes. No. yes. Yes.") == 0.5
    assert text.distinct(["a b", "a b", "b a"], 2) == pytest.approx(2 / 3)
    assert text.repetition("") == text.distinct([""]) == 0


def test_degenerate_replies_are_flagged():
    table = text.reply_table(["", "a fine reply indeed", "so so " * 20, "cut off"], [True, True, True, False])
    assert table["degenerate"].tolist() == [True, False, True, True]
    assert table["looping"].tolist() == [False, False, True, False]
    found = text.reply_metrics(["a b", "c"], [1.0, 3.0], [True, False], [0.0, 1.0])
    assert found["score_mean"] == 2 and found["words_mean"] == 1.5 and found["finished"] == 0.5
    assert found["gold_mean"] == 0.5 and found["degenerate"] == 0.5
    with pytest.raises(ValueError, match="1 finished flags for 2 replies"):
        text.reply_table(["a", "b"], [True])


@pytest.mark.real_data
@pytest.mark.skipif(not REAL, reason="RLHF_HW_REAL_DATA does not name the folder with the recorded run")
def test_a_real_recorded_run():
    folder = Path(REAL) / "recorded-run"
    base, dpo = (score_files.read_replies(folder / f"generated_{name}.jsonl.gz") for name in ("base", "dpo"))
    words = [[len(text.split()) for text in table["response"]] for table in (dpo, base)]
    found = policies.compare_policies(dpo["score"], base["score"], base["prompt_key"], *words)
    assert found["prompts"] == 996 and found["wins"] / 996 == pytest.approx(0.571, abs=5e-4)
    assert (base["score"].mean(), dpo["score"].mean()) == pytest.approx((2.167, 2.656), abs=5e-4)
    assert (np.mean(words[1]), np.mean(words[0])) == pytest.approx((172, 139), abs=0.5)
    # DPO's replies are shorter, so that its gain is larger at equal length.
    assert found["win_rate_length_controlled_low"] > found["win_rate_high"]
