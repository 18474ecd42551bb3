"""Every figure is drawn, saved twice with the same bytes, and leaves matplotlib as it was."""

import importlib
import re
from types import SimpleNamespace
from typing import get_type_hints

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from rlhf_hw import imports
from rlhf_hw.figures import style
from rlhf_hw.figures.dpo_settings import settings_frontier
from rlhf_hw.figures.hard_pairs import accuracy_by_kind, gold_differences
from rlhf_hw.figures.recorded import (
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
from rlhf_hw.figures.score_gap import planted_matrix, step_waterfall, waterfall
from rlhf_hw.figures.scores import (
    accuracy_by_length,
    calibration_curve,
    margin_histogram,
    score_against_length,
    score_distribution,
    side_by_side,
)
from rlhf_hw.figures.style import save
from rlhf_hw.figures.training import (
    dpo_log_probabilities,
    dpo_rewards,
    evaluation_curve,
    learning_curve,
    training_curve,
)
from rlhf_hw.imports import room
from rlhf_hw.paths import ROOT
from rlhf_hw.stats import calibration, length
from rlhf_hw.stats.intervals import Estimate
from rlhf_hw.stats.replicates import Replicated

DRAWN_ONCE = {f"rlhf_hw.figures.{name}" for name in ("diagrams", "house")}  # no run draws them
GENERATOR = np.random.default_rng(0)
CHOSEN, REJECTED = GENERATOR.normal(1, 1, 300), GENERATOR.normal(0, 1, 300)
LENGTHS = GENERATOR.integers(5, 200, 300)
CURVE = [{"step": step, "value": step / 60 + float(GENERATOR.normal(0, 0.1))} for step in range(60)]
RATE = Estimate(0.6, 0.5, 0.7)
GAP, MORE, LESS = (
    Replicated(value, Estimate(value, value - 0.5, value + 0.5), Estimate(value, value - 1, value + 1))
    for value in (1, 1.5, -0.5)
)

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
    "score_distribution": lambda: score_distribution(CHOSEN, REJECTED),
    "side_by_side": lambda: side_by_side({"untrained": (CHOSEN, CHOSEN), "trained": (CHOSEN, REJECTED)}),
    "margin_histogram": lambda: margin_histogram(CHOSEN - REJECTED),
    "score_against_length": lambda: score_against_length({"base": (CHOSEN, LENGTHS)}),
    "accuracy_by_length": lambda: accuracy_by_length(
        length.accuracy_by_length_gap(CHOSEN - REJECTED, LENGTHS - 100)
    ),
    "calibration_curve": lambda: calibration_curve(
        {"as trained": calibration.reliability_curve(CHOSEN - REJECTED)}, CHOSEN - REJECTED
    ),
    "inference_distributions": lambda: inference_distributions({"base": CHOSEN, "DPO": REJECTED}),
    "win_rate_forest": lambda: win_rate_forest({"validation": RATE, "training": RATE}),
    "judged_wins": lambda: judged_wins({"SFT - base": STEP, "DPO - SFT": STEP}),
    "step_gains": lambda: step_gains({"SFT - base": STEP, "DPO - SFT": STEP}, price=1.2),
    "best_of_n_curves": lambda: best_of_n_curves(BEST_OF_N, price=1.2, policies={"DPO": STEP}),
    "waterfall": lambda: waterfall({"gap": GAP, "a": MORE, "b": LESS}, unproven={"b"}),
    "step_waterfall": lambda: step_waterfall(
        {"base": LESS, "DPO": Replicated(0.5, Estimate(0.5, 0, 1), None)},
        {"DPO": {"gap": GAP, "a": MORE, "b": LESS}},
    ),
    "gold_differences": lambda: gold_differences({"easy pairs": LENGTHS / 50, "hard pairs": LENGTHS / 90}),
    "accuracy_by_kind": lambda: accuracy_by_kind(
        {kind: {"reward model": MORE.named("accuracy")} for kind in ("easy", "hard")}
    ),
    "settings_frontier": lambda: settings_frontier(TRIED),
    "planted_matrix": lambda: planted_matrix(np.eye(2), ["a", "b"], ["a", "b"]),
    "recorded_distributions": lambda: recorded_distributions({"base": CHOSEN, "reference": REJECTED}),
    "recorded_accuracy": lambda: recorded_accuracy(
        length.accuracy_by_length_gap(CHOSEN - REJECTED, LENGTHS - 100)
    ),
    "recorded_length": lambda: recorded_length({"pairs": (CHOSEN, LENGTHS, range(300))}),
    "recorded_win_rate": lambda: recorded_win_rate(RATE.named("recorded.dpo.win_rate")),
}


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_every_figure_of_the_library_is_tested():
    names = [name for name in imports.modules() if room(name) == "figures" and name.count(".") == 2]
    modules = [importlib.import_module(name) for name in names if name not in DRAWN_ONCE]
    functions = [f for m in modules for f in vars(m).values() if getattr(f, "__module__", "") == m.__name__]
    drawings = {f.__name__ for f in functions if get_type_hints(f).get("return") is Figure}
    assert set(DRAWINGS) == drawings


@pytest.mark.parametrize("name", DRAWINGS)
def test_figure_is_labelled_and_leaves_no_setting_behind(name):
    before = dict(mpl.rcParams)
    figure = DRAWINGS[name]()
    assert dict(mpl.rcParams) == before
    assert isinstance(figure, Figure) and figure.get_figwidth() <= 6.31
    labels = [axes.get_xlabel() for axes in figure.axes] + [figure.get_supxlabel()]
    assert any(labels) or "waterfall" in name  # the bars of a waterfall are named one by one
    assert any(axes.get_ylabel() for axes in figure.axes) or name in (
        "win_rate_forest",
        "accuracy_by_kind",
        "judged_wins",
        "recorded_win_rate",
    )


def test_saved_twice_the_bytes_are_equal_and_fonts_are_embedded(tmp_path):
    paths = [save(DRAWINGS["score_distribution"](), tmp_path / part, "scores") for part in ("a", "b")]
    for first, second in zip(*paths, strict=True):
        assert first.read_bytes() == second.read_bytes()
    assert [path.name for path in paths[0]] == ["scores.png", "scores.pdf"]
    pdf = paths[0][1].read_bytes()
    assert b"CreationDate" not in pdf and b"/Type3" not in pdf
    assert plt.imread(paths[0][0]).shape[1] == pytest.approx(6.3 * 300, abs=1)


def test_histograms_count_every_reply_and_margins_split_at_zero():
    margins = np.array([-2.0, -0.1, 0.0, 0.1, 0.1, 3.0, 7.0])
    axes = margin_histogram(margins).axes[0]
    heights = sum(patch.get_height() for patch in axes.patches)
    assert heights == pytest.approx(6 / 7)  # the tie is in the legend
    assert not any(
        patch.get_x() < -1e-9 < patch.get_x() + patch.get_width() - 1e-6
        and patch.get_x() + patch.get_width() > 1e-6
        for patch in axes.patches
    )
    assert "ties: 14.3%" in [text.get_text() for text in axes.get_legend().get_texts()]


def test_tick_labels_name_the_place_they_stand_at():
    axes = inference_distributions({"base": CHOSEN}).axes[0]
    axes.set_ylim(0, 0.1)
    axes.set_yticks([0, 0.025, 0.05])
    assert [text.get_text() for text in axes.get_yticklabels()] == ["0%", "2.5%", "5%"]


def test_panels_of_one_model_share_their_axes():
    sets = {
        "untrained": (CHOSEN, CHOSEN),
        "held out": (CHOSEN, REJECTED),
        "trained on": (9 * CHOSEN, REJECTED),
    }
    figure = side_by_side(sets, same_model=["held out", "trained on"])
    limits = [(axes.get_xlim(), axes.get_ylim()) for axes in figure.axes]
    assert limits[1] == limits[2] and limits[0][0] != limits[1][0] and limits[0][1] != limits[1][1]
    low, high = limits[2][0]
    assert low <= min(REJECTED.min(), 9 * CHOSEN.min()) and 9 * CHOSEN.max() <= high


def test_score_against_length_names_the_slope_with_its_interval():
    rising = CHOSEN + LENGTHS / 10
    figure = score_against_length(
        {"pairs": (rising, LENGTHS, np.arange(300) // 2), "base": (CHOSEN, np.full(300, 7))}, unit="words"
    )
    expected = length.score_length_slope(rising, LENGTHS, np.arange(300) // 2, per=10)
    rise, low, high = expected.values()
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == [
        f"pairs\n{rise:+.2f} for 10 words\n[{low:+.2f}, {high:+.2f}]",
        "base\nall of one length",
    ]
    slope, start = np.polyfit(LENGTHS, rising, 1)
    line = figure.axes[0].lines[-1]
    assert line.get_ydata() == pytest.approx(start + slope * line.get_xdata())


def test_a_legend_calls_the_dashed_line_by_its_name():
    axes = training_curve(CURVE, "loss (nats)", chance=np.log(2), chance_name="equal scores").axes[0]
    assert "equal scores (0.693)" in [text.get_text() for text in axes.get_legend().get_texts()]


def test_the_page_on_figures_names_the_colours_they_have():
    page = (ROOT / "docs" / "reading-the-figures.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \w+ `(#\w{6})` \| ([\w, ]+)", page, re.MULTILINE)
    named = {name: colour for colour, names in rows for name in names.strip().split(", ")}
    assert named == {**style.KNOWN_COLOURS, "margin": style.MARGIN}


def test_constant_scores_can_be_drawn():
    score_distribution(np.ones(5), np.ones(5))
    margin_histogram(np.zeros(5))


def test_a_waterfall_whose_parts_do_not_sum_is_refused():
    with pytest.raises(ValueError, match="the parts sum to 1.5"):
        waterfall({"gap": GAP, "a": MORE})


def test_empty_curves_and_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="at least one point"):
        training_curve([], "loss")
    with pytest.raises(ValueError, match=r"expected \(1, 2\)"):
        planted_matrix(np.eye(2), ["a"], ["a", "b"])


def test_gains_stand_where_they_were_measured_and_without_gold_beside_the_judge():
    axes = step_gains({"DPO - SFT": STEP}, price=2.0).axes[0]
    mark = next(line for line in axes.lines if line.get_label() == "DPO - SFT")
    assert (*mark.get_xdata(), *mark.get_ydata()) == (0.3, 0.3) and "gold" in axes.get_xlabel()
    unknown = {key: value for key, value in STEP.items() if "gold" not in key}
    axes = step_gains({"DPO - SFT": unknown}).axes[0]
    assert "judge" in axes.get_xlabel()
    assert len(judged_wins({"DPO - SFT": unknown}).axes[0].get_legend().get_texts()) == 2


def test_best_of_n_shows_gold_in_points():
    axes = best_of_n_curves(BEST_OF_N, price=2.0).axes[0]
    lines = {line.get_label(): list(line.get_ydata()) for line in axes.lines}
    assert lines["gold x price"] == [0, 1.0, 1.8] and lines["judge"] == [0, 0.5, 0.9]
    assert "gold x price" not in {line.get_label() for line in best_of_n_curves(BEST_OF_N).axes[0].lines}
