"""Hostile rows, files and score files, for `check-data`, `score` and the readers of score files."""

import gzip
import json
import math
import os
import random
from pathlib import Path

import pandas as pd

from rlhf_hw import cli
from rlhf_hw.errors import Explained
from rlhf_hw.preferences.score_files import parse_mapping, read_pairs, read_replies
from tests.faults.workshop import Case, Workshop, good_rows, write_lines

STRANGE = [
    None,
    "",
    " ",
    0,
    -1,
    3,
    1e20,
    math.nan,
    math.inf,
    True,
    False,
    "1",
    "tie",
    [],
    [1],
    {},
    {"a": 1},
    "x",
]
NO_TEXT = [None, "", "  \n", 7, math.nan, True, [], {}, [1], {"a": 1}, ["one", "two"]]
# what is put into a row of a template, and whether the pair may still be used
HARMLESS = {"note": "x", "metadata": {"a": 1}, "id": "7", "reviewer": None}
CONVERSATION = ["system", "history", "images", "tools", "tool_calls", "system_prompt", "audio"]


def _as(template: str, row: dict) -> dict:
    """A row of the homework in the schema of another template."""
    first = row["overall_response"] == 1
    chosen, rejected = (
        row["response_1" if first else "response_2"],
        row["response_2" if first else "response_1"],
    )
    both = {"response_0": row["response_1"], "response_1": row["response_2"]}
    prompt = {"prompt": row["question"]}
    start = f"\n\nHuman: {row['question']}\n\nAssistant: "
    made = {
        "HOMEWORK": row,
        "PKUSafeRLHF": {**prompt, **both, "better_response_id": 0 if first else 1},
        "TRL": {**prompt, "chosen": chosen, "rejected": rejected},
        "HH": {"chosen": start + chosen, "rejected": start + rejected},
        "HELPSTEER": {
            **prompt,
            "response_1": row["response_1"],
            "response_2": row["response_2"],
            "preference_strength": -2 if first else 1,
        },
    }
    return dict(made[template])


LABEL = {
    "HOMEWORK": "overall_response",
    "PKUSafeRLHF": "better_response_id",
    "HELPSTEER": "preference_strength",
}
KNOWN = {"HOMEWORK": (1, 2), "PKUSafeRLHF": (0, 1, False, True), "HELPSTEER": (-3, -2, -1, 1, 2, 3)}


def hostile_row(draw: random.Random, shop: Workshop) -> Case:
    """Three good rows and one with a fault: that one is left out and named, or the file is refused."""
    template = draw.choice(["HOMEWORK", "PKUSafeRLHF", "TRL", "HH", "HELPSTEER"])
    rows = [_as(template, row) for row in good_rows(draw, 4)]
    number = draw.randrange(4)
    row, used = rows[number], False
    way = draw.choice(["label", "text", "missing", "more", "same", "harmless", "prompt", "nothing"])
    texts = [key for key in row if key != LABEL.get(template) and key not in ("prompt", "question")]
    if way == "label" and template in LABEL:
        value = row[LABEL[template]] = draw.choice(STRANGE)
        used = any(value == known and type(value) in (int, float, type(known)) for known in KNOWN[template])
        used = used and not (isinstance(value, bool) and template != "PKUSafeRLHF")
    elif way == "label":
        row["score_chosen"], row["score_rejected"] = draw.choice([(1, 2), (1, 1), ("a", 1), (True, 0)])
        used = template == "HH"  # which reads none
    elif way == "text":
        row[draw.choice(texts)] = draw.choice(NO_TEXT)
    elif way == "missing":
        del row[draw.choice(list(row))]
    elif way == "more":
        row[draw.choice(CONVERSATION)] = draw.choice(["Be brief.", [{"role": "user", "content": "Hi"}]])
    elif way == "same":
        for key in texts:
            row[key] = row[texts[0]]
    elif way == "harmless":
        row |= dict([draw.choice(list(HARMLESS.items()))])
        used = True
    elif way == "prompt" and template not in ("HH",):
        row["question" if template == "HOMEWORK" else "prompt"] = draw.choice(NO_TEXT)
    else:
        row.clear()
    path = write_lines(shop.case() / "pairs.jsonl", rows)

    def right(printed: str) -> bool:
        report = json.loads(printed)
        places = {p["place"] for p in report["problems"] if p["reason"] != "example"}
        shown = [json.loads(p["message"]) for p in report["problems"] if p["reason"] == "example"]
        ordered = all("Good" in e["chosen"] and "Bad" in e["rejected"] for e in shown) or used
        left_out = report["used"] == 3 and places == {f"line {number + 1}"}
        return ordered and report["rows"] == 4 and (left_out or used and report["used"] == 4)

    call = ["check-data", str(path), "--template", template, "--examples", "4", "--json"]
    about = f"{template} {way}: {json.dumps(row)[:200]}"
    return Case(about, lambda: cli.main(call), (str(path),), right)


def hostile_file(draw: random.Random, shop: Workshop) -> Case:
    """Bytes that are no rows, or not those that they seem to be."""
    rows = good_rows(draw, 6)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    body, at = text.encode(), draw.randrange(1, len(text))
    folder = shop.case()
    unread = {
        "utf-16": text.encode("utf-16"),
        "utf-32": text.encode("utf-32"),
        "latin-1": text.replace("Good", "Güte").replace("\\u", "u").encode("latin-1"),
        "cut": body[: -draw.randrange(3, 40)],
        "zero": body[:at] + b"\0" + body[at:],
        "bad byte": body[:at] + bytes([draw.randrange(0x80, 0xC0)]) + body[at:],
        "null alone": b"null",
        "empty": b"",
        "blanks": b" \n\n\t",
        "number": b"7\n8\n",
        "deep": b"[" * 100000,
        "key twice": body + b'{"question": "a", "question": "b"}\n',
        "csv": b"question,response_1\nHi,there\n",
        "html": b"<!doctype html><html>404</html>",
        "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "list of lists": json.dumps([[1], [2]]).encode(),
        "torn list": json.dumps(rows).encode()[:-5],
        "gzip inside": gzip.compress(body),
        "long number": body.replace(b": 1}", b": " + b"1" * 5000 + b"}"),
        "half a character": body.replace(b"Good", b"\\ud83d"),
    }
    read = {
        "mark": b"\xef\xbb\xbf" + body,
        "crlf": body.replace(b"\n", b"\r\n"),
        "blank lines": body.replace(b"\n", b"\n\n \n"),
        "no last end": body[:-1],
        "separator": body.replace(b"Good", "Good\u2028".encode()),
    }
    way = draw.choice([*unread, *read, "torn gzip", "torn parquet", "plain as gzip", "plain as parquet"])
    names = {"torn gzip": "a.jsonl.gz", "plain as gzip": "a.jsonl.gz"}
    path = folder / names.get(way, "a.parquet" if "parquet" in way else "a.jsonl")
    if way == "torn parquet":
        pd.DataFrame(rows).to_parquet(path)
        whole = path.read_bytes()
        path.write_bytes(whole[: draw.randrange(len(whole) - 1)])
    else:
        torn = gzip.compress(body)[: -draw.randrange(1, 60)]
        path.write_bytes({"torn gzip": torn}.get(way, unread.get(way, read.get(way, body))))

    def right(printed: str) -> bool:
        return way in read and json.loads(printed)["used"] == 6

    call = ["check-data", str(path), "--template", "HOMEWORK", "--json"]
    return Case(way, lambda: cli.main(call), (path.name,), right, works=way in read)


def hostile_name(draw: random.Random, shop: Workshop) -> Case:
    """Names of files and splits that mean another thing, or nothing."""
    folder = shop.case()
    right_one, other = folder / "data" / "train.jsonl", good_rows(draw, 5)
    right_one.parent.mkdir()
    write_lines(right_one, good_rows(draw, 3))
    beside = draw.choice(
        ["train.old.jsonl", "train-copy.jsonl", ".ipynb_checkpoints/train.jsonl", "sub/train.jsonl"]
    )
    (right_one.parent / beside).parent.mkdir(exist_ok=True)
    write_lines(right_one.parent / beside, other)
    pattern = folder / "p[1].jsonl"
    write_lines(folder / "p1.jsonl", other)
    write_lines(pattern, good_rows(draw, 3))
    os.symlink(folder / "loop.jsonl", folder / "loop.jsonl")
    os.symlink(folder / "nowhere.jsonl", folder / "broken.jsonl")
    (folder / "folder.jsonl").mkdir()
    os.mkfifo(folder / "pipe.jsonl")
    good = {"folder": right_one.parent, "pattern": pattern, "file": right_one}
    bad = {
        "loop": folder / "loop.jsonl",
        "broken link": folder / "broken.jsonl",
        "folder as file": folder / "folder.jsonl",
        "pipe": folder / "pipe.jsonl",
        "nobody": "~nosuchuser/a.jsonl",
        "long": "x" * draw.choice([300, 5000]),
        "line break": "a\nb.jsonl",
        "zero byte": "a\0b.jsonl",
        "empty": "",
        "commas": ",,",
        "suffix": folder / "p1.txt",
        "glob": folder / "p*.jsonl",
        "device": "/dev/null",
        "hub": "a/b/c/d",
        "half missing": f"{right_one},{folder / 'none.jsonl'}",
    }
    split = draw.choice(["nosuchsplit", "*", "../x", "train.old"])
    way = draw.choice([*good, *bad, "split"])
    source = str(good.get(way, bad.get(way, right_one.parent)))
    call = [
        "check-data",
        source,
        "--template",
        "HOMEWORK",
        "--json",
        "--split",
        split if way == "split" else "train",
    ]

    def right(printed: str) -> bool:
        return way in good and json.loads(printed)["used"] == 3

    return Case(f"{way} {source[:80]!r} {beside}", lambda: cli.main(call), (), right, works=way in good)


def hostile_reply(draw: random.Random, shop: Workshop) -> Case:
    """Rows for `rlhf-hw score`: scored as they are, or refused with the line before the output is touched."""
    folder = shop.case()
    row = {"prompt": "What is tea?", "response": "A drink."}
    key = draw.choice(["prompt", "response", "when", "id", "score", "conversation", "tokens"])
    messages = [{"role": draw.choice(["user", "robot", None]), "content": draw.choice(["Hi", 3])}]
    value = draw.choice(
        [*STRANGE, messages, [{"role": "user", "content": "Hi", "images": ["a"]}], "2024-01-02"]
    )
    if draw.random() < 0.15:
        row.pop(draw.choice(["prompt", "response"]))
    else:
        row[key] = value
    path = write_lines(folder / "new.jsonl", [json.loads(shop.replies.read_text().splitlines()[0]), row])
    output = folder / "old.jsonl"
    output.write_text("as it was\n")
    call = ["score", str(path), "--model", str(shop.reward), "--output", str(output)]

    def right(_: str) -> bool:
        written = [json.loads(line) for line in output.read_text().splitlines()]
        kept = all(written[1][k] == v for k, v in row.items() if k not in ("score", "tokens", "id"))
        texts = isinstance(row["response"], str | list) and isinstance(row["prompt"], str | list)
        return len(written) == 2 and kept and texts and math.isfinite(written[1]["score"])

    case = Case(json.dumps(row)[:200], lambda: cli.main(call), (f"{path}, line 2",), right)
    case.call = _keeps(case, output)
    return case


def _keeps(case: Case, output: Path):
    """The call, after which an output that got no result has to be as it was."""
    call = case.call

    def checked() -> int | None:
        status = call()
        if status == 0:
            case.writes = (output,)
        return status

    return checked


def hostile_scores(draw: random.Random, shop: Workshop) -> Case:
    """Score files, and mappings of their names: read as they are, or refused with the line."""
    folder = shop.case()
    pairs = draw.random() < 0.5
    row = {"prompt": "Why?", "chosen": "a", "rejected": "b", "chosen_score": 1.5, "rejected_score": -2}
    row = row if pairs else {"prompt": "Why?", "response": "a", "score": 0.25}
    rows = [dict(row) for _ in range(3)]
    number, key = draw.randrange(3), draw.choice(list(row))
    change = draw.choice([*STRANGE, "MISSING", 10**400, [{"role": "user", "content": "Hi"}]])
    if change == "MISSING":
        del rows[number][key]
    else:
        rows[number][key] = change
    mapping = draw.choice(
        ["", "", "", "score=rm.score", "prompt=", "a=b", "{", '{"score": 1}', f"{key}={key}"]
    )
    path = write_lines(folder / "scores.jsonl", rows)
    found = []

    def call() -> int:
        try:
            found.append((read_pairs if pairs else read_replies)(path, parse_mapping(mapping)))
        except Explained as error:
            import sys

            print(f"error: {error}", file=sys.stderr)
            return 1
        return 0

    def right(_: str) -> bool:
        scores = [name for name in row if "score" in name]
        same = all(found[0][name].tolist() == [float(r[name]) for r in rows] for name in scores)
        flags = any(isinstance(r[name], bool | str) for r in rows for name in scores)
        sides = [n for n in ("chosen", "rejected", "response") if n in row]
        texts = all(isinstance(r[name], str | list) for r in rows for name in sides)
        return same and not flags and texts

    return Case(f"{mapping} {json.dumps(rows[number])[:160]}", call, ((str(path), "mapping"),), right)


KINDS = {
    "row": hostile_row,
    "file": hostile_file,
    "name": hostile_name,
    "reply to score": hostile_reply,
    "score file": hostile_scores,
}
