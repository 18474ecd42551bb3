"""`rlhf-hw check-replies`: what it reads, what it says."""

import json
from pathlib import Path

import pytest

from rlhf_hw import cli
from rlhf_hw.errors import InputError, UnknownName
from rlhf_hw.experiments.check_replies import check_replies, read_texts
from rlhf_hw.stats.damage import Replies
from tests.stats.planted_damage import healthy_files, planted


def written(path: Path, replies: Replies, response: str = "response", prompt: str = "prompt") -> Path:
    rows = [
        {prompt: asked, response: text} for asked, text in zip(replies.prompts, replies.texts, strict=True)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    mine, other = healthy_files(0, 150)
    damaged, _ = planted(mine, "opening", 0, 0.3)
    return written(tmp_path / "mine.jsonl", damaged), written(tmp_path / "theirs.jsonl", other)


def test_the_command_says_what_is_damaged_and_where(files, capsys) -> None:
    mine, theirs = map(str, files)
    assert cli.main(["check-replies", mine, "--against", theirs]) == 0
    said = capsys.readouterr().out
    assert '45 begin alike ("human…")' in said and "elsewhere 0.0% [0.0%, " in said
    assert ", lead +30.0% [+" in said
    assert "45 of 150 replies are damaged" in said and "not found: " in said
    assert cli.main(["check-replies", theirs, "--against", theirs]) == 0
    assert "nothing is named" in capsys.readouterr().out
    assert cli.main(["check-replies", mine, "--against", theirs, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["damaged"] == 45 and found["findings"][0]["kind"] == "opening"
    assert len(found["findings"][0]["rows"]) == 3 and found["findings"][0]["other"][0] == 0


def test_without_another_file_openings_are_not_judged_and_that_is_said(files, capsys) -> None:
    assert cli.main(["check-replies", str(files[0])]) == 0
    said = capsys.readouterr().out
    assert "openings need --against" in said and "begin alike" not in said


def test_prompts_may_stand_in_another_file_and_keys_have_other_names(files, tmp_path, capsys) -> None:
    replies = read_texts(files[1])
    bare = tmp_path / "bare.jsonl"
    bare.write_text(
        "".join(
            json.dumps({"answer": f"{asked} {text}"}) + "\n"
            for asked, text in zip(replies.prompts, replies.texts, strict=True)
        )
    )
    command = ["check-replies", str(bare), "--mapping", "response=answer"]
    assert cli.main(command) == 0
    assert "repeat their prompt" not in capsys.readouterr().out
    assert cli.main([*command, "--prompts", str(files[1])]) == 0
    assert "150 repeat their prompt: 100.0%" in capsys.readouterr().out
    assert cli.main(["check-replies", str(bare)]) == 1
    assert "bare.jsonl, line 1: no key 'response'" in capsys.readouterr().err


def test_both_replies_of_pairs_are_references(files, tmp_path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    row = {"prompt": "Why?", "better_response": "So.", "worse_response": "No."} | {
        f"{side}_score": 0.0 for side in ("better", "worse")
    }
    pairs.write_text(json.dumps(row) + "\n")
    assert read_texts(pairs) == Replies(["So.", "No."], ["Why?", "Why?"])
    found = check_replies(files[0], [files[1], pairs])
    assert [beside.rsplit(" ", 1)[1] for beside in found.beside] == ["(150)", "(2)"]


def test_what_cannot_be_read_names_its_file(files, tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.jsonl"):
        check_replies(tmp_path / "nothing.jsonl")
    few = tmp_path / "few.jsonl"
    few.write_text('{"prompt": "Why?"}\n')
    with pytest.raises(InputError, match="150 replies and 1 prompts"):
        check_replies(files[0], prompts=few)
    with pytest.raises(UnknownName, match=r"few\.jsonl, line 1"):
        check_replies(few)
