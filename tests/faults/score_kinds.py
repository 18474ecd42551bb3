"""Hostile replies to score, score files and mappings of their names."""

import json
import math
import random
import sys
from pathlib import Path

from rlhf_hw import cli
from rlhf_hw.errors import Explained
from rlhf_hw.preferences.score_files import parse_mapping, read_pairs, read_replies
from tests.faults.input_kinds import STRANGE
from tests.faults.workshop import Case, Workshop, write_lines


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


KINDS = {"reply to score": hostile_reply, "score file": hostile_scores}
