"""Pairs of a run are scored as they were recorded, and unfamiliar states are seen to be unfamiliar."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from rlhf_hw.experiments.score_gap import decompose, run
from rlhf_hw.experiments.score_gap.edits import sentence_end_ids
from rlhf_hw.models.rendering import Renderer
from rlhf_hw.models.scoring import RewardModel
from rlhf_hw.preferences.reading import load_preferences
from rlhf_hw.stats.intervals import Estimate
from rlhf_hw.training.base_model import new_language_model, train_tokenizer
from rlhf_hw.training.config import NewModel
from rlhf_hw.world.gold import gold


@pytest.fixture(scope="module")
def preferences():
    return load_preferences("data/nano", "HOMEWORK", "validation", 24)[0]


@pytest.fixture(scope="module")
def reward_model(preferences, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tokenizer = train_tokenizer([p.chosen for p in preferences], vocabulary=600)
    shape = NewModel(hidden_size=32, layers=2, heads=2, intermediate_size=64)
    new_language_model(tokenizer, shape).save_pretrained(folder)
    Renderer(tokenizer).save(folder)
    return RewardModel(folder, dtype="fp32")


@pytest.fixture(scope="module")
def replies(preferences, reward_model):
    """The rejected replies as generated ones; every third was cut."""
    texts = [p.rejected if n % 3 else p.rejected[: len(p.rejected) // 2] for n, p in enumerate(preferences)]
    scores = reward_model.score([p.prompt for p in preferences], [[text] for text in texts])[:, 0]
    meta = [{"row": p.row} for p in preferences]
    finished = [bool(n % 3) for n in range(len(texts))]
    return pd.DataFrame({"response": texts, "score": scores, "finished": finished, "meta": meta})


def test_the_gap_is_that_of_the_recorded_scores(reward_model, replies, preferences):
    found = run.reply_pairs(reward_model, replies, preferences)
    ends = sentence_end_ids(reward_model.renderer.tokenizer)
    cells = decompose.gap_cells(found.pairs, reward_model.score_ids, ends, decompose.STAGES)
    chosen = reward_model.score([p.prompt for p in preferences], [[p.chosen] for p in preferences])[:, 0]
    assert cells[frozenset()] == pytest.approx(replies["score"] - chosen, abs=1e-4)
    assert (cells[frozenset({"readout", "template"})] == cells[frozenset()]).all()
    assert [pair.generated.finished for pair in found.pairs] == list(replies["finished"])


def test_empty_replies_are_left_out_and_unknown_rows_refused(reward_model, replies, preferences):
    holes = replies.assign(response=["", *replies["response"][1:]])
    assert len(run.reply_pairs(reward_model, holes, preferences).pairs) == len(preferences) - 1
    with pytest.raises(KeyError, match="not in the data set given"):
        run.reply_pairs(reward_model, replies, preferences[1:])


def test_gold_gap_is_that_of_the_texts_where_nothing_is_corrected(reward_model, replies, preferences):
    equal = replies.assign(response=[p.chosen for p in preferences], finished=True)
    ends = sentence_end_ids(reward_model.renderer.tokenizer)
    found = run.reply_pairs(reward_model, equal, preferences)
    assert not run.gold_gap(found, reward_model, ends, gold).any()
    other = replace(found, preferences=found.preferences[::-1])
    assert run.gold_gap(other, reward_model, ends, gold).shape == (len(preferences),)


def test_signs_are_zero_for_equal_replies(reward_model, replies, preferences):
    ends = sentence_end_ids(reward_model.renderer.tokenizer)
    equal = replies.assign(response=[p.chosen for p in preferences], finished=True)
    found = run.reply_pairs(reward_model, equal, preferences)
    signs = run.unfamiliarity(reward_model, found.pairs, preferences, ends)
    assert signs.shape == (len(preferences), 2) and signs == pytest.approx(0)


def test_heads_disagree_more_about_states_far_from_the_training_ones():
    generator = np.random.default_rng(0)
    quality = np.array([1.0, 0, 0, 0])
    training = generator.normal(size=(300, 2, 4)) + np.array([0.5, -0.5])[:, None] * quality
    near, far = generator.normal(size=(200, 4)), 4 * generator.normal(size=(200, 4))
    spread = [run.head_spread(states, training).mean() for states in (near, far)]
    assert spread[1] > 2 * spread[0] > 0
    assert run.head_spread(near, training) == pytest.approx(run.head_spread(near, training))


def test_parts_of_the_gain_are_differences_of_the_parts_where_both_have_the_prompt(
    reward_model, replies, preferences
):
    ends = sentence_end_ids(reward_model.renderer.tokenizer)
    other = replies.assign(response=["", *[p.chosen for p in preferences[1:]]], finished=True)
    found = {
        name: run.reply_pairs(reward_model, table, preferences)
        for name, table in (("dpo", replies), ("base", other))
    }
    cells = {
        p: decompose.gap_cells(f.pairs, reward_model.score_ids, ends, decompose.STAGES)
        for p, f in found.items()
    }
    signs = {p: np.zeros((len(f.pairs), 2)) for p, f in found.items()}
    gain = run.gain_parts(cells, found, {"dpo": None, "base": None}, signs, stages=decompose.STAGES, draws=50)
    gap = cells["dpo"][frozenset()][1:].mean() - cells["base"][frozenset()].mean()
    assert gain["gap"].value == pytest.approx(gap) and "quality" not in gain
    assert sum(part.value for name, part in gain.items() if name != "gap") == pytest.approx(gap)


def test_statements_are_those_that_the_intervals_bear_out():
    above, around, below = Estimate(1, 0.5, 2), Estimate(0, -1, 1), Estimate(-1, -2, -0.5)
    parts = {"dpo": {"gap": below, "ood": above}, "gain": {"gap": above, "length": above, "rest": below}}
    said = run.statements(parts, around)
    assert {name for name, holds in said.items() if holds} == {
        "gain_from_length",
        "loss_from_rest",
        "score_gap_ood_in_gap",
        "score_gap_negative",
    }
    assert run.statements(parts, above)["score_gap_less_familiar"]
