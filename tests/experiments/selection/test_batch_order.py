"""All pairs of a prompt in one step, shuffled or apart: the same labels and losses, another order of them."""

import numpy as np
import pytest
import torch

from rlhf_hw.experiments.selection import ranked_replies
from rlhf_hw.experiments.selection.batch_order import (
    APART,
    SHUFFLED,
    TOGETHER,
    WAYS,
    OrderStudy,
    OrderTrained,
    RankedTrainer,
    learned_by,
    order_trainings,
    ranked_margins,
    tokenized,
)
from rlhf_hw.experiments.selection.order_numbers import (
    ORDER_EXPECTATIONS,
    order_claims,
    order_numbers,
    pair_order,
)
from rlhf_hw.experiments.selection.ranked_replies import all_pairs, pairs_apart, rank_replies
from rlhf_hw.models.scoring import RewardModel, score_groups
from rlhf_hw.paths import DATA
from rlhf_hw.preferences.reading import load_preferences
from rlhf_hw.training.config import RewardTraining
from rlhf_hw.world.annotators import Annotator, Features


@pytest.fixture(scope="module")
def asked():
    return load_preferences(str(DATA / "nano"), "HOMEWORK", "validation", 60)[0]


@pytest.fixture
def study(asked, policy_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("RLHF_HW_WORKERS", "1")
    limits = {"max_prompt_tokens": 64, "max_reply_tokens": 64}
    settings = RewardTraining(
        model=str(policy_folder), output_dir=tmp_path, learning_rate=1e-3, batch_size=2, dtype="fp32",
        report_to="none", **limits,
    )  # fmt: skip
    return OrderStudy([asked[:12], asked[12:24]], asked[40:46], 3, settings)


def test_a_patient_annotator_ranks_by_utility_and_noise_turns_pairs_as_bradley_terry_does(asked):
    judge = Annotator(flip=0.0, temperature=1.0)
    exact = rank_replies(asked[:20], 4, seed=1, temperature=1e-6)
    question, texts = asked[0].question, exact.texts[0]
    seen = [Features.of(question, text) for text in texts]
    assert [each.gold for each in seen] == pytest.approx(exact.gold[0].tolist())
    assert all(judge.utility(*two) >= 0 for two in zip(seen, seen[1:], strict=False))
    # many annotators of the same two replies
    many = [asked[0]] * 4000
    two = ranked_replies.more_replies([asked[0]], 2, 5)[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranked_replies, "more_replies", lambda preferences, *_: [two] * len(preferences))
        ranked = rank_replies(many, 2, seed=3, temperature=1.0)
    share = np.mean([row[0] == two[0] for row in ranked.texts])
    expected = judge.compare(*(Features.of(question, text) for text in two))
    assert 0.02 < expected < 0.98 and share == pytest.approx(expected, abs=0.03)


def test_pairs_of_a_ranking_are_in_its_order_and_apart_they_share_no_prompt(asked):
    ranked = rank_replies(asked[:5], 4, seed=2)
    pairs, apart = all_pairs(ranked), pairs_apart(ranked, 2)
    assert pairs.gold.shape == (30, 2) and len(pairs.prompts) == 30
    first, second = ranked.texts[1], pairs.texts[6:12]
    assert second == [[first[i], first[j]] for i in range(4) for j in range(i + 1, 4)]
    assert (ranked_margins(ranked.gold).ravel() == pairs.gold[:, 0] - pairs.gold[:, 1]).all()
    assert apart.gold.shape == (5, 2) and apart.prompts == ranked.prompts
    for row, two in zip(ranked.texts, apart.texts, strict=True):
        assert row.index(two[0]) < len(row) - 1 - row[::-1].index(two[1]) or two[0] == two[1]


def test_every_way_has_as_many_labels_and_the_shuffled_ones_are_those_together(study):
    parts = {way: learned_by(way, study, 0) for way in WAYS}
    assert [parts[way].gold.shape for way in WAYS] == [(4, 3), (12, 2), (12, 2)]
    assert all_pairs(parts[TOGETHER]).texts == parts[SHUFFLED].texts
    assert len({str(prompt) for prompt in parts[APART].prompts}) == 12
    assert learned_by(TOGETHER, study, 1).texts != parts[TOGETHER].texts


def test_the_loss_of_a_prompt_is_the_mean_of_those_of_its_pairs(study, reward_folder):
    model = RewardModel(reward_folder, dtype="fp32")
    parts = [tokenized(learned_by(way, study, 0), model.renderer) for way in (TOGETHER, SHUFFLED)]
    scores = [score_groups(model.model, part, model.renderer.pad_id, "fp32") for part in parts]
    whole, pairs = (RankedTrainer.group_loss(None, torch.from_numpy(each), {})[0] for each in scores)
    assert torch.allclose(whole, pairs.view(4, 3).mean(dim=1), atol=1e-5) and whole.std() > 1e-4
    alike = RankedTrainer.group_loss(None, torch.zeros(1, 5), {})[0]
    assert float(alike) == pytest.approx(np.log(2))


def test_all_ways_take_as_many_steps_and_are_judged_on_the_same_pairs(study, monkeypatch):
    steps = []
    train = RankedTrainer.train
    monkeypatch.setattr(RankedTrainer, "train", lambda self: steps.append(train(self).global_step))
    trained = order_trainings(study)
    assert steps == [2] * 6
    assert all(one.margins.shape == (18,) and one.learned.shape == (12,) for w in WAYS for one in trained[w])
    assert not np.allclose(trained[TOGETHER][0].margins, trained[SHUFFLED][0].margins, atol=1e-4)
    found = pair_order(trained, study)
    assert found.metrics["over.order.pairs"] == 12 and found.metrics["over.order.steps"] == 2
    gold = all_pairs(rank_replies(study.asked, 3, 0)).gold
    agree = (gold[:, 0] > gold[:, 1]).sum() / (gold[:, 0] != gold[:, 1]).sum()
    assert found.metrics["over.order.agreement"] == pytest.approx(agree)
    assert ORDER_EXPECTATIONS.keys() <= found.claims.keys()


def made_up(shift: float, memory: float, seed: int = 0, pairs: int = 400) -> list[OrderTrained]:
    """Trainings whose held-out margins are `shift` on average, and those learned from `memory` higher."""
    rng = np.random.default_rng(seed)
    each = [rng.normal(shift, 1, size=(2, pairs)) for _ in range(4)]
    return [OrderTrained(held_out, learned + memory) for held_out, learned in each]


def test_what_overfits_is_told_from_what_does_not():
    gold, prompts = np.ones(400), [n // 10 for n in range(400)]
    worse = {TOGETHER: made_up(1.0, 0.1, 1), SHUFFLED: made_up(0.3, 1.0, 2), APART: made_up(1.2, 0.1, 3)}
    numbers = order_numbers(worse, gold, prompts)
    claims = order_claims(numbers)
    assert all(claims[name] for name in ORDER_EXPECTATIONS)
    assert not claims["over_order_gap_less"] and not claims["over_order_accuracy_less"]
    assert numbers["shuffled.gap"] == pytest.approx(numbers["shuffled.loss"] - numbers["shuffled.learned"])
    turned = {TOGETHER: worse[SHUFFLED], SHUFFLED: worse[TOGETHER], APART: worse[APART]}
    claims = order_claims(order_numbers(turned, gold, prompts))
    assert claims["over_order_gap_less"] and claims["over_order_loss_less"]
    assert claims["over_order_accuracy_less"] and not claims["over_order_gap"]
    same = order_claims(order_numbers({way: made_up(1.0, 0.5, 1) for way in WAYS}, gold, prompts))
    assert not any(same.values())


def test_pairs_of_equal_gold_count_for_labels_alone():
    gold = np.array([1.0, -1.0, 0.0, 0.0])
    trained = {way: [OrderTrained(np.array([1.0, 1.0, -1.0, -1.0]), np.ones(2))] * 2 for way in WAYS}
    numbers = order_numbers(trained, gold, [0, 0, 1, 1])
    assert numbers["together.gold"] == 0.5 and numbers["together.labels"] == 0.5
    trained = {way: [OrderTrained(np.array([1.0, -1.0, 1.0, 1.0]), np.ones(2))] * 2 for way in WAYS}
    numbers = order_numbers(trained, gold, [0, 0, 1, 1])
    assert numbers["together.gold"] == 1.0 and numbers["together.labels"] == 0.75
