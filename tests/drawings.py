"""Small made-up data for every figure of the library, under the names that notebooks use."""

from types import SimpleNamespace

import matplotlib as mpl

mpl.use("Agg")
import numpy as np
import pandas as pd

from rlhf_hw.figures import length_bias
from rlhf_hw.figures.dpo_settings import settings_frontier
from rlhf_hw.figures.dpo_variants import beside_rlhf, what_variants_change
from rlhf_hw.figures.earlier_run import riddle_at_a_look, sign_and_slope
from rlhf_hw.figures.hard_pairs import accuracy_by_kind, gold_differences
from rlhf_hw.figures.plural import comparisons_needed, groups_served, people_disagree
from rlhf_hw.figures.policy_variants import LOSS_LOOKS, variant_frontiers, variants_at_their_best
from rlhf_hw.figures.recorded import (
    WIN_RATES,
    recorded_accuracy,
    recorded_distributions,
    recorded_length,
    recorded_win_rate,
)
from rlhf_hw.figures.replies import (
    best_of_n_curves,
    inference_distributions,
    judged_wins,
    step_gains,
    win_rate_forest,
)
from rlhf_hw.figures.reward_overoptimization import RULE_NAMES, gold_against_proxy, labels_and_remedies
from rlhf_hw.figures.score_gap import planted_matrix, step_waterfall, waterfall
from rlhf_hw.figures.scores import (
    accuracy_by_length,
    calibration_curve,
    margin_histogram,
    score_against_length,
    score_distribution,
    side_by_side,
)
from rlhf_hw.figures.training import (
    dpo_log_probabilities,
    dpo_rewards,
    evaluation_curve,
    learning_curve,
    training_curve,
)
from rlhf_hw.stats import calibration, length
from rlhf_hw.stats.intervals import Estimate
from rlhf_hw.stats.replicates import Replicated

GENERATOR = np.random.default_rng(0)
CHOSEN, REJECTED = GENERATOR.normal(1, 1, 300), GENERATOR.normal(0, 1, 300)
LENGTHS = GENERATOR.integers(5, 200, 300)
CURVE = [{"step": step, "value": step / 60 + float(GENERATOR.normal(0, 0.1))} for step in range(60)]
RATE = Estimate(0.6, 0.5, 0.7)
GAP, MORE, LESS = (
    Replicated(value, Estimate(value, value - 0.5, value + 0.5), Estimate(value, value - 1, value + 1))
    for value in (1, 1.5, -0.5)
)
NONE = Replicated(0, Estimate(0, 0, 0), None)
JUDGED = [(rendering, kind) for rendering in ("plain", "chat") for kind in ("harmless", "helpful", "both")]
EARLIER = SimpleNamespace(
    levels=dict.fromkeys(
        JUDGED, {name: (LENGTHS.astype(float), CHOSEN) for name in ("own pairs", "pairs", "base", "DPO")}
    ),
    parts=dict.fromkeys(
        JUDGED,
        dict.fromkeys(
            ("base_pairs", "dpo_base_test"), {"gap": GAP, "length": MORE, "kind": LESS, "rest": NONE}
        ),
    ),
    signs=pd.DataFrame(
        [{"rendering": r, "kind": k, "slope": n - 3, "difference": 3 - n} for n, (r, k) in enumerate(JUDGED)]
    ),
    metrics={
        key: value
        for rendering, kind in JUDGED
        for name in ("win_rate", "win_rate_length_controlled")
        for key, value in Replicated(0.4, Estimate(0.4, 0.3, 0.5), Estimate(0.4, 0.2, 0.6))
        .named(f"earlier.{rendering}.{kind}.test.{name}")
        .items()
    },
)
FAULTS = (
    *("read after the end token", "read at the end token", "read at the last word", "other template"),
    *("cut at a limit", "padded", "looping", "point off topic", "empty talk for reasons"),
    *(
        "useful for worthless",
        "exclamation marks",
        "exclamation marks, every second",
        "lower case",
        "flattery",
    ),
)
JUDGES = (
    *("best possible", "reward model trained on such pairs", "reward model trained on the other kind"),
    *("bag of words (no prompt)", "length"),
)
PARTS = ("readout", "template", "truncation", "length", "repetition", "quality", "ood", "rest")

STEP = {"kl": 1.0}  # as `experiments.steps.step_metrics` gives it, of three trainings
for judge in ("score", "judge", "gold"):
    rate = "win_rate" if judge == "score" else f"{judge}_win_rate"
    STEP |= Replicated(0.6, Estimate(0.6, 0.5, 0.7), Estimate(0.6, 0.4, 0.8)).named(rate)
    STEP |= Replicated(0.3, Estimate(0.3, 0.1, 0.5), Estimate(0.3, -0.1, 0.7)).named(f"{judge}_difference")
BEST_OF_N = pd.DataFrame({"n": [1, 2, 4], "kl": [0, 0.19, 0.64]})
for judge in ("score", "judge", "gold"):
    for end, shift in (("", 0), ("_low", -0.1), ("_high", 0.1)):
        BEST_OF_N[f"{judge}{end}"] = [0.0, 0.5 + shift, 0.9 + shift]
TRIED = SimpleNamespace(
    settings=[SimpleNamespace(learning_rate=rate, beta=0.1) for rate in (1e-5, 1e-4, 1e-3)],
    kl=[0.1, 1.0, 20.0],
    gains={judge: [RATE, RATE, Estimate(-1, -1.5, -0.5)] for judge in ("score", "judge", "gold")},
    chosen=1,
    budget=1.84,
)
PROXY_CURVES = {}  # choosing hard: proxy -> rows, of which gold falls under a bonus for length
for proxy, gold in (("model", [0.0, 0.5, 0.8]), ("bonus", [0.0, 0.4, -0.2]), ("gold", [0.0, 0.8, 1.4])):
    PROXY_CURVES[proxy] = pd.DataFrame({"n": [1, 2, 4], "formula": [0, 0.19, 0.64], "forecast": gold})
    for end, shift in (("", 0), ("_low", -0.1), ("_high", 0.1)):
        PROXY_CURVES[proxy][f"gold{end}"] = [value + shift for value in gold]
        PROXY_CURVES[proxy][f"own{end}"] = [0.0, 0.6 + shift, 1.1 + shift]
LEADS = {key: value for rule in list(RULE_NAMES)[:3] for key, value in RATE.named(f"{rule}.lead").items()}
PLURAL = {
    "groups": ("single", "mean and variance", "mixture", "known groups", "shuffled labels"),
    "users": ("single", "alone", "low rank", "user variable"),
    "rules": ("single", "mean", "nash", "maxmin"),
    "voters": ("accuracy", "length_accuracy", "one_voter", "shuffled_mean"),
}


def named(key: str, value: float) -> dict[str, float]:
    """A number with its interval, as metrics hold it."""
    return {key: value, f"{key}_low": value - 0.1, f"{key}_high": value + 0.1}


def small_model(accuracy: float) -> dict[str, float]:
    """What is known of a small reward model."""
    return {"accuracy": accuracy, **named("gold_most", 2 * accuracy - 1)}


DRAWINGS = {
    "training_curve": lambda: training_curve(CURVE, "accuracy (share of pairs)", chance=0.5, limits=(0, 1)),
    "evaluation_curve": lambda: evaluation_curve(
        [
            {"step": 0, "value": 0.5, "low": 0.4, "high": 0.6},
            {"step": 9, "value": 0.7, "low": 0.6, "high": 0.8},
        ],
        training=CURVE,
        others=[CURVE, CURVE],
    ),
    "dpo_rewards": lambda: dpo_rewards(CURVE, CURVE, CURVE),
    "dpo_log_probabilities": lambda: dpo_log_probabilities(CURVE, CURVE),
    "learning_curve": lambda: learning_curve(
        {
            name: [
                {
                    "pairs": n,
                    **Replicated(rate, Estimate(rate, rate - 0.1, rate + 0.1), trainings).named("accuracy"),
                }
                for n, rate, trainings in (
                    (0, 0.5, None),
                    (500, 0.6, RATE),
                    (1500, 0.7, RATE),
                    (6000, high, RATE),
                )
            ]
            for name, high in (("reward model", 0.8), ("length", 0.63), ("words", 0.75))
        },
        best=0.85,
    ),
    "score_distribution": lambda: score_distribution(CHOSEN, REJECTED, title="trained model, held-out pairs"),
    "side_by_side": lambda: side_by_side(
        {
            "one random head, held-out pairs": (CHOSEN, CHOSEN),
            "trained model, held-out pairs": (CHOSEN, REJECTED),
            "trained model, training pairs": (np.ones(9), np.ones(9)),
        }
    ),
    "margin_histogram": lambda: margin_histogram(CHOSEN - REJECTED),
    "score_against_length": lambda: score_against_length(
        {"base": (CHOSEN, LENGTHS), "reference": (CHOSEN, np.full(300, 7))}
    ),
    "accuracy_by_length": lambda: accuracy_by_length(
        length.accuracy_by_length_gap(CHOSEN - REJECTED, LENGTHS - 100)
    ),
    "calibration_curve": lambda: calibration_curve(
        {
            name: calibration.reliability_curve(CHOSEN - REJECTED)
            for name in ("as trained", "after temperature scaling")
        },
        CHOSEN - REJECTED,
    ),
    "inference_distributions": lambda: inference_distributions(
        {"base": CHOSEN, "SFT": REJECTED, "DPO": REJECTED, "reference": CHOSEN},
        title="replies to validation prompts",
    ),
    "win_rate_forest": lambda: win_rate_forest(
        dict.fromkeys(("reward model", "length", "words", "second model"), RATE),
        xlabel="share of held-out pairs in the right order",
    ),
    "judged_wins": lambda: judged_wins({"SFT - base": STEP, "DPO - chosen": STEP}),
    "step_gains": lambda: step_gains({"SFT - base": STEP, "DPO - SFT": STEP}, price=1.2),
    "best_of_n_curves": lambda: best_of_n_curves(BEST_OF_N, price=1.2, policies={"DPO": STEP}),
    "waterfall": lambda: waterfall(
        {"gap": GAP, **dict.fromkeys(PARTS, NONE), "quality": MORE, "readout": LESS},
        total_name="gap (DPO)",
        unproven={"readout"},
    ),
    "step_waterfall": lambda: step_waterfall(
        {"base": LESS, "DPO": Replicated(0.5, Estimate(0.5, 0, 1), None)},
        {"DPO": {"gap": GAP, "length": MORE, "rest": LESS}},
    ),
    "gold_differences": lambda: gold_differences(
        {name: LENGTHS / 50 for name in ("easy pairs", "hard pairs", "two samples of the base model")}
    ),
    "accuracy_by_kind": lambda: accuracy_by_kind(
        {kind: {judge: MORE.named("accuracy") for judge in JUDGES} for kind in ("easy", "hard")}
    ),
    "groups_served": lambda: groups_served(
        {
            group: {model: MORE.named("accuracy") for model in PLURAL["groups"]}
            for group in ("thorough", "brief")
        },
        np.array([[2.0, 0.5], [1.5, 1.0]]),
        {rule: dict.fromkeys(("thorough", "brief"), GAP.named("gain")) for rule in PLURAL["rules"]},
    ),
    "comparisons_needed": lambda: comparisons_needed(
        {n: RATE.named("accuracy") | RATE.named("members") for n in (1, 8)},
        {model: {n: RATE.named("accuracy") for n in (0, 4)} for model in PLURAL["users"]},
    ),
    "people_disagree": lambda: people_disagree(
        [{"foretold": 0.3, **RATE.named("real")}, {"foretold": 0.4, **RATE.named("real")}],
        {key: number for name in PLURAL["voters"] for key, number in RATE.named(name).items()},
    ),
    "gold_against_proxy": lambda: gold_against_proxy(PROXY_CURVES, fitted=2),
    "labels_and_remedies": lambda: labels_and_remedies(
        {20: small_model(0.6), 600: small_model(0.8)},
        {0.0: small_model(0.8), 0.2: small_model(0.75), 0.5: small_model(0.5)},
        {4: small_model(0.65), 96: small_model(0.8)},
        small_model(0.7),
        {"own": LEADS | RATE.named("averaged.lead"), "noisy": LEADS, "biased": LEADS},
    ),
    "settings_frontier": lambda: settings_frontier(TRIED),
    "planted_matrix": lambda: planted_matrix(np.ones((len(FAULTS), 8)), FAULTS, PARTS),
    "beside_rlhf": lambda: beside_rlhf(
        {
            kind: {n: named("distance", 0.2) for n in (100, 400)}
            for kind in ("everything", "chain", "islands")
        },
        {"whole": np.ones((2, 3)), "small": np.array([[0.5, -7.0, 1.0], [0.2, 0.3, 0.4]])},
    ),
    "what_variants_change": lambda: what_variants_change(
        {who: {n: named("regret", 0.3) for n in (50, 100)} for who in ("offline", "iterative", "uniform")},
        {0.0: named("change", 1.5), 0.9: named("change", -0.5)},
        {name: named("change", 0.2) for name in ("DPO", "DPO + NLL", "DPOP")},
        (0.0, 0.2),
        {"rDPO": [1.0, 1.0], "IPO": [1.0, 0.6], "DPO": [1.0, 0.5], "cDPO": [1.0, 0.3]},
    ),
    "variant_frontiers": lambda: variant_frontiers(
        {n: [{"kl": kl, "gold": 1 - kl, "chosen": kl == 0.5} for kl in (0.1, 0.5, 2.0)] for n in LOSS_LOOKS}
    ),
    "variants_at_their_best": lambda: variants_at_their_best(
        {
            labels: {n: LESS.named("gold") | MORE.named("kl") | MORE.named("words") for n in losses}
            for labels, losses in (("honest", LOSS_LOOKS), ("flipped", ["DPO"]), ("shuffled", ["NLL"]))
        }
    ),
    "remedies_compared": lambda: length_bias.remedies_compared(
        *(
            {key: MORE.named("coefficient") | LESS.named("gold") for key in rows}
            for rows in (length_bias.REMEDY_ROWS, length_bias.WHOLE_ROWS)
        )
    ),
    "bias_and_strength": lambda: length_bias.bias_and_strength(
        {share: MORE.named("coefficient") for share in (0.0, 0.3)},
        {strength: MORE.named("coefficient") | LESS.named("gold") for strength in (0.0, 1.0, 2.0)},
    ),
    "policies_from_labels": lambda: length_bias.policies_from_labels(
        {
            key: GAP.named("words") | LESS.named("gold") | MORE.named("equal")
            for key in length_bias.POLICY_ROWS
        }
    ),
    "riddle_at_a_look": lambda: riddle_at_a_look(EARLIER),
    "sign_and_slope": lambda: sign_and_slope(EARLIER),
    "recorded_distributions": lambda: recorded_distributions(
        {"base": CHOSEN, "DPO": CHOSEN, "reference": REJECTED}
    ),
    "recorded_accuracy": lambda: recorded_accuracy(
        length.accuracy_by_length_gap(CHOSEN - REJECTED, LENGTHS - 100)
    ),
    "recorded_length": lambda: recorded_length({"pairs": (CHOSEN, LENGTHS, range(300))}),
    "recorded_win_rate": lambda: recorded_win_rate(
        {key: number for name in WIN_RATES.values() for key, number in RATE.named(name).items()}
    ),
}
