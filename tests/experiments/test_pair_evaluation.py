"""Scored pairs are evaluated by one call; pairs scored by two reward models are matched and compared."""

import numpy as np
import pandas as pd
import pytest

from rlhf_hw.experiments import pair_evaluation, scored_pairs
from rlhf_hw.experiments.learning_curve import LearningCurve
from rlhf_hw.experiments.result import prefixed, table_metrics
from rlhf_hw.preferences import score_files
from rlhf_hw.preferences.templates import Message, Preference

ROWS = [
    {"prompt": f"q{n}", "chosen": f"a{n}", "rejected": "b", "chosen_score": float(n), "rejected_score": 1.5}
    for n in range(4)
]


@pytest.fixture
def pairs(tmp_path):
    return score_files.read_pairs(score_files.write_scores(tmp_path / "first.jsonl", ROWS))


def test_another_models_margins_are_found_whatever_their_order(tmp_path, pairs):
    other = [row | {"chosen_score": 10.0 * row["chosen_score"]} for row in reversed(ROWS)]
    table = score_files.read_pairs(score_files.write_scores(tmp_path / "other.jsonl", [*other, other[0]]))
    assert scored_pairs.same_pairs(pairs, table).tolist() == [-1.5, 8.5, 18.5, 28.5]


def test_pairs_that_the_other_model_lacks_or_scored_twice_are_named(pairs):
    with pytest.raises(ValueError, match=r"other.jsonl: pair 3 is not there \(2 in all\)"):
        scored_pairs.same_pairs(pairs, pairs.iloc[:2], "other.jsonl")
    twice = pd.concat([pairs, pairs.assign(margin=pairs["margin"] + 1)])
    with pytest.raises(ValueError, match="one pair has two margins"):
        scored_pairs.same_pairs(pairs, twice)


def test_mcnemar_compares_the_first_scorer_with_every_other():
    margins = {
        "reward model": np.array([1, 1, 1, 1, 1, 1, -1, 1.0]),
        "length": np.array([-1, -1, -1, -1, -1, -1, 1, 1.0]),
        "words": np.array([1, 1, 1, 1, 1, 1, -1, 1.0]),
    }
    table = pair_evaluation.mcnemar_table(margins, range(8))
    assert table.index.tolist() == ["length", "words"] and table["p_value"].tolist() == [0.125, 1.0]
    assert table.loc["length", ["only_first", "only_second"]].tolist() == [6, 1]
    found = table_metrics("mcnemar", table)
    assert found["mcnemar.length.only_first"] == 6 and found["mcnemar.words.accuracy_difference"] == 0
    assert pair_evaluation.mcnemar_table({"reward model": margins["length"]}, range(8)).empty


@pytest.mark.parametrize(
    ("difference", "said"),
    [((0.1, 0.05, 0.2), "better"), ((-0.1, -0.2, -0.01), "worse"), ((0.1, 0.0, 0.2), "no difference shown")],
)
def test_a_verdict_is_what_the_interval_allows(difference, said):
    row = dict(zip((f"accuracy_difference{end}" for end in ("", "_low", "_high")), difference, strict=True))
    assert pair_evaluation.verdict(row) == f"{said} [{difference[1]:+.3f}, {difference[2]:+.3f}]"


WORLD = {"gold_1": 1.0, "gold_2": 0.0, "chosen_index": 1, "probability": 0.9, "annotator": "a"}


def scored(right: int, count: int = 12) -> pd.DataFrame:
    """Pairs of a world, the first `right` of them ordered rightly; the chosen reply is the longer one."""
    rows = [
        {"prompt": f"q{n}", "chosen": "good tea " * (n + 2), "rejected": f"bad {n}"}
        | {"chosen_score": 1.0 + n if n < right else -1.0, "rejected_score": 0.0}
        | {"chosen_tokens": 2 * n + 5, "rejected_tokens": n + 2, "meta": WORLD, "prompt_key": f"q{n}"}
        for n in range(count)
    ]
    table = pd.DataFrame(rows)
    return table.assign(margin=table["chosen_score"] - table["rejected_score"])


TRAIN = [Preference((Message("user", f"t{n}"),), f"good tea {n}", f"bad {n} " * n, row=n) for n in range(8)]


def test_one_call_evaluates_what_is_given():
    beside = pd.DataFrame(
        [
            {"prompt_key": key, "score": float(n), "meta": {"source": source, "gold": float(n)}}
            for key in "qr"
            for n, source in enumerate(("chosen", "rejected", "written", "sampled", "sampled"))
        ]
    )
    curve = LearningCurve(metrics={"learning_curve.rise": 0.1}, claims={"more_pairs_help": True}, points={})
    found = pair_evaluation.evaluate(
        scored(9),
        TRAIN,
        fitted=scored(12),
        outside=scored(6),
        beside=beside,
        second=np.ones(12),
        curve=curve,
        group="annotator",
        examples=2,
    )
    assert found.metrics["rm.validation.accuracy"] == found.validation["accuracy"] == 0.75
    assert found.best == found.metrics["data.best_possible_accuracy"] == pytest.approx(0.9)
    assert found.metrics["rm.validation.share_of_best"] == pytest.approx(0.25 / 0.5)
    assert (found.fitted["accuracy"], found.overfitting.value) == (1.0, 0.25)
    assert found.metrics["rm.overfitting_gap"] == 0.25 and found.metrics["rm.trained_on.accuracy"] == 1
    assert found.metrics | prefixed("rm.ood", found.outside) == found.metrics
    assert found.metrics["rm.ood.accuracy"] == 0.5 and "rm.ood.pairs" not in found.metrics
    assert found.metrics["rm.validation.gold_spearman_within"] == found.within["gold_spearman_within"] == 1
    assert found.scorers.index.tolist() == ["reward model", "length", "words", "second model"]
    assert found.metrics["baseline.words.accuracy"] == found.rates["words"].value
    assert found.metrics["mcnemar.second_model.only_second"] == 3 and len(found.tests) == 3
    assert found.metrics["learning_curve.rise"] == 0.1
    assert found.claims == {
        "rm_beats_length": True,  # which prefers the shorter reply
        "rm_beats_words": False,
        "words_beat_rm": found.tests.loc["words", "accuracy_difference_high"] < 0,
        "shorter_wins": True,
        "overfits": found.overfitting.low > 0,
        "reaches_95_percent_of_best": False,
        "more_pairs_help": True,
    }
    assert found.groups.index.tolist() == ["a"] and found.by_length["accuracy"].max() == 1
    assert found.examples.index.tolist() == ["surest right", "closest call", *["confident mistake"] * 2]
    assert found.examples["gold_chosen"].tolist() == [1.0] * 4
    assert list(found.reliability) == ["as trained", "after temperature scaling"] and found.tables == {}


def test_what_is_not_given_is_left_out():
    pairs = scored(9).drop(columns=["meta", "chosen_tokens", "rejected_tokens"])
    found = pair_evaluation.evaluate(pairs, group="annotator")
    assert (found.best, found.overfitting, found.groups, found.by_length) == (None, None, None, None)
    assert found.fitted == found.outside == found.within == {} and found.tests.empty
    assert found.claims == {"reaches_95_percent_of_best": False}
    assert all(key.startswith("rm.validation.") for key in found.metrics)
    assert list(found.rates) == ["reward model"] and "gold_chosen" not in found.examples
