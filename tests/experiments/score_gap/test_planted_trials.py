"""Planted faults must be found by a reward model that minds them, and counted apart by one that does not."""

import numpy as np
import pytest

from rlhf_hw.experiments.score_gap.edits import FACTORS, remove_repetition, sentence_end_ids
from rlhf_hw.experiments.score_gap.faults import make_faults, make_items, plant_padding
from rlhf_hw.experiments.score_gap.planted_trials import planted_metrics, run_trial, run_trials, share_table
from rlhf_hw.models.rendering import Renderer
from rlhf_hw.preferences.reading import load_preferences
from rlhf_hw.training.base_model import train_tokenizer


@pytest.fixture(scope="module")
def preferences():
    return load_preferences("data/nano", "HOMEWORK", "validation", 80)[0]


@pytest.fixture(scope="module")
def renderer(preferences):
    return Renderer(train_tokenizer([p.chosen for p in preferences], vocabulary=600))


@pytest.fixture(scope="module")
def ends(renderer):
    return sentence_end_ids(renderer.tokenizer)


@pytest.fixture(scope="module")
def score(renderer, ends):
    """A reward model that minds everything: words, length, loops, template, and where it is read."""

    def inner(prompts, replies):
        values = []
        for prompt, reply in zip(prompts, replies, strict=True):
            fresh = len(remove_repetition(tuple(reply), ends))
            value = np.mean([np.sin(token) for token in reply]) + 0.05 * fresh + 0.02 * (len(reply) - fresh)
            value += 2.0 * (prompt[0] != renderer.tokenizer.convert_tokens_to_ids("<|im_start|>"))
            values.append(value + {renderer.end_id: 0.0}.get(reply[-1], -1.0 - 0.03 * fresh))
        return np.array(values)

    return inner


@pytest.fixture(scope="module")
def trials(renderer, preferences, ends, score):
    items = make_items(renderer, preferences)
    faults = make_faults(renderer, items, ends)
    return run_trials(items, faults, score, ends, trials=3, prompts=25)


def test_every_fault_is_found_alone_in_couples_and_in_noise(trials):
    found = planted_metrics(trials)
    assert found["planted.trials"] >= 15 and found["planted.correct"] >= 0.9 * found["planted.trials"]
    assert found["planted.correct"] <= found["planted.share_enough"] <= found["planted.trials"]
    assert (
        found["planted.couples"] >= 9 and found["planted.couples_correct"] >= 0.9 * found["planted.couples"]
    )
    assert found["planted.noisy_found"] >= 0.8 * found["planted.noisy"] > 0
    assert found["planted.trials"] + found["planted.silent"] >= 18 and found["planted.share_min"] > 0.6
    assert found["clean.trials"] == 3


def test_padding_is_planted_where_the_reply_then_is_longer_than_its_reference(renderer, preferences):
    met = set()
    for item in make_items(renderer, preferences):
        for pair in (item.pair(0), item.pair(1)):
            shorter = len(pair.generated.content) < len(pair.reference.content)
            padded = plant_padding(pair, item.filler)
            assert padded.generated.content == pair.generated.content + (() if shorter else item.filler)
            assert padded.reference == pair.reference
            met.add(shorter)
    assert met == {True, False}


def test_readout_fault_keeps_what_it_does_to_the_price_of_length(trials):
    shares = [t.shares for t in trials if t.planted == ("read at the last word",) and not t.noisy]
    assert [s["readout"] for s in shares] == pytest.approx([1.0] * 3)


def test_share_table_has_single_faults_before_couples(trials):
    table, rows, columns = share_table(trials)
    heard = {t.planted for t in trials if t.planted and not t.silent and not t.noisy}
    assert table.shape == (len(heard), len(FACTORS) + 1) and columns == [*FACTORS, "rest"]
    assert set(rows) == {" + ".join(planted) for planted in heard}
    couples = [" + " in row for row in rows]
    assert couples == sorted(couples) and {True, False} == set(couples)
    assert table.sum(axis=1) == pytest.approx(np.ones(10))


def test_a_model_that_minds_nothing_makes_silent_trials(renderer, preferences, ends):
    def words_only(prompts, replies):
        return np.array([float(len(prompt) % 5) for prompt in prompts])

    items = make_items(renderer, preferences[:12])
    faults = [f for f in make_faults(renderer, items, ends) if f.factor != "template"]
    done = [run_trial(items, [fault], words_only, ends) for fault in faults]
    assert all(trial.silent for trial in done)
    assert planted_metrics(done)["planted.trials"] == 0
    with pytest.raises(ValueError, match="minds none"):
        share_table(done)


def test_texts_are_scored_once_over_all_trials(renderer, preferences, ends, score):
    seen = []

    def counted(prompts, replies):
        seen.extend((tuple(p), tuple(r)) for p, r in zip(prompts, replies, strict=True))
        return score(prompts, replies)

    items = make_items(renderer, preferences[:6])
    faults = make_faults(renderer, items, ends)
    run_trials(items, faults, counted, ends, trials=2, prompts=6)
    assert len(seen) == len(set(seen))


def test_more_prompts_than_there_are_is_refused(renderer, preferences, ends, score):
    items = make_items(renderer, preferences[:4])
    with pytest.raises(ValueError, match="4 prompts are fewer than the 5"):
        run_trials(items, [], score, ends, trials=1, prompts=5)
