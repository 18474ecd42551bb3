"""A report of a few figures as one page, in the folder of a run that may have a reply explorer."""

import json
import shutil
from pathlib import Path

from report_texts import VALUES

from rlhf_hw.paths import REPORT
from rlhf_hw.report import build, shown
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
