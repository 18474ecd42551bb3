"""Every figure is drawn, saved twice with the same bytes, and leaves matplotlib as it was."""

import importlib
import re
from typing import get_type_hints

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest
from drawings import BEST_OF_N, CHOSEN, CURVE, DRAWINGS, GAP, LENGTHS, LESS, MORE, REJECTED, STEP
from matplotlib.figure import Figure
from matplotlib.text import Text
from scipy.stats import spearmanr

from rlhf_hw import imports
from rlhf_hw.figures import narrow, style
from rlhf_hw.figures.diagrams import DIAGRAMS
from rlhf_hw.figures.replies import best_of_n_curves, inference_distributions, judged_wins, step_gains
from rlhf_hw.figures.score_gap import planted_matrix, waterfall
from rlhf_hw.figures.scores import (
    common_bins,
    margin_histogram,
    score_against_length,
    score_distribution,
    side_by_side,
)
from rlhf_hw.figures.style import SMALLEST, save
from rlhf_hw.figures.training import evaluation_curve, training_curve
from rlhf_hw.imports import room
from rlhf_hw.paths import FIG, REPORT, ROOT
from rlhf_hw.report.letters import LEAST_LETTERS, NARROW_BELOW, TEXT_WIDTH, printed_letters

THREE_IN_A_ROW = {  # figures that do, and what draws them
    "rm_train_accuracy": "training_curve",
    "rm_train_loss": "training_curve",
    "rm_eval_accuracy": "evaluation_curve",
    "learning_curve": "learning_curve",
    "dpo_train_accuracy": "evaluation_curve",
    "dpo_train_loss": "training_curve",
    "dpo_log_probabilities": "dpo_log_probabilities",
    "inference_validation": "inference_distributions",
}
DRAWN_ONCE = {f"rlhf_hw.figures.{name}" for name in ("diagrams", "house")}  # no run draws them


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_every_figure_of_the_library_is_tested():
    names = [name for name in imports.modules() if room(name) == "figures" and name.count(".") == 2]
    modules = [importlib.import_module(name) for name in names if name not in DRAWN_ONCE]
    functions = [f for m in modules for f in vars(m).values() if getattr(f, "__module__", "") == m.__name__]
    hints = {f.__name__: get_type_hints(f) for f in functions if callable(f)}
    # what is given a figure draws none of its own
    drawings = {
        name for name, of in hints.items() if of.pop("return", None) is Figure and Figure not in of.values()
    }
    assert set(DRAWINGS) == drawings


@pytest.mark.parametrize("name", DRAWINGS)
def test_figure_is_labelled_and_leaves_no_setting_behind(name):
    before = dict(mpl.rcParams)
    figure = DRAWINGS[name]()
    assert dict(mpl.rcParams) == before
    assert isinstance(figure, Figure) and figure.get_figwidth() <= 6.31
    assert any([figure.get_supxlabel(), *(axes.get_xlabel() for axes in figure.axes)])
    rows = (
        "win_rate_forest",
        "accuracy_by_kind",
        "variants_at_their_best",
        "judged_wins",
        "recorded_win_rate",
        "waterfall",
        "step_waterfall",
        "remedies_compared",
        "policies_from_labels",
    )
    assert any([figure.get_supylabel(), *(axes.get_ylabel() for axes in figure.axes)]) or name in rows


@pytest.mark.parametrize("name", [*DRAWINGS, *DIAGRAMS])
def test_no_text_is_too_small_to_read(name):
    figure = (DRAWINGS | DIAGRAMS)[name]()
    sizes = {text.get_text(): text.get_fontsize() for text in figure.findobj(Text) if text.get_text()}
    assert {text for text, size in sizes.items() if size < SMALLEST} == set()


@pytest.mark.parametrize("text", sorted(path.name for path in REPORT.glob("report*.md")))
def test_letters_in_figures_can_be_read_in_every_place_of_the_report(text):
    places = re.findall(
        r"\(fig/([\w-]+)\.pdf\)\{[^}]*?width=(\d+)%", (REPORT / text).read_text(encoding="utf-8")
    )
    assert len(places) >= 9
    for name, width in places:
        share = int(width) / 100
        if share < NARROW_BELOW:  # three in a row
            drawing = DRAWINGS[THREE_IN_A_ROW[name]]()
            assert narrow.is_also_narrow(drawing), f"{name} is not drawn for {width}% of the text's width"
            size = SMALLEST * share * TEXT_WIDTH / (72 * narrow.THIRD)
        elif (FIG / f"{name}.pdf").exists():  # the default run's, and kept ones
            size = printed_letters(FIG / f"{name}.pdf", share)
        assert size >= LEAST_LETTERS, f"{name}: {size:.1f} points at {width}%"


def test_saved_twice_the_bytes_are_equal_and_fonts_are_embedded(tmp_path):
    paths = [save(DRAWINGS["score_distribution"](), tmp_path / part, "scores") for part in ("a", "b")]
    for first, second in zip(*paths, strict=True):
        assert first.read_bytes() == second.read_bytes()
    names = [str(path.relative_to(tmp_path / "a")) for path in paths[0]]
    assert names == ["scores.png", "scores.pdf", "scores.svg", "zh/scores.svg", "zh/scores.pdf"]
    pdf, svg = paths[0][1].read_bytes(), paths[0][2].read_text(encoding="utf-8")
    assert b"CreationDate" not in pdf and b"/Type3" not in pdf
    assert "<dc:date>" not in svg and "<text" not in svg and "fill: #ffffff" not in svg
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


def test_bins_are_few_however_far_single_values_lie():
    usual = np.random.default_rng(0).normal(size=1000)
    wanted = np.histogram_bin_edges(usual, bins="fd")
    assert 15 < len(wanted) - 1 < 60
    np.testing.assert_allclose(common_bins(usual), wanted)
    assert len(common_bins(usual * 1e-9, np.array([-1e6, 1e6]))) == 61


def test_score_against_length_shows_bins_and_their_correlation_and_no_line():
    rising = CHOSEN + LENGTHS / 10
    figure = score_against_length(
        {"pairs": (rising, LENGTHS), "base": (CHOSEN, np.full(300, 7))}, unit="words"
    )
    expected = spearmanr(rising, LENGTHS).statistic
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == [f"pairs\nrank correlation {expected:.2f}", "base\nall of one length or score"]
    assert all(len(line.get_xdata()) != 2 for line in figure.axes[0].lines)


def test_single_evaluations_stand_alone_with_their_intervals():
    points = [{"step": step, "value": 0.6, "low": 0.5, "high": 0.8} for step in (0, 9)]
    axes = evaluation_curve(points, others=[points]).axes[0]
    assert {line.get_linestyle() for line in axes.lines if list(line.get_xdata()) == [0, 9]} == {"None"}
    ends = axes.containers[0].lines[2][0].get_segments()
    assert [segment[:, 1].tolist() for segment in ends] == [[0.5, 0.8]] * 2


def test_a_waterfall_ends_with_the_total_that_its_parts_make():
    axes = waterfall({"gap": GAP, "length": MORE, "rest": LESS}, total_name="gap (DPO)").axes[0]
    bars = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in axes.patches]
    assert bars == [(0, 1.5), (1.5, 1.0), (0, 1)]
    assert [text.get_text() for text in axes.get_yticklabels()][-1] == "gap (DPO)"
    assert [text.get_text() for text in axes.texts] == ["+1.50", "−0.50", "+1.00"]


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
        waterfall({"gap": GAP, "length": MORE})


def test_empty_curves_and_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="at least one point"):
        training_curve([], "loss")
    with pytest.raises(ValueError, match=r"expected \(1, 2\)"):
        planted_matrix(np.eye(2), ["a"], ["a", "b"])


def test_gains_stand_where_they_were_measured_and_without_gold_beside_the_judge():
    axes = step_gains({"DPO - SFT": STEP}, price=2.0).axes[0]
    mark = next(line for line in axes.lines if line.get_label() == "DPO minus SFT")
    assert (*mark.get_xdata(), *mark.get_ydata()) == (0.3, 0.3) and "gold" in axes.get_xlabel()
    unknown = {key: value for key, value in STEP.items() if "gold" not in key}
    axes = step_gains({"DPO - SFT": unknown}).axes[0]
    assert "judge" in axes.get_xlabel()
    assert len(judged_wins({"DPO - SFT": unknown}).legends[0].get_texts()) == 2


def test_best_of_n_shows_gold_in_points():
    axes = best_of_n_curves(BEST_OF_N, price=2.0).axes[0]
    lines = {line.get_label(): list(line.get_ydata()) for line in axes.lines}
    assert lines["gold × price"] == [0, 1.0, 1.8] and lines["judge"] == [0, 0.5, 0.9]
    assert "gold × price" not in {line.get_label() for line in best_of_n_curves(BEST_OF_N).axes[0].lines}
