"""A file is replaced whole or not at all, whoever else writes it."""

import json
import os
import threading
from pathlib import Path

import pytest

from rlhf_hw.errors import InputError
from rlhf_hw.files import (
    check_target,
    folder_name,
    make_folder,
    read_json,
    replacing,
    usable_path,
    write_json,
    write_text,
)


def test_text_and_json_are_written_in_utf8_into_folders_made_for_them(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b" / "text.txt", "偏好\n")
    write_json(tmp_path / "c.json", {"reward": [0.1, "é"]})
    assert (tmp_path / "a" / "b" / "text.txt").read_bytes() == "偏好\n".encode()
    text = (tmp_path / "c.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"reward": [0.1, "é"]} and "é" in text and text.endswith("}\n")


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_in_the_middle_leaves_the_old_file_and_nothing_else(tmp_path: Path, error) -> None:
    path = tmp_path / "metrics.json"
    path.write_text("old")
    with pytest.raises(error), replacing(path) as stream:
        stream.write("half of the new")
        stream.flush()
        raise error
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["metrics.json"]
    with pytest.raises(TypeError):
        write_json(path, {"not plain": object()})
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["metrics.json"]


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "scores.bin"
    path.write_bytes(b"old")
    with replacing(path, "wb") as stream:
        stream.write(b"new")
        stream.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new" and os.listdir(tmp_path) == ["scores.bin"]


@pytest.mark.skipif(os.name != "posix", reason="permissions as POSIX has them")
@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_the_mode_is_what_the_umask_says(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_text(tmp_path / "replaced", "content")
        (tmp_path / "opened").write_text("content")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes["replaced"] == modes["opened"] == 0o666 & ~umask


def test_of_several_writers_one_wins_with_all_it_wrote(tmp_path: Path) -> None:
    path, contents = tmp_path / "shared.txt", [str(number) * 100_000 for number in range(8)]
    start = threading.Barrier(len(contents))

    def write(content: str) -> None:
        start.wait()
        for _ in range(20):
            write_text(path, content)

    writers = [threading.Thread(target=write, args=(content,)) for content in contents]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert not path.exists() or path.read_text() in contents
    for writer in writers:
        writer.join()
    assert path.read_text() in contents and os.listdir(tmp_path) == ["shared.txt"]


def test_a_target_is_checked_before_the_work(tmp_path: Path) -> None:
    source = tmp_path / "pairs.jsonl"
    source.write_text("rows")
    (tmp_path / "link.jsonl").symlink_to(source)
    check_target(tmp_path / "new" / "scores.jsonl", [source, "hub/id"])
    check_target(tmp_path / "pairs.jsonl", ["elsewhere.jsonl"])
    for target, message in (
        (source, "is read, or lies in"),
        (tmp_path / "link.jsonl", "is read, or lies in"),
        (tmp_path, "is a folder"),
        (source / "scores.jsonl", "cannot be written: .*pairs.jsonl is no folder"),
    ):
        with pytest.raises(InputError, match=message):
            check_target(target, [source])
    assert source.read_text() == "rows" and not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../../evil", "a/b", "/tmp/evil", ".hidden", "a b", "a\\b", "-x"]
)
def test_a_name_leads_nowhere_else(name: str) -> None:
    with pytest.raises(InputError, match="run: expected a name such as 'nano'"):
        folder_name(name, "run")
    assert folder_name("qwen2.5-0.5b", "run") == "qwen2.5-0.5b"


def test_what_a_link_leads_to_is_replaced_and_keeps_its_mode(tmp_path: Path) -> None:
    real, link = tmp_path / "real.json", tmp_path / "link.json"
    write_text(real, "old")
    real.chmod(0o640)
    link.symlink_to(real)
    write_text(link, "new")
    assert link.is_symlink() and real.read_text() == "new" and real.stat().st_mode & 0o777 == 0o640
    real.chmod(0o440)
    os.mkfifo(tmp_path / "pipe")
    for target in (real, tmp_path / "pipe"):
        with pytest.raises(InputError, match="is read-only or no ordinary file"):
            check_target(target)


def test_what_a_killed_process_left_is_removed_and_what_is_written_now_is_not(tmp_path: Path) -> None:
    path = tmp_path / "a[1].json"
    left = tmp_path / f".a[1].json.{'0' * 16}.partial"
    left.write_text("half")
    (tmp_path / f".other.json.{'0' * 16}.partial").write_text("of another file")
    with replacing(path) as slow:
        slow.write("first")
        slow.flush()
        assert not left.exists()
        write_text(path, "second")
        assert len(list(tmp_path.glob(".a*.partial"))) == 1
    assert path.read_text() == "first" and len(os.listdir(tmp_path)) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("pipe", "x.json is a pipe or a device: expected a file"),
        (b'{"a": 1,\n', r"x.json, line 2: not JSON \(.*\); mend it"),
        (b"[1]", r"x.json: expected an object, found \[1\]; mend it"),
        (b"\xff\xfe{}", "x.json: byte 1 is no UTF-8; save it"),
        (b"[" * 100_000, "x.json: brackets in brackets"),
        (None, "x.json is a folder: expected a file"),
    ],
)
def test_a_small_file_is_read_whole_or_named(tmp_path: Path, content, message: str) -> None:
    path = tmp_path / "x.json"
    if content == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_json(path)
    (tmp_path / "y.json").write_bytes(b"\xef\xbb\xbf[1]")
    assert read_json(tmp_path / "y.json", list) == [1]


@pytest.mark.parametrize("name", ["a\0b", "~nosuchuser/x", "x" * 300, "x/" * 2500, "a\udcff"])
def test_names_that_no_file_can_have_are_refused(name: str) -> None:
    for check in (usable_path, make_folder):
        with pytest.raises(InputError, match="output_dir: "):
            check(name, "output_dir")
    with pytest.raises(InputError, match="output: "):
        check_target(name)


@pytest.mark.parametrize("folder", ["file", "file/below", "/proc/x", "/dev/null"])
def test_a_folder_that_cannot_be_made_is_named_with_its_setting(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="log_dir: .* cannot be made .*; choose another"):
        make_folder(tmp_path / folder, "log_dir")
    assert make_folder(tmp_path / "new" / "one", "log_dir").is_dir()


def test_a_link_in_a_circle_and_a_folder_that_is_gone_are_refused(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for check in (check_target, lambda path: make_folder(path, "output"), lambda path: write_text(path, "x")):
        with pytest.raises(InputError, match="output: .*loop is a link that leads in a circle"):
            check(tmp_path / "loop")
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(InputError, match="the folder you are in is gone"):
        check_target("scores.jsonl")
    monkeypatch.chdir(tmp_path)  # pytest asks where it is


@pytest.mark.parametrize("name", ["n" * 255, "中" * 85])
def test_a_name_as_long_as_the_system_allows_can_be_written(tmp_path: Path, name: str) -> None:
    write_text(tmp_path / name, "old")
    write_text(tmp_path / name, "new")
    assert os.listdir(tmp_path) == [name] and (tmp_path / name).read_text() == "new"
