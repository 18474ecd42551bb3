"""The explorer's data: every scored reply is there, as files and statistics say; hidden texts are not."""

import gzip
import json
import shutil

import numpy as np
import pytest
from earlier_replies import PAIRS, PROMPTS, earlier_folder
from explored_rows import LOOP, POLICIES, SECRET, write_run

from rlhf_hw.errors import InputError
from rlhf_hw.experiments.explored import explored, explored_files, explored_run
from rlhf_hw.preferences.score_files import read_pairs, read_replies, write_scores
from rlhf_hw.stats.length_control import length_controlled_difference
from rlhf_hw.stats.text import reply_table, words

TEXT, SCORE, JUDGE, GOLD, TOKENS, FINISHED, FINDINGS = range(7)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("explored"))


@pytest.fixture(scope="module")
def found(run):
    return explored_run(run)


def test_every_reply_and_pair_is_there_with_what_its_file_says(run, found) -> None:
    replies, pairs = found["sets"]
    assert (replies["key"], pairs["key"]) == ("validation", "pairs-validation")
    assert replies["policies"] == list(POLICIES) and replies["trainings"] == 2
    table = read_replies(run / "scores/generated_validation_dpo-1.jsonl")
    cases = [case for case in replies["cases"] if case[1] == 1]
    assert len(cases) == len(table) == 30
    for case, row in zip(cases, table.to_dict("records"), strict=True):
        reply = case[4][POLICIES.index("dpo")]
        assert found["prompts"][case[2]] == row["prompt"] and case[0] == row["id"]
        assert found["texts"][reply[TEXT]]["t"] == row["response"]
        assert reply[SCORE : FINISHED + 1] == [
            row["score"],
            row["meta"]["judge_score"],
            row["meta"]["gold"],
            row["tokens"],
            row["finished"],
        ]
    # the second training scored the same pairs: it is the first one's judge
    first, second = (read_pairs(run / f"scores/validation{end}.jsonl") for end in ("", "-1"))
    for case, mine, other in zip(
        pairs["cases"], first.to_dict("records"), second.to_dict("records"), strict=False
    ):
        assert [side[SCORE] for side in case[4]] == [mine["chosen_score"], mine["rejected_score"]]
        assert [side[JUDGE] for side in case[4]] == [other["chosen_score"], other["rejected_score"]]
        right = mine["meta"]["chosen_index"]
        assert [s[GOLD] for s in case[4]] == [mine["meta"][f"gold_{n}"] for n in (right, 3 - right)]


def test_texts_carry_what_the_statistics_count(found) -> None:
    known = [row for row in found["texts"] if row["t"] is not None]
    table = reply_table([row["t"] for row in known])
    assert [row["w"] for row in known] == list(table["words"])
    assert [row["r"] for row in known] == [round(r, 4) for r in table["repetition"]]
    assert [row["loop"] for row in known] == list(table["looping"])
    cases = {case[0]: case[4][2] for case in found["sets"][0]["cases"] if case[1] == 0}
    assert [cases[n][FINDINGS] for n in (1, 2, 3)] == [["loop"], ["cut"], ["empty"]]


def test_places_count_as_browsers_do(found) -> None:
    row = next(row for row in found["texts"] if row["t"] and "\U0001f600" in row["t"])
    units = row["t"].encode("utf-16-le", "surrogatepass")
    last = row["g"][-1]
    assert 2 * last[1] == len(units) and units[2 * last[0] :].decode("utf-16-le").endswith("\u202e")


def test_gold_by_sentence_adds_up_to_gold(found) -> None:
    for case in found["sets"][0]["cases"]:
        for reply in case[4]:
            row = found["texts"][reply[TEXT]]
            points = [value for *_, parts in row["g"] for _, value in parts] + [
                value for _, value in row["x"]
            ]
            assert sum(points) / found["scale"] == pytest.approx(reply[GOLD], abs=1e-3)


def test_the_slope_makes_the_difference_at_equal_length(run, found) -> None:
    dpo, base = (read_replies(run / f"scores/generated_validation_{name}.jsonl") for name in ("dpo", "base"))
    lengths = [np.array([len(words(text)) for text in table["response"]]) for table in (dpo, base)]
    known = length_controlled_difference(dpo["score"], base["score"], *lengths)
    slope = found["sets"][0]["slopes"][0]["base|dpo"]
    rest = np.mean(dpo["score"] - base["score"] - slope * (lengths[0] - lengths[1]))
    assert rest == pytest.approx(known["score_difference_length_controlled"])


@pytest.mark.parametrize(("shown", "prompts"), [("helpful", 15), ("none", 0), ("all", 30)])
def test_hidden_texts_are_not_in_the_data(tmp_path, shown, prompts) -> None:
    found = explored_run(write_run(tmp_path, world=False, show_texts=shown))
    said = json.dumps(found)
    assert (SECRET in said) == (shown == "all")
    assert sum(prompt is not None for prompt in found["prompts"]) == prompts
    assert sum(prompt is not None and SECRET not in prompt for prompt in found["prompts"]) == min(prompts, 15)
    assert found["hidden"] == (30 - prompts) * 4  # replies and pairs of two trainings
    cases = found["sets"][0]["cases"]
    assert {case[3] for case in cases} == {"helpful-base", "harmless-base"}  # known from the pairs
    assert all(reply[SCORE] is not None for case in cases for reply in case[4])
    assert not any(text.keys() & {"g", "x"} for text in found["texts"])


def test_a_prompt_of_unknown_source_is_hidden_where_not_all_are_shown(tmp_path) -> None:
    run = write_run(tmp_path, world=False, show_texts="helpful")
    for path in (run / "scores").glob("validation*"):
        path.unlink()
    assert not any(explored_run(run)["prompts"])
    assert all(explored_run(run, "all")["prompts"])


def test_policies_that_answered_other_prompts_are_refused(tmp_path) -> None:
    run = write_run(tmp_path, prompts=3, trainings=1)
    file = run / "scores/generated_validation_sft.jsonl"
    file.write_text("\n".join(file.read_text().splitlines()[::-1]))
    with pytest.raises(InputError, match="base and sft replies must be to the same prompts"):
        explored_run(run)


def test_score_files_of_anybody_stand_side_by_side(run, tmp_path) -> None:
    for policy in ("base", "dpo"):
        shutil.copy(
            run / f"scores/generated_validation_{policy}.jsonl", tmp_path / f"generated_{policy}.jsonl"
        )
    rows = read_pairs(run / "scores/validation.jsonl").to_dict("records")[5:]
    names = {"chosen": "better_response", "rejected": "worse_response"}
    names |= {"chosen_score": "better_score", "rejected_score": "worse_score"}
    theirs = [{"prompt": row["prompt"]} | {new: row[old] for old, new in names.items()} for row in rows]
    write_scores(tmp_path / "rm_scores.jsonl.gz", theirs)
    found, page = explored([str(tmp_path)])
    replies, pairs = found["sets"]
    assert (replies["policies"], pairs["key"]) == (["base", "dpo", "reference"], "pairs-rm_scores")
    assert replies["cases"][0][4][2] is None and replies["cases"][5][4][2][SCORE] == rows[0]["chosen_score"]
    assert not found["world"] and found["end"] is None and page.name == "explorer.html"
    assert LOOP in [row["t"] for row in found["texts"]]


def test_what_cannot_be_shown_is_named(tmp_path) -> None:
    (tmp_path / "scores").mkdir()
    with pytest.raises(InputError, match="no scored replies or pairs: run its notebooks"):
        explored([str(tmp_path)])
    with pytest.raises(InputError, match="no files of replies or pairs in this folder .* and no run"):
        explored_files([tmp_path / "scores"])
    file = tmp_path / "texts.jsonl"
    file.write_text('{"prompt": "a", "answer": "b"}\n')
    with pytest.raises(
        InputError, match="texts.jsonl, line 1: neither a pair .* nor a reply .*--mapping.*--te"
    ):
        explored_files([file])
    assert explored_files([file], {"response": "answer"})["texts"][0]["t"] == "b"
    file.write_text("")
    with pytest.raises(InputError, match="texts.jsonl holds no rows"):
        explored_files([file])
    with pytest.raises(FileNotFoundError, match="nowhere.jsonl"):
        explored_files([tmp_path / "nowhere.jsonl"])


def test_a_run_of_texts_without_scores_stands_side_by_side(tmp_path) -> None:
    folder = earlier_folder(tmp_path / "earlier")
    found, page = explored([str(folder)])
    sets = {one["key"]: one for one in found["sets"]}
    assert list(sets) == ["test", "train", "pairs-train"] and page.name == "explorer.html"
    assert [len(one["cases"]) for one in sets.values()] == [4 * PROMPTS, 4 * PAIRS, PAIRS]
    assert [sets[key]["policies"] for key in ("test", "train")] == [
        ["base", "dpo"],
        ["base", "dpo", "reference"],
    ]
    texts = found["texts"]
    for place, policy in enumerate(("base", "dpo")):
        lines = gzip.decompress((folder / f"replies_test_{policy}.jsonl.gz").read_bytes()).splitlines()
        replies = [case[4][place] for case in sets["test"]["cases"]]
        assert [texts[reply[TEXT]]["t"] for reply in replies] == [
            json.loads(line)["response"] for line in lines
        ]
        assert all(texts[reply[TEXT]]["w"] == len(words(texts[reply[TEXT]]["t"])) for reply in replies)
    rows = [json.loads(line) for line in (folder / "train_pairs.jsonl").read_text().splitlines()]
    better = [row[f"response_{row['better_response_id']}"] for row in rows]
    assert [texts[case[4][0][TEXT]]["t"] for case in sets["pairs-train"]["cases"]] == better
    references = [texts[case[4][2][TEXT]]["t"] for case in sets["train"]["cases"]]
    assert references == [text for text in better for _ in range(4)]
    every = [reply for one in found["sets"] for case in one["cases"] for reply in case[4]]
    assert all(reply[SCORE : FINISHED + 1] == [None] * 5 for reply in every)
    assert all(set(slopes.values()) == {0.0} for one in found["sets"] for slopes in one["slopes"])


PLAIN, SIDED = {"prompt": "a", "response": "b"}, {"prompt": "a", "chosen": "b", "rejected": "c"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([PLAIN, PLAIN | {"score": 1.0}], "line 2: has 'score', and line 1 has none; give every row"),
        ([PLAIN | {"score": 1.0}, PLAIN], "line 2: no key 'score' among"),
        ([PLAIN | {"score": None}, PLAIN], "line 1: score is None; expected one finite number"),
        ([SIDED, SIDED, SIDED | {"better_score": 1.0}], "line 3: has 'better_score', and line 1 has none"),
        ([SIDED | {"chosen_score": 1.0}], r"line 1: no \['rejected_score'\] among the keys"),
        ([SIDED | {"chosen_score": 1.0, "rejected_score": 0.0}, SIDED], "line 2: no key 'chosen_score'"),
    ],
)
def test_rows_with_and_without_scores_in_one_file_are_refused(tmp_path, rows, message) -> None:
    file = write_scores(tmp_path / "mixed.jsonl", rows)
    with pytest.raises((InputError, KeyError), match=f"mixed.jsonl, {message}"):
        explored_files([file])


def test_a_mapped_score_has_to_be_there_and_one_unmapped_is_pointed_out(tmp_path, caplog) -> None:
    file = write_scores(tmp_path / "replies.jsonl", [PLAIN | {"reward": 1.5}])
    pairs = write_scores(tmp_path / "pairs.jsonl", [SIDED])
    with caplog.at_level("INFO", "rlhf_hw"):
        assert explored_files([file, pairs])["sets"][0]["cases"][0][4][0][SCORE] is None
    assert len(caplog.records) == 1
    assert "replies.jsonl: no scores; if they stand under one of ['reward'], name it by" in caplog.text
    assert explored_files([file, pairs], {"score": "reward"})["sets"][0]["cases"][0][4][0][SCORE] == 1.5
    with pytest.raises(KeyError, match="replies.jsonl, line 1: no key 'rewrd' for 'score'"):
        explored_files([file, pairs], {"score": "rewrd"})


def test_pairs_of_any_data_set_are_read_by_its_template(tmp_path) -> None:
    talk = "\n\nHuman: Tea?\n\nAssistant: Yes.\n\nHuman: Hot?\n\nAssistant: "
    rows = [{"chosen": f"{talk}Very.", "rejected": f"{talk}No {n}."} for n in range(3)]
    file = write_scores(tmp_path / "hh.jsonl", rows)
    with pytest.raises(InputError, match="hh.jsonl, line 1: neither a pair .*--template"):
        explored_files([file])
    (one,) = (found := explored_files([file], template="HH"))["sets"]
    assert one["key"] == "pairs-hh" and found["prompts"] == ["user: Tea?\n\nassistant: Yes.\n\nuser: Hot?"]
    assert [found["texts"][side[TEXT]]["t"] for side in one["cases"][2][4]] == ["Very.", "No 2."]
    homework = {"question": "a", "response_1": "b", "response_2": "c", "overall_response": 2}
    file = write_scores(tmp_path / "validation.jsonl", [homework, homework | {"overall_response": 3}])
    (case,) = explored_files([file])["sets"][0]["cases"]  # the tie is left out, as in training
    assert case[4][0][SCORE] is None


@pytest.mark.parametrize(
    ("read", "row", "key"), [(read_pairs, SIDED, "chosen_score"), (read_replies, PLAIN, "score")]
)
def test_whoever_else_reads_score_files_refuses_one_without_scores(tmp_path, read, row, key) -> None:
    file = write_scores(tmp_path / "texts.jsonl", [row])
    with pytest.raises(KeyError, match=f"texts.jsonl, line 1: no .*'{key}'.*mapping="):
        read(file)


def test_findings_of_others_stand_with_the_replies(run) -> None:
    def odd(tables):
        return {"dpo": [["opening"] if n % 2 else [] for n in range(len(tables["dpo"]))]}

    cases = explored_run(run, findings=odd)["sets"][0]["cases"]
    assert [case[4][2][FINDINGS] for case in cases[:4]] == [
        [],
        ["loop", "opening"],
        ["cut"],
        ["empty", "opening"],
    ]
