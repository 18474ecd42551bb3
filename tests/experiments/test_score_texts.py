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
    assert output.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["replies.jsonl", "scores.jsonl"]
