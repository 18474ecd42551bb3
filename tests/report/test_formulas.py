"""Formulas of the reports: bars that belong together are written as such, and Typst sets them close."""

import re

import pytest

from rlhf_hw.paths import REPORT
from rlhf_hw.report import LANGUAGES, TEXTS, typesetting


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", TEXTS)
def test_bars_say_which_of_them_opens(name, language):
    text = (REPORT / f"{name}.{language}.md").read_text(encoding="utf-8")
    assert not re.search(r"\\vert\b", text)
    for formula in re.findall(r"\$\$.*?\$\$|\$[^$]+\$", text, re.DOTALL):
        assert formula.count("\\lvert") == formula.count("\\rvert"), formula


def test_typst_sets_bars_close_in_numbered_formulas_too():
    text = "Of $\\alpha\\lvert y\\rvert$:\n\n$$ \\frac{1}{\\lvert A\\rvert} $$ {#eq:one}\n\nAs in @eq:one.\n"
    tree = typesetting.parse(text, "en")
    options = ["--metadata=report-language:en", f"--lua-filter={REPORT / 'xref.lua'}"]
    typst, latex = (
        typesetting.pandoc(["--from", "json", "--to", to, *options], tree) for to in ("typst", "latex")
    )
    assert "alpha lr(|y|)" in typst and "lr(|A|)" in typst and "\\|" not in typst
    assert "\\alpha\\lvert y\\rvert" in latex and "\\lvert A\\rvert" in latex


FILTER = f"--lua-filter={REPORT / 'page.lua'}"
SPACED = {
    r"\beta\log Z": 2,
    r"-\log\sigma(h)": 1,
    r"\log(a/b)": 0,
    r"f(x)\exp\left(\frac{a}{b}\right)": 1,
    r"\max_{\pi} r": 1,
    r"\arg\max_w u": 2,
    r"(\log n)\ln 2": 3,
}


@pytest.mark.parametrize("formula", SPACED)
def test_in_a_browser_an_operator_has_the_space_that_tex_gives_it(formula):
    options = ["--from", "markdown", "--to", "html5", "--mathml", "--metadata=report-language:en", FILTER]
    html = typesetting.pandoc(options, f"${formula}$\n")
    assert html.count('<mspace width="0.167em">') == SPACED[formula], html
