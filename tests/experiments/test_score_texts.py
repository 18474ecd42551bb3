"""`rlhf-hw score` writes everything or leaves the file there was."""

import gzip
import json
import logging
import shutil
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlhf_hw.experiments.score_texts import score_texts
from rlhf_hw.models.scoring import RewardModel
from rlhf_hw.preferences.score_files import read_pairs, read_replies
from rlhf_hw.preferences.templates import Message


def test_a_run_that_fails_leaves_the_old_scores(reward_folder, tmp_path, monkeypatch):
    source, output = tmp_path / "replies.jsonl", tmp_path / "scores.jsonl"
    source.write_text("".join(json.dumps({"prompt": "a", "response": f"tea {n}"}) + "\n" for n in range(3)))
    assert score_texts([source], str(reward_folder), output, dtype="fp32") == 3
    before = output.read_bytes()
    source.write_text('{"prompt": "a"}\n')
    with pytest.raises(KeyError, match="line 1: key 'response' is missing"):
        score_texts([source], str(reward_folder), output)
    for more in ('"n": NaN', '"n": [1e999]'):
        source.write_text(f'{{"prompt": "a", "response": "tea", {more}}}\n')
        with pytest.raises(ValueError, match="replies.jsonl, line 1: a number is NaN or infinite and cannot"):
            score_texts([source], "no-such-model", output)  # said before a model is loaded
    monkeypatch.setattr("rlhf_hw.experiments.score_texts.score_groups", lambda *_: np.array([[float("nan")]]))
    source.write_text('{"prompt": "a", "response": "tea"}\n')
    with pytest.raises(ValueError, match="row 1: a number is NaN"):
        score_texts([source], str(reward_folder), output)
    assert output.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["replies.jsonl", "scores.jsonl"]


@pytest.mark.parametrize(
    ("value", "message"), [(datetime(2024, 1, 2), "is a datetime"), ([float("nan")], "a number is NaN")]
)
def test_what_goes_with_a_pair_and_cannot_be_written_is_said_before_scoring(tmp_path, value, message):
    row = {"question": "Q?", "response_1": "a", "response_2": "b", "overall_response": 1}
    rows = [row | {"metadata": {"when": None}}, row | {"question": "R?", "metadata": {"when": value}}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pairs.parquet")
    with pytest.raises(ValueError, match=f"pairs.parquet, row 2: .*{message}"):
        score_texts([tmp_path / "pairs.parquet"], "no-model", tmp_path / "x.jsonl", template="HOMEWORK")


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


TURNS = [("user", "Tea {}?"), ("assistant", "Yes."), ("user", "Why?")]


def dialogue(number: int) -> list[dict]:
    return [{"role": role, "content": text.format(number)} for role, text in TURNS]


def test_conversations_are_scored_whole_and_the_same_again(reward_folder, tmp_path):
    """Two that end alike are two prompts, and what was written is what was scored."""
    source, first, second, pairs = (tmp_path / f"{n}.jsonl" for n in ("source", "first", "second", "pairs"))
    rows = [{"prompt": dialogue(n), "response": "Well.", "when": "2024-01-02"} for n in range(2)]
    rows += [{"prompt": "Why?", "response": "Well."}]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    score_texts([source], str(reward_folder), first, dtype="fp32")
    score_texts([first], str(reward_folder), second, dtype="fp32")
    scored, again = read_replies(first), read_replies(second)
    assert scored["score"].nunique() == scored["prompt_key"].nunique() == 3
    assert again["score"].tolist() == scored["score"].tolist()
    assert json.loads(first.read_text().splitlines()[0])["when"] == "2024-01-02"  # a date stays text
    model = RewardModel(reward_folder, dtype="fp32")
    expected = model.score([[Message(r, t.format(1)) for r, t in TURNS]], [["Well."]]).item()
    assert scored["score"][1] == pytest.approx(expected, abs=1e-6)
    source.write_text(
        "".join(json.dumps(row | {"chosen": "Well.", "rejected": "No."}) + "\n" for row in rows)
    )
    score_texts([source], str(reward_folder), pairs, template="TRL", dtype="fp32")
    assert read_pairs(pairs)["prompt_key"].nunique() == 3
    score_texts([pairs], str(reward_folder), second, template="TRL", dtype="fp32")
    assert read_pairs(second)["margin"].tolist() == read_pairs(pairs)["margin"].tolist()


def test_earlier_files_are_scored_by_their_conversation(reward_folder, tmp_path):
    source, output = tmp_path / "source.jsonl", tmp_path / "scores.jsonl"
    rows = [{"prompt": "Why?", "conversation": dialogue(1), "response": "Well."}]
    rows += [{"prompt": dialogue(1), "response": [{"role": "assistant", "content": "Well."}]}]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    score_texts([source], str(reward_folder), output, dtype="fp32")
    assert read_replies(output)["score"].nunique() == 1


def test_what_is_cut_is_told_and_gz_is_gzip(reward_folder, tmp_path, caplog):
    source, output = tmp_path / "source.jsonl", tmp_path / "scores.jsonl.gz"
    rows = [{"prompt": "a", "response": "tea " * count} for count in (20_000, 3)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with caplog.at_level(logging.WARNING):
        assert score_texts([source], str(reward_folder), output, dtype="fp32") == 2
    limit = RewardModel(reward_folder).renderer.max_reply_tokens
    assert caplog.messages == [f"1 of 2 replies fill {limit} tokens; what was longer is cut"]
    assert len(gzip.decompress(output.read_bytes()).splitlines()) == 2


def test_the_first_rows_alone_are_scored(reward_folder, tmp_path):
    source, output = tmp_path / "source.jsonl", tmp_path / "scores.jsonl"
    source.write_text("".join(json.dumps({"prompt": "a", "response": f"{n}"}) + "\n" for n in range(3)))
    assert score_texts([source, source], str(reward_folder), output, limit=4) == 4
    assert [row["response"] for row in map(json.loads, output.read_text().splitlines())] == [
        "0",
        "1",
        "2",
        "0",
    ]


@pytest.mark.parametrize("key", ["system", "System", "history", "images"])
def test_a_reply_to_more_than_its_prompt_is_not_scored_without_it(tmp_path, key):
    row, source = {"prompt": "a", "response": "tea"}, tmp_path / "replies.jsonl"
    source.write_text(
        "".join(json.dumps(one) + "\n" for one in (row | {key: []}, row | {key: ["Be brief."]}))
    )
    with pytest.raises(
        ValueError, match=f"replies.jsonl, line 2: key '{key}': part of what the replies answer"
    ):
        score_texts([source], "no-model", tmp_path / "scores.jsonl")


def test_a_limit_beyond_all_numbers_of_the_machine_is_one(reward_folder, tmp_path):
    source = tmp_path / "replies.jsonl"
    source.write_text('{"prompt": "a", "response": "tea"}\n')
    assert score_texts([source], str(reward_folder), tmp_path / "s.jsonl", limit=10**30, dtype="fp32") == 1


def test_scores_that_are_not_finite_are_the_models_fault(reward_folder, tmp_path):
    model, source = shutil.copytree(reward_folder, tmp_path / "model"), tmp_path / "replies.jsonl"
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"rms_norm_eps": float("nan")}))
    source.write_text('{"prompt": "a", "response": "tea"}\n')
    with pytest.raises(ValueError, match=f"{model}: 1 of 1 scores are not finite"):
        score_texts([source], str(model), tmp_path / "scores.jsonl")
