"""The command line: quick help, flags from the settings, one-line errors."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlhf_hw import cli
from rlhf_hw.training.config import DPOTraining, RewardTraining

PAIRS = [
    {"question": "What is tea?", "response_1": "A drink.", "response_2": "A car.", "overall_response": 1},
    {"question": "What is ice?", "response_1": "Fire.", "response_2": "Frozen water.", "overall_response": 2},
]


def _config(method: str, *arguments: str) -> object:
    return cli.training_config(cli.train_parser(method).parse_args(arguments))


def test_help_lists_every_command_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom rlhf_hw.cli import command_parser\ncommand_parser().print_help()\n"
        "assert not {'torch', 'transformers', 'pydantic', 'papermill'} & set(sys.modules)"
    )
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert time.perf_counter() - started < 5  # about 0.1 s; the bound allows for a busy machine
    commands = "run report explore keep train score check-data check-replies pretrained"
    for command in commands.split():
        assert command in done.stdout


@pytest.mark.parametrize(("method", "settings"), [("rm", RewardTraining), ("dpo", DPOTraining)])
def test_every_setting_has_a_flag(method: str, settings: type) -> None:
    text = cli.train_parser(method).format_help()
    assert all(f"--{name.replace('_', '-')}" in text for name in settings.model_fields)


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("model: base\noutput_dir: out\nlearning_rate: 1e-4\nseed: 5\n", encoding="utf-8")
    settings = _config("rm", "--config", str(file), "--learning-rate", "2e-5", "--gradient-checkpointing")
    assert settings == RewardTraining(
        model="base", output_dir="out", learning_rate=2e-5, seed=5, gradient_checkpointing=True
    )


def test_only_what_was_given_is_set() -> None:
    settings = _config("dpo", "--model", "base", "--output-dir", "out", "--train-dataset", "")
    assert settings.model_fields_set == {"model", "output_dir", "train_dataset"}
    assert settings.train_dataset is None


def test_the_launchers_rank_is_ignored(capsys: pytest.CaptureFixture) -> None:
    # the deepspeed launcher puts it in front of the program's own arguments
    assert cli.main(["--local_rank=0", "train", "rm", "--learning-rate", "1"]) == 1
    assert "model: Field required" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["train", "rm", "--model", "a", "--output-dir", "b", "--learning-rate", "x"],
            "learning_rate: Input",
        ),
        (["train", "rm", "--config", "none.yaml"], "none.yaml"),
        (["run", "--profile", "nanno"], "no profile 'nanno'"),
        (["run", "--profile", "~nobody-here/mine.yaml"], "there is no such user; write it in full"),
        (["pretrained", "smollm2-135m", "--file", "~nobody-here/a.whl"], "there is no such user"),
        (["run", "--set", "no_such_parameter=1"], "no_such_parameter"),
        (["run", "--set", "seed"], "write key=value"),
        (["keep", "--profile", "mine"], "only what a profile of the package found is kept"),
        (["keep", "--only", "00"], "keep 00: experiments are"),
        (["run", "--only", ", "], "--only , : names no notebook"),
    ],
)
def test_mistakes_end_with_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    assert cli.main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1


def test_debug_shows_where_the_error_was_raised() -> None:
    with pytest.raises(FileNotFoundError, match="nanno"):
        cli.main(["run", "--profile", "nanno", "--debug"])


def test_a_flag_of_the_other_method_is_refused() -> None:
    with pytest.raises(SystemExit):
        cli.main(["train", "rm", "--beta", "0.1"])


def test_check_data_as_text_and_json(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = tmp_path / "train.jsonl"
    file.write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS), encoding="utf-8")
    shutil.copy(file, tmp_path / "validation.jsonl")
    check = ["check-data", str(tmp_path), "--template", "HOMEWORK", "--against", "validation"]
    assert cli.main(check) == 0
    printed = capsys.readouterr().out
    assert "edition of the homework: 2025 (2 rows)" in printed
    assert "2 rows read, 2 pairs used, 0 dropped" in printed and "prompts also in validation: 2" in printed
    assert cli.main([*check[:1], str(file), *check[2:]]) == 1  # a single file is both splits
    assert "are the same" in capsys.readouterr().err
    assert cli.main([*check[:4], "--split", "nosuchsplit"]) == 1
    assert "no file for split 'nosuchsplit'" in capsys.readouterr().err
    assert cli.main(["check-data", str(file), "--template", "HOMEWORK", "--examples", "1", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["rows"], report["used"], report["dropped"]) == (2, 2, {})
    assert json.loads(report["problems"][0]["message"])["chosen"] == "A drink."
    assert report["editions"] == {"2025": 2}
    older = {
        "prompt": "What is tea?",
        "response_0": "A car.",
        "response_1": "A drink.",
        "better_response_id": 1,
    }
    (tmp_path / "older.jsonl").write_text(json.dumps(older) + "\n", encoding="utf-8")
    assert cli.main(["check-data", str(tmp_path / "older.jsonl"), "--template", "HOMEWORK"]) == 0
    assert "edition of the homework: 2024 (1 rows)" in capsys.readouterr().out
    for source in ("~no-such-user/a.jsonl", "x" * 5000):
        assert cli.main(["check-data", source, "--template", "HOMEWORK"]) == 1
        assert "no such file or folder" in capsys.readouterr().err
    assert cli.main(["check-data", str(file), "--template", "NO_SUCH"]) == 1
    assert "NO_SUCH" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [[], ["--reads-at", "template_end"]])
def test_score_writes_what_the_model_says(reward_folder: Path, tmp_path: Path, flags: list[str]) -> None:
    from rlhf_hw.models.scoring import RewardModel
    from rlhf_hw.preferences.templates import as_prompt

    folder = shutil.copytree(reward_folder, tmp_path / "theirs")
    (folder / "rendering.json").unlink()  # as another system leaves it
    replies, output = tmp_path / "new.jsonl", tmp_path / "scores.jsonl"
    replies.write_text('{"prompt": "What is tea?", "response": "A drink."}\n', encoding="utf-8")
    assert cli.main(["score", str(replies), "--model", str(folder), "--output", str(output), *flags]) == 0
    end_of_turn, template_end = (
        RewardModel(folder, reads_at=place)
        .score([as_prompt("What is tea?", "prompt")], [["A drink."]])
        .item()
        for place in ("end_of_turn", "template_end")
    )
    assert abs(end_of_turn - template_end) > 0.01
    expected = template_end if flags else end_of_turn
    assert json.loads(output.read_text())["score"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--output", "scores.parquet"], "scores.parquet: scores are JSON lines; let the name end in"),
        (["--output", "scores.jsonl.GZ"], "scores.jsonl.GZ: scores are JSON lines"),
        (["--output", "scores.csv"], "scores.csv: scores are JSON lines"),
        (["--output", "scores.jsonl", "--model", ""], "model: expected the folder or hub id"),
        (["", "--output", "scores.jsonl"], "files: one of the names is empty"),
    ],
)
def test_score_refuses_names_that_say_something_else_or_nothing(
    reward_folder: Path, tmp_path: Path, monkeypatch, capsys, given: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("new.jsonl").write_text('{"prompt": "What is tea?", "response": "A drink."}\n', encoding="utf-8")
    assert cli.main(["score", "--model", str(reward_folder), "new.jsonl", *given]) == 1
    assert capsys.readouterr().err.startswith(f"error: {told}")
    assert [path.name for path in tmp_path.iterdir()] == ["new.jsonl"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["check-data", "", "--template", "HOMEWORK"],
        ["check-data", "data/nano", "--template", "HOMEWORK", "--against", ""],
        ["explore", ""],
        ["run", "--from", ""],
    ],
)
def test_an_empty_name_is_no_name(arguments: list[str], tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 1
    assert "the name is empty; give one, or leave it out" in capsys.readouterr().err


@pytest.fixture
def finished_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A run with numbers, and a stand-in for typesetting that lists what it was asked for."""
    folder = tmp_path / "nano/report"
    folder.mkdir(parents=True)
    (tmp_path / "nano/metrics.json").write_text('{"a": 1}')
    built = []

    def build(run: str, languages: list[str], engine: str) -> list[Path]:
        built.append(engine)
        names = [f"{text}.{language}" for text in ("report", "report.short") for language in languages]
        paths = [folder / f"{name}.{kind}" for name in names for kind in ("pdf", "html")]
        written = [path for path in paths if engine != "typst" or path.suffix != ".pdf"]
        for path in written:
            path.write_text("typeset")
        return written

    monkeypatch.setattr("rlhf_hw.paths.RUNS", tmp_path)
    monkeypatch.setattr("rlhf_hw.pipeline.stamps.KEPT_RESULTS", tmp_path / "kept")
    monkeypatch.setattr("rlhf_hw.report.current.build_report", build)
    return built


def test_the_report_is_built_only_when_out_of_date(finished_run: list[str], tmp_path: Path) -> None:
    cli.main(["report"])
    cli.main(["report"])
    assert finished_run == ["auto"]
    (tmp_path / "nano/metrics.json").write_text('{"a": 2}')
    cli.main(["report"])
    cli.main(["report", "--force"])
    assert finished_run == ["auto"] * 3
    cli.main(["report", "--engine", "xelatex"])  # writes over the same files
    cli.main(["report"])
    assert finished_run == ["auto"] * 3 + ["xelatex", "auto"]
    (tmp_path / "nano/report/report.zh.pdf").unlink()
    cli.main(["report"])
    cli.main(["report"])
    assert finished_run == ["auto"] * 3 + ["xelatex", "auto", "auto"]
    (tmp_path / "kept").write_text("of an experiment")
    cli.main(["report"])
    assert len(finished_run) == 7


def test_a_report_without_its_pdf_is_tried_again(finished_run: list[str]) -> None:
    cli.main(["report", "--engine", "typst"])
    cli.main(["report", "--engine", "typst"])
    assert finished_run == ["typst", "typst"]


def test_paths_are_seen_from_the_callers_folder(tmp_path, monkeypatch):
    (tmp_path / "mine.jsonl").write_text("")
    monkeypatch.chdir(tmp_path)
    options = cli.command_parser().parse_args(["check-data", "mine.jsonl", "--template", "TRL"])
    assert options.source == str(tmp_path / "mine.jsonl")
    assert cli.from_here("Anthropic/hh-rlhf//harmless-base") == "Anthropic/hh-rlhf//harmless-base"
    assert cli.from_here("mine.jsonl, owner/name") == f"{tmp_path / 'mine.jsonl'},owner/name"
    options = cli.train_parser("rm").parse_args(
        ["--model", "org/model", "--output-dir", "x", "--train-dataset", "mine.jsonl"]
    )
    assert cli.training_config(options).train_dataset == str(tmp_path / "mine.jsonl")
    assert cli.training_config(options).model == "org/model"
