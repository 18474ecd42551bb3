"""Commands that are refused: they leave nothing, and a dash is no name of a file or folder."""

import json
import os
from pathlib import Path

import pytest

from rlhf_hw import cli

PAIR = {"question": "What is tea?", "response_1": "A drink.", "response_2": "A car.", "overall_response": 1}
OUTPUTS = {
    "score --model m --output": "output",
    "explore nosuch --out": "output",
    "train rm --model m --output-dir": "output_dir",
    "train dpo --model m --output-dir o --log-dir": "log_dir",
}


@pytest.mark.parametrize("command", OUTPUTS)
def test_a_dash_is_no_name_of_an_output(command: str, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.jsonl").write_text('{"prompt": "a", "response": "b"}\n')
    files = ["a.jsonl"] if command.startswith("score") else []
    name, *flags = command.split()
    assert cli.main([name, *files, *flags, "-"]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"error: {OUTPUTS[command]}: - does not stand for standard") and "give" in told
    assert os.listdir(tmp_path) == ["a.jsonl"]


REFUSED = [
    "train rm --model nosuch --output-dir o/p --log-dir l --train-dataset a.jsonl",
    "train dpo --model {policy} --output-dir o --train-dataset nosuch.jsonl",
    "train sft --model {policy} --output-dir there --train-dataset a.jsonl --train-template NOSUCH",
    "score a.jsonl --model nosuch --output o/scores.jsonl",
    "explore nosuch --out o/page.html",
    "explore there --out o/page.html",
    "check-data nosuch.jsonl --template HOMEWORK",
    "check-replies nosuch",
    "run --profile a.yaml --only nosuch",
    "run --profile a.yaml --set seed=-1",
    "report --profile a.yaml",
    "keep --profile hh",
    "keep --profile hh --only 99",
]


@pytest.mark.parametrize("command", REFUSED)
def test_a_command_that_is_refused_leaves_nothing(
    command: str, policy_folder: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    for name in ("pipeline.run_folder", "paths"):
        monkeypatch.setattr(f"rlhf_hw.{name}.RUNS", tmp_path / "runs")
    monkeypatch.setenv("RLHF_HW_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    (tmp_path / "a.jsonl").write_text(json.dumps(PAIR) + "\n")
    (tmp_path / "a.yaml").write_text("name: own\ntitle: Own\n")
    before = sorted(tmp_path.rglob("*"))
    status = cli.main(command.format(policy=policy_folder).split())
    told = capsys.readouterr()
    assert (status, "error: " in told.err) == (1, True) or "kept nothing" in told.out, told
    assert sorted(tmp_path.rglob("*")) == before
