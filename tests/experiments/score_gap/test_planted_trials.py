"""Planted faults must be found by a reward model that minds them, and counted apart by one that does not."""

import numpy as np
import pytest

from rlhf_hw.experiments.score_gap.edits import remove_repetition, sentence_end_ids
from rlhf_hw.experiments.score_gap.faults import make_faults, make_items, plant_padding
from rlhf_hw.experiments.score_gap.instruments import Instruments
from rlhf_hw.experiments.score_gap.planted_trials import Trial, run_trial, run_trials
from rlhf_hw.experiments.score_gap.trial_counts import count_trials, share_table
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
    return run_trials(items, faults, Instruments(score, ends), trials=3, prompts=25)


def test_every_fault_is_found_alone_in_couples_and_in_noise(trials):
    found = count_trials([trials])
    numbers = found.metrics
    switches, couples = (
        {n: numbers.get(f"planted.{g}.{n}") for n in ("planted", "heard", "right", "named", "noisy")}
        for g in ("switches", "couples")
    )
    assert switches["planted"] == 18 and switches["heard"] >= 15
    assert switches["right"] >= 0.9 * switches["heard"] and switches["named"] >= 0.9 * switches["heard"]
    assert couples["heard"] >= 9 and couples["right"] >= 0.9 * couples["heard"]
    assert numbers["planted.switches.noisy_named"] >= 0.8 * switches["noisy"] > 0
    assert 0.6 < numbers["planted.switches.share_min"] <= numbers["planted.switches.share_max"] < 1.4
    assert numbers["clean.trials"] == 3
    assert {"readout", "template", "length"} <= {part for part, holds in found.borne.items() if holds}
    assert not any(found.heard[part] or found.borne[part] for part in ("quality", "ood", "rest"))


def test_each_trial_has_prompts_of_its_own_as_long_as_there_are_any(renderer, preferences, ends, score):
    seen = []
    items = make_items(renderer, preferences[:12])
    tools = Instruments(lambda p, r: (seen.extend(map(tuple, p)), score(p, r))[1], ends)
    run_trials(items, [], tools, trials=2, prompts=6)
    assert set(seen) == {item.prompt for item in items}
    few = run_trials(items, [], tools, trials=3, prompts=6)
    assert few[0].gap == pytest.approx(run_trial(items[:6], [], tools, 0).gap) and len(few) == 3


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


def test_more_than_the_gap_is_as_wrong_as_less():
    def trial(share):
        return Trial(("a",), ("a",), frozenset({"length"}), 1.0, 1.0, {"length": share}, ["length"], False)

    assert [trial(share).right for share in (-0.46, 0.79, 0.8, 1.0, 1.2, 1.21, 1.46)] == [
        False,
        False,
        True,
        True,
        True,
        False,
        False,
    ]
    found = count_trials([[trial(share) for share in (-0.46, 1.0, 1.46)]]).metrics
    assert found["planted.a.right"] == 1 and found["planted.a.named"] == 3
    assert (found["planted.a.share_min"], found["planted.a.share_max"]) == (-0.46, 1.46)


def test_a_part_is_borne_out_only_with_every_reward_model():
    def trials(*shares, gap=1.0):
        kind = (("q",), ("q",), frozenset({"quality"}), gap, 1.0)
        return [Trial(*kind, {"quality": share}, ["quality"], False) for share in shares]

    right, half, silent = trials(1.0, 1.1), trials(1.0, 0.5), trials(1.0, gap=0.1)
    assert count_trials([right, right, right]).borne["quality"]
    assert not count_trials([right, right, half]).borne["quality"]
    found = count_trials([right, silent])
    assert not found.heard["quality"] and not found.borne["quality"]
    assert found.metrics["planted.q.planted"] == 3 and found.metrics["planted.q.heard"] == 2
    assert found.table.loc["q", "heard"] == "2 of 3"


def test_counts_are_shown_by_reward_model_and_in_sum(trials):
    found = count_trials([trials, trials])
    both, one = (found.metrics[f"planted.{g}.heard"] for g in ("switches", "model_2"))
    assert both == 2 * one > 0
    assert found.metrics["clean.alarms"] == 2 * found.metrics["clean.model_1.alarms"]
    assert found.table.loc["nothing planted", "false alarms"] == f"{found.metrics['clean.alarms']} of 6"


def test_share_table_has_the_single_faults_that_are_heard(trials):
    table, rows, columns = share_table(trials)
    heard = {t.planted[0] for t in trials if len(t.planted) == 1 and not t.silent and not t.noisy}
    assert table.shape == (len(heard), len(columns)) and set(rows) == heard
    assert columns == ["readout", "template", "truncation", "length", "repetition", "rest"]
    assert table.sum(axis=1) == pytest.approx(np.ones(len(rows)))


def test_a_model_that_minds_nothing_makes_silent_trials(renderer, preferences, ends):
    def words_only(prompts, replies):
        return np.array([float(len(prompt) % 5) for prompt in prompts])

    items = make_items(renderer, preferences[:12])
    faults = [f for f in make_faults(renderer, items, ends) if f.factor != "template"]
    done = [run_trial(items, [fault], Instruments(words_only, ends)) for fault in faults]
    assert all(trial.silent for trial in done)
    found = count_trials([done])
    assert found.metrics["planted.switches.heard"] == 0 and not any(found.heard.values())
    assert "planted.switches.share_min" not in found.metrics
    with pytest.raises(ValueError, match="minds none"):
        share_table(done)


def test_more_prompts_than_there_are_is_refused(renderer, preferences, ends, score):
    items = make_items(renderer, preferences[:4])
    with pytest.raises(ValueError, match="4 prompts are fewer than the 5"):
        run_trials(items, [], Instruments(score, ends), trials=1, prompts=5)
