"""Which files a source's split is, by exact names; several candidates, and none, are said."""

import json
from pathlib import Path

import pytest

from rlhf_hw.paths import places
from rlhf_hw.pipeline.fingerprints import named_files
from rlhf_hw.preferences.reading import load_preferences
from rlhf_hw.preferences.rows import RowFile
from rlhf_hw.preferences.sources import DataSource, find_files, read_rows


def write(path: Path, *questions: str) -> Path:
    """Pairs that ask these questions, in a file whose folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rest = {"response_1": "good", "response_2": "bad", "overall_response": 1}
    path.write_text("".join(json.dumps({"question": text, **rest}) + "\n" for text in questions))
    return path


def asked(source: object, split: str = "train") -> list[str]:
    return [row["question"] for _, row in read_rows(str(source), split)]


def test_folders_splits_and_several_sources(tmp_path) -> None:
    write(tmp_path / "one" / "train.jsonl", "a")
    write(tmp_path / "one" / "test.jsonl", "b")
    write(tmp_path / "two" / "data" / "train.jsonl", "c")
    (tmp_path / "one" / "README.md").write_text("no data")
    assert asked(f"{tmp_path / 'one'}, {tmp_path / 'two' / 'data'}") == ["a", "c"]
    assert asked(tmp_path / "one", "validation") == ["b"]  # test stands in
    with pytest.raises(FileNotFoundError, match="found train.jsonl; name one"):
        find_files(str(tmp_path / "two" / "data"), "validation")
    with pytest.raises(
        FileNotFoundError, match="found no data files; name the folder that has it: .*two/data"
    ):
        find_files(str(tmp_path / "two"), "train")


def test_a_split_is_what_bears_its_exact_name_and_stands_in_the_report(tmp_path) -> None:
    write(tmp_path / "train.jsonl", "right")
    others = ("train.old.jsonl", "train-copy.jsonl", "train (1).jsonl", "train_prefs.jsonl", "Train.jsonl")
    for name in (
        *others,
        "xtrain.jsonl",
        ".ipynb_checkpoints/train.jsonl",
        "sub/train.jsonl",
        ".train.jsonl",
    ):
        write(tmp_path / name, "wrong")
    (tmp_path / "train.jsonl.bak").write_text("{")
    read, report = load_preferences(str(tmp_path), "HOMEWORK")
    assert [p.question for p in read] == ["right"] and report.files == ["train.jsonl"]
    assert "  read from train.jsonl\n" in report.summary() and report.to_dict()["files"] == ["train.jsonl"]


def test_an_empty_source_among_others_is_refused_and_files_are_counted_once(tmp_path, monkeypatch) -> None:
    full, empty = write(tmp_path / "a.jsonl", *"abcdef"), write(tmp_path / "b.jsonl")
    with pytest.raises(ValueError, match="b.jsonl: no row"):
        asked(f"{full}, {empty}")
    counted, count = [], RowFile.__len__
    monkeypatch.setattr(RowFile, "__len__", lambda file: counted.append(file) or count(file))
    assert sorted(asked(f"{full}, {full}")) == sorted(2 * "abcdef")
    assert len(counted) == 2


def test_a_name_with_a_comma_is_the_file_of_that_name(tmp_path) -> None:
    both = write(tmp_path / "a,b.jsonl", "one")
    assert asked(both) == ["one"]
    assert named_files(str(both)) == [both] and set(places(both)) == {
        both
    }  # what a run's stamp and a target's check see


@pytest.mark.parametrize("split", ["val", "validation"])
def test_a_split_has_several_names_and_may_carry_its_size(tmp_path, split) -> None:
    for name in ("train_30k", "train_prefs", "training", "val_1k"):
        write(tmp_path / f"{name}.jsonl", name)
    assert [path.stem for path in find_files(str(tmp_path), "train")] == ["train_30k"]
    assert [path.stem for path in find_files(str(tmp_path), split)] == ["val_1k"]
    assert [path.stem for path in find_files(str(tmp_path), "train_prefs")] == ["train_prefs"]


@pytest.mark.parametrize(
    "names",
    [
        ("train.json", "train.jsonl"),
        ("train.jsonl", "train.jsonl.gz"),
        ("train.parquet", "train-00000-of-00001.parquet"),
        ("train_10k.jsonl", "train_30k.jsonl"),
        ("train-00000-of-00001.jsonl", "train-00000-of-00002.jsonl"),
    ],
)
def test_several_candidates_for_a_split_are_refused_by_name(tmp_path, names) -> None:
    for name in names:
        write(tmp_path / name, "a")
    with pytest.raises(ValueError, match="split 'train' could be any of ") as caught:
        find_files(str(tmp_path), "train")
    assert all(name in str(caught.value) for name in names)


def test_all_parts_of_a_split_are_needed_and_read_in_order(tmp_path) -> None:
    for part in (2, 0, 1):
        write(tmp_path / f"train-{part:05}-of-00003.jsonl", f"part {part}")
    assert asked(tmp_path) == ["part 0", "part 1", "part 2"]
    (tmp_path / "train-00001-of-00003.jsonl").unlink()
    with pytest.raises(ValueError, match=r"train-\*-of-00003.jsonl: part 1 is not there"):
        find_files(str(tmp_path), "train")
    write(tmp_path / "val-00000-of-00001-0123456789abcdef.jsonl", "hashed")
    assert asked(tmp_path, "validation") == ["hashed"]


def test_a_single_file_has_no_splits_but_its_own(tmp_path) -> None:
    path = str(write(tmp_path / "medley_2k.jsonl", "a"))
    for split in ("train", "validation", "test", "sft", "medley"):
        assert find_files(path, split) == [Path(path)]
    with pytest.raises(KeyError, match=r"a single file has no split 'nosuchsplit'; leave the split out"):
        find_files(path, "nosuchsplit")


def test_names_that_lead_nowhere_are_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("RLHF_HW_REAL_DATA", raising=False)
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "gone.jsonl")
    for source, message in (
        ("", "no data set is named"),
        (" , ", "no data set is named"),
        (f"{tmp_path}/link.jsonl", "no ordinary file"),
        ("/dev/null", "no ordinary file"),
    ):
        with pytest.raises(ValueError, match=message):
            DataSource(source, "train")
    for source in ("~no-such-user/a.jsonl", "x" * 5000, "a/b\0c", "no-such/data-set"):
        with pytest.raises(
            FileNotFoundError, match="no such file or folder, and the hub did not give it"
        ) as e:
            asked(source)
        assert len(str(e.value)) < 1500


@pytest.mark.parametrize(
    ("source", "repository", "config", "folder"),
    [
        ("owner/name", "owner/name", None, None),
        ("owner/name:config", "owner/name", "config", None),
        ("owner/name//folder/deep", "owner/name", None, "folder/deep"),
    ],
)
def test_hub_ids_name_configuration_and_folder(monkeypatch, source, repository, config, folder) -> None:
    calls = []

    def hub(*names, **options):
        calls.append((*names, options))
        return [{"question": "a"}]

    monkeypatch.delenv("RLHF_HW_REAL_DATA", raising=False)
    monkeypatch.setattr("datasets.load_dataset", hub)
    ((place, row),) = read_rows(source, "test")
    assert row == {"question": "a"} and str(place) == f"{source}, row 1"
    assert calls == [(repository, config, {"data_dir": folder, "split": "test"})]


def test_local_copies_stand_in_for_the_hub(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("RLHF_HW_REAL_DATA", str(tmp_path))
    write(tmp_path / "hh-rlhf" / "harmless-base" / "train.jsonl", "a")
    write(tmp_path / "hh-rlhf" / "helpful-base" / "train.jsonl", "b", "c")
    write(tmp_path / "hh-rlhf" / ".cache" / "train.jsonl", "hidden")
    write(tmp_path / "align-anything-t2t" / "validation.jsonl", "d")
    assert asked("Anthropic/hh-rlhf") == ["a", "b", "c"]  # as on the hub, all folders
    report = load_preferences("Anthropic/hh-rlhf", "HOMEWORK")[1]
    assert report.files == ["harmless-base/train.jsonl", "helpful-base/train.jsonl"]
    assert asked("Anthropic/hh-rlhf//harmless-base") == ["a"]
    assert asked("PKU-Alignment/align-anything:text-to-text", "validation") == ["d"]
    with pytest.raises(FileNotFoundError, match="RLHF_HW_REAL_DATA"):
        asked("PKU-Alignment/PKU-SafeRLHF")


def test_of_a_split_that_says_it_has_countless_parts_the_first_missing_one_is_named(tmp_path) -> None:
    write(tmp_path / "train-00000-of-999999999999.jsonl", "a")
    with pytest.raises(ValueError, match="part 1 is not there"):
        asked(tmp_path)
    (tmp_path / "train-00000-of-999999999999.jsonl").rename(tmp_path / "train-00000-of-00000.jsonl")
    with pytest.raises(ValueError, match="a part too many stands there"):
        asked(tmp_path)
