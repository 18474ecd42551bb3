"""Points that are cases: in the SVG where they are drawn, in no other file, and taken out whole."""

import json
import re

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest

from rlhf_hw.errors import InputError
from rlhf_hw.figures.case_points import mark_cases, without_cases
from rlhf_hw.figures.narrow import also_narrow
from rlhf_hw.figures.scores import score_against_length
from rlhf_hw.figures.style import canvas, save, write_figure

X, Y = np.array([3.0, 40.0, 900.0]), np.array([-2.5, 0.25, 11.0])
KEYS = ["1-0", "1-1", "1-2"]
ADDRESS = "set=a&b=<&>\"'"


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def drawn(marked: bool = True) -> plt.Figure:
    """Two panels with vector marks, the second with logarithmic axis, a title and a legend."""
    figure, panels = canvas(1, 2, height=2.2)
    for axes in panels:
        axes.plot(X, Y, "D", label="points")
        axes.set_ylabel("a name of the axis")
        if marked:
            mark_cases(axes, X, Y, (ADDRESS, KEYS))
    panels[1].set_xscale("log")
    panels[1].set_title("two\nlines")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center")
    return figure


def marks(svg: str) -> np.ndarray:
    """Where the SVG draws the marks of its points, shape (2, 3, 2)."""
    lines = re.findall(r'<g id="line2d_\d+">(.*?)</g>\s*</g>', svg, re.DOTALL)
    found = [re.findall(r'<use [^>]*x="([\d.]+)" y="([\d.]+)"', line) for line in lines]
    return np.array([line for line in found if len(line) == len(X)], dtype=float)


@pytest.mark.parametrize(
    "place", ["figure.svg", "zh/figure.svg", "narrow/figure.svg", "zh/narrow/figure.svg"]
)
def test_each_point_lies_where_it_is_drawn(tmp_path, place) -> None:
    save(also_narrow(drawn()), tmp_path, "figure")
    svg, cases = without_cases((tmp_path / place).read_text(encoding="utf-8"))
    found = np.array([[point[:2] for point in group["points"]] for group in cases["groups"]])
    assert found == pytest.approx(marks(svg), abs=0.06)
    assert re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg).groups() == tuple(
        f"{n:g}" for n in cases["size"]
    )
    for group in cases["groups"]:
        assert group["address"] == ADDRESS and [point[2] for point in group["points"]] == KEYS


def test_only_the_svg_knows_and_without_its_cases_it_is_as_it_was(tmp_path) -> None:
    for name, marked in (("with", True), ("none", False)):
        write_figure(drawn(marked), tmp_path / name)
    for kind in ("png", "pdf"):
        assert (tmp_path / f"with.{kind}").read_bytes() == (tmp_path / f"none.{kind}").read_bytes()
    svg, other = ((tmp_path / f"{name}.svg").read_text(encoding="utf-8") for name in ("with", "none"))
    assert "cases" in svg and without_cases(svg)[0] == other and without_cases(other) == (other, None)
    assert "<a " not in svg and "href=" not in svg.replace('xlink:href="#', "")


def test_a_point_that_is_not_seen_has_no_place(tmp_path) -> None:
    figure, axes = canvas()
    axes.set(xlim=(0, 100), ylim=(-3, 3))
    mark_cases(axes, [1, 100, 101, np.nan], [3, -3, 0, 0], ("set=a", ["a", "b", "c", "d"]))
    write_figure(figure, tmp_path / "figure", ["svg"])
    _, cases = without_cases((tmp_path / "figure.svg").read_text(encoding="utf-8"))
    assert [point[2] for point in cases["groups"][0]["points"]] == ["a", "b"]


def test_points_and_keys_are_as_many(tmp_path) -> None:
    with pytest.raises(InputError, match="3 points cannot have 2 keys"):
        mark_cases(canvas()[1], X, Y, (ADDRESS, KEYS[:2]))


def test_scores_against_length_mark_the_groups_that_have_cases(tmp_path) -> None:
    groups = {"base": (Y, X), "reference": (Y, X), "pairs": (Y, X)}
    cases = {"base": ("set=b", KEYS), "reference": ("set=r", KEYS)}
    save(score_against_length(groups, cases=cases), tmp_path, "figure")
    _, found = without_cases((tmp_path / "figure.svg").read_text(encoding="utf-8"))
    assert [group["address"] for group in found["groups"]] == ["set=b", "set=r"]
    assert all(len(group["points"]) == 3 for group in found["groups"])
    assert json.dumps(found).count("1-2") == 2
