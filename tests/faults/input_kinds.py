"""Hostile rows, files and names of files, for `check-data`."""

import gzip
import json
import math
import os
import random

import pandas as pd

from rlhf_hw import cli
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
NO_TEXT += [
    "\u200b\u2800",
    "\U0001d159 ",
    "\U00016fe4",
    "\U00013441\U00013430\U000e0fff",
]  # which nobody sees
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
    split = draw.choice(["nosuchsplit", "*", "../x", "train.older"])
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


KINDS = {
    "row": hostile_row,
    "file": hostile_file,
    "name": hostile_name,
}
