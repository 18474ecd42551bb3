import json
from types import SimpleNamespace

import numpy as np
import pytest

from rlhf_hw.pipeline.run_folder import Run, plain_value, write_json


@pytest.fixture
def run(tmp_path, monkeypatch) -> Run:
    monkeypatch.setattr("rlhf_hw.pipeline.run_folder.RUNS", tmp_path)
    return Run("trial")


def test_stages_are_merged_and_replaced(run) -> None:
    run.record("01", {"rm.train.pairs": 10, "rm.train.loss": np.float32(0.5)})
    run.record(
        "02", {"rm.validation.accuracy": np.float64(0.71), "run.dtype": "bf16", "claims.x": np.bool_(True)}
    )
    run.record("01", {"rm.train.pairs": np.int64(12)})  # a stage run again leaves nothing stale behind
    expected = {"claims.x": True, "rm.train.pairs": 12, "rm.validation.accuracy": 0.71, "run.dtype": "bf16"}
    assert json.loads((run.path / "metrics.json").read_text()) == expected
    assert list(json.loads((run.path / "metrics.json").read_text())) == sorted(expected)


def test_a_key_belongs_to_one_stage(run) -> None:
    run.record("01", {"a": 1})
    with pytest.raises(ValueError, match=r"stage 02 writes keys of another stage: \['a'\]"):
        run.record("02", {"a": 2, "b": 3})
    assert json.loads((run.path / "metrics.json").read_text()) == {"a": 1}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32("nan"), np.array(float("nan"))])
def test_numbers_a_report_cannot_show_are_refused(run, value) -> None:
    with pytest.raises(ValueError, match="metric 'x' is (nan|inf)"):
        run.record("01", {"x": value})
    assert not (run.path / "metrics.json").exists()


@pytest.mark.parametrize("value", [[1], {"a": 1}, (1, 2), np.ones(2), None])
def test_nested_values_are_refused(value) -> None:
    with pytest.raises(ValueError, match="metric 'x': expected one number or text"):
        plain_value("x", value)


def test_plain_values() -> None:
    import torch

    values = [np.float64(0.1), np.int64(3), np.bool_(True), torch.tensor(0.5), np.array(2), "text", True]
    plain = [plain_value("x", v) for v in values]
    assert plain == [0.1, 3, True, 0.5, 2, "text", True]
    assert [type(v) for v in plain] == [float, int, bool, float, int, str, bool]


def test_a_result_is_recorded_with_the_claims_that_hold_and_its_tables(run) -> None:
    rows = [{"case": "C1", "score": 0.5}]
    result = SimpleNamespace(
        metrics={"gap": 1.5}, claims={"wins": np.bool_(True), "loses": False}, tables={"c": rows}
    )
    run.record("06", result)
    assert json.loads((run / "metrics/06.json").read_text()) == {"gap": 1.5, "claims.wins": True}
    assert json.loads((run / "tables/c.json").read_text()) == rows


def test_need_says_when_a_notebook_did_not_make_it(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("rlhf_hw.pipeline.run_folder.RUNS", tmp_path)
    asked = []
    run = Run("trial", make=lambda *what: asked.append(what))
    with pytest.raises(ValueError, match="did not with this run's parameters"):
        run.need("scores/train.jsonl")
    assert asked == [("scores/train.jsonl", "trial")]


def test_folders_and_files(run, tmp_path) -> None:
    assert run.path == tmp_path / "trial" and run.fig.is_dir()
    assert run.scores("validation") == tmp_path / "trial" / "scores" / "validation.jsonl"
    assert run.scores("validation").parent.is_dir()
    assert run / "dpo" == tmp_path / "trial" / "dpo"
    run.table("cases", [{"a": "ä"}])
    assert "ä" in (run.path / "tables" / "cases.json").read_text(encoding="utf-8")
    (run / "base").mkdir()
    assert run.need("base") == run / "base"  # it is there: no notebook runs
    with pytest.raises(ValueError, match="run: expected a name such as"):
        Run("")


def test_writing_leaves_no_partial_file(tmp_path) -> None:
    write_json(tmp_path / "deep" / "a.json", {"x": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "deep" / "a.json", {"x": object()})
    assert json.loads((tmp_path / "deep" / "a.json").read_text()) == {"x": 1}
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["a.json"]
