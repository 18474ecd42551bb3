"""A report of a few figures as one page, in the folder of a run that may have a reply explorer."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from report_texts import VALUES

from rlhf_hw.experiments.explored import explored_run
from rlhf_hw.paths import REPORT
from rlhf_hw.report import LANGUAGES, build, shown
from rlhf_hw.report.explorer import write_explorer
from rlhf_hw.report.fields import Facts


def typeset_run(run: Path, text: str, language: str = "en") -> Path:
    """The page of a text with a run's figures."""
    for name in ("references.bib", "alt.yaml"):
        shutil.copy(REPORT / name, run)
    (run / "metrics.json").write_text(json.dumps(VALUES))
    source = run / f"report.{language}.md"
    source.write_text(text, encoding="utf-8")
    facts = Facts(shown.load_values(run), {}, shown.figures(run), language)
    (page,) = build.typeset(build.prepare(source, facts, run), run / "report", ["html"], "auto")
    return page


def typeset_drawn(folder: Path, run: Path, draw: Callable[[Path], None], text: str) -> dict[str, Path]:
    """The page in each language, of a copy of a run with figures and explorer, laid out as a report is."""
    shutil.copytree(run, folder)
    draw(folder)
    write_explorer(explored_run(folder), folder / "report/explorer.html")
    return {language: typeset_run(folder, text, language) for language in LANGUAGES}
