"""Hard pairs beside easy ones: numbers and claims of made scores whose truth is known; what is trained on."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rlhf_hw.errors import InputError
from rlhf_hw.experiments.hard_pairs import by_kind, compare_kinds, kind_metrics
from rlhf_hw.experiments.hard_trainings import HardData, hard_trainings, recorded_settings, training_pairs
from rlhf_hw.pipeline.graph import replica
from rlhf_hw.preferences.templates import Message, Preference
from rlhf_hw.training.checkpoints import RECORD
from rlhf_hw.training.config import DPOTraining, RewardTraining, SupervisedTraining
from tests.scored_replies import policies

PAIRS = 400


def scored_pairs(gap: float, noise: float, seed: int, pairs: int = PAIRS) -> pd.DataFrame:
    """Pairs with differences in gold of about `gap`, scored with so much noise; fair labels."""
    world = np.random.default_rng(int(100 * gap))  # the pairs are the same for all reward models
    gold = gap * (0.5 + world.random(pairs)) * world.choice([-1, 1], pairs)
    probability = 1 / (1 + np.exp(-gold / 0.5))
    first = world.random(pairs) < probability
    margin = np.where(first, gold, -gold) + noise * np.random.default_rng(seed).normal(size=pairs)
    meta = [
        {"gold_1": g, "gold_2": 0.0, "probability": p, "chosen_index": 1 if one else 2}
        for g, p, one in zip(gold, probability, first, strict=True)
    ]
    replies = {"chosen": [f"good {n}" for n in range(pairs)], "rejected": [f"bad {n}" for n in range(pairs)]}
    keys = [f"{gap} {n}" for n in range(pairs)]
    return pd.DataFrame({"prompt_key": keys, **replies, "margin": margin, "meta": meta})


def training(words: tuple[str, str]) -> list[Preference]:
    return [Preference((Message("user", f"q{n}"),), *(f"{w} {n}" for w in words), row=n) for n in range(40)]


def kinds(easy_noise: float = 0.5, hard_noise: float = 0.5, other_noise: float = 3.0, trainings: int = 3):
    tables = {
        (learned, kind): [
            scored_pairs(gap, noise, seed=10 * k + len(learned + kind)) for k in range(trainings)
        ]
        for kind, gap, own in (("easy", 2.0, easy_noise), ("hard", 0.5, hard_noise))
        for learned, noise in (("easy", own if kind == "easy" else other_noise), ("hard", own))
    }
    train = {"easy": [training(("good", "bad"))] * trainings, "hard": [training(("bad", "good"))] * trainings}
    return by_kind(tables, train)


def answered(sft: float, dpo: float) -> dict:
    steps = {"sft": [(sft, 0.0)] * 3, "dpo": [(dpo, 1.0)] * 3, "reference": [(0.0, 0.0)] * 3}
    return policies(steps, prompts=200)


def test_hard_pairs_are_told_from_easy_ones():
    found = compare_kinds(kinds(), answered(0.0, -1.0), {}, np.array([[0.0, 0.4], [1.0, 0.2], [3.0, 0.0]]))
    metrics = found.metrics
    assert metrics["data.pair_gold_difference_median"] == pytest.approx(2.0, abs=0.15)
    assert metrics["hard.pair_gold_difference_median"] == pytest.approx(0.5, abs=0.04)
    assert metrics["base.sample_gold_difference_median"] == pytest.approx(0.8)
    assert metrics["hard.pair_gold_within_half"] > 0.3 > metrics["data.pair_gold_within_half"] == 0
    assert metrics["hard.on_easy.own_accuracy"] > metrics["hard.on_hard.own_accuracy"] + 0.1
    drop = metrics["hard.on_easy.own_accuracy"] - metrics["hard.on_hard.own_accuracy"]
    assert metrics["hard.drop"] == pytest.approx(drop)
    assert 0 < metrics["hard.drop_low"] < drop < metrics["hard.drop_high"]
    assert found.claims["hard_is_harder"] and found.claims["hard_reaches_less_of_best"]
    assert found.claims["hard_chosen_base_open"] and not found.claims["hard_chosen_above_base"]
    assert found.claims["hard_dpo_lowers_gold"] and not found.claims["hard_dpo_raises_gold"]
    assert found.claims["hard_sft_gold_open"]
    assert metrics["hard.dpo_sft.gold_difference"] == pytest.approx(-1.0, abs=0.15)
    assert {"hard.base.gold_mean", "hard.reference.score_mean"} <= metrics.keys()
    assert metrics["hard.replicates"] == 3 and "hard.drop_trainings_low" in metrics
    assert list(found.gaps) == ["easy pairs", "hard pairs", "two samples of the base model"]


def test_the_best_possible_is_measured_on_the_same_labels_and_baselines_learn_from_the_own_pairs():
    easy = kind_metrics(kinds()["easy"])
    likelier = np.mean(
        [(m["probability"] > 0.5) == (m["chosen_index"] == 1) for m in scored_pairs(2.0, 0, 0)["meta"]]
    )
    assert easy["best_possible_accuracy"] == pytest.approx(likelier)
    expected = (easy["own_accuracy"] - 0.5) / (likelier - 0.5)
    assert easy["share_of_best"] == pytest.approx(expected)
    # "good" was chosen in the easy training pairs, rejected in the hard ones
    assert easy["words_accuracy"] == 1 and kind_metrics(kinds()["hard"])["words_accuracy"] == 0


def test_a_reward_model_of_the_other_kind_is_told_apart_only_beyond_both_intervals():
    found = compare_kinds(kinds(), answered(0.0, 0.0), {}, np.eye(2))
    assert found.claims["own_rm_better_on_hard"] and not found.claims["own_rm_open_on_hard"]
    assert found.claims["own_rm_open_on_easy"]
    alike = compare_kinds(kinds(other_noise=0.5), answered(0.0, 0.0), {}, np.eye(2))
    assert alike.claims["own_rm_open_on_hard"] and not alike.claims["own_rm_better_on_hard"]


def test_one_training_has_no_interval_over_trainings():
    alone = {policy: tables[:1] for policy, tables in answered(0.5, 0.5).items()}
    found = compare_kinds(kinds(trainings=1), alone, {}, np.eye(2))
    assert not [key for key in found.metrics if "_trainings_" in key]
    assert found.claims["hard_sft_raises_gold"]


def test_reward_models_that_scored_other_pairs_are_refused():
    mixed = kinds()["easy"]
    with pytest.raises(InputError, match="scored other pairs"):
        kind_metrics(type(mixed)(mixed.own, kinds()["hard"].own, mixed.train))


def recorded(folder: Path) -> dict:
    common = {"train_dataset": "data/nano", "eval_dataset": "data/nano", "seed": 5}
    return {
        "rm": RewardTraining(
            model="m", output_dir=folder / "a", max_train=2000, learning_rate=5e-4, **common
        ),
        "sft": SupervisedTraining(model="m", output_dir=folder / "b", max_train=1500, **common),
        "dpo": DPOTraining(model="s", output_dir=folder / "c", max_train=800, beta=0.4, **common),
    }


def test_hard_trainings_differ_from_the_runs_own_in_their_pairs_only(tmp_path: Path):
    own = recorded(tmp_path)
    data = HardData("data/hard", sizes={"dpo": 100})
    found = hard_trainings(own, data, tmp_path, tmp_path / "base", 2, replica)
    names = ["hard/policies", "hard/policies-1", "hard/reward_model", "hard/reward_model-1"]
    assert [one.artefact for one in found] == names
    (_, sft), (_, dpo) = found[1].steps
    (_, reward), *_ = found[3].steps
    assert (sft.max_train, dpo.max_train, reward.max_train) == (1500, 100, 2000)
    assert all(one.skip_train == 2000 and one.seed == 6 for one in (sft, dpo, reward))
    assert (dpo.beta, reward.learning_rate) == (0.4, 5e-4)
    assert Path(dpo.model) == sft.output_dir == tmp_path / "hard/policies-1/sft"
    assert all(one.train_dataset == one.eval_dataset == "data/hard" for one in (sft, dpo, reward))
    pairs = [training_pairs(step[0][1]) for step in (found[2].steps, found[3].steps)]
    assert [len(part) for part in pairs] == [2000, 2000]
    assert not {p.prompt for p in pairs[0]} & {p.prompt for p in pairs[1]}


def test_what_results_depend_on_names_no_folder_but_the_base(tmp_path: Path):
    found = hard_trainings(recorded(tmp_path), HardData("data/hard"), tmp_path, Path("base"), 1, replica)
    for one in found:
        kept = one.settings
        assert kept.pop("model") == "base" and str(tmp_path) not in json.dumps(kept)
        assert kept[one.steps[0][0]]["train_dataset"] == "data/hard"


def test_settings_are_read_from_the_record(tmp_path: Path):
    own = recorded(tmp_path)["dpo"]
    (tmp_path / RECORD).write_text(json.dumps({"config": json.loads(own.model_dump_json())}))
    assert recorded_settings("dpo", tmp_path) == own
    with pytest.raises(FileNotFoundError, match="leave hard_dataset empty"):
        recorded_settings("rm", tmp_path / "elsewhere")
