"""The report's page in both languages, for the tests of the file and for those in a browser; a browser."""

import json
import re
import shutil
from itertools import product
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from earlier_replies import earlier_folder
from explored_rows import write_run
from report_texts import HOSTILE, VALUES

from rlhf_hw.experiments.explored import explored_files, explored_run
from rlhf_hw.figures.style import GREY, INK, WIDTH
from rlhf_hw.paths import REPORT
from rlhf_hw.report import build, shown
from rlhf_hw.report.explorer import write_explorer
from rlhf_hw.report.fields import Facts

_FORMULA = re.compile(r"^\$\$.*?\$\$ *\{#eq:[\w-]+\}", re.DOTALL | re.MULTILINE)
FORMULAS = "\n\n".join(_FORMULA.findall((REPORT / "report.en.md").read_text(encoding="utf-8")))
TEXT = {
    "en": """\
---
title: A small report
subtitle: With a subtitle
---

# Start {#sec:start}

Accuracy {{rm.validation.accuracy:.3f}}. See @fig:one, @tbl:samples and @gao2023scaling. Code: `build_report`.

![One figure.](fig/rm_margins.pdf){#fig:one width=50%}

::: {.figures #fig:two}
![](fig/rm_calibration.pdf){width=49%} ![](fig/rm_margins.pdf){width=49%}

Two figures.
:::

![A wide figure.](fig/rm_length.pdf){#fig:wide width=90%}

## Formulas {#sec:formulas}

FORMULAS

# Tables {#sec:tables}

{{table:samples}}

: Replies. {#tbl:samples}

| size | one | two | three | four | five | six | seven | eight | nine |
|------|----:|----:|------:|-----:|-----:|----:|------:|------:|-----:|
| rows of words | | | | | | | | | |
| a | -1.25 | 10,000,000 | 10,000,000 | 10,000,000 | 1 | 1 | 1 | 1 | 1 |

: Numbers. {#tbl:numbers}

```python
loss = -torch.nn.functional.logsigmoid(chosen - rejected).mean()  # a comment, "text"
```
""",
    "zh": """\
---
title: 小报告
---

# 开始 {#sec:start}

准确率 {{rm.validation.accuracy:.3f}}，见@fig:one、@tbl:samples。引用@gao2023scaling的结论，用 `code`。

![一张图。](fig/rm_margins.pdf){#fig:one width=50%}

{{table:samples}}

: 回答。 {#tbl:samples}
""",
}
SAMPLES = [
    {"prompt": "Two words for it", "reply": HOSTILE, "score": -1.0, "note": "=1+1"},
    {"prompt": "Again", "reply": "word by word " * 20, "score": 2.5, "note": "+0.41 (0.22 to 0.60)"},
]


@pytest.fixture(scope="session")
def pages(tmp_path_factory) -> dict[str, Path]:
    """The page in both languages, with all numbered formulas of the report."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "fig" / "zh").mkdir(parents=True)
    for name, place in product(("rm_margins", "rm_calibration", "rm_length"), ("", "zh/")):
        draw(folder / "fig" / f"{place}{name}", width=WIDTH if name == "rm_length" else 3)
    for name in ("references.bib", "alt.yaml"):
        shutil.copy(REPORT / name, folder)
    (folder / "metrics.json").write_text(json.dumps(VALUES))
    (folder / "report").mkdir()
    (folder / "report/explorer.html").touch()  # the page links to one that is there
    made = {}
    for language, text in TEXT.items():
        source = folder / f"report.{language}.md"
        source.write_text(text.replace("FORMULAS", FORMULAS), encoding="utf-8")
        facts = Facts(shown.load_values(folder), {"samples": SAMPLES}, shown.figures(folder), language)
        document = build.prepare(source, facts, folder)
        (made[language],) = build.typeset(document, folder / "report", ["html"], "auto")
    return made


def draw(place: Path, width: float) -> None:
    figure = plt.figure(figsize=(width, 2))
    figure.text(0.1, 0.6, "words", color=INK, fontsize=30)
    figure.text(0.1, 0.3, "more", color="black", fontsize=30)
    figure.add_artist(plt.Line2D([0, 1], [0.2, 0.2], color=GREY))
    for kind in ("pdf", "png", "svg"):
        figure.savefig(place.with_suffix(f".{kind}"), transparent=True)
    plt.close(figure)


@pytest.fixture(scope="session")
def browser():
    """Chromium without a window: the system's, or the one that `playwright install chromium` fetched."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra `test`")
    with playwright.sync_playwright() as driver:
        names = ("chromium", "chromium-browser", "google-chrome")
        found = next(filter(None, map(shutil.which, names)), driver.chromium.executable_path)
        if not Path(found).exists():
            pytest.skip("needs Chromium (Debian: apt-get install chromium)")
        chromium = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser):
    """Opens a page at a width, by day or night; everything is closed after the test."""
    contexts = []

    def open_page(path: Path, width: int = 390, scheme: str = "light", at: str = "", **options):
        viewport = {"width": width, "height": 900}
        contexts.append(browser.new_context(viewport=viewport, color_scheme=scheme, **options))
        page = contexts[-1].new_page()
        page.goto(path.as_uri() + at)
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("explored"))


@pytest.fixture(scope="session")
def world(run):
    """The page of a run in the simulated world."""
    return write_explorer(explored_run(run), run / "explorer.html")


@pytest.fixture(scope="session")
def mixed(tmp_path_factory):
    """The page of a run on mixed data, half of whose texts are hidden."""
    run = write_run(tmp_path_factory.mktemp("mixed"), world=False, show_texts="helpful")
    return write_explorer(explored_run(run), run / "explorer.html", "zh")


@pytest.fixture(scope="session")
def unscored(tmp_path_factory):
    """The page of a folder of replies and pairs that nobody has scored."""
    folder = earlier_folder(tmp_path_factory.mktemp("unscored") / "earlier")
    return write_explorer(explored_files([folder]), folder / "explorer.html")
