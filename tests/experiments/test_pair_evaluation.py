"""Scored pairs of several reward models are evaluated by one call; claims hold beyond both intervals."""

import numpy as np
import pandas as pd
import pytest

from rlhf_hw.experiments import pair_evaluation
from rlhf_hw.experiments.learning_curve import LearningCurve
from rlhf_hw.experiments.result import prefixed
from rlhf_hw.preferences.templates import Message, Preference

WORLD = {"gold_1": 1.0, "gold_2": 0.0, "chosen_index": 1, "probability": 0.9, "annotator": "a"}


def scored(right: int, count: int = 12, shift: int = 0, prefix: str = "q") -> pd.DataFrame:
    """Pairs of a world, `right` of them ordered rightly, from row `shift` on; the chosen reply is longer."""
    rows = [
        {"prompt": f"{prefix}{n}", "chosen": "good tea " * (n + 2), "rejected": f"bad {n}"}
        | {"chosen_score": 1.0 + n if (n - shift) % count < right else -1.0, "rejected_score": 0.0}
        | {"chosen_tokens": 2 * n + 5, "rejected_tokens": n + 2, "meta": WORLD, "prompt_key": f"{prefix}{n}"}
        for n in range(count)
    ]
    table = pd.DataFrame(rows)
    return table.assign(margin=table["chosen_score"] - table["rejected_score"])


TRAIN = [Preference((Message("user", f"t{n}"),), f"good tea {n}", f"bad {n} " * n, row=n) for n in range(8)]
BESIDE = pd.DataFrame(
    [
        {"prompt_key": key, "score": float(n), "meta": {"source": source, "gold": float(n)}}
        for key in "qr"
        for n, source in enumerate(("chosen", "rejected", "written", "sampled", "sampled"))
    ]
)


def test_one_call_evaluates_what_is_given():
    curve = LearningCurve(metrics={"learning_curve.rise": 0.1}, claims={"more_pairs_help": True}, points={})
    found = pair_evaluation.evaluate(
        [scored(9)],
        [TRAIN],
        fitted=[scored(12, prefix="t")],
        outside=[scored(6, prefix="o")],
        beside=[BESIDE],
        second=np.ones(12),
        more=[curve],
        group="annotator",
        examples=2,
    )
    assert found.metrics["rm.validation.accuracy"] == found.validation["accuracy"] == 0.75
    assert found.best == found.metrics["data.best_possible_accuracy"] == 1.0  # all labels were the likelier
    assert found.metrics["data.best_expected_accuracy"] == pytest.approx(0.9)
    assert found.metrics["rm.validation.share_of_best"] == pytest.approx(0.25 / 0.5)
    assert (found.fitted["accuracy"], found.overfitting.value) == (1.0, 0.25)
    assert found.metrics["rm.overfitting_gap"] == 0.25 and found.metrics["rm.trained_on.accuracy"] == 1
    assert found.metrics | prefixed("rm.ood", found.outside) == found.metrics
    assert (found.metrics["rm.ood.accuracy"], found.metrics["rm.ood.drop"]) == (0.5, 0.25)
    assert found.metrics["rm.validation.gold_spearman_within"] == found.within["gold_spearman_within"] == 1
    assert found.scorers.table.index.tolist() == ["reward model", "length", "words", "second model"]
    assert found.metrics["baseline.words.accuracy"] == found.scorers.rates["words"].value
    assert found.metrics["mcnemar.second_model.only_second"] == 3 and len(found.scorers.tests) == 3
    assert found.metrics["rm.lead.second_model"] == -0.25
    assert found.metrics["learning_curve.rise"] == 0.1
    assert found.claims == {
        "rm_beats_length": True,  # which prefers the shorter reply
        "rm_beats_words": False,
        "words_beat_rm": found.metrics["rm.lead.words_high"] < 0,
        "shorter_wins": True,
        "overfits": found.metrics["rm.overfitting_gap_low"] > 0,
        "ood_is_harder": found.metrics["rm.ood.drop_low"] > 0,
        "alike_is_harder": False,
        "reaches_95_percent_of_best": False,
        "more_pairs_help": True,
    }
    assert not any("trainings" in key for key in found.metrics)  # one training says nothing of others
    assert found.groups.index.tolist() == ["a"] and found.by_length["accuracy"].max() == 1
    assert found.examples.index.tolist() == ["surest right", "closest call", *["confident mistake"] * 2]
    assert found.examples["gold_chosen"].tolist() == [1.0] * 4
    assert list(found.reliability) == ["as trained", "after temperature scaling"] and found.tables == {}


def test_what_is_not_given_is_left_out():
    pairs = scored(9).drop(columns=["meta", "chosen_tokens", "rejected_tokens"])
    found = pair_evaluation.evaluate([pairs], group="annotator")
    assert (found.best, found.overfitting, found.groups, found.by_length) == (None, None, None, None)
    assert found.fitted == found.outside == found.within == {} and found.scorers.tests.empty
    assert found.claims == {"reaches_95_percent_of_best": False}
    assert all(key.startswith("rm.validation.") for key in found.metrics)
    assert list(found.scorers.rates) == ["reward model"] and "gold_chosen" not in found.examples


def test_numbers_are_means_over_replicates_with_an_interval_over_trainings():
    replicates = [scored(8), scored(10), scored(9, shift=2)]
    found = pair_evaluation.evaluate(replicates, [TRAIN] * 3, outside=replicates, fitted=replicates)
    metrics = found.metrics
    assert metrics["rm.validation.accuracy"] == pytest.approx((8 + 10 + 9) / 36)
    half = 4.302653 * (1 / 12) / np.sqrt(3)  # t of two degrees of freedom
    assert metrics["rm.validation.accuracy_trainings_low"] == pytest.approx(0.75 - half, abs=1e-5)
    assert metrics["rm.validation.share_of_best_trainings_low"] < metrics["rm.validation.share_of_best"]
    assert metrics["rm.validation.gold_accuracy"] == metrics["rm.validation.accuracy"]
    alone = [pair_evaluation.evaluate([table]).validation for table in replicates]
    for name in ("gold_spearman", "ece", "auc", "temperature"):
        assert metrics[f"rm.validation.{name}"] == pytest.approx(np.mean([one[name] for one in alone]))
    assert metrics["rm.validation.pairs"] == 12 and metrics["rm.validation.ties"] == 0
    assert metrics["rm.overfitting_gap"] == metrics["rm.ood.drop"] == 0
    assert metrics["rm.overfitting_gap_trainings_high"] == metrics["rm.ood.drop_trainings_high"] == 0


def test_a_claim_needs_both_intervals():
    """The length rule is wrong on all pairs: the lead is plain over prompts, not always over trainings."""
    steady = pair_evaluation.evaluate([scored(90, 100), scored(91, 100), scored(92, 100)], [TRAIN] * 3)
    assert steady.claims["rm_beats_length"]
    wild = pair_evaluation.evaluate([scored(90, 100), scored(0, 100), scored(40, 100)], [TRAIN] * 3)
    assert wild.metrics["rm.lead.length_low"] > 0 > wild.metrics["rm.lead.length_trainings_low"]
    assert not wild.claims["rm_beats_length"]
    assert "no difference shown (prompts [+0." in wild.scorers.verdicts["length"]


def test_95_percent_of_the_best_needs_both_intervals_too():
    pairs = [scored(2000, 2000), scored(1999, 2000), scored(2000, 2000)]
    assert pair_evaluation.evaluate(pairs).claims["reaches_95_percent_of_best"]
    uneven = [scored(2000, 2000), scored(1800, 2000), scored(2000, 2000)]
    assert not pair_evaluation.evaluate(uneven).claims["reaches_95_percent_of_best"]


def test_where_the_longer_reply_loses_its_accuracy_is_set_apart():
    def mixed(right_longer: int, right_shorter: int) -> pd.DataFrame:
        longer = scored(right_longer, 100)
        swapped = {"chosen_tokens": "rejected_tokens", "rejected_tokens": "chosen_tokens"}
        shorter = scored(right_shorter, 100, prefix="s").rename(columns=swapped)
        return pd.concat([longer, shorter], ignore_index=True)

    found = pair_evaluation.evaluate([mixed(90, 50), mixed(92, 48), mixed(88, 52)])
    assert found.metrics["rm.validation.length_gap"] == pytest.approx(0.4)
    assert found.metrics["rm.validation.accuracy_longer_rejected"] == pytest.approx(0.5)
    assert found.claims["goes_with_length"]
    assert not pair_evaluation.evaluate([mixed(90, 88), mixed(70, 88)]).claims["goes_with_length"]
