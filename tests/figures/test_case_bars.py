"""Bars that lead to cases: each to exactly those that it counts, lying where it is drawn."""

import re

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from rlhf_hw.errors import InputError
from rlhf_hw.experiments.case_addresses import margin_bars, pair_bars
from rlhf_hw.figures.case_bars import mark_bars
from rlhf_hw.figures.case_points import without_cases
from rlhf_hw.figures.replies import inference_distributions
from rlhf_hw.figures.scores import margin_histogram, score_distribution
from rlhf_hw.figures.style import save, write_figure

DRAW = np.random.default_rng(0)
# many on the edges of bars; as they come; all alike; far apart and close together; tiny
VALUES = {
    "grid": DRAW.integers(-20, 20, 400) / 4,
    "normal": DRAW.normal(size=300),
    "alike": np.full(20, 2.5),
    "apart": np.r_[-1e3, DRAW.normal(size=50), DRAW.normal(size=50) / 1e9, 1e3],
    "tiny": 1e-7 * DRAW.normal(size=200),
}


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def bars_of(folder, place: str = "figure.svg") -> list[tuple[str, list[tuple[float, float, int]]]]:
    """Each histogram's address, and its bars: both ends of the range, and how many cases it is to have."""
    _, found = without_cases((folder / place).read_text(encoding="utf-8"))
    bars = []
    for group in found["groups"]:
        keys = [point[2] for point in group["points"]]
        assert keys[::2] == keys[1::2]  # two corners each
        # as the explorer reads an address (report/explorer/cases.js)
        read = [re.fullmatch(r"(-?[\d.]*)\.\.(-?[\d.]*) (\d+)", key).groups() for key in keys[::2]]
        ends = [(float(low or "-inf"), float(high or "inf"), int(count)) for low, high, count in read]
        bars.append((group["address"], ends))
    return bars


def in_range(values, low: float, high: float) -> np.ndarray:
    return np.flatnonzero((np.asarray(values) >= low) & (np.asarray(values) <= high))


@pytest.mark.parametrize("name", VALUES)
def test_the_ranges_of_a_histograms_bars_hold_each_reply_once(tmp_path, name) -> None:
    values = VALUES[name]
    figure = inference_distributions({"base": values, "DPO": values})
    (drawn, *_) = figure.axes[0].containers
    mark_bars(figure, [(values, "set=a&r.a.score="), (values, "")])
    write_figure(figure, tmp_path / "figure", ["svg"])
    ((address, bars),) = bars_of(tmp_path)
    held = [in_range(values, low, high) for low, high, _ in bars]
    assert address == "set=a&r.a.score=" and sorted(np.concatenate(held)) == list(range(len(values)))
    heights = [bar.get_height() * len(values) for bar in drawn if bar.get_height() > 0]
    assert heights == pytest.approx([len(rows) for rows in held]) and heights == pytest.approx(
        [count for *_, count in bars]
    )


def test_numbers_without_another_between_them_are_kept_apart(tmp_path) -> None:
    figure, axes = plt.subplots()
    values = [1.0, np.nextafter(1.0, 2.0)]
    axes.hist(values, [0.5, values[1], 1.5])
    mark_bars(figure, [(values, "r.score=")])
    write_figure(figure, tmp_path / "figure", ["svg"])
    assert [[*in_range(values, low, high)] for low, high, _ in bars_of(tmp_path)[0][1]] == [[0], [1]]


def test_margins_lead_to_right_and_to_wrong_pairs_and_ties_to_neither(tmp_path) -> None:
    pairs = pd.DataFrame({"margin": VALUES["grid"]})
    assert (pairs["margin"] == 0).any()
    figure = margin_histogram(pairs["margin"])
    mark_bars(figure, margin_bars(pairs))
    write_figure(figure, tmp_path / "figure", ["svg"])
    for (address, bars), sign in zip(bars_of(tmp_path), (1, -1), strict=True):
        assert f"&score={'a' if sign > 0 else 'b'}&" in address
        won = VALUES["grid"][sign * VALUES["grid"] > 0]  # as the explorer filters by who wins
        held = [in_range(won, low, high) for low, high, _ in bars]
        assert sorted(np.concatenate(held)) == list(range(len(won)))
        assert [len(rows) for rows in held] == [count for *_, count in bars]


@pytest.mark.parametrize("place", ["figure.svg", "zh/narrow/figure.svg"])
def test_a_bar_lies_where_it_is_drawn(tmp_path, place) -> None:
    figure = inference_distributions({"base": VALUES["normal"]})
    mark_bars(figure, [(VALUES["normal"], "r.a.score=")])
    save(figure, tmp_path, "figure")
    svg, found = without_cases((tmp_path / place).read_text(encoding="utf-8"))
    drawn = [re.findall(r"[ML] ([\d.]+) ([\d.]+)", path) for path in re.findall(r'<path d="([^"]*z)', svg)]
    boxes = [np.array(path, dtype=float) for path in drawn if len(path) == 4]
    boxes = [np.r_[box.min(axis=0), box.max(axis=0)] for box in boxes]
    for corner, other in zip(*(found["groups"][0]["points"][n::2] for n in (0, 1)), strict=True):
        said = np.array([*corner[:2], *other[:2]])
        assert min(np.abs(box - said).max() for box in boxes) < 0.06


def test_a_set_that_the_explorer_does_not_have_leads_nowhere(tmp_path) -> None:
    pairs = pd.DataFrame({"chosen_score": VALUES["normal"] + 1, "rejected_score": VALUES["normal"]})
    for name, linked in (("untrained", 0), ("validation", 1)):
        figure = score_distribution(pairs["chosen_score"], pairs["rejected_score"])
        mark_bars(figure, pair_bars({name: pairs}))
        write_figure(figure, tmp_path / "figure", ["svg"])
        svg = (tmp_path / "figure.svg").read_text(encoding="utf-8")
        assert [svg.count(f"r.{side}.score=") for side in "ab"] == [linked, linked]


def test_samples_that_are_not_those_drawn_are_refused() -> None:
    figure = inference_distributions({"base": VALUES["normal"], "DPO": VALUES["grid"]})
    with pytest.raises(InputError, match="2 histograms cannot have 1 samples"):
        mark_bars(figure, [(VALUES["normal"], "r.a.score=")])
    with pytest.raises(InputError, match="histogram 0 shows other values"):
        mark_bars(figure, [(VALUES["grid"], "r.a.score="), (VALUES["normal"], "r.a.score=")])
