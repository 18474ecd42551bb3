"""The replies of a policy are paired and scored as they were recorded, and two gaps subtracted are a gain."""

import pytest

from rlhf_hw.experiments.score_gap.instruments import instruments_for
from rlhf_hw.experiments.score_gap.policy_gap import pair_replies, price_from_pairs
from rlhf_hw.preferences.score_files import read_pairs, write_scores
from rlhf_hw.world.gold import gold


def test_the_gap_is_that_of_the_recorded_scores(measure, reward_model, replies, few_preferences):
    gap = measure(replies)
    prompts = [p.prompt for p in few_preferences]
    chosen = reward_model.score(prompts, [[p.chosen] for p in few_preferences])[:, 0]
    assert gap.cells[frozenset()] == pytest.approx(replies["score"] - chosen, abs=1e-4)
    assert (gap.cells[frozenset({"readout", "template"})] == gap.cells[frozenset()]).all()
    assert [pair.generated.finished for pair in gap.pairs] == list(replies["finished"])
    assert gap.prompts == prompts and gap.compared == 1
    assert gap.read_at("generated") == gap.read_at("reference") == {reward_model.renderer.end_id}


def test_scores_and_signs_come_from_one_pass_and_are_those_of_the_model(reward_model, few_preferences):
    tools = instruments_for(reward_model, few_preferences)
    prompts = reward_model.renderer.prompt_ids([p.prompt for p in few_preferences])
    texts = reward_model.renderer.reply_ids([p.chosen for p in few_preferences])
    assert tools.score(prompts, texts) == pytest.approx(reward_model.score_ids(prompts, texts), abs=1e-5)
    assert tools.signs(prompts, texts).shape == (len(texts), 2)
    assert tools.gold is None and tools.price is None


def test_empty_replies_are_left_out_and_unknown_rows_refused(reward_model, replies, few_preferences):
    holes = replies.assign(response=["", *replies["response"][1:]])
    pairs, chosen = pair_replies(reward_model.renderer, holes, few_preferences)
    assert len(pairs) == len(chosen) == len(few_preferences) - 1
    with pytest.raises(KeyError, match="not in the data set given"):
        pair_replies(reward_model.renderer, replies, few_preferences[1:])


def test_gold_is_that_of_the_texts_where_nothing_is_corrected(measure, replies, equal_replies):
    gap = measure(equal_replies)
    assert gap.gold.shape == (len(equal_replies),) and not gap.gold.any()
    whole = measure(replies)
    untouched = [
        n
        for n, (pair, p) in enumerate(zip(whole.pairs, whole.preferences, strict=True))
        if len(pair.generated.content) == len(pair.reference.content) and pair.generated.finished
    ]
    for n in untouched:
        preference = whole.preferences[n]
        expected = gold(preference.question, preference.rejected) - gold(
            preference.question, preference.chosen
        )
        assert whole.gold[n] == pytest.approx(expected)


def test_a_gain_is_the_difference_of_two_gaps_on_the_same_rows(measure, replies, equal_replies):
    dpo = measure(replies)
    base = measure(equal_replies.assign(response=["", *equal_replies["response"][1:]]))
    assert len(base.pairs) == len(dpo.pairs) - 1 and base.compared == len(base.pairs) / len(replies)
    same = dpo.at(base.rows)
    assert same.rows == base.rows == dpo.rows[1:] and same.prompts == base.prompts
    gain = same.minus(base)
    for cell, values in gain.cells.items():
        assert values == pytest.approx(dpo.cells[cell][1:] - base.cells[cell])
    assert gain.gold == pytest.approx(dpo.gold[1:] - base.gold)
    assert gain.unfamiliar == pytest.approx(dpo.unfamiliar[1:] - base.unfamiliar)


def test_the_price_of_gold_comes_from_pairs_whose_gold_is_known(tmp_path):
    rows = [
        {"prompt": f"q{n}", "chosen": "a", "rejected": "b", "chosen_score": 3.0 * n, "rejected_score": 0.0}
        | {"meta": {"gold_1": 0.0, "gold_2": float(n), "chosen_index": 2}}
        for n in range(1, 4)
    ]
    known = read_pairs(write_scores(tmp_path / "known.jsonl", rows))
    assert price_from_pairs(known) == pytest.approx(3)
    assert price_from_pairs(known.drop(columns="meta")) is None
