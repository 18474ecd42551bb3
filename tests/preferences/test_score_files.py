"""Score files survive a round trip to the last digit, and every fault is named with its place and remedy."""

import gzip
import json
import os
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from rlhf_hw.experiments.answers import reply_rows
from rlhf_hw.models.scoring import pair_records
from rlhf_hw.preferences import score_files
from rlhf_hw.preferences.templates import Message, Preference, as_prompt

REAL = os.environ.get("RLHF_HW_REAL_DATA")
PAIR = {
    "prompt": "Why?",
    "chosen": "Because.",
    "rejected": "No.",
    "chosen_score": 0.1 + 0.2,
    "rejected_score": -1,
}
REPLY = {"prompt": "Why?", "response": "Because.\u2028So.", "score": 1 / 3}


def test_round_trip_keeps_every_digit_and_is_the_same_each_time(tmp_path):
    rows = [PAIR | {"id": 7, "meta": {"gold_chosen": 1.5}}, PAIR | {"id": 8, "meta": {}}]
    for name in ("pairs.jsonl", "pairs.jsonl.gz"):
        path = score_files.write_scores(tmp_path / "new" / name, rows)
        before = path.read_bytes()
        table = score_files.read_pairs(path)
        assert table["chosen_score"][0] == 0.1 + 0.2 and table["margin"][0] == 0.1 + 0.2 + 1
        assert table["id"].tolist() == [7, 8] and table["meta"][0] == {"gold_chosen": 1.5}
        assert score_files.write_scores(path, rows).read_bytes() == before


def test_numpy_numbers_are_written_exactly(tmp_path):
    value = np.float32(0.1)
    path = score_files.write_scores(tmp_path / "x.jsonl", [REPLY | {"score": value, "tokens": np.int64(3)}])
    table = score_files.read_replies(path)
    assert table["score"][0] == float(value) and table["tokens"][0] == 3
    assert table["response"][0] == REPLY["response"]


@pytest.mark.parametrize("name", ["x.json", "x.jsonl", "x.json.gz"])
def test_lists_and_lines_plain_and_compressed(tmp_path, name):
    for text in (json.dumps([REPLY, REPLY]), f"{json.dumps(REPLY)}\n\n{json.dumps(REPLY)}\n"):
        content = text.encode()
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
        assert score_files.read_replies(tmp_path / name)["score"].tolist() == [1 / 3, 1 / 3]


def test_the_homework_frameworks_names(tmp_path):
    row = {
        "prompt": "Why?",
        "better_response": "a",
        "worse_response": "b",
        "better_score": 2.0,
        "worse_score": 0.5,
    }
    (tmp_path / "x.json").write_text(json.dumps([row]))
    table = score_files.read_pairs(tmp_path / "x.json")
    assert (table["chosen"][0], table["rejected"][0], table["margin"][0]) == ("a", "b", 1.5)


def test_mapping_names_other_keys(tmp_path):
    (tmp_path / "x.jsonl").write_text(json.dumps({"prompt": "q", "answer": "a", "reward": 2}))
    table = score_files.read_replies(tmp_path / "x.jsonl", mapping={"response": "answer", "score": "reward"})
    assert table["response"][0] == "a" and table["score"][0] == 2.0
    with pytest.raises(ValueError, match=r"mapping has \['answer'\]"):
        score_files.read_replies(tmp_path / "x.jsonl", mapping={"answer": "response"})


def test_a_mapping_reaches_into_objects_and_fills_up_a_known_layout(tmp_path):
    row = {"question": "q", "better_response": "a", "worse_response": "b"}
    row |= {"rm": {"better": 2, "worse": 0.5}, "n.tokens": 3, "key": "x7"}
    (tmp_path / "x.jsonl").write_text(json.dumps(row))
    text = (
        "prompt = question, chosen_score=rm.better, rejected_score=rm.worse, chosen_tokens=n.tokens, id=key"
    )
    table = score_files.read_pairs(tmp_path / "x.jsonl", score_files.parse_mapping(text))
    assert (table["prompt"][0], table["chosen"][0], table["margin"][0]) == ("q", "a", 1.5)
    assert (table["chosen_tokens"][0], table["id"][0]) == (3, "x7")
    with pytest.raises(KeyError, match=r"x.jsonl, line 1: no key 'rm.good' for 'chosen_score'"):
        score_files.read_pairs(tmp_path / "x.jsonl", {"prompt": "question", "chosen_score": "rm.good"})


def test_names_with_commas_and_optional_keys_are_mapped(tmp_path):
    row = {"prompt": "q", "answer": "a", "score, mean": 2, "ended": False, "rm": {"info": {"gold": 1.5}}}
    (tmp_path / "x.jsonl").write_text(json.dumps(row))
    text = '{"response": "answer", "score": "score, mean", "finished": "ended", "meta": "rm.info"}'
    table = score_files.read_replies(tmp_path / "x.jsonl", score_files.parse_mapping(text))
    assert (table["response"][0], table["score"][0], table["meta"][0]) == ("a", 2.0, {"gold": 1.5})
    assert table["finished"].tolist() == [False]


def test_a_mapped_key_that_a_later_row_lacks_is_named(tmp_path):
    rows = [REPLY | {"n": 3}, REPLY]
    path = score_files.write_scores(tmp_path / "x.jsonl", rows)
    with pytest.raises(KeyError, match=r"x.jsonl, line 2: no key 'n'"):
        score_files.read_replies(path, {"tokens": "n"})


@pytest.mark.parametrize(
    ("text", "mapping"),
    [
        ("", {}),
        ("score=rm.a=b, response = an answer", {"score": "rm.a=b", "response": "an answer"}),
        ('{"score": "a, b=c"}', {"score": "a, b=c"}),
    ],
)
def test_mappings_are_read_from_text(text, mapping):
    assert score_files.parse_mapping(text) == mapping


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("score", "every entry needs a name here and a name in the file; write 'score="),
        ("score=", "every entry needs"),
        ('{"score": 1}', "every entry needs"),
        ('{"score": {"a": "b"}}', "every entry needs"),
        ('{"score": ', "is not JSON"),
        ("score=a, score=b", "'score' is mapped twice"),
    ],
)
def test_texts_that_are_no_mapping_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        score_files.parse_mapping(text)


def test_a_prompt_is_the_same_as_text_and_as_messages(tmp_path):
    prompts = ["Why?", [{"role": "user", "content": "Why?"}], dialogue := dicts("Tea?", "Yes.", "Why?")]
    rows = [REPLY | {"prompt": prompt} for prompt in prompts]
    rows += [REPLY | {"prompt": "Why?", "conversation": dialogue}]  # as earlier versions wrote it
    table = score_files.read_replies(score_files.write_scores(tmp_path / "x.jsonl", rows))
    assert table["prompt"].tolist() == ["Why?"] * 4
    first, *keys = table["prompt_key"]
    assert first == "Why?" and table["conversation"].tolist()[1:] == [prompts[1], dialogue, dialogue]
    again = score_files.read_replies(score_files.write_scores(tmp_path / "y.jsonl", table.to_dict("records")))
    assert again["prompt_key"].tolist() == table["prompt_key"].tolist()
    assert keys == ["Why?", json.dumps(dialogue, sort_keys=True), json.dumps(dialogue, sort_keys=True)]


def dicts(*contents: str) -> list[dict]:
    return [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(contents)]


def test_conversations_that_end_alike_are_prompts_of_their_own(tmp_path):
    end = (Message("assistant", "Yes."), Message("user", "Go on."))
    pairs = [Preference((Message("user", f"Tea {n}?"), *end), "a", "b") for n in range(5)]
    groups = SimpleNamespace(reply_lengths=np.ones((5, 2), dtype=int))
    records = pair_records(pairs, groups, np.array([[1.0, 0.0]] * 5))
    table = score_files.read_pairs(score_files.write_scores(tmp_path / "pairs.jsonl", records))
    assert table["prompt"].unique().tolist() == ["Go on."] and table["prompt_key"].nunique() == 5
    replies = [SimpleNamespace(text="Well.", ids=[1], finished=True)] * 5
    rows = reply_rows(pairs, replies, np.zeros(5))
    assert as_prompt(rows[0]["prompt"], "prompt") == pairs[0].prompt  # what is written reads back
    answered = score_files.read_replies(score_files.write_scores(tmp_path / "replies.jsonl", rows))
    assert answered["prompt_key"].tolist() == table["prompt_key"].tolist()


def test_a_single_turn_stays_text():
    assert score_files.prompt_fields([Message("user", "Why?")], "Why?") == {"prompt": "Why?"}


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", ValueError, "holds no rows"),
        ('{"prompt": 1', ValueError, "line 1, column 13: not JSON"),
        ('{"prompt": "a", "response": "b", "score": NaN}', ValueError, "line 1: NaN is no number of JSON"),
        (
            '{"prompt": "a", "response": "b", "score": "2"}',
            ValueError,
            "line 1: score is '2'; expected one finite",
        ),
        ('{"prompt": "a", "response": "b", "score": true}', ValueError, "line 1: score is True"),
        ('{"prompt": "a", "response": "b", "score": [1.0]}', ValueError, r"line 1: score is \[1.0\]"),
        ('{"prompt": "a", "response": "b", "score": 1e999}', ValueError, "line 1: score is inf"),
        ('{"prompt": "a", "response": "b"}', KeyError, "pass mapping={'score': '<name in the file>'"),
        (json.dumps(REPLY) + '\n{"prompt": "a", "score": 1}', KeyError, "line 2: no key 'response'"),
        ('{"prompt": 7, "response": "b", "score": 1}', ValueError, "line 1: key 'prompt': expected a string"),
        ('{"prompt": "a", "response": null, "score": 1}', ValueError, "line 1: key 'response': expected a"),
        ('{"prompt": "a", "prompt": "b"}', ValueError, "line 1: key 'prompt' stands twice"),
        ("null", ValueError, "line 1: expected an object, found null"),
        ("[1]", ValueError, "row 1: expected an object, found a number"),
    ],
)
def test_faults_are_named_with_file_row_key_and_remedy(tmp_path, text, error, message):
    path = tmp_path / "scores.jsonl"
    path.write_text(text)
    with pytest.raises(error, match="scores.jsonl") as caught:
        score_files.read_replies(path)
    assert re.search(message, str(caught.value).replace('\\"', '"'))


def test_a_number_that_is_not_finite_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="row 2: a number is NaN"):
        score_files.write_scores(tmp_path / "x.jsonl", [REPLY, REPLY | {"score": float("nan")}])
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.jsonl"):
        score_files.read_pairs(tmp_path / "nowhere.jsonl")


@pytest.mark.real_data
@pytest.mark.skipif(not REAL, reason="RLHF_HW_REAL_DATA does not name the folder with the recorded run")
def test_a_real_recorded_run_is_read_whole():
    folder = Path(REAL) / "recorded-run"
    assert len(score_files.read_pairs(folder / "rm_scores_validation.jsonl.gz")) == 999
    assert len(score_files.read_replies(folder / "generated_dpo.jsonl.gz")) == 996


def test_files_that_belong_together_are_given_together() -> None:
    assert score_files.all_or_none(scores_base="a.jsonl", scores_dpo="b.jsonl")
    assert not score_files.all_or_none(scores_base="", scores_dpo="")
    with pytest.raises(
        ValueError, match="scores_dpo is given and scores_base is not: give all of them, or none"
    ):
        score_files.all_or_none(scores_base="", scores_dpo="b.jsonl")
