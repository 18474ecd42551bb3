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
