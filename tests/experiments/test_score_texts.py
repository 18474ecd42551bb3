"""`rlhf-hw score` writes everything or leaves the file there was."""

import json

import pytest

from rlhf_hw.experiments.score_texts import score_texts
from rlhf_hw.models.scoring import RewardModel


def test_a_run_that_fails_leaves_the_old_scores(reward_folder, tmp_path, monkeypatch):
    source, output = tmp_path / "replies.jsonl", tmp_path / "scores.jsonl"
    source.write_text("".join(json.dumps({"prompt": "a", "response": f"tea {n}"}) + "\n" for n in range(3)))
    assert score_texts([source], str(reward_folder), output, dtype="fp32") == 3
    before = output.read_bytes()
    source.write_text('{"prompt": "a"}\n')
    with pytest.raises(KeyError, match="row 0: key 'response' is missing"):
        score_texts([source], str(reward_folder), output)
    broken = [{"prompt": "a", "chosen_score": 1.0}, {"prompt": "b", "chosen_score": float("nan")}]
    monkeypatch.setattr(RewardModel, "score_preferences", lambda self, preferences: broken)
    monkeypatch.setattr("rlhf_hw.experiments.score_texts.load_preferences", lambda *source: ([], None))
    with pytest.raises(ValueError, match="row 2: a number is NaN"):
        score_texts([source], str(reward_folder), output, template="HOMEWORK")
    source.write_text('{"prompt": "a", "response": "tea", "when": "2024-01-02"}\n')  # read as a date
    with pytest.raises(ValueError, match="row 1: .* is a datetime, which JSON cannot say"):
        score_texts([source], str(reward_folder), output)
    assert output.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["replies.jsonl", "scores.jsonl"]


def test_what_is_read_is_not_replaced_and_limits_count_rows(reward_folder, tmp_path):
    source = tmp_path / "replies.jsonl"
    source.write_text('{"prompt": "a", "response": "tea"}\n')
    for options, message in (
        ({"output": source}, "is read, or lies in"),
        ({"output": reward_folder / "config.json"}, "is read, or lies in a folder that is"),
        ({"output": tmp_path}, "is a folder"),
        ({"output": tmp_path / "scores.jsonl", "limit": -1}, "limit: expected 1 or more rows, found -1"),
    ):
        with pytest.raises(ValueError, match=message):
            score_texts([source], str(reward_folder), **options)
    for files in ([tmp_path], [f"{tmp_path / 'other.jsonl'},{source}"]):  # a folder, and a list in one text
        with pytest.raises(ValueError, match="is read, or lies in"):
            score_texts(files, str(reward_folder), source)
    assert [path.name for path in tmp_path.iterdir()] == ["replies.jsonl"]
