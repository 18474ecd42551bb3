"""Baselines find what can be found by length and words alone, and nothing where there is nothing."""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest

from rlhf_hw.stats import baselines, pairs

REAL = os.environ.get("RLHF_HW_REAL_DATA")


def replies(generator: np.random.Generator, word: str, count: int = 200) -> list[str]:
    """Random words among which one word may occur."""
    return [" ".join([*generator.choice(list("abcdefgh"), 8), word]) for _ in range(count)]


def test_length_margins_learn_the_direction():
    long, short = ["a b c", "a b c d", "a b"], ["a", "a b", "a"]
    assert baselines.length_margins(long, short, ["a b c"], ["a b"]).tolist() == [1]
    assert baselines.length_margins(short, long, ["a b c"], ["a b"]).tolist() == [-1]
    assert baselines.length_margins(long, long, ["a b c"], ["a b"]).tolist() == [1]  # undecided: longer wins
    assert baselines.length_direction(long, short) == 1 and baselines.length_direction(short, long) == -1


def test_words_that_decide_are_found_and_noise_is_not():
    generator = np.random.default_rng(0)
    good, bad, plain = replies(generator, "please"), replies(generator, "never"), replies(generator, "so")
    margins = baselines.bag_of_words_margins(good[:100], bad[:100], good[100:], bad[100:])
    assert pairs.accuracy(margins)["accuracy"] == 1
    margins = baselines.bag_of_words_margins(plain[:50], plain[50:100], plain[100:150], plain[150:])
    estimate = pairs.accuracy(margins)
    assert estimate["accuracy_low"] < 0.5 < estimate["accuracy_high"]


def test_margins_change_sign_when_the_replies_change_places():
    generator = np.random.default_rng(0)
    good, bad = replies(generator, "please"), replies(generator, "never")
    train = (good[:100], bad[:100])
    forth = baselines.bag_of_words_margins(*train, good[100:], bad[100:])
    assert forth == pytest.approx(-baselines.bag_of_words_margins(*train, bad[100:], good[100:]))


def test_uneven_pairs_are_refused():
    with pytest.raises(ValueError, match="2 chosen and 1 rejected"):
        baselines.bag_of_words_margins(["a", "b"], ["c"], ["a"], ["b"])


def last_replies(files: list[Path]) -> tuple[list[str], list[str]]:
    rows = [json.loads(line) for file in files for line in gzip.open(file, "rt", encoding="utf-8")]
    return tuple(
        [row[side].rpartition("\n\nAssistant:")[2] for row in rows] for side in ("chosen", "rejected")
    )


@pytest.mark.real_data
@pytest.mark.skipif(not REAL, reason="RLHF_HW_REAL_DATA does not name the folder with HH-RLHF")
@pytest.mark.parametrize(("pattern", "expected"), [("helpful-*", 0.57), ("harmless-*", 0.71)])
def test_known_accuracy_on_real_preferences(pattern, expected):
    folders = sorted((Path(REAL) / "hh-rlhf").glob(pattern))
    train, validation = (
        last_replies([folder / f"{split}.jsonl.gz" for folder in folders])
        for split in ("train", "validation")
    )
    margins = baselines.bag_of_words_margins(*train, *validation)
    assert pairs.accuracy(margins)["accuracy"] == pytest.approx(expected, abs=0.01)
