"""Texts that are not to be shown reach nothing that the notebooks print or write for the report.

A marker word stands in every harmless prompt and reply. The cells of notebooks 02 and 05 run here one after
the other on recorded scores, so that no model is needed.
"""

import ast
import json
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest

from rlhf_hw.paths import NOTEBOOKS
from rlhf_hw.pipeline import run_folder
from rlhf_hw.pipeline.profiles import default_values
from rlhf_hw.preferences.score_files import write_scores

MARKER = "ZQXMARKER"
COUNT = 60


def rows(policy: str = "") -> list[dict]:
    """Scored pairs, or scored replies of a policy; the harmless ones are those that stand out."""
    draw, found = np.random.default_rng(len(policy)).normal, []
    for n in range(COUNT):
        part, mark = ("helpful", "") if n % 2 else ("harmless", f" {MARKER}")
        row = {"id": n, "prompt": f"question {n}{mark}", "meta": {"source": f"{part}-base"}}
        size = 1.0 if n % 2 else 9.0
        if policy:
            row |= {"response": f"{policy} says {n}{mark}", "score": size * draw(), "finished": True}
        else:
            row |= {"chosen": f"good {n}{mark}", "rejected": f"bad {n}{mark}"}
            row |= {"chosen_score": size * draw(), "rejected_score": size * draw()}
        found.append(row)
    return found


def printed(stem: str, parameters: dict, capsys: pytest.CaptureFixture) -> str:
    """What the cells of a notebook print and show, run with these parameters."""
    shown: list = []
    (path,) = NOTEBOOKS.glob(f"{stem}_*.ipynb")
    names = {"display": shown.append, "__name__": "notebook", **default_values(path), **parameters}
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type != "code" or "parameters" in cell.metadata.get("tags", []):
            continue
        body = ast.parse(cell.source).body
        last = body.pop() if isinstance(body[-1], ast.Expr) else None
        exec(compile(ast.Module(body, []), stem, "exec"), names)
        if last is not None:
            shown.append(eval(compile(ast.Expression(last.value), stem, "eval"), names))
    plt.close("all")
    return capsys.readouterr().out + "\n".join(map(repr, shown))


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, str]]:
    """The parameters that name recorded scores, by notebook; runs go to a folder of the test's own."""
    monkeypatch.setattr(run_folder, "RUNS", tmp_path / "runs")
    files = {
        name: str(write_scores(tmp_path / f"{name or 'pairs'}.jsonl", rows(name)))
        for name in ("", "base", "dpo")
    }
    return {"02": {"scores": files[""]}, "05": {"scores_base": files["base"], "scores_dpo": files["dpo"]}}


@pytest.mark.parametrize("stem", ["02", "05"])
def test_a_hidden_text_reaches_no_output_and_no_file_of_the_report(stem, recorded, tmp_path, capsys):
    setting = {"run": "marked", "parts": "helpful, harmless", "world": False, **recorded[stem]}
    hidden = printed(stem, setting | {"show_texts": "helpful"}, capsys)
    written = [path.read_text() for path in sorted((tmp_path / "runs").rglob("*.json"))]
    assert MARKER not in hidden + "".join(written)
    assert "question " in hidden and len(written) >= 3
    numbers = json.loads((tmp_path / "runs/marked/metrics.json").read_text())
    assert any(key.startswith("parts.harmless.") for key in numbers)
    assert MARKER in printed(stem, setting | {"show_texts": "all"}, capsys)
    assert MARKER not in printed(stem, setting | {"show_texts": "none"}, capsys)


def test_a_hidden_text_is_no_example_of_the_base_model_either(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run_folder, "RUNS", tmp_path / "runs")
    for part, count, mark in (("harmless", 8, f" {MARKER}"), ("helpful", 4, "")):  # what is most comes first
        texts = [{"prompt": f"question {n} {part}{mark}", "chosen": f"good {n}"} for n in range(count)]
        (tmp_path / part).mkdir()
        for split in ("train", "validation"):
            lines = [json.dumps({**row, "rejected": "bad"}) for row in texts]
            (tmp_path / part / f"{split}.jsonl").write_text("\n".join(lines))
    data = f"{tmp_path / 'harmless'}, {tmp_path / 'helpful'}"
    setting = {"train_dataset": data, "eval_dataset": data, "train_template": "TRL", "eval_template": "TRL"}
    setting |= {"run": "marked", "world": False, "samples": 24, "max_new_tokens": 2}
    hidden = printed("00", setting | {"show_texts": "helpful"}, capsys)
    assert MARKER not in hidden and "helpful" in hidden
    assert MARKER not in printed("00", setting | {"show_texts": "none"}, capsys)
    assert MARKER in printed("00", setting | {"show_texts": "all"}, capsys)
