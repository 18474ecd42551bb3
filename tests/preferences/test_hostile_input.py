"""Whatever is in a file: what is read from it is right, or one error names the file, the line and the key.

`RLHF_HW_CASES` sets how many cases each test makes up; the seed is always the same.
"""

import gzip
import io
import json
import math
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rlhf_hw.errors import Explained, InputError
from rlhf_hw.experiments.score_texts import asked_reply
from rlhf_hw.preferences.reading import load_preferences
from rlhf_hw.preferences.rows import RowFile
from rlhf_hw.preferences.score_files import read_pairs, read_replies
from rlhf_hw.preferences.sources import find_files, read_rows
from rlhf_hw.preferences.templates import TEMPLATES, as_prompt

CASES = int(os.environ.get("RLHF_HW_CASES", "30"))
few = settings(max_examples=CASES, derandomize=True, database=None, deadline=None)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
# what can stand anywhere in a file of JSON
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.sampled_from(["", "tie", "1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant"]) | VALUES, "content": TEXTS | VALUES},
        optional={"tool_calls": VALUES},
    ),
    max_size=4,
)
LABELS = st.sampled_from([0, 1, 2, 3, -1, -2, 1.0, 99, 1e20, True, False, None, "", "1", math.nan, math.inf])
SAID = TEXTS | st.sampled_from(["Tea?", "\n\nHuman: a\n\nAssistant: b", "\n\nHuman: a\n\nAssistant: c"])
KEYS = {
    "HOMEWORK": ("question", "response_1", "response_2", "overall_response"),
    "PKUSafeRLHF": ("prompt", "response_0", "response_1", "better_response_id"),
    "PKUSafeRLHF_safer": ("prompt", "response_0", "response_1", "safer_response_id"),
    "HH": ("chosen", "rejected"),
    "TRL": ("prompt", "chosen", "rejected", "score_chosen", "score_rejected"),
    "HELPSTEER": ("prompt", "response_1", "response_2", "preference_strength", "context"),
}
EXTRA = ("system", "metadata", "images", "note")


def rows_for(keys: tuple[str, ...]) -> st.SearchStrategy:
    """Rows that have some of the keys, each with what belongs there, or with anything at all."""
    labels = [key for key in keys if key.split("_")[-1] in ("response", "id", "strength") or "score" in key]
    fitting = {key: LABELS if key in labels else SAID for key in keys}
    hostile = {key: LABELS | VALUES if key in labels else SAID | MESSAGES | VALUES for key in keys}
    more = {key: VALUES for key in EXTRA}
    right = st.fixed_dictionaries(fitting)
    return right | st.fixed_dictionaries({}, optional=hostile | more) | st.fixed_dictionaries(hostile)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("hostile")


def same(one, other) -> bool:
    """Equality for which NaN is itself."""
    return repr(one) == repr(other)


def parquet(rows: list[dict]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


@few
@given(st.lists(st.dictionaries(TEXTS, VALUES, max_size=4), min_size=1, max_size=5), st.booleans())
def test_what_json_can_say_is_read_as_it_was_written(folder, rows, ascii_only) -> None:
    lines = [json.dumps(row, ensure_ascii=ascii_only) for row in rows]
    for name, text in (
        ("a.jsonl", "\n\n".join(lines)),
        ("a.jsonl", "\r\n".join(lines) + "\r\n"),
        ("a.json", json.dumps(rows, ensure_ascii=ascii_only, indent=1)),
        ("a.json", "\n".join(json.dumps(row, indent=2) for row in rows)),
    ):
        if not rows[0] and "\n" in text and name == "a.json" and text.startswith("{"):
            continue  # begins as JSON lines do
        for packed in ("", ".gz"):
            path = folder / (name + packed)
            path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
            placed = list(RowFile(path))
            assert same([row for _, row in placed], rows) and len(RowFile(path)) == len(rows)
            if text.startswith(f"{lines[0]}\n\n"):
                assert [place.number for place, _ in placed] == [2 * n + 1 for n in range(len(rows))]


@few
@given(st.data())
def test_any_bytes_are_rows_or_one_error_that_names_the_file(folder, data) -> None:
    rows = [{"question": "Q?", "n": 1, "e": "é"}, {"question": "R?", "n": None, "e": "\ud83d\ude00"}]
    rows = [json.loads(json.dumps(row)) for row in rows]
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    name, content = data.draw(
        st.sampled_from(
            [("a.jsonl", text), ("a.json", json.dumps(rows).encode()), ("a.parquet", parquet(rows))]
            + [("a.jsonl.gz", gzip.compress(text)), ("a.json", b""), ("a.jsonl", b"null")]
        )
    )
    at = data.draw(st.integers(0, len(content)))
    change = data.draw(
        st.binary(max_size=4) | st.sampled_from([b"\n", b",", b"]", b"{", b"NaN", b"\xff\xfe"])
    )
    cut = data.draw(st.sampled_from([0, 1, 5, len(content)]))
    path = folder / name
    path.write_bytes(content[:at] + change + content[at + cut :])
    try:
        found = [row for _, row in RowFile(path)]
    except InputError as error:
        assert str(path) in str(error) and len(str(error)) < 1000
    else:
        assert all(isinstance(row, dict) for row in found) and len(RowFile(path)) == len(found)
        if name.endswith((".json", ".jsonl")):  # as the standard library reads it, in one piece or by lines
            text = path.read_bytes().decode("utf-8-sig")
            if text.lstrip().startswith("["):
                assert same(found, json.loads(text))
            elif name == "a.jsonl":
                assert same(found, [json.loads(line) for line in text.split("\n") if line.strip()])


def right(template: str, row: dict) -> tuple[str, str] | None:
    """Which of a row's replies its label prefers, and which not; None where it does not say."""
    key = KEYS[template][3] if len(KEYS[template]) > 3 else ""
    label = row.get(key)
    if template in ("HH", "TRL"):
        return "chosen", "rejected"
    if isinstance(label, bool) and not template.startswith("PKU") or not isinstance(label, int | float):
        return None
    replies = KEYS[template][1:3]
    if template == "HELPSTEER":
        known = label in (-3, -2, -1, 1, 2, 3)
        return (replies if label < 0 else replies[::-1]) if known else None
    first = 1 if template == "HOMEWORK" else 0
    return (replies if label == first else replies[::-1]) if label in (first, first + 1) else None


def last_text(value: object) -> str:
    """The text of a reply, or of the last message, without the white space around it."""
    return (value[-1]["content"] if isinstance(value, list) else value).strip()


@pytest.mark.parametrize("template", sorted(TEMPLATES))
@few
@given(st.data())
def test_a_pair_is_what_its_row_says_or_the_row_is_counted(folder, template, data) -> None:
    rows = data.draw(st.lists(rows_for(KEYS[template]), min_size=1, max_size=4))
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    try:
        read, report = load_preferences(str(path), template)
    except Explained as error:
        assert str(path) in str(error)
        return
    assert report.rows == len(rows) == report.used + report.dropped.total()
    for pair in read:
        row = rows[pair.row]
        chosen, rejected = right(template, row)
        assert pair.place.number == pair.row + 1 and not row.get("system") and not row.get("images")
        sides = [last_text(row[side]) for side in (chosen, rejected)]
        if template == "HH":
            sides = [text.rpartition("\n\nAssistant:")[2].strip() for text in sides]
        assert [pair.chosen.strip(), pair.rejected.strip()] == sides and sides[0] != sides[1]
        assert any(m.content.strip() for m in pair.prompt if m.role == "user")
        if template == "TRL" and None not in (row.get("score_chosen"), row.get("score_rejected")):
            assert not row["score_chosen"] <= row["score_rejected"]
        said = row.get("question", row.get("context", row.get("prompt")))
        if template not in ("HH", "TRL"):
            assert pair.prompt == as_prompt(said, "")


PAIR_FILE = ("prompt", "chosen", "rejected", "chosen_score", "rejected_score")


@few
@given(st.lists(rows_for(("prompt", "response", "score")) | rows_for(PAIR_FILE), min_size=1, max_size=3))
@example([{"prompt": "a", "response": "b", "score": 10**400}])
def test_score_files_are_read_right_or_refused_with_the_line(folder, rows) -> None:
    path = folder / "scores.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for read, scores in ((read_replies, ["score"]), (read_pairs, ["chosen_score", "rejected_score"])):
        try:
            table = read(path)
        except Explained as error:
            assert f"{path}, line " in str(error)
            continue
        for name in scores:
            assert table[name].tolist() == [row[name] for row in rows]
        assert [as_prompt(row["prompt"], "")[-1:] != () for row in rows]
        assert all(isinstance(text, str) for text in (*table["prompt"], *table["prompt_key"]))


@few
@given(rows_for(("prompt", "response", "conversation")))
def test_replies_to_score_are_whole_or_refused_with_the_line(folder, row) -> None:
    path = folder / "replies.jsonl"
    path.write_text(json.dumps(row))
    ((place, read),) = RowFile(path)
    try:
        asked = asked_reply(place, read)
    except Explained as error:
        assert f"{path}, line 1: " in str(error)
        return
    assert asked.reply.strip() == last_text(row["response"])
    assert json.dumps(read, allow_nan=False) and asked.prompt


def test_any_name_of_a_source_and_a_split_ends_in_a_message(folder, monkeypatch) -> None:
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: 1 / 0)
    (folder / "there.jsonl").write_text('{"question": "Q?"}')
    names = TEXTS | st.sampled_from(
        [str(folder / "there.jsonl"), str(folder), "~", "~x", "/", "..", ",", "a//b:c"]
    )

    @few
    @given(st.lists(names, max_size=3), TEXTS | st.sampled_from(["train", "validation", "(", "*", "../x"]))
    def check(parts, split) -> None:
        try:
            rows = [row for _, row in read_rows(",".join(parts), split)]
        except (Explained, OSError) as error:
            assert str(error)
        else:
            assert rows and all(row == {"question": "Q?"} for row in rows)

    check()


NAMES = st.sampled_from(
    ["train.jsonl", "train.json", "train.jsonl.gz", "train.parquet", "train-00000-of-00001.jsonl"]
    + [
        "train_10k.jsonl",
        "train-copy.jsonl",
        "train.old.jsonl",
        "val.jsonl",
        "sub/train.jsonl",
        ".train.jsonl",
    ]
)


@few
@given(st.sets(NAMES, max_size=4), st.sampled_from(["train", "validation", "test", "x", ""]))
def test_a_folders_split_is_one_file_or_an_error(tmp_path_factory, names, split) -> None:
    folder = tmp_path_factory.mktemp("split")
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("{}")
    fitting = {"train": ("train.", "train_", "train-0"), "validation": ("val.",), "test": ("val.",)}
    candidates = {n for n in names if n.startswith(fitting.get(split, ("?",)))} - {"train.old.jsonl"}
    if len(candidates) == 1:
        assert [str(file.relative_to(folder)) for file in find_files(str(folder), split)] == list(candidates)
    else:
        with pytest.raises(
            (InputError, FileNotFoundError), match="could be any of" if candidates else "no file"
        ):
            find_files(str(folder), split)
