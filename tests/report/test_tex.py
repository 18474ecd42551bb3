"""XeLaTeX that ends without an error of TeX's runs again; one that tells of an error does not."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from rlhf_hw.errors import RunFailed
from rlhf_hw.report import tex


@pytest.fixture
def ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Stands in for XeLaTeX, which ends with these statuses and logs in turn; gives source and runs."""
    source = tmp_path / "report.tex"
    runs = []

    def prepare(*ends: tuple[int, str]) -> tuple[Path, list]:
        left = list(ends)

        def run(command, **_):
            runs.append(command)
            status, told = left.pop(0)
            source.with_suffix(".log").write_text(told)
            return SimpleNamespace(returncode=status, stdout=b"xdvipdfmx was stopped")

        monkeypatch.setattr(tex, "subprocess", SimpleNamespace(run=run))
        monkeypatch.setattr(tex, "lay_fonts", lambda folder: folder)
        return source, runs

    return prepare


def test_a_run_that_was_stopped_is_repeated(ended, caplog) -> None:
    source, runs = ended((1, "stack positions"), (0, "fine"), (0, "fine"))
    assert tex.run_xelatex(source) == "fine"
    assert len(runs) == 3
    assert "exit status 1: xdvipdfmx was stopped" in caplog.text


def test_an_error_of_tex_is_told_at_once(ended) -> None:
    source, runs = ended((1, "text\n! Undefined control sequence.\nl.7 \\oops"))
    with pytest.raises(RunFailed, match="Undefined control sequence"):
        tex.run_xelatex(source)
    assert len(runs) == 1


def test_one_that_is_stopped_every_time_fails(ended) -> None:
    source, runs = ended(*[(1, "stack positions")] * tex.TEX_RUNS)
    with pytest.raises(RunFailed, match="exit status 1: xdvipdfmx was stopped"):
        tex.run_xelatex(source)
    assert len(runs) == tex.TEX_RUNS
