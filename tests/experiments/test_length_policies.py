"""Policies from labels with a taste for length: their labels, R-DPO's price, and what the numbers may say."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from rlhf_hw.experiments.length_bias.length_policies import (
    BY_LENGTH,
    POLICIES,
    LengthPolicyStudy,
    gold_at_equal_length,
    length_policies,
    policy_sizes,
    train_length_policies,
)
from rlhf_hw.experiments.length_bias.policy_expectations import (
    EXPECTATIONS,
    LENGTH_LOSSES,
    policy_claims,
    policy_verdicts,
)
from rlhf_hw.experiments.variants.variant_settings import HONEST
from rlhf_hw.experiments.variants.variant_trainings import (
    REPORTED,
    PolicyPlan,
    load_answers,
    training_settings,
)
from rlhf_hw.figures.length_bias import POLICY_ROWS
from rlhf_hw.models.rendering import Renderer
from rlhf_hw.preferences.reading import load_preferences
from rlhf_hw.training.config import SETTINGS

# words that each policy adds, and gold apart from them; every word is worth 0.02
ADDED = {"control": 3.0, "DPO": 9.0, "R_DPO": 1.0, "SimPO": 6.0, "LD_DPO": 6.0, "SamPO": 7.0}
WORTH = {"control": 0.5, "DPO": 0.2, "R_DPO": 0.4, "SimPO": 0.3, "LD_DPO": 0.3, "SamPO": 0.3}
A_WORD = 0.02


def made_answers(added=ADDED, worth=WORTH, trainings: int = 3, prompts: int = 200) -> pd.DataFrame:
    rng, rows = np.random.default_rng(0), []
    words = rng.integers(20, 60, prompts).astype(float)
    gold = rng.normal(size=prompts)
    shared = {"part": REPORTED, "prompt": range(prompts), "rate": 1e-3}
    start = {"loss": "start", "labels": HONEST, "training": 0, "words": words, "gold": gold, "kl": 0.0}
    rows.append(pd.DataFrame(shared | start))
    for name, (labels, loss) in POLICIES.items():
        for training in range(trainings):
            more = added[name] + rng.normal(0, 6, prompts)
            gained = worth[name] + A_WORD * more + rng.normal(0, 0.2, prompts)
            own = {"loss": loss, "labels": labels, "training": training, "kl": 1.0}
            rows.append(pd.DataFrame(shared | own | {"words": words + more, "gold": gold + gained}))
    return pd.concat(rows, ignore_index=True)


@pytest.fixture(scope="module")
def found():
    return length_policies(made_answers(), {"trainings": 3})


@pytest.fixture
def study(preferences, policy_folder, tmp_path) -> LengthPolicyStudy:
    pairs = [preferences[:12], preferences[12:]]
    training = {"batch_size": 4, "max_prompt_tokens": 64, "max_reply_tokens": 64}
    given = {"rates": (1e-3,), "training": training, "sampling": {"max_new_tokens": 6}, "share": 0.5}
    asked = {REPORTED: preferences[3:8]}
    return LengthPolicyStudy([policy_folder] * 2, pairs, asked, tmp_path / "policies", **given)


def test_what_was_put_in_is_found(found) -> None:
    for name, numbers in found.policies.items():
        assert numbers["words"] == pytest.approx(ADDED[name], abs=1.0), name
        assert numbers["gold"] == pytest.approx(WORTH[name] + A_WORD * ADDED[name], abs=0.06), name
        assert numbers["equal"] == pytest.approx(WORTH[name], abs=0.06), name
    behind = found.policies["DPO"]["gold_behind"]
    assert behind == pytest.approx(0.3 - 6 * A_WORD, abs=0.06)
    assert found.policies["LD_DPO"]["equal_lead"] == pytest.approx(0.1, abs=0.06)
    assert found.metrics["length_bias.policy.R_DPO.below_SamPO"] == pytest.approx(-6, abs=1)
    assert set(EXPECTATIONS) <= set(found.claims) and all(found.claims[name] for name in EXPECTATIONS)
    assert len(policy_verdicts(found.claims)) == len(EXPECTATIONS)


@pytest.mark.parametrize(
    ("added", "worth", "wrong"),
    [
        ({"DPO": 3.0}, {}, {"length_policy_planted", "length_policy_all_shorter"}),
        ({"control": 0.0}, {}, {"length_policy_earned"}),
        ({"SamPO": 9.0}, {}, {"length_policy_all_shorter"}),
        ({}, {"R_DPO": -0.5}, {"length_policy_works", "length_policy_equal_kept"}),
        ({"R_DPO": 6.0}, {}, {"length_policy_works", "length_policy_price_first"}),
        ({}, {"DPO": 0.6}, {"length_policy_costs", "length_policy_equal_kept"}),
    ],
)
def test_and_what_was_not_is_not_claimed(added, worth, wrong) -> None:
    claims = length_policies(made_answers(ADDED | added, WORTH | worth), {}).claims
    assert wrong <= {name for name in EXPECTATIONS if not claims[name]}


def test_a_claim_needs_both_intervals(found) -> None:
    numbers = {key.removeprefix("length_bias.policy."): value for key, value in found.metrics.items()}
    wide = {"DPO.words_above_trainings_low": -1.0}
    assert policy_claims(numbers)["length_policy_planted"]
    assert not policy_claims(numbers | wide)["length_policy_planted"]
    wide = {"R_DPO.gold_lead_trainings_low": -1.0}
    assert policy_claims(numbers)["length_policy_works"]
    assert not policy_claims(numbers | wide)["length_policy_works"]


@pytest.mark.parametrize(
    ("key", "low", "high", "claim"),
    [
        ("SamPO.equal_lead", -0.3, 0.3, "length_policy_equal_kept"),
        ("R_DPO.words_above", -5.0, 5.0, "length_policy_works"),
    ],
)
def test_what_was_not_seen_bears_out_nothing(found, key, low, high, claim) -> None:
    numbers = {name.removeprefix("length_bias.policy."): value for name, value in found.metrics.items()}
    wide = {f"{key}_trainings_low": low, f"{key}_trainings_high": high}
    assert policy_claims(numbers)[claim] and not policy_claims(numbers | wide)[claim]


def test_gold_at_equal_length_is_the_mean_of_the_lines_at_zero() -> None:
    rng = np.random.default_rng(1)
    words = rng.normal(5, 8, (3, 80))
    gold = np.array([[0.1], [0.3], [0.5]]) + 0.05 * words + rng.normal(0, 0.1, (3, 80))
    one = gold_at_equal_length(gold, words)
    lines = [np.polyfit(x, y, 1)[1] for x, y in zip(words, gold, strict=True)]
    assert one.value == pytest.approx(np.mean(lines), abs=1e-6)
    assert one.prompts.low < 0.3 < one.prompts.high and one.prompts.high - one.prompts.low < 0.1
    assert one.trainings.high - one.trainings.low > 0.5  # the trainings differ by more than the prompts


def test_labels_differ_by_the_bias_alone(study) -> None:
    pairs = load_preferences("data/hard", "HOMEWORK", "train", 600)[0]
    many = replace(study, pairs=[pairs])
    honest, biased = (many.labelled(labels, 0) for labels in (HONEST, BY_LENGTH))
    longer = [
        np.mean([len(p.chosen.split()) > len(p.rejected.split()) for p in rows if _unequal(p)])
        for rows in (honest, biased)
    ]
    assert longer[1] > longer[0] + 0.1
    same = [a.chosen == b.chosen for a, b in zip(honest, biased, strict=True)]
    turned = [
        len(p.chosen.split()) > len(p.rejected.split()) for p, s in zip(biased, same, strict=True) if not s
    ]
    assert 0.5 < np.mean(same) < 0.9 and all(turned)
    assert all({a.chosen, a.rejected} == {p.chosen, p.rejected} for a, p in zip(biased, pairs, strict=True))
    assert [p.chosen for p in many.labelled(BY_LENGTH, 0)] == [p.chosen for p in biased]


def _unequal(pair) -> bool:
    return len(pair.chosen.split()) != len(pair.rejected.split())


def test_r_dpos_price_is_what_the_labels_pay_for_a_token(study, preferences, policy_folder) -> None:
    plan = PolicyPlan("R_DPO", 1e-3, BY_LENGTH)
    renderer = Renderer.load(policy_folder)
    rng, rows = np.random.default_rng(0), []
    for p in preferences * 80:
        lengths = [len(ids) for ids in renderer.reply_ids([p.chosen, p.rejected])]
        kept = rng.random() < expit(0.08 * (lengths[0] - lengths[1]))
        rows.append(p if kept else replace(p, chosen=p.rejected, rejected=p.chosen))

    class Given(LengthPolicyStudy):
        def labelled(self, labels, training):
            return rows

    given = Given(study.starts, [rows], study.asked, study.folder)
    assert given.price(plan) == pytest.approx(0.08, abs=0.015)
    turned = [replace(p, chosen=p.rejected, rejected=p.chosen) for p in rows]
    rows[:] = turned
    assert given.price(plan) == 0.0  # labels against length: nothing is paid for it


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_is_trained_with_its_own_loss(name, study) -> None:
    labels, loss = POLICIES[name]
    kind, settings = training_settings(PolicyPlan(loss, 1e-3, labels, 1), study)
    config = SETTINGS[kind](**settings)
    losses = {"R_DPO": "length_dpo", "SimPO": "simpo", "LD_DPO": "ld_dpo", "SamPO": "sampo"}
    assert config.loss == losses.get(name, "sigmoid") and config.seed == 1
    assert str(config.train_dataset).endswith(f"{labels}-1.jsonl")
    if name == "R_DPO":
        assert config.length_alpha == study.price(PolicyPlan(loss, 1e-3, labels, 1))


def test_policies_are_trained_and_answer(study, tmp_path) -> None:
    answers = train_length_policies(study, tmp_path / "answers.json")
    assert not study.folder.exists()
    pd.testing.assert_frame_equal(load_answers(tmp_path / "answers.json"), answers)
    trained = answers.groupby(["loss", "labels"])["training"].nunique().to_dict()
    assert trained.pop(("start", HONEST)) == 1
    assert trained == {(loss, labels): 2 for labels, loss in POLICIES.values()}
    assert answers.groupby("loss")["kl"].mean().drop("start").min() > 1e-4
    found = length_policies(answers, sizes := policy_sizes(study))
    assert sizes["pairs"] == 12 and sizes["trainings"] == 2 and sizes["price"] >= 0
    assert list(found.policies) == list(POLICIES) == list(POLICY_ROWS)
    assert {"control", "DPO", *LENGTH_LOSSES} == set(POLICIES)
    json.dumps(found.metrics)
