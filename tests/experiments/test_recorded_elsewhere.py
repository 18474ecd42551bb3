"""A run that nobody knew before, in notebook 07 and both reports: none of it is told as the published one."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from notebook_code import notebook_tree
from recorded_folders import run_folder

from rlhf_hw.experiments import recorded
from rlhf_hw.experiments.recorded_claims import (
    KNOWN_RUN,
    PUBLISHED_FIGURES,
    conclusions,
    known_facts,
    statements,
)
from rlhf_hw.experiments.recorded_runs import read_run
from rlhf_hw.paths import REPORT
from rlhf_hw.report import LANGUAGES, TEXTS
from rlhf_hw.report.fields import Facts
from rlhf_hw.report.tables import read_tables
from rlhf_hw.report.text import fill

ITS_OWN = ("laolida", "dc9c4d9", "Qwen", "padding", "填充", "newline", "换行符", "repository", "仓库")
TABLES = read_tables(REPORT / "tables.yaml")
# where the part about recorded runs begins, and what begins behind it
PART = {
    "report": ("<!-- if recorded -->\n## ", "## "),
    "report.short": ("<!-- if recorded.dpo.win_rate -->", "\n# "),
}


def by_notebook(folders: list[Path], monkeypatch: pytest.MonkeyPatch, capsys) -> tuple[dict, str, list]:
    """What the code of notebook 07 records of folders, what it prints and what it displays."""
    kept, shown = {}, []
    results = SimpleNamespace(fig=folders[0] / "fig", record=lambda stage, found: kept.update(found.metrics))
    monkeypatch.setattr("rlhf_hw.pipeline.runner.open_run", lambda run: results)
    monkeypatch.setattr("IPython.display.display", shown.append)
    code = compile(notebook_tree("07_recorded_run"), "07", "exec")
    asked = ",".join(map(str, folders))
    code = code.replace(co_consts=tuple(asked if value == "" else value for value in code.co_consts))
    exec(code, {"display": shown.append})
    return kept, capsys.readouterr().out, shown


def told(metrics: dict, language: str, name: str) -> str:
    """The part of a report about recorded runs, filled with the numbers of a run."""
    text = (REPORT / f"{name}.{language}.md").read_text(encoding="utf-8")
    begin, end = PART[name]
    start = text.index(begin)
    part = text[start : text.index(end, text.index("laolida2025run", start))]
    return fill(part, Facts(metrics, language=language), TABLES)


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    """One with scored replies and no pairs, and one with texts only."""
    return {
        "scored": run_folder(tmp_path / "mine", 3.0),
        "texts": run_folder(tmp_path / "texts", None, sets=("test", "train"), samples=2),
    }


@pytest.mark.parametrize("names", [("texts", "scored"), ("texts",)])
def test_another_run_goes_through_and_none_is_told_of_the_published_one(
    names: tuple[str, ...], folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    metrics, printed, shown = by_notebook([folders[name] for name in names], monkeypatch, capsys)
    scored = "scored" in names
    assert metrics["recorded.name"] == ("mine" if scored else "texts, test")
    assert metrics["recorded.common.runs"] == 2 + scored
    assert ("recorded.dpo.win_rate" in metrics) == scored and "recorded.rise.base.rise" not in metrics
    assert "published figures are those of another run" in printed
    assert [word for word in ITS_OWN if word in printed + str(shown)] == []
    for language in LANGUAGES:
        texts = [told(metrics, language, name) for name in TEXTS]
        assert [word for word in ITS_OWN for text in texts if word in text] == []
        assert ("mine" in texts[0]) == scored and "texts\\, train" in texts[0]
        (row,) = [line for line in texts[0].splitlines() if line.startswith("| mine")][1:] or [""]
        assert row.startswith("| mine | – | – | – | 1.00") == scored  # its scores stand there without pairs


def test_the_published_run_is_known_by_its_name_and_its_figures() -> None:
    kept = recorded.read_kept().metrics
    assert statements(kept)["laolida_w"] and len(known_facts(kept)) == 3
    text = told(kept, "en", "report")
    assert all(word in text for word in ITS_OWN if word.isascii())
    others = [kept | {"recorded.name": "mine"}, kept | {"recorded.base.score_mean": 2.2}]
    for other in others:
        assert not statements(other)["laolida_w"]
    told_of = {name: value for name, value in others[0].items() if name != "recorded.claims.laolida_w"}
    assert known_facts(told_of) == [] and len(PUBLISHED_FIGURES) == 6 and kept["recorded.name"] == KNOWN_RUN
    assert [word for word in ITS_OWN if word in told(told_of, "en", "report")] == []


def test_what_is_concluded_turns_with_the_run(folders: dict[str, Path], tmp_path: Path) -> None:
    def concluded(folder: Path) -> str:
        runs = read_run(folder)
        return " ".join(conclusions(recorded.summarise(recorded.fullest(runs), runs).metrics))

    won, lost = concluded(folders["scored"]), concluded(run_folder(tmp_path / "lost", -3.0))
    assert "DPO leads as counted" in won and "Base leads as counted" in lost
    assert "No sign of damage" in won and "win rate" not in concluded(folders["texts"])
    path = folders["scored"] / "generated_base.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    lines = [json.dumps(row | {"response": f"Humanity: {row['response']}"}) for row in rows[:20]]
    path.write_text("\n".join([*lines, *map(json.dumps, rows[20:])]))
    assert concluded(folders["scored"]).startswith("20 of 40 base replies begin with humanity")
