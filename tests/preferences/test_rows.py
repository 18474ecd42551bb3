"""Files are read as they are written, or refused with file, line and remedy."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlhf_hw.errors import InputError
from rlhf_hw.preferences.reading import load_preferences
from rlhf_hw.preferences.rows import RowFile

ROW = {"question": "Q?", "response_1": "good", "response_2": "bad", "overall_response": 1}


def rows_of(path: Path, **options) -> list[dict]:
    found = [row for _, row in RowFile(path, **options)]
    assert len(found) == len(RowFile(path, **options))
    return found


def test_places_are_lines_as_an_editor_counts_them(tmp_path) -> None:
    path = tmp_path / "a.jsonl"
    # neither a form feed nor U+2028 ends a line, "\r\n" does; blank lines count
    path.write_bytes('\n{"a": "x\u2028y\u0085z"}\r\n \t\r\n\n{"a": 2}'.encode())
    assert [str(place) for place, _ in RowFile(path)] == [f"{path}, line 2", f"{path}, line 5"]
    assert rows_of(path) == [{"a": "x\u2028y\u0085z"}, {"a": 2}]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", '{"a": 1}\n{"a": 2}\n'),
        ("a.json", '{"a": 1}\n{"a": 2}'),
        ("a.json", '{"a":\n1}{"a": 2}'),  # objects over several lines
        ("a.json", ' [ {"a": 1}\n,\n{"a": 2} ] \n'),
        ("a.jsonl", '[{"a": 1}, {"a": 2}]'),
        ("a.json", '\ufeff[{"a": 1}, {"a": 2}]'),
        ("a.jsonl", '\ufeff{"a": 1}\n{"a": 2}'),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_lists_lines_and_marks(tmp_path, name, text, packed) -> None:
    path = tmp_path / (name + ".gz" * packed)
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    assert rows_of(path) == [{"a": 1}, {"a": 2}]


def test_nothing_is_guessed_from_the_looks_of_a_value(tmp_path) -> None:
    """A date stays text, a number keeps its kind, and a type that changes late is the later row's alone."""
    rows = [{"when": "2024-01-02", "n": 1}] * 60_000
    rows += [{"when": 7, "n": 1.5, "new": [None, {}]}, {"when": {"a": 2**70}}]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert rows_of(path) == rows and type(rows_of(path)[0]["n"]) is int


def test_a_name_is_a_path_and_no_pattern(tmp_path) -> None:
    for name in ("p1.jsonl", "p[1].jsonl", "p*.jsonl", "p?.jsonl", "p{1,2}.jsonl".replace(",", "-")):
        (tmp_path / name).write_text(json.dumps({"name": name}))
        assert rows_of(tmp_path / name) == [{"name": name}]


def test_a_file_changed_behind_its_date_is_read_anew(tmp_path) -> None:
    for path in (tmp_path / "a.jsonl", tmp_path / "a.parquet"):
        for question in ("old", "new"):
            if path.suffix == ".parquet":
                pd.DataFrame([ROW | {"question": question}]).to_parquet(path)
            else:
                path.write_text(json.dumps(ROW | {"question": question}))
            os.utime(path, (1e9, 1e9))
            assert load_preferences(str(path), "HOMEWORK")[0][0].question == question


def test_parquet_keeps_messages_nothing_and_order(tmp_path) -> None:
    rows = [
        {"n": n, "chosen": [{"role": "user", "content": "é"}], "none": None if n else "x"}
        for n in range(2500)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=700)
    assert rows_of(tmp_path / "a.parquet") == rows
    places = [place for place, _ in RowFile(tmp_path / "a.parquet")]
    assert places[1234].unit == "row" and places[1234].number == 1235


BROKEN = {
    "not utf-8": ("a.jsonl", b'{"a": 1}\n{"a": "\xe9"}', r"line 2: byte 8 of the line, 0xe9, .*iconv"),
    "utf-16": ("a.jsonl", '{"a": 1}'.encode("utf-16"), "line 1: UTF-16, expected UTF-8; try `iconv"),
    "utf-32": ("a.jsonl", '{"a": 1}'.encode("utf-32"), "line 1: UTF-32, expected UTF-8"),
    "utf-16 without a mark": ("a.jsonl", '{"a": 1}'.encode("utf-16-le"), "line 1: holds a zero byte"),
    "latin-1 in a list": ("a.json", '[{"a": 1},\n{"a": "é"}]'.encode("latin-1"), "line 2: byte 8"),
    "null alone": ("a.json", b"null", "a.json, line 1: expected an object, found null"),
    "null among rows": ("a.jsonl", b'{"a": 1}\nnull\n', "line 2: expected an object, found null"),
    "null in a list": ("a.json", b'[{"a": 1}, null]', "row 2: expected an object, found null"),
    "a number": ("a.jsonl", b"7", "line 1: expected an object, found a number"),
    "a torn line": ("a.jsonl", b'{"a": 1}\n\n{"a": \n', "line 3, column 7: not JSON"),
    "a torn list": ("a.json", b'[{"a": 1},\n {"a": 2}', r"line 2, column 10: not JSON \(a comma or"),
    "a list without commas": ("a.json", b'[{"a": 1}\n{"a": 2}]', "line 2, column 1: not JSON"),
    "a comma at the end": ("a.json", b'[{"a": 1},]', "line 1, column 11: not JSON"),
    "two lists": ("a.json", b"[]\n[]", r"line 2, column 1: not JSON \(more after the list"),
    "two on a line": ("a.jsonl", b'{"a": 1} {"a": 2}', r"line 1, column 9: not JSON \(more after"),
    "a key twice": ("a.jsonl", b'{"a": 1}\n{"b": {"a": 1, "a": 2}}', "line 2: key 'a' stands twice"),
    "a key twice in a list": ("a.json", b'[{"a": 1},\n{"a": 1, "a": 2}]', "line 2: key 'a' stands twice"),
    "half a character": ("a.jsonl", b'{"a": "\\ud83d."}', r"line 1: \\ud83d is half a character"),
    "endless brackets": ("a.jsonl", b'{"a": ' + b"[" * 100_000, "line 1: cannot be read"),
    "endless digits": ("a.jsonl", b'{"a": ' + b"1" * 5000 + b"}", "line 1: cannot be read"),
    "torn gzip": ("a.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 9999)[:-9], "a.jsonl.gz: no whole gzip file"),
    "changed gzip": ("a.jsonl.gz", gzip.compress(b'{"a": 1}')[:-8] + b"12345678", "no whole gzip file"),
    "no gzip": ("a.jsonl.gz", b'{"a": 1}', "a.jsonl.gz: no whole gzip file"),
    "gzip by another name": ("a.jsonl", gzip.compress(b'{"a": 1}'), "is gzip: let its name end in .gz"),
    "no parquet": ("a.parquet", b"nothing", "a.parquet: no readable Parquet"),
    "empty parquet file": ("a.parquet", b"", "a.parquet: no readable Parquet"),
    "empty": ("a.jsonl", b"", "a.jsonl: no row; expected one object a row"),
    "blank": ("a.json", b" \n\n", "a.json: no row"),
    "an empty list": ("a.json", b"[ ]", "a.json: no row"),
    "another format": ("a.txt", b"x", "a.txt: expected a .json, .jsonl or .parquet file"),
    "packed parquet": ("a.parquet.gz", b"x", "a.parquet.gz: expected a .json"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_cannot_be_read_is_named_with_its_line_and_remedy(tmp_path, case) -> None:
    name, content, message = BROKEN[case]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        load_preferences(str(tmp_path / name), "HOMEWORK")
    assert str(tmp_path / name) in str(caught.value)


def test_a_column_twice_and_a_torn_table_are_named(tmp_path) -> None:
    pq.write_table(pa.Table.from_arrays([[1], [2]], names=["a", "a"]), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="a.parquet: two columns are called 'a'"):
        rows_of(tmp_path / "a.parquet")
    pq.write_table(pa.table({"a": [str(n) for n in range(5000)]}), tmp_path / "b.parquet", compression=None)
    content = bytearray((tmp_path / "b.parquet").read_bytes())
    content[4:60] = b"\xff" * 56
    (tmp_path / "b.parquet").write_bytes(content)
    with pytest.raises(ValueError, match=r"b.parquet, after row \d+: no readable Parquet"):
        rows_of(tmp_path / "b.parquet")


def test_nan_is_a_value_where_it_is_allowed(tmp_path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n{"a": NaN, "b": -Infinity}\n')
    assert [row["a"] for row in rows_of(tmp_path / "a.jsonl")] == [
        1,
        pytest.approx(float("nan"), nan_ok=True),
    ]
    with pytest.raises(ValueError, match="line 2: NaN is no number of JSON"):
        rows_of(tmp_path / "a.jsonl", nan=False)


PEAK = """
import resource, sys
from pathlib import Path
from rlhf_hw.preferences.rows import RowFile
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
count = sum(1 for _ in RowFile(Path(sys.argv[1])))
print(count, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) // 1024)
"""


def test_lines_pass_through_in_constant_memory(tmp_path) -> None:
    path = tmp_path / "a.jsonl"
    line = json.dumps({"text": "x" * 50_000}) + "\n"
    with path.open("w") as stream:
        stream.writelines(line for _ in range(2000))  # 100 MB
    done = subprocess.run([sys.executable, "-c", PEAK, path], capture_output=True, text=True, check=True)
    count, megabytes = map(int, done.stdout.split())
    assert count == 2000 and megabytes < 30


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder" / name).mkdir(parents=True)
    os.mkfifo(tmp_path / name)
    for path, what in ((tmp_path / name, "pipe"), (tmp_path / "folder" / name, "folder")):
        with pytest.raises(InputError, match=f"is a {what}.*expected a file of rows"):
            list(RowFile(path))
