"""DPO's variants on a language model: labels, the choice of the rate, trainings, and what numbers may say."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from rlhf_hw.errors import InputError
from rlhf_hw.experiments.variants.policy_variants import policy_variants, variant_sizes
from rlhf_hw.experiments.variants.variant_expectations import EXPECTATIONS, variant_claims, variant_verdicts
from rlhf_hw.experiments.variants.variant_settings import TRIED_ON, VARIANTS, names_of, variant_settings
from rlhf_hw.experiments.variants.variant_trainings import (
    PolicyPlan,
    VariantStudy,
    chosen_rates,
    labels_file,
    load_answers,
    train_variants,
    training_settings,
    turned_labels,
    write_labels,
)
from rlhf_hw.training.config import SETTINGS

RATES = (1e-4, 1e-3)
LIMITS = {"max_prompt_tokens": 64, "max_reply_tokens": 64}


@pytest.fixture
def study(preferences, policy_folder, tmp_path) -> VariantStudy:
    asked = {"choice": preferences[:3], "reported": preferences[3:8]}
    return VariantStudy(
        [policy_folder] * 2,
        [preferences[:12], preferences[12:]],
        asked,
        tmp_path / "policies",
        rates=RATES,
        training={"batch_size": 4, **LIMITS},
        sampling={"max_new_tokens": 6},
    )


def made_answers(gains: dict, trainings: int = 3, prompts: int = 60, choice: dict | None = None):
    """Answers of policies whose gains in gold, by (loss, labels), are known; the best rate is the first."""
    rng, rows = np.random.default_rng(0), []
    base = rng.normal(size=(trainings, prompts))

    def add(loss, labels, rate, training, gain):
        for part in ("choice", "reported"):
            shift = gain if part == "reported" else (choice or {}).get((loss, rate), -1000 * rate)
            for prompt in range(prompts):
                gold = base[training, prompt] + shift + 0.3 * rng.normal() * (loss != "start")
                row = {"loss": loss, "labels": labels, "rate": rate, "training": training, "part": part}
                kl = (
                    0.0
                    if loss == "start"
                    else 1.0 + (loss == "SimPO") + (loss == "ORPO") - 0.5 * (loss == "IPO")
                )
                rows.append(row | {"prompt": prompt, "gold": gold, "kl": kl, "words": 30.0 + prompt % 3})

    for training in range(trainings):
        add("start", "honest", 0.0, training, 0.0)
        for (loss, labels), gain in gains.items():
            for rate in RATES if (labels, training) == ("honest", 0) else RATES[:1]:
                add(loss, labels, rate, training, gain)
    return pd.DataFrame(rows)


GAINS = {("DPO", "honest"): 0.6, ("NLL", "honest"): 0.2, ("DPO_NLL", "honest"): 0.6, ("rDPO", "honest"): 0.6}
GAINS |= {
    ("DPO", "flipped"): 0.1,
    ("rDPO", "flipped"): 0.5,
    ("DPO", "shuffled"): 0.0,
    ("NLL", "shuffled"): 0.0,
}
SIZES = {"rates": 2, "rate_least": RATES[0], "rate_most": RATES[1]}


def test_a_share_of_labels_is_turned_and_more_turn_the_same_ones(preferences):
    many = preferences * 50
    assert turned_labels(many, 0.0, 3) == many
    turned = {
        s: np.array([a != b for a, b in zip(many, turned_labels(many, s, 3), strict=True)])
        for s in (0.3, 0.5)
    }
    assert turned[0.3].mean() == pytest.approx(0.3, abs=0.04)
    assert not (turned[0.3] & ~turned[0.5]).any()
    one = int(np.flatnonzero(turned[0.3])[0])
    found = turned_labels(many, 0.3, 3)[one]
    assert (found.chosen, found.rejected, found.prompt) == (
        many[one].rejected,
        many[one].chosen,
        many[one].prompt,
    )
    assert turned_labels(many, 0.3, 4) != turned_labels(many, 0.3, 3)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_loss_is_trained_with_its_own_settings(name, study):
    kind, settings = training_settings(PolicyPlan(name, 1e-3, "flipped", 1), study)
    config = SETTINGS[kind](**settings)
    assert (kind == "sft") == (name == "NLL") and config.learning_rate == 1e-3 and config.seed == 1
    assert str(config.train_dataset).endswith("flipped-1.jsonl") and config.batch_size == 4
    if name in ("cDPO", "rDPO"):
        assert config.label_smoothing == study.flipped
        honest = training_settings(PolicyPlan(name, 1e-3), study)[1]
        assert honest["label_smoothing"] == study.told
    if name in ("DPO_NLL", "ORPO"):
        assert config.nll_weight == 1


def test_losses_are_distinct_and_what_is_unknown_is_refused():
    known = [json.dumps(variant_settings(name, 0.1, 0.1)) for name in VARIANTS]
    assert len(set(known)) == len(VARIANTS)
    assert set().union(*TRIED_ON.values()) == set(VARIANTS)
    assert names_of("NLL, DPO") == ("DPO", "NLL")
    with pytest.raises(InputError, match="policy_losses: no variant 'PPO'; choose from DPO"):
        names_of("DPO,PPO")
    with pytest.raises(InputError, match="compared with DPO, which is missing"):
        names_of("IPO,NLL")


def test_label_files_hold_the_pairs_with_the_chosen_reply_first(study):
    write_labels(study)
    rows = [json.loads(line) for line in labels_file(study, "honest", 1).read_text().splitlines()]
    assert [(r["response_1"], r["response_2"]) for r in rows] == [
        (p.chosen, p.rejected) for p in study.pairs[1]
    ]
    assert {row["overall_response"] for row in rows} == {1}
    shuffled = [json.loads(line) for line in labels_file(study, "shuffled", 1).read_text().splitlines()]
    turned = [a["response_1"] != b["response_1"] for a, b in zip(rows, shuffled, strict=True)]
    assert 0 < sum(turned) < len(turned)


def test_policies_are_trained_on_what_the_plan_says_and_answer(study, tmp_path):
    small = replace(study, losses=("DPO", "NLL"))
    answers = train_variants(small, tmp_path / "answers.json")
    assert not small.folder.exists()
    pd.testing.assert_frame_equal(load_answers(tmp_path / "answers.json"), answers)
    plans = answers.groupby(["loss", "labels", "training"])["rate"].nunique()
    assert plans["DPO", "honest"].to_dict() == {0: 2, 1: 1} and plans["NLL", "shuffled"].to_dict() == {
        0: 1,
        1: 1,
    }
    assert set(plans["DPO"].index.get_level_values(0)) == {"honest", "flipped", "shuffled"}
    assert "flipped" not in plans["NLL"].index.get_level_values(0)
    parts = answers.groupby(["labels", "training"])["part"].unique().map(set)
    assert parts.pop(("honest", 0)) == {"choice", "reported"} and all(one == {"reported"} for one in parts)
    start = answers[(answers["loss"] == "start") & (answers["part"] == "reported")]
    first, second = (start[start["training"] == k]["gold"].tolist() for k in (0, 1))
    assert first == second  # the same policy with the same random numbers, whatever else it was asked
    moved = answers.groupby("loss")["kl"].mean()
    assert abs(moved["start"]) < 1e-4 < moved["DPO"] and moved["NLL"] > 1e-4
    found = policy_variants(answers, variant_sizes(small))
    assert found.metrics["policies.pairs"] == 12 and found.metrics["policies.trainings"] == 2
    assert [point["kl"] for point in found.frontier["DPO"]] == sorted(p["kl"] for p in found.frontier["DPO"])
    assert {
        "policies.DPO.gold_trainings_low",
        "policies.shuffled.lead_low",
        "policies.NLL.kl",
    } <= found.metrics.keys()
    assert len(variant_verdicts(found.claims)) < len(EXPECTATIONS)  # of losses that were tried


def test_the_rate_is_chosen_on_prompts_apart():
    choice = {("DPO", RATES[0]): 0.0, ("DPO", RATES[1]): 2.0}
    answers = made_answers({("DPO", "honest"): 0.0, ("NLL", "honest"): 9.0}, choice=choice)
    assert chosen_rates(answers) == {"DPO": RATES[1], "NLL": RATES[0]}


def test_what_dpo_adds_to_imitation_and_what_noise_takes_is_found():
    found = policy_variants(made_answers(GAINS), SIZES)
    value = {key.removeprefix("policies."): number for key, number in found.metrics.items()}
    expected = {
        "DPO.gold": 0.6,
        "NLL.gold": 0.2,
        "added": 0.4,
        "beyond_likelihood": 0.4,
        "shuffled.lead": 0.0,
    }
    expected |= {
        "flipped.DPO.lost": 0.5,
        "flipped.rDPO.gold_lead": 0.4,
        "rDPO.gold_lead": 0.0,
        "DPO.words": 0.0,
    }
    assert {key: value[key] for key in expected} == pytest.approx(expected, abs=0.08)
    assert (value["losses"], value["DPO.rate"], value["at_edge"]) == (4, RATES[0], 4)
    for name in (
        "dpo_gains",
        "dpo_beats_likelihood",
        "dpo_adds",
        "flips_cost",
        "rdpo_holds",
        "shuffled_no_lead",
    ):
        assert found.claims[f"policies_{name}"], name
    assert not found.claims["policies_dpo_loses"] and "policies_ipo_nearer" not in found.claims
    assert {len(points) for points in found.frontier.values()} == {2}


def test_a_control_that_gains_is_told():
    found = policy_variants(made_answers(GAINS | {("DPO", "shuffled"): 0.5}), SIZES)
    assert not found.claims["policies_shuffled_nothing"] and not found.claims["policies_shuffled_no_lead"]


def test_one_variant_better_than_dpo_is_told_and_all_losses_are_asked():
    everything = {(n, labels): 0.3 for labels, names in TRIED_ON.items() for n in names} | GAINS
    plain = policy_variants(made_answers(everything), SIZES).claims
    better = policy_variants(made_answers(everything | {("KTO", "honest"): 1.5}), SIZES).claims
    assert plain["policies_none_beats_dpo"] and not better["policies_none_beats_dpo"]
    assert plain["policies_without_reference_farther"] and plain["policies_ipo_nearer"]
    assert set(EXPECTATIONS) <= set(plain)
    assert better["policies_one_beats_dpo"] and not plain["policies_one_beats_dpo"]


def test_claims_need_both_intervals():
    numbers = {"DPO.gold": 0.5, "DPO.gold_low": 0.2, "DPO.gold_high": 0.8}
    assert variant_claims(numbers)["policies_dpo_gains"]
    wide = {"DPO.gold_trainings_low": -0.1, "DPO.gold_trainings_high": 1.1}
    assert not variant_claims(numbers | wide)["policies_dpo_gains"]


def test_one_rate_for_all_is_told_as_such_and_is_no_edge_of_a_range():
    one, three = (variant_claims({"rates": count, "at_edge": 4}) for count in (1, 3))
    assert one["policies_one_rate"] and not one["policies_rate_at_edge"]
    assert not three["policies_one_rate"] and three["policies_rate_at_edge"]
