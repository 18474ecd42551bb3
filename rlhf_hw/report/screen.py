"""Figures for the web page: an SVG that is dark on light by day, and light on dark on a dark screen.

Print and page share one drawing. Texts, frames and grids have the three neutral colours of `figures.style`; a
rule within the SVG gives them the page's colours (`report/style.css`) where the reader prefers a dark one. The
colours of data are legible on both.
"""

import re

from rlhf_hw.figures.style import GREY, INK, LIGHT

NIGHT = {INK: "#dfe2e6", GREY: "#a9b0b8", LIGHT: "#3c4249"}
_MARK = '<style id="night">'


def by_night(svg: str) -> str:
    """Return an SVG with the rule for dark screens; one that has it stays as it is.

    A rule finds the elements by their inline style, which matplotlib writes as `fill: #222222; stroke: none`;
    black it leaves out, as SVG's default.
    """
    if _MARK in svg:
        return svg
    rules = "".join(
        f'[style*="{part}: {day.lower()}"] {{ {part}: {night} !important; }}'
        for day, night in NIGHT.items()
        for part in ("fill", "stroke")
    )
    rule = f"{_MARK}@media (prefers-color-scheme: dark) {{ svg {{ fill: {NIGHT[INK]}; }} {rules} }}</style>"
    return re.sub(r"<svg\b[^>]*>", lambda opening: opening[0] + rule, svg, count=1)
