"""Letters of figures in print: measured, and too small ones stop the default run's report."""

import json
import shutil

import pytest

from rlhf_hw.errors import InputError, RunFailed
from rlhf_hw.paths import FIG
from rlhf_hw.report import build
from rlhf_hw.report.fields import Facts
from rlhf_hw.report.letters import TEXT_WIDTH, drawing_for, printed_letters

PDF = b"%%PDF-1.4 << /Type /Page /MediaBox [ 0 0 %.1f 100 ] >>"


def laid(folder, wide: float, narrow: float | None = None):
    """A run's folder with a figure of a width in points, and perhaps its narrow drawing."""
    for place, width in (("fig", wide), ("fig/narrow", narrow)):
        if width:
            (folder / place).mkdir(parents=True, exist_ok=True)
            (folder / place / "one.pdf").write_bytes(PDF % width)
            (folder / place / "one.svg").write_text("<svg/>")
    shutil.copy(FIG.parent / "report" / "references.bib", folder)
    return folder / "fig" / "one.pdf"


def prepared(folder, figure, width: int):
    source = folder / "report.en.md"
    source.write_text(f"![One.](fig/one.pdf){{#fig:one width={width}%}}", encoding="utf-8")
    return build.prepare(source, Facts({}, {}, {"one": figure}, "en"), folder)


def test_letters_are_measured_from_the_width_of_the_drawing(tmp_path):
    figure = laid(tmp_path, TEXT_WIDTH, TEXT_WIDTH / 3)
    assert printed_letters(figure, 1.0) == pytest.approx(8, abs=0.01)
    assert printed_letters(figure, 0.5) == pytest.approx(4, abs=0.01)
    assert drawing_for(figure, 0.49) == figure
    assert printed_letters(drawing_for(figure, 0.3), 0.3) == pytest.approx(7.2, abs=0.01)
    with pytest.raises(InputError, match="no PDF of a known size"):
        printed_letters(figure.with_suffix(".svg"), 1.0)


def test_too_small_letters_stop_the_default_report_and_warn_in_others(tmp_path, caplog):
    message = "line 1: one at 76% has 6.1 points. 7 points are the least"
    for name in ("nano", "other"):
        figure = laid(tmp_path / name, TEXT_WIDTH)
    with pytest.raises(RunFailed, match=message):
        prepared(tmp_path / "nano", tmp_path / "nano/fig/one.pdf", 76)
    prepared(tmp_path / "other", figure, 76)
    assert "letters in figures are too small: line 1: one at 76% has 6.1 points" in caplog.text


def test_three_in_a_row_stand_narrow_drawings(tmp_path, caplog):
    figure = laid(tmp_path / "nano", TEXT_WIDTH / 2, TEXT_WIDTH / 3)
    tree = json.loads(prepared(tmp_path / "nano", figure, 32).tree.read_text())
    assert "fig/en/narrow/one.pdf" in json.dumps(tree) and caplog.text == ""
    assert (tmp_path / "nano/report/build/fig/en/narrow/one.svg").exists()
    (figure.parent / "narrow" / "one.pdf").unlink()
    prepared(tmp_path / "nano", figure, 32)
    assert "one was drawn before it was drawn narrow, too; run its notebook again" in caplog.text
