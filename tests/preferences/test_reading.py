import gzip
import json
import os
from pathlib import Path

import pandas as pd
import pytest

from rlhf_hw.preferences.reading import (
    check_data,
    find_files,
    load_preferences,
    longer_wins,
    read_rows,
    shared_prompts,
)

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


def test_folders_splits_and_several_sources(tmp_path) -> None:
    write(tmp_path / "one" / "train.jsonl", [row("a")])
    write(tmp_path / "one" / "test.jsonl", [row("b")])
    write(tmp_path / "two" / "deep" / "train-00000-of-00001.parquet", [row("c")])
    (tmp_path / "one" / "README.md").write_text("no data")
    both = f"{tmp_path / 'one'}, {tmp_path / 'two'}"
    assert [r["question"] for r in read_rows(both, "train")] == ["a", "c"]
    assert [r["question"] for r in read_rows(str(tmp_path / "one"), "validation")] == ["b"]  # test stands in
    with pytest.raises(FileNotFoundError, match=r"no file for split 'validation'; found \['train-0"):
        find_files(str(tmp_path / "two"), "validation")


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


@pytest.mark.parametrize("split", ["val", "validation"])
def test_a_split_has_several_names_and_may_carry_its_size(tmp_path, split) -> None:
    for name in ("train_30k", "train_prefs", "training", "val_1k"):
        write(tmp_path / f"{name}.jsonl", [row(name)])
    assert [path.stem for path in find_files(str(tmp_path), "train")] == ["train_30k"]
    assert [path.stem for path in find_files(str(tmp_path), split)] == ["val_1k"]
    assert [path.stem for path in find_files(str(tmp_path), "train_prefs")] == ["train_prefs"]


@pytest.mark.parametrize(
    ("source", "repository", "config", "folder"),
    [
        ("owner/name", "owner/name", None, None),
        ("owner/name:config", "owner/name", "config", None),
        ("owner/name//folder/deep", "owner/name", None, "folder/deep"),
    ],
)
def test_hub_ids_name_configuration_and_folder(monkeypatch, source, repository, config, folder) -> None:
    asked = []

    def hub(*names, **options):
        asked.append((*names, options))
        return [row()]

    monkeypatch.delenv("RLHF_HW_REAL_DATA", raising=False)
    monkeypatch.setattr("datasets.load_dataset", hub)
    assert list(read_rows(source, "test")) == [row()]
    assert asked == [(repository, config, {"data_dir": folder, "split": "test"})]


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
    assert {p["row"]: p["reason"] for p in report.problems} == reasons
    shown = str(report)
    assert "10 rows read, 2 pairs used, 8 dropped" in shown
    assert "dropped as equal replies: 1 (row 2)" in shown
    assert "row 6: key 'overall_response': expected 1 or 2, found 7" in shown
    assert json.loads(json.dumps(report.to_dict()))["dropped"]["tie"] == 1


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
    assert f"{path}, row 0: key 'question' is missing for template HOMEWORK" in message
    assert "the row has ['chosen', 'prompt', 'rejected']" in message and "TRL" in message


def test_a_key_that_only_some_rows_lack_is_an_unreadable_row(tmp_path) -> None:
    lacking = {k: v for k, v in row("b").items() if k != "question"}
    read, report = load_preferences(str(write(tmp_path / "a.jsonl", [row("a"), lacking])), "HOMEWORK")
    assert len(read) == 1
    assert report.problems == [
        {
            "row": 1,
            "reason": "unreadable",
            "message": "key 'question': expected a string or a list of messages, found NoneType",
        }
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", "", "a.jsonl cannot be read as json.*at least one row"),
        (
            "a.jsonl",
            '{"question": "a"}\n{"question": \n',
            "a.jsonl cannot be read as json .*JSON parse error",
        ),
        ("a.parquet", "nothing", "a.parquet cannot be read as parquet"),
        ("a.txt", "x", r"expected a .json, .jsonl or .parquet file"),
    ],
)
def test_broken_files_are_named(tmp_path, name, content, message) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        load_preferences(str(path), "HOMEWORK")


def test_nothing_usable_and_nothing_there(tmp_path) -> None:
    path = write(tmp_path / "a.jsonl", [row(label="tie")])
    with pytest.raises(ValueError, match=r"(?s)no usable pair:.*dropped as tie: 1 \(row 0\)"):
        load_preferences(str(path), "HOMEWORK")
    with pytest.raises(FileNotFoundError, match="no such file or folder, and the hub did not give it"):
        load_preferences("no-such/data-set", "HOMEWORK")
    with pytest.raises(KeyError, match="template 'None' is not known"):
        load_preferences(str(path), "None")
    write(tmp_path / "mixed" / "train.json", [row()])
    write(tmp_path / "mixed" / "train.parquet", [row()])
    with pytest.raises(ValueError, match="several formats"):
        load_preferences(str(tmp_path / "mixed"), "HOMEWORK")


def test_prompts_shared_between_splits_are_reported(tmp_path) -> None:
    write(tmp_path / "train.jsonl", [row("a"), row("b")])
    write(tmp_path / "validation.jsonl", [row("c"), row("b", "other reply"), row("d")])
    train, validation = (load_preferences(str(tmp_path), "HOMEWORK", s)[0] for s in ("train", "validation"))
    assert shared_prompts(train, validation) == [1]
    report = check_data(str(tmp_path), "HOMEWORK", "validation", against="train", examples=1)
    assert report.statistics["prompts also in train"] == 1
    assert json.loads(report.problems[0]["message"])["chosen"] == "good reply"


def test_local_copies_stand_in_for_the_hub(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("RLHF_HW_REAL_DATA", str(tmp_path))
    transcript = {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"}
    write(tmp_path / "hh-rlhf" / "harmless-base" / "train.jsonl.gz", [transcript])
    write(tmp_path / "hh-rlhf" / "helpful-base" / "train.jsonl.gz", [transcript, transcript])
    write(tmp_path / "align-anything-t2t" / "validation.jsonl.gz", [row()])
    assert len(list(read_rows("Anthropic/hh-rlhf", "train"))) == 3
    assert len(list(read_rows("Anthropic/hh-rlhf//harmless-base", "train"))) == 1
    assert len(list(read_rows("PKU-Alignment/align-anything:text-to-text", "validation"))) == 1
    with pytest.raises(FileNotFoundError, match="RLHF_HW_REAL_DATA"):
        list(read_rows("PKU-Alignment/PKU-SafeRLHF", "train"))


@pytest.mark.real_data
@real_data
def test_the_homeworks_validation_set() -> None:
    read, report = load_preferences("PKU-Alignment/align-anything", "HOMEWORK", "validation")
    assert report.rows == 1000 and len(read) == 999
    assert report.dropped == {"equal replies": 1} and report.problems[0]["row"] == 274
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
