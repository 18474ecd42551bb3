"""Several recorded runs side by side: with scores and without, and what they have in common."""

import json
from pathlib import Path

import pytest
from recorded_folders import run_folder

from rlhf_hw.experiments.recorded_runs import beside_each_other, damage_of, in_common, read_run, read_runs
from rlhf_hw.preferences.score_files import write_scores
from rlhf_hw.stats.damage import damaged_rows


def test_runs_are_taken_as_far_as_they_go(tmp_path: Path) -> None:
    won = run_folder(tmp_path / "won", 3.0)
    texts = run_folder(tmp_path / "texts", None, sets=("test", "train"), samples=3)
    found = beside_each_other(read_runs([won, texts]))
    names = [found[f"recorded.runs.{n}.name"] for n in (1, 2, 3)]
    assert names == ["won", "texts, test", "texts, train"]
    assert found["recorded.runs.1.win_rate"] > 0.9 and "recorded.runs.2.win_rate" not in found
    assert (found["recorded.runs.2.replies"], found["recorded.runs.2.prompts"]) == (120, 40)
    assert found["recorded.runs.2.words_difference"] == pytest.approx(-10, abs=2)
    assert "recorded.runs.1.accuracy" not in found  # it has no pairs
    assert found["recorded.runs.1.follows_length_low"] > 0.5
    assert found["recorded.runs.1.win_rate_sound"] == found["recorded.runs.1.win_rate"]  # nothing is damaged
    assert (found["recorded.common.runs"], found["recorded.common.scored"]) == (3, 1)
    assert found["recorded.claims.dpo_shorter_everywhere"] == 1
    assert "recorded.claims.length_does_not_decide" not in found
    assert found["recorded.published.2.wins"] == 0.28


def test_two_runs_that_shorten_and_part_show_that_length_does_not_decide(tmp_path: Path) -> None:
    folders = [run_folder(tmp_path / name, gain) for name, gain in (("won", 3.0), ("lost", -1.0))]
    assert beside_each_other(read_runs(folders))["recorded.claims.length_does_not_decide"] == 1
    longer = run_folder(tmp_path / "longer", 0.0, words=(20, 30))  # wins by its length alone
    found = beside_each_other(read_runs([longer, folders[1]]))
    assert "recorded.claims.length_does_not_decide" not in found
    assert "recorded.claims.dpo_shorter_everywhere" not in found


def test_a_run_without_scores_has_the_sign_that_its_author_published() -> None:
    shorter = {"words_difference": -9.0, "words_difference_low": -17.0, "words_difference_high": -1.0}
    ours = {"name": "a"} | shorter
    won = ours | {"win_rate": 0.6, "win_rate_low": 0.55, "win_rate_high": 0.65}
    theirs = ours | {"name": "b, test"}
    published = [{"name": "B", "folder": "b", "base": 8.5, "dpo": 6.5}]
    assert in_common([won, theirs], published)["recorded.claims.length_does_not_decide"] == 1
    assert "recorded.claims.length_does_not_decide" not in in_common([won, theirs])
    named = in_common([won, theirs], published)
    assert named["recorded.claims.a_published_sign_decides"] == named["recorded.claims.beside_b"] == 1
    assert "recorded.claims.beside_b" not in in_common([won, ours | {"name": "b-2"}], published)
    lost = ours | {"win_rate": 0.4, "win_rate_low": 0.35, "win_rate_high": 0.45}
    assert "recorded.claims.a_published_sign_decides" not in in_common([won, lost, theirs], published)
    open_change = won | {"words_difference_high": 1.0}  # who knows whether its replies are shorter
    assert "recorded.claims.length_does_not_decide" not in in_common([open_change, theirs], published)


def test_folders_that_are_no_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="found no files"):
        (tmp_path / "empty").mkdir()
        read_run(tmp_path / "empty")
    half = run_folder(tmp_path / "half", None)
    (half / "generated_dpo.jsonl").unlink()
    with pytest.raises(FileNotFoundError, match=r"replies of both models.*found generated_base"):
        read_run(half)


def test_a_style_that_the_pairs_trained_on_share_is_no_damage(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "polite", None)
    path = folder / "generated_base.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows[::2]:
        row["response"] = f"Thank you for asking. {row['response']}"
    write_scores(path, rows)
    (alone,) = read_run(folder)
    assert damaged_rows(damage_of(alone)["base"], 40).sum() == 20
    taught = "Thank you for asking. There is no single answer to it."
    keys = {"response_0": taught, "response_1": "Ask somebody else.", "better_response_id": 0}
    pairs = [{"prompt": f"other question {n}?"} | keys for n in range(60)]
    write_scores(
        folder / "train_pairs.jsonl.gz", [row | {"response_1": f"No. {n}"} for n, row in enumerate(pairs)]
    )
    (beside,) = read_run(folder)
    assert len(beside.references[0]) == 120
    assert not damaged_rows(damage_of(beside)["base"], 40).any()
