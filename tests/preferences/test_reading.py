import gzip
import json
import os
from pathlib import Path

import pandas as pd
import pytest

from rlhf_hw.preferences import templates
from rlhf_hw.preferences.reading import check_data, load_preferences, longer_wins, shared_prompts

REAL = os.environ.get("RLHF_HW_REAL_DATA")
real_data = pytest.mark.skipif(not REAL, reason="RLHF_HW_REAL_DATA names no folder")


def row(question="Q?", one="good reply", two="bad", label=1) -> dict:
    return {"question": question, "response_1": one, "response_2": two, "overall_response": label}


def write(path: Path, rows: list[dict]) -> Path:
    """Write rows in the format that the file's name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(r) + "\n" for r in rows)
    text = (json.dumps(rows) if ".json" in path.suffixes else lines).encode()
    if path.suffix == ".parquet":
        pd.DataFrame(rows).to_parquet(path)
    else:
        path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


@pytest.mark.parametrize("name", ["a.json", "a.json.gz", "a.jsonl", "a.jsonl.gz", "a.parquet"])
def test_formats(tmp_path, name) -> None:
    path = write(tmp_path / name, [row(), row("R?", label=2)])
    read, report = load_preferences(str(path), "HOMEWORK")
    assert [(p.question, p.chosen, p.row) for p in read] == [("Q?", "good reply", 0), ("R?", "bad", 1)]
    assert (report.rows, report.used, report.dropped) == (2, 2, {})


def test_several_sources_are_mixed_evenly_and_named(tmp_path) -> None:
    long, short = (
        write(tmp_path / f"{name}.jsonl", [row(f"{name} {n}?") for n in range(count)])
        for name, count in (("long", 60), ("short", 20))
    )
    found, _ = load_preferences(f"{long}, {short}", "HOMEWORK")
    sources = [p.meta["source"] for p in found]
    for start in range(0, 80, 8):  # any stretch holds both, three to one
        assert 1 <= sources[start : start + 8].count("short.jsonl") <= 3
    assert sources.count("long.jsonl") == 60
    questions = [p.question for p in found if p.meta["source"] == "short.jsonl"]
    assert questions == [f"short {n}?" for n in range(20)]  # each in its own order
    assert "source" not in load_preferences(str(long), "HOMEWORK")[0][0].meta


def test_messages_survive_files_with_columns(tmp_path) -> None:
    turns = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello."), ("user", "Tea?")]
    start = [{"role": role, "content": content} for role, content in turns]
    sides = {
        side: [*start, {"role": "assistant", "content": content}]
        for side, content in (("chosen", "Yes."), ("rejected", "No."))
    }
    for name in ("a.parquet", "a.jsonl"):
        path = write(tmp_path / name, [sides, sides | {"chosen": sides["rejected"]}])
        read, report = load_preferences(str(path), "TRL")
        assert [tuple(m) for m in read[0].prompt] == turns
        assert (read[0].chosen, read[0].rejected, report.dropped) == ("Yes.", "No.", {"equal replies": 1})


def test_limit_counts_usable_pairs(tmp_path) -> None:
    path = write(tmp_path / "a.jsonl", [row(label="tie"), row("a"), row("b"), row("c")])
    read, report = load_preferences(str(path), "HOMEWORK", limit=2)
    assert [p.question for p in read] == ["a", "b"]
    assert report.rows == 3


def test_drops_are_counted_by_reason_with_their_rows(tmp_path) -> None:
    rows = [
        row("a"),
        row("b", label="tie"),
        row("c", "same", " same "),
        row("d", "  ", "x"),
        row("  "),
        row("a"),
        row("e", label=7),
        row("f", label=2),
        row("g", label=0),
        row("h", label=None),
    ]
    path = write(tmp_path / "a.jsonl", rows)
    read, report = load_preferences(str(path), "HOMEWORK")
    assert [p.row for p in read] == [0, 7]
    assert report.used == 2 and report.rows == 10
    reasons = ["tie", "equal replies", "empty reply", "empty prompt", "duplicate", "unknown label"]
    reasons = dict(enumerate(reasons, start=1)) | {8: "label 0", 9: "no label"}
    assert report.dropped == dict.fromkeys(reasons.values(), 1)
    assert {p["place"]: p["reason"] for p in report.problems} == {
        f"line {n + 1}": r for n, r in reasons.items()
    }
    shown = str(report)
    assert "10 rows read, 2 pairs used, 8 dropped" in shown
    assert "dropped as equal replies: 1 (line 3)" in shown
    assert "line 7: key 'overall_response': expected 1 or 2, found 7" in shown
    assert json.loads(json.dumps(report.to_dict()))["dropped"]["tie"] == 1


UNSEEN = "\u200b \ufeff \u2060 \u00ad \u200d \u200c\u200e\u200f \u202a\u202e \u2066\u2069 \u061c \u180e"
UNSEEN += " \u034f \u3164 \uffa0 \u115f\u1160 \u2800 \ufe0f \U000e0100 \U000e0041\U000e007f \u3000 \x00"
UNSEEN += " \U0001d159 \U00016fe4 \U00013441\U00013442 \U00013439 \U000e0fff"  # some newer than Python


@pytest.mark.parametrize("unseen", UNSEEN.split(" "), ids=ascii)
def test_what_nobody_sees_is_no_text(tmp_path, unseen) -> None:
    rows = [row("a", unseen, "x"), row("b", "x", unseen), row(unseen), row("c", f"{unseen}x", f"x{unseen}")]
    path = tmp_path / "a.json"
    path.write_text(json.dumps([*rows, row("d")]))  # JSON lines of zero bytes are refused whole
    read, report = load_preferences(str(path), "HOMEWORK")
    assert [p.row for p in read] == [4]
    assert report.dropped == {"empty reply": 2, "empty prompt": 1, "equal replies": 1}


SEEN = "\U0001f469\u200d\U0001f4bb \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \u2764\ufe0f \u0601"
SEEN += " \ufeffa \U0001f3f4\U000e0067\U000e007f"


@pytest.mark.parametrize("text", SEEN.split(" "), ids=ascii)
def test_what_is_seen_stays_as_it_is_written(tmp_path, text) -> None:
    path = write(tmp_path / "a.jsonl", [row(text, text, "x", 1)])
    (pair,), _ = load_preferences(str(path), "HOMEWORK")
    assert (pair.question, pair.chosen) == (text, text)


def test_labels_that_count_from_0_are_refused(tmp_path) -> None:
    """Else every pair that says 0 would be dropped, and every other read the wrong way round."""
    path = write(tmp_path / "a.jsonl", [row(f"q{number}", label=number % 2) for number in range(6)])
    with pytest.raises(ValueError, match=r"a.jsonl: the labels are 0 and 1, and template HOMEWORK numbers"):
        load_preferences(str(path), "HOMEWORK")


def test_statistics(tmp_path) -> None:
    rows = [row("a b", "x y z", "x"), row("c", "x", "x y", 1), row("c", "p q", "r s", 2)]
    _, report = load_preferences(str(write(tmp_path / "a.jsonl", rows)), "HOMEWORK")
    assert report.statistics["longer reply chosen, share"] == 0.5
    assert report.statistics["first reply chosen, share"] == pytest.approx(2 / 3)
    assert report.statistics["prompts asked more than once"] == 1
    assert report.statistics["chosen words, mean"] == 2
    assert longer_wins([3, 1, 2], [1, 2, 2]) == 0.5


def test_missing_key_names_row_key_and_remedy(tmp_path) -> None:
    path = write(tmp_path / "a.jsonl", [{"prompt": "Q?", "chosen": "x", "rejected": "y"}])
    with pytest.raises(KeyError) as caught:
        load_preferences(str(path), "HOMEWORK")
    message = caught.value.args[0]
    assert f"{path}, line 1: key 'question' is missing for template HOMEWORK" in message
    assert "the row has ['chosen', 'prompt', 'rejected']" in message and "TRL" in message


@pytest.mark.parametrize("place", [0, 1, 2])  # the first row decides nothing about the others
def test_a_key_that_only_some_rows_lack_is_a_missing_key(tmp_path, place) -> None:
    rows = [row("a"), row("b")]
    rows.insert(place, {k: v for k, v in row("c").items() if k != "question"})
    read, report = load_preferences(str(write(tmp_path / "a.jsonl", rows)), "HOMEWORK")
    assert [p.question for p in read] == ["a", "b"]
    expected = {"place": f"line {place + 1}", "reason": "missing key", "message": "key 'question' is missing"}
    assert report.problems == [expected]


def test_nothing_usable_and_nothing_there(tmp_path) -> None:
    path = write(tmp_path / "a.jsonl", [row(label="tie")])
    with pytest.raises(ValueError, match=r"(?s)no usable pair; mend .*dropped as tie: 1 \(line 1\)"):
        load_preferences(str(path), "HOMEWORK")
    with pytest.raises(FileNotFoundError, match="no such file or folder, and the hub did not give it"):
        load_preferences("no-such/data-set", "HOMEWORK")
    with pytest.raises(KeyError, match="template 'None' is not known"):
        load_preferences(str(path), "None")


@pytest.mark.parametrize("key", ["system", "history", "images", "tools"])
def test_rows_with_more_of_the_conversation_than_is_read_are_left_out(tmp_path, key) -> None:
    rows = [row("a") | {key: "Be brief."}, row("b") | {key: ""}, row("c") | {key: None}, row("d")]
    read, report = load_preferences(str(write(tmp_path / "a.jsonl", rows)), "HOMEWORK")
    assert [p.question for p in read] == ["b", "c", "d"]
    assert report.dropped == {"unread conversation": 1} and report.problems[0]["place"] == "line 1"
    assert f"key '{key}': part of what the replies answer" in report.summary()
    with pytest.raises(ValueError, match=rf"(?s)no usable pair.*key '{key}': .*write it into the prompt"):
        load_preferences(str(write(tmp_path / "a.jsonl", rows[:1])), "HOMEWORK")


def test_a_template_that_reads_such_a_key_keeps_its_rows(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(
        templates.TEMPLATES,
        "MINE",
        lambda row: templates.homework(row) if row.get("system") is None else templates.homework({**row}),
    )
    path = write(tmp_path / "a.jsonl", [row("a") | {"system": "Be brief."}])
    read, report = load_preferences(str(path), "MINE")
    assert len(read) == 1 and not report.unread


def test_keys_that_are_not_read_are_named_once(tmp_path) -> None:
    rows = [row(f"q{n}") | {"source": "web", "metadata": {}} | ({"note": n} if n else {}) for n in range(4)]
    _, report = load_preferences(str(write(tmp_path / "a.jsonl", rows)), "HOMEWORK")
    assert report.unread == {"source": 4, "note": 3}
    assert "  keys not read: source (4), note (3)" in report.summary()
    assert report.to_dict()["unread"] == {"source": 4, "note": 3}
    assert json.loads(json.dumps(report.to_dict())) == report.to_dict()


def test_rows_without_a_label_are_no_ties(tmp_path) -> None:
    unsaid = {k: v for k, v in row("a").items() if k != "overall_response"}
    rows = [unsaid, row("b", label=None), row("c", label=float("nan")), row("d", label="tie"), row("e")]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    _, report = load_preferences(str(path), "HOMEWORK")
    assert report.dropped == {"missing key": 1, "no label": 2, "tie": 1}


def test_pairs_know_their_place_and_their_row(tmp_path) -> None:
    first = write(tmp_path / "one.jsonl", [row("a"), row("b", label="tie")])
    second = write(tmp_path / "two.json", [row("c"), row("d", label="tie")])
    read, report = load_preferences(f"{first},{second}", "HOMEWORK")
    assert [(str(p.place), p.row) for p in read] == [(f"{first}, line 1", 0), (f"{second}, row 1", 1)]
    assert report.files == ["one.jsonl", "two.json"]
    assert [p["place"].partition("/")[2] for p in report.problems] == ["one.jsonl, line 2", "two.json, row 2"]


@pytest.mark.parametrize(("limit", "skip"), [(0, 0), (-1, 0), (1, -1)])
def test_limits_that_mean_nothing_are_refused(tmp_path, limit, skip) -> None:
    path = write(tmp_path / "a.jsonl", [row("a"), row("b")])
    with pytest.raises(ValueError, match="expected a limit of 1 or more"):
        load_preferences(str(path), "HOMEWORK", limit=limit, skip=skip)


def test_a_file_is_not_compared_with_itself(tmp_path) -> None:
    path = write(tmp_path / "test.jsonl", [row("a")])
    for source in (path, tmp_path):  # in the folder, test stands in for validation
        with pytest.raises(ValueError, match=r"splits 'test' and 'validation' are the same: .*test\.jsonl"):
            check_data(str(source), "HOMEWORK", "test", against="validation")
    with pytest.raises(ValueError, match="examples: expected 0 or more, found -1"):
        check_data(str(path), "HOMEWORK", examples=-1)


def test_prompts_shared_between_splits_are_reported(tmp_path) -> None:
    write(tmp_path / "train.jsonl", [row("a"), row("b")])
    write(tmp_path / "validation.jsonl", [row("c"), row("b", "other reply"), row("d")])
    train, validation = (load_preferences(str(tmp_path), "HOMEWORK", s)[0] for s in ("train", "validation"))
    assert shared_prompts(train, validation) == [1]
    report = check_data(str(tmp_path), "HOMEWORK", "validation", against="train", examples=1)
    assert report.statistics["prompts also in train"] == 1
    assert json.loads(report.problems[0]["message"])["chosen"] == "good reply"


@pytest.mark.real_data
@real_data
def test_the_homeworks_validation_set() -> None:
    read, report = load_preferences("PKU-Alignment/align-anything", "HOMEWORK", "validation")
    assert report.rows == 1000 and len(read) == 999
    assert report.dropped == {"equal replies": 1}
    assert report.problems[0]["place"].endswith("validation.jsonl.gz, line 275")
    words = report.statistics["longer reply chosen, share"]
    assert words == pytest.approx(0.623, abs=0.005)


@pytest.mark.real_data
@real_data
def test_hh_rlhf() -> None:
    read, report = load_preferences("Anthropic/hh-rlhf", "HH", "train")
    assert report.rows == 5008 + 1865
    assert len(read) > 0.98 * report.rows
    assert all(p.prompt[0].role == p.prompt[-1].role == "user" for p in read)
    validation, _ = load_preferences("Anthropic/hh-rlhf", "HH", "test")
    assert shared_prompts(read, validation) == []


@pytest.mark.real_data
@real_data
def test_pku_safe_rlhf() -> None:
    better, _ = load_preferences("PKU-Alignment/PKU-SafeRLHF", "PKUSafeRLHF", "sample")
    safer, _ = load_preferences("PKU-Alignment/PKU-SafeRLHF", "PKUSafeRLHF_safer", "sample")
    assert len(better) == len(safer) == 32
    assert {p.chosen for p in better} != {p.chosen for p in safer}


def test_a_part_begins_where_it_is_told_and_goes_on_from_the_start(tmp_path) -> None:
    path = write(tmp_path / "a.jsonl", [row(f"Q{n}?") for n in range(5)])

    def asked(limit: int | None, skip: int) -> str:
        pairs, report = load_preferences(str(path), "HOMEWORK", limit=limit, skip=skip)
        assert report.used == len(pairs)
        return "".join(p.question[1] for p in pairs)

    assert [asked(2, skip) for skip in (0, 2, 4, 6)] == ["01", "23", "40", "12"]
    assert asked(None, 3) == "34012" and asked(9, 1) == "12340"
