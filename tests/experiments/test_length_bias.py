"""Length bias in a made-up world of numbers: what must be found, and what must not."""

import numpy as np
import pytest

from rlhf_hw.errors import InputError
from rlhf_hw.experiments.length_bias.biased_labels import SeenReplies, biased_labels
from rlhf_hw.experiments.length_bias.length_bias import LengthStudy, length_bias, measure_remedies
from rlhf_hw.experiments.length_bias.length_expectations import (
    EXPECTATIONS,
    MARGIN,
    length_claims,
    length_verdicts,
)
from rlhf_hw.experiments.length_bias.remedies import REMEDIES, balanced_rows, balancing_weights
from rlhf_hw.experiments.length_bias.two_heads import fit_two_heads
from rlhf_hw.experiments.length_bias.whole_models import labelled_sets
from rlhf_hw.pipeline.kept_results import kept_results
from rlhf_hw.preferences.reading import load_preferences
from rlhf_hw.preferences.templates import Message, Preference
from rlhf_hw.stats.replicates import beyond
from rlhf_hw.world.annotators import Features

SHARE = 0.4


def replies(prompts: int, count: int, seed: int, earned: float = 0.3) -> SeenReplies:
    """Replies whose gold has a correlation of `earned` with length; states show both, with noise."""
    rng = np.random.default_rng(seed)
    length = rng.normal(size=(prompts, count))
    gold = earned * length + np.sqrt(1 - earned**2) * rng.normal(size=(prompts, count))
    words = np.round(40 + 12 * length)
    seen = [
        [Features(g, int(w), 0) for g, w in zip(*row, strict=True)] for row in zip(gold, words, strict=True)
    ]
    noise = rng.normal(size=(prompts, count, 4))
    known = [gold[..., None] + 0.1 * noise[..., :1], length[..., None], noise[..., 1:]]
    states = np.concatenate(known, axis=2) @ np.random.default_rng(0).normal(size=(5, 12))
    asked = [Preference((Message("user", f"prompt {seed} {k}"),), "a", "b") for k in range(prompts)]
    return SeenReplies(asked, [["a"] * count] * prompts, seen, states)


def found_for(earned: float, replicates: int = 3):
    parts = replies(900, 2, 1, earned), replies(400, 2, 2, earned), replies(40, 16, 3, earned)
    study = LengthStudy(*parts, share=SHARE, shares=(0.0, SHARE), strengths=(0.0, 1.0, 2.0))
    return length_bias([measure_remedies(study, seed) for seed in range(replicates)], study)


@pytest.fixture(scope="module")
def found():
    return found_for(earned=0.3)


def test_the_planted_taste_is_found_and_absent_from_the_control(found) -> None:
    assert found.models["none"]["coefficient_low"] > 0.2
    assert abs(found.models["control"]["coefficient"]) < 0.1
    assert found.claims["length_planted"] and found.claims["length_grows"]
    assert found.models["none"]["split"] > found.models["control"]["split"] + 0.1


def test_one_remedy_at_least_reaches_zero_and_keeps_gold(found) -> None:
    assert found.claims["length_remedy_works"]
    balanced = found.models["bins"]
    assert abs(balanced["coefficient"]) < 0.15 and balanced["gold_lead_low"] > -MARGIN
    numbers = {key.removeprefix("length_bias."): value for key, value in found.metrics.items()}
    for end in ("low", "trainings_low"):  # a loss that one of the two intervals leaves open is not excluded
        claims = length_claims(numbers | {f"bins.gold_lead_{end}": -1.0}, (0.0, 1.0, 2.0))
        assert found.claims["length_bins_keeps_gold"] and not claims["length_bins_keeps_gold"], end


def test_what_makes_score_and_length_independent_overshoots_where_length_is_earned(found) -> None:
    for name in ("penalty", "two_heads", "calibrated"):
        assert found.models[name]["coefficient_high"] < 0, name
    assert found.claims["length_independence_costs"]


def test_and_does_not_where_it_is_not() -> None:
    plain = found_for(earned=0.0, replicates=2)
    for name in ("penalty", "two_heads", "calibrated"):
        assert abs(plain.models[name]["coefficient"]) < 0.1, name


def test_too_strong_a_penalty_turns_the_coefficient_and_costs_gold(found) -> None:
    by_strength = {s: n["coefficient"] for s, n in found.by_strength.items()}
    assert by_strength[0.0] > by_strength[1.0] > by_strength[2.0]
    assert by_strength[0.0] == pytest.approx(found.models["none"]["coefficient"])
    assert found.claims["length_too_strong"] and found.metrics["length_bias.too_strong_high"] < 0


def test_every_expectation_has_a_verdict_but_for_models_that_were_not_trained(found) -> None:
    missing = {name for name in EXPECTATIONS if name not in found.claims}
    assert missing == {"length_whole_planted", "length_whole_works"}
    assert len(length_verdicts(found.claims)) == len(EXPECTATIONS) - len(missing)


def test_length_decides_as_many_labels_as_was_said() -> None:
    pairs = replies(4000, 2, 5, earned=0.0)
    honest, biased = (biased_labels(pairs, s, np.random.default_rng(0)) for s in (0.0, SHARE))
    longer = np.where(pairs.longer > 0, biased, 1 - biased)[pairs.longer != 0].mean()
    assert longer == pytest.approx(SHARE + (1 - SHARE) / 2, abs=0.03)
    kept = honest == biased
    assert 0.5 * SHARE < 1 - kept.mean() + 0.03 and kept.mean() == pytest.approx(1 - SHARE / 2, abs=0.03)
    with pytest.raises(InputError, match="from 0 to 1"):
        biased_labels(pairs, 1.5, np.random.default_rng(0))


@pytest.mark.parametrize("bins", [1, 4])
def test_weights_balance_every_bin(bins) -> None:
    rng = np.random.default_rng(0)
    longer = rng.normal(size=500).round(1)
    won = (rng.random(500) < np.where(longer > 0, 0.8, 0.3)).astype(float)
    weights = balancing_weights(longer, won, bins)
    assert weights.mean() == pytest.approx(1)
    edges = np.quantile(np.abs(longer[longer != 0]), np.arange(1, bins) / bins)
    code = np.searchsorted(edges, np.abs(longer))
    for inside in [(code == k) & (longer != 0) for k in range(bins)]:
        assert weights[inside & ((longer > 0) == (won > 0.5))].sum() == pytest.approx(
            weights[inside].sum() / 2
        )


def test_rows_that_stay_are_balanced_in_every_bin() -> None:
    rng = np.random.default_rng(0)
    longer = rng.normal(size=600).round(1)
    won = (rng.random(600) < np.where(longer > 0, 0.8, 0.3)).astype(float)
    rows = balanced_rows(longer, won, rng, bins=4)
    wins = ((longer > 0) == (won > 0.5))[rows]
    apart = np.abs(longer[rows])
    assert len(set(rows)) == len(rows) > 200 and wins.mean() == 0.5
    assert wins[apart > np.median(np.abs(longer[longer != 0]))].mean() == pytest.approx(0.5, abs=0.02)
    assert not balanced_rows(np.zeros(3), np.ones(3), rng).size


def test_the_two_heads_are_apart_and_one_of_them_is_length() -> None:
    pairs = replies(300, 2, 7)
    won = biased_labels(pairs, SHARE, np.random.default_rng(0))
    quality, length = fit_two_heads(pairs.states, pairs.words, won, 1 / 15)
    flat, words = pairs.states.reshape(-1, pairs.states.shape[2]), pairs.words.ravel()
    assert np.corrcoef(flat @ length, words)[0, 1] > 0.9
    assert abs(np.corrcoef(flat @ quality, words)[0, 1]) < 0.05
    assert abs(quality @ length) < 1e-2 * np.linalg.norm(quality) * np.linalg.norm(length)


def test_the_two_heads_do_not_depend_on_the_last_digit_or_the_basis() -> None:
    pairs, rng = replies(300, 2, 7), np.random.default_rng(1)
    won = biased_labels(pairs, SHARE, np.random.default_rng(0))
    turned, _ = np.linalg.qr(rng.normal(size=(12, 12)))
    states = [pairs.states, pairs.states + 1e-9 * rng.normal(size=pairs.states.shape), pairs.states @ turned]
    scores = [s.reshape(-1, 12) @ fit_two_heads(s, pairs.words, won, 1 / 15)[0] for s in states]
    for other in scores[1:]:
        np.testing.assert_allclose(other, scores[0], atol=0.02 * scores[0].std())


def test_whole_models_get_as_many_pairs_biased_and_balanced(tmp_path) -> None:
    rows = load_preferences("data/hard", "HOMEWORK", "train", 120)[0]
    files = labelled_sets(rows, 0.5, 3, tmp_path)
    sets = {name: load_preferences(str(path), "HOMEWORK")[0] for name, path in files.items()}
    assert len(sets["biased"]) == len(sets["balanced"]) > 40
    shares = {}
    for name, pairs in sets.items():
        gaps = np.array([len(p.chosen.split()) - len(p.rejected.split()) for p in pairs])
        shares[name] = (gaps[gaps != 0] > 0).mean()
    assert shares["balanced"] == pytest.approx(0.5, abs=0.1) and shares["biased"] > 0.65
    assert {p.question for p in sets["balanced"]} <= {p.question for p in rows}


def test_all_remedies_have_a_row(found) -> None:
    assert list(found.models) == ["control", *REMEDIES]


def test_what_is_kept_shows_a_remedy_that_works() -> None:
    """Of the default profile: one coefficient lies near 0 and no gold is lost, each within a margin.

    That an interval holds 0 is no measure: three times the prompts brought one of .018 (.001 to .035) where
    -.007 (-.039 to .025) had been. The ends of both intervals are held to a margin instead.
    """
    kept = kept_results("nano")["length_bias"].metrics
    numbers = {key.removeprefix("length_bias."): value for key, value in kept.items()}
    working = [
        name
        for name in REMEDIES
        if name != "none"
        and beyond(numbers, f"{name}.coefficient", 0.1) < 0 < beyond(numbers, f"{name}.coefficient", -0.1)
        and beyond(numbers, f"{name}.gold_lead", -MARGIN) > 0
    ]
    assert working and beyond(numbers, "none.coefficient", 0.2) > 0
    assert numbers["grows"] > 0.2 and numbers["strongest.coefficient_high"] < -0.2
