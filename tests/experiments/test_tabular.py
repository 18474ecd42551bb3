"""Worlds that are computed exactly: what theory says of DPO and its variants, and what must not be found."""

from functools import partial

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from rlhf_hw.experiments.result import verdicts
from rlhf_hw.experiments.tabular.displacement import (
    DisplacementWorld,
    at_margin,
    draw_replies,
    measure_displacement,
    train_anchored,
)
from rlhf_hw.experiments.tabular.dpo_variants import ExactStudy, dpo_variants, measure_world
from rlhf_hw.experiments.tabular.exact_expectations import EXPECTATIONS, tabular_claims
from rlhf_hw.experiments.tabular.label_noise import (
    NOISE_LOSSES,
    NoiseWorld,
    derived_margin,
    measure_noise,
    regret,
    share_of_labels,
)
from rlhf_hw.experiments.tabular.pair_coverage import (
    CoverageWorld,
    draw_world,
    measure_class,
    measure_coverage,
    shares_of_pairs,
)
from rlhf_hw.experiments.tabular.policy_classes import (
    Comparisons,
    PolicyClass,
    largest_difference,
    objective,
    rlhf_optimum,
    total_variation,
)
from rlhf_hw.experiments.tabular.rounds import RoundsWorld, measure_rounds, ordered_rightly, shares_under
from rlhf_hw.training.losses import ipo

SMALL = CoverageWorld(replies=6, labels=(100, 3000), mixes=4)


@pytest.fixture(scope="module")
def small_study() -> ExactStudy:
    rounds = RoundsWorld(replies=12, labels=(50, 200))
    return ExactStudy(SMALL, rounds, DisplacementWorld(steps=100), worlds=3)


@pytest.fixture(scope="module")
def found(small_study):
    return dpo_variants([measure_world(small_study, seed) for seed in small_study.seeds()], small_study)


@pytest.mark.parametrize("coverage", ["everything", "chain"])
@pytest.mark.parametrize("beta", [0.1, 0.5, 2.0])
def test_with_coverage_dpo_is_rlhf(coverage, beta) -> None:
    for seed in range(3):
        reference, rewards, _ = draw_world(SMALL, seed)
        seen = Comparisons.expected(rewards, shares_of_pairs(coverage, 6))
        table = PolicyClass.whole(reference)
        learned = table.log_probs(table.learn(seen, beta))
        assert largest_difference(learned, rlhf_optimum(reference, rewards, beta)) < 1e-3


def test_the_optimum_of_rlhf_is_the_best_of_all_policies() -> None:
    reference, rewards, rng = draw_world(SMALL, 0)
    best = rlhf_optimum(reference, rewards, 0.5)
    found = PolicyClass.whole(reference)
    assert total_variation(found.log_probs(found.best(rewards, 0.5)), best) < 1e-5
    top = objective(best, reference, rewards, 0.5)
    others = [log_softmax(best + rng.normal(size=6)) for _ in range(50)]
    assert max(objective(other, reference, rewards, 0.5) for other in others) < top


def test_without_coverage_dpo_is_another_policy_and_does_not_see_which() -> None:
    for seed in range(4):
        numbers = measure_coverage(SMALL, seed)
        assert numbers["islands.difference"] > 0.01 > 1e-3 > numbers["everything.difference"]
        assert numbers["islands.loss_change"] < 1e-12
        assert numbers["islands.moved"] > numbers["islands.mass"] + 0.05


def test_more_labels_help_where_they_can() -> None:
    found = [measure_coverage(SMALL, seed) for seed in range(6)]
    means = {key: np.mean([numbers[key] for numbers in found]) for key in found[0]}
    assert means["everything.distance.3000"] < 0.1 < means["everything.distance.100"]
    assert means["islands.distance.3000"] > 2 * means["everything.distance.3000"]


def test_a_class_too_small_falls_short_and_hangs_on_the_pairs() -> None:
    found = [measure_class(SMALL, seed) for seed in range(6)]
    assert min(numbers["small.gap"] for numbers in found) > -1e-9  # the best of the class is the best
    assert np.mean([numbers["small.gap"] for numbers in found]) > 0.02
    assert np.mean([numbers["small.spread"] for numbers in found]) > 0.1
    assert max(numbers["whole.gap"] for numbers in found) < 1e-6
    assert max(numbers["whole.spread"] for numbers in found) < 1e-4
    assert all(numbers["whole.reached.0"] == pytest.approx(1) for numbers in found)


def test_minima_under_noise_are_those_derived_in_the_order_derived() -> None:
    noise = measure_noise(NoiseWorld())
    assert noise.error < 1e-6 and noise.same < 1e-6
    for rate, *kept in zip(NoiseWorld().rates, *(noise.kept[name] for name in NOISE_LOSSES), strict=True):
        assert kept == sorted(kept, reverse=True), NOISE_LOSSES
        assert rate == 0 or min(np.subtract(kept[:-1], kept[1:])) > 0.02
    assert noise.kept["IPO"] == pytest.approx([1 - 2 * rate for rate in NoiseWorld().rates])
    assert noise.regrets["rDPO"][-1] < 0.01 < noise.regrets["DPO"][-1] < noise.regrets["cDPO"][-1]
    assert noise.none[0] > 0.2 and noise.none[-1] < 1e-6


@pytest.mark.parametrize("agreement", [0.55, 0.7, 0.99])
def test_the_order_holds_for_any_agreement(agreement) -> None:
    for rate in (0.05, 0.25, 0.45):
        q = share_of_labels(agreement, rate)
        kept = [derived_margin(n, q, rate) / derived_margin(n, agreement, 0.0) for n in NOISE_LOSSES]
        assert kept == sorted(kept, reverse=True)


def test_regret_is_nothing_for_the_best_policy_and_finite_for_a_certain_one() -> None:
    world = NoiseWorld(agreement=0.8)
    margins = np.array([np.log(4), -np.inf, np.inf, 0.0])
    lost = regret(margins, world)
    assert lost[0] == pytest.approx(0, abs=1e-12) and np.isfinite(lost).all() and (lost[1:] > 0).all()
    assert lost[1] > lost[3]  # sure of the wrong one


def test_ipo_stops_where_a_preference_is_certain() -> None:
    table = PolicyClass.whole(np.log([0.5, 0.5]))
    weights = table.learn(Comparisons.of(np.array([[0, 1.0], [0, 0]])), 0.25, partial(ipo, beta=0.25))
    assert weights[0] - weights[1] == pytest.approx(2.0)  # 1 / (2 beta)


def test_drawn_labels_follow_bradley_and_terry() -> None:
    rewards, shares = np.array([1.0, 0.0, -1.0]), shares_of_pairs("everything", 4)[:3, :3]
    seen = Comparisons.drawn(rewards, shares, 90_000, np.random.default_rng(0)).table(3)
    assert seen.sum() == 90_000
    assert seen[0, 1] / (seen[0, 1] + seen[1, 0]) == pytest.approx(1 / (1 + np.exp(-1)), abs=0.01)
    torch.testing.assert_close(Comparisons.of(seen).table(3), seen)


def test_pairs_of_a_policy_and_who_orders_them() -> None:
    shares = shares_under(np.log([0.6, 0.3, 0.1]))
    assert shares[0, 1] == pytest.approx(0.18 / (2 * (0.18 + 0.06 + 0.03))) and np.diag(shares).sum() == 0
    rewards = np.array([3.0, 2.0, 1.0])
    assert ordered_rightly(rewards, rewards, shares) == pytest.approx(1)
    assert ordered_rightly(-rewards, rewards, shares) == pytest.approx(0)
    assert ordered_rightly(np.zeros(3), rewards, shares) == pytest.approx(0.5)


def test_all_sources_of_pairs_get_near_the_best_where_it_is_near() -> None:
    world = RoundsWorld(replies=10, labels=(50, 200, 2000))
    found = [measure_rounds(world, seed) for seed in range(3)]
    for source in ("offline", "iterative", "uniform"):
        few, many = (np.mean([n[f"near.{source}.regret.{k}"] for n in found]) for k in (50, 2000))
        assert 0 <= many < few and many < 0.02
    assert all(numbers["far.offline.divergence"] > numbers["near.offline.divergence"] for numbers in found)


def test_displacement_grows_with_similarity() -> None:
    found = measure_displacement(DisplacementWorld(anchored=()), range(20))
    changes = np.array([found[f"change.{p}"] for p in (0, 25, 50, 75, 90, 95)])
    assert (np.diff(changes.mean(axis=1)) < 0).all()
    assert changes[0].min() > 1  # replies that have nothing in common: no displacement
    assert changes[-1].mean() < -0.3


def test_descent_walks_the_line_that_the_formula_says() -> None:
    world = DisplacementWorld(margin=3.0)
    drawn = [draw_replies(world, 0.9, seed) for seed in range(3)]
    starts, features = (np.array(part) for part in zip(*drawn, strict=True))
    trained = train_anchored("DPO", world, starts, features)
    for start, vectors, end in zip(starts, features, trained, strict=True):
        reached = (end - start)[0] - (end - start)[1]
        assert reached >= 3.0 and vectors[0] @ vectors[1] == pytest.approx(0.9)
        np.testing.assert_allclose(at_margin(start, vectors, reached), end, atol=1e-9)


def test_an_anchor_keeps_the_chosen_reply_from_falling() -> None:
    world = DisplacementWorld(similarities=(0.95,), anchored=(0.95,), steps=600)
    found = measure_displacement(world, range(6))
    assert found["DPO.95"].mean() < -0.3
    for name in ("DPOP", "DPO + NLL"):
        assert found[f"{name}.95"].min() > -1e-6 and found[f"{name}.margin.95"].min() > 1


def test_every_number_is_recorded_and_every_expectation_has_its_verdict(found) -> None:
    assert EXPECTATIONS.keys() <= found.claims.keys()
    assert all(np.isfinite(list(found.metrics.values()))) and found.metrics["variants.worlds"] == 3
    assert {row["found"] for row in verdicts(EXPECTATIONS, found.claims)} <= {"borne out", "not borne out"}
    for name in ("covered_equal", "chain_equal", "whole_class_none", "noise_order", "noise_none_same"):
        assert found.claims[f"variants_{name}"]
    assert found.distances.keys() == {"everything", "chain", "islands"}
    assert found.reached["small"].shape == (3, 4)


def test_a_claim_falls_with_its_number(found) -> None:
    numbers = {key.removeprefix("variants."): value for key, value in found.metrics.items()}
    assert not tabular_claims(numbers | {"chain.difference_most": 0.002})["variants_chain_equal"]
    assert not tabular_claims(numbers | {"noise.order": -0.001})["variants_noise_order"]
    for key, claim in (("displacement.slope", "displacement_grows"), ("small.gap", "small_class_short")):
        for wide in (True, False):
            sign = -1 if claim == "displacement_grows" else 1
            ends = {f"{key}_low": -1.0 if wide else sign - 0.1, f"{key}_high": 1.0 if wide else sign + 0.1}
            assert tabular_claims(numbers | ends)[f"variants_{claim}"] is not wide
