"""Cases that were found wrong once and that no test of a single module holds."""

import ast
import errno
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from safetensors.torch import load_file, save_file

from rlhf_hw import cli
from rlhf_hw.errors import InputError, one_line
from rlhf_hw.models.loading import load_policy, load_reward_model
from rlhf_hw.paths import NOTEBOOKS, ROOT
from rlhf_hw.pipeline import run_folder
from rlhf_hw.pipeline.profiles import declared_parameters, default_values
from rlhf_hw.training import config
from tests.faults.campaign import REMEDIES
from tests.faults.workshop import write_lines

NUMBERED = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))


def copy_of(folder: Path, target: Path) -> Path:
    return Path(shutil.copytree(folder, target))


def set_value(path: Path, key: str, value: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))


def code_of_cells(notebook: Path) -> list[str]:
    cells = nbformat.read(notebook, as_version=4).cells
    return [
        c.source for c in cells if c.cell_type == "code" and "parameters" not in c.metadata.get("tags", [])
    ]


@pytest.mark.parametrize("notebook", NUMBERED, ids=lambda path: path.stem)
def test_a_notebook_reads_every_parameter_that_it_declares(notebook: Path) -> None:
    read = {n.id for n in ast.walk(ast.parse("\n".join(code_of_cells(notebook)))) if isinstance(n, ast.Name)}
    # settings of a training are taken all at once
    taken = [getattr(config, name) for name in read if hasattr(config, name)] if "globals" in read else []
    settings = {field for kind in taken for field in getattr(kind, "model_fields", ())}
    assert declared_parameters(notebook).keys() - settings <= read and not {"locals", "vars"} & read


def test_notebook_05_refuses_one_of_two_score_files(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(run_folder, "RUNS", tmp_path)
    (notebook,) = NOTEBOOKS.glob("05_*.ipynb")
    names = default_values(notebook) | {"run": "x", "scores_dpo": str(tmp_path / "dpo.jsonl")}
    with pytest.raises(InputError, match="scores_dpo is given and scores_base is not"):
        exec("\n".join(code_of_cells(notebook)), names)


@pytest.mark.parametrize("name", ["value_head.weight", "v_head.weight", None])
def test_a_head_that_is_not_there_is_no_random_one(
    reward_folder, policy_folder, tmp_path, capsys, name
) -> None:
    model = copy_of(reward_folder if name else policy_folder, tmp_path / "model")
    if name:
        weights = load_file(model / "model.safetensors")
        weights[name] = weights.pop("score.weight")
        save_file(weights, model / "model.safetensors", {"format": "pt"})
        set_value(model / "config.json", "architectures", None)
    replies = write_lines(tmp_path / "replies.jsonl", [{"prompt": "a", "response": "tea"}])
    call = ["score", str(replies), "--model", str(model), "--output", str(tmp_path / "scores.jsonl")]
    assert cli.main(call) == 1
    assert f"{model} has no score head" in capsys.readouterr().err
    assert not (tmp_path / "scores.jsonl").exists()
    assert cli.main([*call, "--untrained"]) == 0


def test_weights_of_layers_that_a_config_does_not_have_are_refused(
    reward_folder, policy_folder, tmp_path
) -> None:
    for folder, load in ((reward_folder, load_reward_model), (policy_folder, load_policy)):
        model = copy_of(folder, tmp_path / folder.name)
        set_value(model / "config.json", "num_hidden_layers", 1)
        set_value(model / "config.json", "layer_types", ["full_attention"])
        with pytest.raises(InputError, match="describes fewer layers than the weights have"):
            load(model)


LEFT = """
import atexit
import torch.distributed
atexit.register(lambda: print("group", torch.distributed.is_initialized()))  # comes after what follows
from rlhf_hw.training.distributed import join_processes
join_processes(True)
assert torch.distributed.is_initialized()
"""


@pytest.mark.distributed
def test_the_group_of_processes_is_left_before_python_ends() -> None:
    alone = {name: value for name, value in os.environ.items() if name not in ("WORLD_SIZE", "RANK")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LEFT], env=alone, capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "group False", done.stderr[-2000:]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_that_lacks_a_character_is_no_error(tmp_path: Path, encoding: str) -> None:
    row = {"question": "茶?", "response_1": "é", "response_2": "bad", "overall_response": 1}
    path = write_lines(tmp_path / "pairs.jsonl", [row])
    command = [sys.executable, "-m", "rlhf_hw.cli", "check-data", str(path), "--template", "HOMEWORK"]
    shown = {**os.environ, "PYTHONIOENCODING": encoding, "LC_ALL": "C", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*command, "--examples", "1"], env=shown, capture_output=True)
    assert done.returncode == 0 and rb"\u8336" in done.stdout, done.stderr


def test_a_run_that_is_stopped_by_hand_says_so_in_a_word(monkeypatch, capsys) -> None:
    def stop(*_) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rlhf_hw.pipeline.profiles.load_profile", stop)
    assert cli.main(["run"]) == 130
    assert capsys.readouterr().err == "stopped\n"


@pytest.mark.parametrize(
    "arguments", [["train", "rm", "--config"], ["run", "--profile"], ["score", "--model", "m"]]
)
def test_a_file_that_is_not_there_is_named_with_a_remedy(
    tmp_path: Path, arguments: list[str], capsys
) -> None:
    missing = str(tmp_path / "none.yaml")
    more = ["--output", str(tmp_path / "scores.jsonl")] if arguments[0] == "score" else []
    assert cli.main([*arguments, missing, *more]) == 1
    told = capsys.readouterr().err
    assert missing in told and "Errno" not in told
    assert re.search(REMEDIES, told.lower()), told


def test_a_torn_file_of_numbers_is_named(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(run_folder, "RUNS", tmp_path)
    run = run_folder.Run("torn")
    run.record("01", {"a": 1})
    (run / "metrics/01.json").write_text('{"a": ')
    with pytest.raises(InputError, match="01.json, line 1: not JSON .*; run its notebook again"):
        run.record("02", {"b": 1})


def test_make_passes_a_profile_with_blanks_whole() -> None:
    printed = subprocess.run(
        ["make", "-n", "-o", "setup", "-o", "system", "report", "PROFILE=my profiles/a b.yaml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    calls = [shlex.split(line) for line in printed.splitlines() if "rlhf-hw" in line]
    assert [call[call.index("--profile") + 1] for call in calls] == ["my profiles/a b.yaml"] * 2


def test_a_reader_that_has_read_enough_is_no_error(tmp_path: Path) -> None:
    row = {"question": "Q?", "response_1": "a", "response_2": "b", "overall_response": 1}
    path = write_lines(tmp_path / "pairs.jsonl", [row])
    call = f"{sys.executable} -m rlhf_hw.cli check-data {path} --template HOMEWORK | true"
    shown = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(call, shell=True, env=shown, capture_output=True, text=True)
    assert done.stderr == ""


def test_what_the_system_says_without_a_file_has_a_remedy_of_its_kind() -> None:
    assert one_line(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))).endswith(
        "; free some space, or choose another place"
    )
    told = one_line(FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "x.yaml"))
    assert told.startswith("x.yaml: ") and "give another name" in told


def test_a_setting_is_named_once(tmp_path: Path, capsys) -> None:
    call = ["train", "rm", "--model", "m", "--output-dir", str(tmp_path / "o")]
    for more, told in (
        (["--report-to", "nosuch"], "error: report_to: no tracker 'nosuch'"),
        (["--margin-key", "k"], "error: margin_key: the loss 'bradley_terry' has no such setting"),
        (["--batch-size", "0"], "error: batch_size: Input should be greater"),
    ):
        assert cli.main([*call, *more]) == 1
        assert capsys.readouterr().err.startswith(told)


@pytest.mark.parametrize("content", ["seed: true\n", "~: 4\n", "margin_key: k\n", "batch_size: 0\n"])
def test_a_fault_in_a_settings_file_is_named_with_the_file(tmp_path: Path, content: str, capsys) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(content)
    call = ["train", "rm", "--model", "m", "--output-dir", str(tmp_path / "o"), "--config", str(path)]
    assert cli.main(call) == 1
    assert capsys.readouterr().err.startswith(f"error: {path}: ")
