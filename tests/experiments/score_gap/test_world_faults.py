"""Faults of quality, familiarity and taste change gold as they should, and the length hardly."""

import numpy as np
import pytest

from rlhf_hw.experiments.score_gap.edits import sentence_end_ids
from rlhf_hw.experiments.score_gap.faults import make_items
from rlhf_hw.experiments.score_gap.instruments import Instruments
from rlhf_hw.experiments.score_gap.planted_trials import run_trial
from rlhf_hw.experiments.score_gap.trial_counts import count_trials
from rlhf_hw.experiments.score_gap.world_faults import make_world_faults, rewritten
from rlhf_hw.models.rendering import Renderer
from rlhf_hw.preferences.reading import load_preferences
from rlhf_hw.world.gold import gold, gold_parts

WAYS = {  # of gold
    "point_off_topic": -1,
    "empty_talk_for_reasons": -1,
    "useful_for_worthless": 1,
    "exclamation_marks": 0,
    "exclamation_marks_every_second": 0,
    "lower_case": 0,
    "flattery": 0,
}


@pytest.fixture(scope="module")
def renderer():
    return Renderer.load("data/base-model")


@pytest.fixture(scope="module")
def items(renderer):
    return make_items(renderer, load_preferences("data/nano", "HOMEWORK", "validation", 60)[0])


@pytest.fixture(scope="module")
def faults(renderer, items):
    return {fault.key: fault for fault in make_world_faults(renderer, items)}


def changed(fault, items):
    """Pairs before and after, where the fault changed the generated reply, with the question."""
    both = [(item.question, item.pair(n), fault.plant(item.pair(n), item)) for item in items for n in (0, 1)]
    assert all(before.reference == after.reference for _, before, after in both)
    return [one for one in both if one[1] != one[2]]


@pytest.mark.parametrize("key", WAYS)
def test_a_fault_does_to_gold_what_it_says_at_equal_length(key, renderer, items, faults):
    met = changed(faults[key], items)
    assert len(met) >= 30 and {fault.key for fault in faults.values()} == set(WAYS)
    sizes = [len(after.generated.content) - len(before.generated.content) for _, before, after in met]
    assert abs(np.mean(sizes)) < 1.2 and np.abs(sizes).max() <= 8
    for question, before, after in met:
        texts = [renderer.decode(pair.generated.content) for pair in (before, after)]
        change = gold(question, texts[1]) - gold(question, texts[0])
        assert np.sign(round(change, 6)) == WAYS[key], texts
        assert gold_parts(question, texts[1])["broken"] == gold_parts(question, texts[0])["broken"]


def test_every_second_prompt_only(items, faults):
    fault = faults["exclamation_marks_every_second"]
    hit = [fault.plant(item.pair(0), item) != item.pair(0) for item in items]
    assert hit == [n % 2 == 0 for n in range(len(items))]


def test_a_list_and_a_rewrite_that_gold_sees_otherwise_stay_as_they_are():
    def worse(question, reply):
        return "Nothing."

    question, reply = "Give me two tips for cooking rice.", "Keep the lid on while the rice cooks."
    assert rewritten(question, reply, worse, -1) == "Nothing."
    assert rewritten(question, reply, worse, 1) == reply
    marks = "1. Keep the lid on while the rice cooks.\n2. Fluff the rice gently with a fork."
    assert rewritten(question, marks, worse, -1) == marks


def test_a_reward_model_that_reads_gold_bears_quality_out_and_does_not_hear_style(renderer, items, faults):
    """Scores are gold itself, at a price of 2: what is planted as quality must come out as quality."""
    questions = {item.prompt: item.question for item in items}

    def truth(question, content):
        return gold(question, renderer.decode(list(content)))

    def score(prompts, replies):
        asked = [questions[tuple(prompt)] for prompt in prompts]
        return np.array([2 * truth(q, reply[:-1]) for q, reply in zip(asked, replies, strict=True)])

    tools = Instruments(score, sentence_end_ids(renderer.tokenizer), None, truth, price=2.0)
    done = {key: run_trial(items[:40], [fault], tools) for key, fault in faults.items()}
    for key, trial in done.items():
        if WAYS[key]:
            assert np.sign(trial.gap) == WAYS[key] and trial.right, (key, trial.shares)
        else:
            assert trial.gap == pytest.approx(0) and trial.silent
    found = count_trials([list(done.values())])
    assert found.metrics["planted.quality.right"] == found.metrics["planted.quality.heard"] >= 2
    assert found.metrics["planted.ood.heard"] == found.metrics["planted.rest.heard"] == 0
    assert found.borne["quality"] and not found.heard["ood"] and not found.borne["ood"]
