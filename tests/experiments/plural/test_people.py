"""Votes on arguments: what is read, how disagreement is counted, and planted voters that are found again."""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest

from rlhf_hw.errors import InputError
from rlhf_hw.experiments.plural.argument_votes import (
    argument_features,
    find_votes,
    folds,
    read_votes,
    surface_features,
)
from rlhf_hw.experiments.plural.people import disagreement_of, people_claims, people_votes, read_kept_people
from rlhf_hw.experiments.plural.vote_models import one_against_others, opposed_halves
from rlhf_hw.experiments.plural.voters import agreement_by_stance
from rlhf_hw.stats.choice_models import FIRST, SECOND, TIED
from rlhf_hw.stats.replicates import beyond

REAL = os.environ.get("RLHF_HW_REAL_DATA")
WORDS = "people should think of rain trees money schools because the law is old and costs too much".split()


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    monkeypatch.setenv("RLHF_HW_WORKERS", "1")


def row(debate: int, texts: tuple[str, str], choices: list[int], gold: int | None = 1, **stances) -> dict:
    said = [
        {"annotator": f"a{n % 40}", "choice": choice, "stance": stances.get(f"v{k}")}
        for k, (n, choice) in enumerate(zip(range(debate * 3, debate * 3 + 9), choices, strict=False))
    ]
    topic = f"debate-{debate}_{'yes' if len(texts[0]) % 2 else 'no'}"
    return {"topic": topic, "response_1": texts[0], "response_2": texts[1], "gold": gold, "votes": said}


def write(path: Path, rows: list[dict]) -> Path:
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(one) + "\n" for one in rows)
    return path


def crowd_rows(debates: int = 6, each: int = 60, length: float = 1.0) -> list[dict]:
    """Voters who prefer the longer argument, more surely where it is much longer (`length` 0: whichever)."""
    rng, rows = np.random.default_rng(0), []
    for debate in range(debates):
        for _ in range(each):
            sizes = rng.integers(4, 60, 2)
            texts = tuple(" ".join(rng.choice(WORDS, size)) + "." for size in sizes)
            share = 1 / (1 + np.exp(-length * (sizes[0] - sizes[1]) / 10))
            choices = np.where(rng.random(5) < share, 1, 2)
            choices[rng.random(5) < 0.15] = 0
            rows.append(row(debate, texts, choices.tolist(), gold=1 if sizes[0] > sizes[1] else 2))
    return rows


def test_rows_become_votes_and_counts(tmp_path):
    rows = [
        row(0, ("a b", "c"), [1, 2, 0, 1], v0="same", v1="opposite"),
        row(1, ("c", "d"), [2, 2], gold=None),
    ]
    votes = read_votes(write(tmp_path / "votes.jsonl.gz", rows))
    assert votes.counts.tolist() == [[2, 1, 1], [0, 2, 0]]
    assert votes.gold.tolist() == [FIRST, -1] and votes.debates.tolist() == [0, 1]
    assert votes.stances[:2].tolist() == [1, -1] and votes.said[2] == TIED and votes.said[1] == SECOND
    assert len(votes.texts) == 3
    assert votes.disagreement == pytest.approx([2 / 3, 0])  # of 3 pairs of voters two are opposed
    assert votes.share == pytest.approx([2 / 3, 0])


@pytest.mark.parametrize("change", [{"gold": 7}, {"votes": [{"annotator": "a"}]}, {"topic": None}])
def test_a_row_that_is_none_is_named(tmp_path, change):
    path = write(tmp_path / "votes.jsonl.gz", [row(0, ("a", "b"), [1]), row(0, ("a", "b"), [1]) | change])
    with pytest.raises(InputError, match="line 2: not a row of votes"):
        read_votes(path)


def test_votes_are_found_where_they_lie(tmp_path, monkeypatch):
    monkeypatch.delenv("RLHF_HW_REAL_DATA", raising=False)
    assert find_votes() is None
    with pytest.raises(FileNotFoundError, match="votes: .* is missing"):
        find_votes(str(tmp_path / "none.jsonl"))
    monkeypatch.setenv("RLHF_HW_REAL_DATA", str(tmp_path))
    assert find_votes() is None
    (tmp_path / "convarg1").mkdir()
    place = write(tmp_path / "convarg1" / "votes.jsonl.gz", [row(0, ("a", "b"), [1])])
    assert find_votes() == place


def test_no_debate_is_learned_from_and_foretold(tmp_path):
    votes = read_votes(write(tmp_path / "v.jsonl.gz", crowd_rows(each=4)))
    seen = []
    for train, held_out in folds(votes, 3):
        assert not set(votes.debates[train]) & set(votes.debates[held_out])
        seen += held_out.tolist()
    assert sorted(seen) == list(range(len(votes.gold)))
    with pytest.raises(InputError, match="folds must be from 2 to 6"):
        next(folds(votes, 7))


def test_features_know_only_what_was_learned_from():
    texts = [f"{' '.join(WORDS[:n])} only{n}" for n in range(3, 15)]
    known = np.arange(8)
    one = argument_features(texts, known)
    two = argument_features([*texts[:8], "nothing", *texts[9:]], known)
    assert np.allclose(one[:8], two[:8]) and np.allclose(one[9:], two[9:])
    assert np.isfinite(surface_features("")).all()


def test_voters_of_one_habit_are_foretold_and_strangers_are_not(tmp_path):
    votes = read_votes(write(tmp_path / "v.jsonl.gz", crowd_rows()))
    found = people_votes(votes, parts=3)
    numbers = {key.removeprefix("plural.people."): value for key, value in found.metrics.items()}
    assert numbers["accuracy"] > 0.9 and numbers["shuffled_draws"] == 20
    assert beyond(numbers, "shuffled_mean", 0.5) == 0
    assert numbers["shuffled_mean_trainings_low"] < numbers["shuffled_mean"] - 0.01  # each draw is its own
    assert numbers["rank_correlation"] > 0.2 and found.claims["people_foretell_disagreement"]
    assert abs(numbers["annotator_gain"]) < 0.1 and not found.claims["people_annotators_help"]
    bins = disagreement_of(found.metrics)
    assert len(bins) == 8 and bins[-1]["real"] > bins[0]["real"] + 0.2
    assert abs(bins[-1]["real"] - bins[-1]["foretold"]) < 0.12  # all that divides these voters is chance


def test_people_of_one_stance_agree_where_that_was_planted(tmp_path):
    rng, rows = np.random.default_rng(0), []
    for debate in range(6):
        for n in range(30):
            stances = rng.choice(["same", "opposite"], 5)
            liked = rng.integers(1, 3)
            choices = [int(liked) if s == "same" else 3 - int(liked) for s in stances]
            names = {f"v{k}": stance for k, stance in enumerate(stances)}
            rows.append(row(debate, (f"text {n} {debate}", f"other {n}"), choices, **names))
    numbers = agreement_by_stance(read_votes(write(tmp_path / "v.jsonl.gz", rows)))
    assert numbers["stance_same"] == 1 and numbers["stance_opposite"] == 0
    assert people_claims(numbers)["people_stance_matters"]


def test_one_voter_is_held_against_the_others(tmp_path):
    votes = read_votes(write(tmp_path / "v.jsonl.gz", [row(0, ("a", "b"), [1, 1, 2, 0, 1])]))
    right, debates = one_against_others(votes)
    assert right.tolist() == [1, 1, 0, 1] and debates.tolist() == [0] * 4
    assert opposed_halves(votes).tolist() == [[0.0], [1.0]]


def test_where_nothing_was_kept_there_is_nothing_to_show(tmp_path):
    assert read_kept_people(tmp_path / "none.json") is None
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps({"plural.pairs": 3}))
    assert read_kept_people(path) is None
    path.write_text(json.dumps({"plural.pairs": 3, "plural.people.accuracy": 0.7}))
    assert read_kept_people(path).metrics == {"plural.people.accuracy": 0.7, "plural.people.kept": 1}


@pytest.mark.real_data
@pytest.mark.skipif(not REAL or not find_votes(), reason="RLHF_HW_REAL_DATA does not hold convarg1")
def test_real_arguments_are_told_about_as_well_as_their_authors_report():
    votes = read_votes(find_votes(), limit=150)
    found = people_votes(votes, parts=4)
    assert 0.72 < found.metrics["plural.people.accuracy"] < 0.82
    assert found.claims["people_foretell_disagreement"]
    assert beyond(found.metrics, "plural.people.shuffled_mean", 0.5) == 0
    assert found.metrics["plural.people.shuffled_mean"] == pytest.approx(0.5, abs=0.05)
