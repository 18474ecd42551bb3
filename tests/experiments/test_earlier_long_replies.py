"""The earlier run's longest replies, whether scores turn there, and how many pairs judges learned from."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from earlier_replies import earlier_folder, planted_judge

from rlhf_hw.experiments.earlier_run.gap_parts import bend_numbers
from rlhf_hw.experiments.earlier_run.judged_replies import read_earlier, read_judges
from rlhf_hw.experiments.earlier_run.own_pairs import text_numbers
from rlhf_hw.experiments.earlier_run.riddle import group_claims, solve_riddle
from rlhf_hw.training.folders import RECORD


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return earlier_folder(tmp_path_factory.mktemp("earlier") / "run")


@pytest.fixture(scope="module")
def replies(run: Path) -> pd.DataFrame:
    return read_earlier(run)


@pytest.mark.parametrize("turned", [True, False])
def test_a_curve_that_turns_back_at_its_long_end_is_seen(replies, turned):
    base = replies["source"].str.endswith(" base")
    ordered = np.sort(replies["words"][base])
    eighth = len(ordered) // 8
    noise = 0.05 * np.random.default_rng(1).normal(size=(3, len(replies)))
    scores = 0.01 * replies["words"].to_numpy() + noise
    if turned:
        scores = scores - 2.0 * (replies["words"] >= ordered[-eighth]).to_numpy()
    numbers = bend_numbers(scores, replies)
    longest, before = ordered[-eighth:].mean(), ordered[-3 * eighth : -eighth].mean()
    assert numbers["bend"] == pytest.approx(0.01 * (longest - before) - 2.0 * turned, abs=0.15)
    claims = group_claims({**numbers, "slope_here": 1.0, "slope_here_low": 0.9, "slope_here_high": 1.1})
    assert claims["bends_back"] is turned
    assert numbers["bend_low"] < numbers["bend"] < numbers["bend_high"]
    assert numbers["bend_trainings_low"] <= numbers["bend_trainings_high"]
    assert bend_numbers(scores[:, ~base], replies[~base]) == {}


def test_what_the_longest_replies_are_is_told_without_a_model(replies):
    texts = text_numbers(replies)
    assert (texts["base_test.prompts"], texts["pairs.prompts"]) == (30, 16)
    lengths = replies["words"][replies["source"].str.endswith(" base")]
    assert texts["base_longest.words_least"] > texts["base_before.words"] > lengths.mean()
    assert (lengths >= texts["base_longest.words_least"]).mean() == pytest.approx(1 / 8, abs=0.02)


def test_how_many_pairs_judges_learned_from_is_read_from_their_records(run, replies, tmp_path):
    for kind, counts in {"helpful": (400, 400), "harmless": (7, None), "both": (7, 8)}.items():
        for seed, count in enumerate(counts):
            judge = tmp_path / f"plain/{kind}-{seed}"
            planted_judge(judge, run, 0.02, 1.0, 0.0, seed=seed)
            if count:
                (judge / RECORD).write_text(f'{{"metrics": {{"pairs": {count}}}}}', encoding="utf-8")
    metrics = solve_riddle(replies, read_judges(tmp_path, replies)).metrics
    told = {key: number for key, number in metrics.items() if key.endswith("learned_pairs")}
    assert told == {"earlier.plain.helpful.learned_pairs": 400}  # of the others not of all, or not as many
