"""Hostile folders and files for results, resumable checkpoints, profiles and finished runs."""

import contextlib
import fcntl
import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import torch
import yaml
from safetensors.torch import load_file, save_file

from rlhf_hw import cli
from tests.faults.workshop import Case, Workshop, good_rows, write_lines

# how often a kind has its turn, where it is not three times
WEIGHTS = {
    "row": 6,
    "file": 4,
    "setting": 4,
    "resume": 1,
    "output folder": 2,
    "model to train": 2,
    "report": 2,
}


@contextlib.contextmanager
def shielded(shop: Workshop) -> Iterator[None]:
    """Runs lie in the workshop, notebooks do not run, and reports are filled but not typeset."""
    runs = shop.folder / "runs"
    places = ["rlhf_hw.paths.RUNS", "rlhf_hw.pipeline.run_folder.RUNS", "rlhf_hw.training.reference.RUNS"]
    with contextlib.ExitStack() as changed:
        for place in (*places, "rlhf_hw.report.build.RUNS"):
            changed.enter_context(patch(place, runs))
        changed.enter_context(patch("rlhf_hw.pipeline.runner._run_queue", lambda *_: []))
        yield


def hostile_output(draw: random.Random, shop: Workshop) -> Case:
    """Folders and files for results that hold something else, or cannot be written."""
    folder = shop.case()
    foreign = shutil.copytree(shop.policy, folder / "theirs")
    (foreign / "rendering.json").unlink()
    (folder / "notes").mkdir()
    (folder / "notes" / "diary.txt").write_text("mine")
    (folder / "notes" / "optimizer.pt").write_text("mine")
    (folder / "notes" / "events.out.tfevents.1.host.1.0").write_text("mine")
    os.symlink(shop.policy, folder / "link")
    (folder / "a file").write_text("mine")
    os.symlink(folder / "nowhere" / "x", folder / "dangling")
    own = draw.choice([True, False])
    folders = {
        "theirs": foreign,
        "the model": shop.policy,
        "link to the model": folder / "link",
        "a file": folder / "a file",
        "below a file": folder / "a file" / "x",
        "empty": "",
        "nobody": "~nosuchuser/x",
        "long": folder / ("x" * 300),
        "device": "/dev/null",
        "proc": "/proc/x",
        "zero byte": "a\0b",
        "data": shop.data,
        "notes": folder / "notes",
        "dangling": folder / "dangling",
        "taken": folder / "taken",
        "dash": "-",
    }
    way = draw.choice(list(folders))
    if way == "taken":
        folders[way].mkdir()
        (folders[way] / ".rlhf_hw.lock").touch()
    output = folders[way]
    if own:
        (folder / "logs").mkdir()
        (folder / "logs" / "events.out.tfevents.2.host.2.0").write_text("mine")
    flags = ["--log-dir", str(folder / "logs")] if own else []
    method = draw.choice(["rm", "dpo", "sft"])

    def call() -> int:
        if way != "taken":
            return shop.train(method, output, *flags)
        with (output / ".rlhf_hw.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return shop.train(method, output, *flags)

    fine = way == "notes"
    return Case(
        f"{method} {way}", call, () if way == "empty" else ("output_dir",), (lambda _: True) if fine else None
    )


def hostile_target(draw: random.Random, shop: Workshop) -> Case:
    """Where scores are to go: what is read, and what cannot be written."""
    folder = shop.case()
    source = shutil.copy(shop.replies, folder / "new.jsonl")
    os.symlink(source, folder / "link.jsonl")
    os.link(source, folder / "same.jsonl")
    (folder / "a folder").mkdir()
    (folder / "fixed.jsonl").write_text("mine")
    (folder / "fixed.jsonl").chmod(0o444)
    (folder / "old.jsonl").write_text("old")
    ways = {
        "input": source,
        "link": folder / "link.jsonl",
        "hard link": folder / "same.jsonl",
        "folder": folder / "a folder",
        "below a file": folder / "new.jsonl" / "x.jsonl",
        "in the model": shop.reward / "scores.jsonl",
        "read-only": folder / "fixed.jsonl",
        "empty": "",
        "full": "/dev/full",
        "proc": "/proc/scores.jsonl",
        "long": folder / ("x" * 300),
        "zero byte": "a\0b",
        "dash": "-",
        "old": folder / "old.jsonl",
        "new folder": folder / "deep" / "er" / "scores.jsonl.gz",
    }
    way = draw.choice(list(ways))
    fine = way in ("old", "new folder")
    call = ["score", str(source), "--model", str(shop.reward), "--output", str(ways[way])]

    def right(_: str) -> bool:
        return fine and Path(ways[way]).stat().st_size > 50

    writes = (folder / "old.jsonl",) if way == "old" else ()
    return Case(way, lambda: cli.main(call), (), right, writes, works=fine)


def hostile_resume(draw: random.Random, shop: Workshop) -> Case:
    """A stopped run, changed before it goes on: it ends as it would have without a stop, or is refused."""
    folder, method = shop.case(), draw.choice(["rm", "sft", "dpo"])
    output, steps = folder / "out", ["--max-steps", "4", "--save-steps", "1", "--learning-rate", "1e-3"]
    whole = folder / "whole"
    shop.train(method, whole, *steps)
    with patch("rlhf_hw.training.group_trainer.Progress.on_step_end", _stop):
        shop.train(method, output, *steps)
    last, changes = output / "checkpoint-3", []
    ways = {
        "data": lambda: changes.extend(
            ["--train-dataset", str(write_lines(folder / "o.jsonl", good_rows(draw, 9)))]
        ),
        "rate": lambda: changes.extend(["--learning-rate", "1e-2"]),
        "batch": lambda: changes.extend(["--batch-size", "2"]),
        "seed": lambda: changes.extend(["--seed", "7"]),
        "accumulation": lambda: changes.extend(["--gradient-accumulation-steps", "2"]),
        "model": lambda: changes.extend(
            ["--model", str(shop.reward if method == "rm" else _other(shop, folder))]
        ),
        "fewer pairs": lambda: changes.extend(["--max-train", "5"]),
        "nothing": lambda: None,
    }
    damaged = sorted(p.name for p in last.iterdir() if p.suffix in (".pt", ".pth", ".safetensors", ".json"))
    way = draw.choice([*ways, *(f"{how} {name}" for how in ("cut", "no", "garbage") for name in damaged)])
    if way in ways:
        ways[way]()
    else:
        path = last / way.partition(" ")[2]
        _damage(path, way.partition(" ")[0], draw)

    def right(_: str) -> bool:
        ours, theirs = (load_file(place / "model.safetensors") for place in (output, whole))
        return all(torch.equal(ours[name], theirs[name]) for name in theirs)

    def call() -> int:
        return shop.train(method, output, *steps, "--resume", *changes)

    return Case(f"{method} {way}", call, (), right, (output,), works=way == "nothing")


def _stop(self, args, state, control, **_) -> None:
    if state.global_step == 4:
        raise KeyboardInterrupt


def _other(shop: Workshop, folder: Path) -> Path:
    made = shutil.copytree(shop.policy, folder / "other")
    weights = load_file(made / "model.safetensors")
    save_file({n: w + 0.01 for n, w in weights.items()}, made / "model.safetensors", {"format": "pt"})
    return made


def _damage(path: Path, how: str, draw: random.Random) -> None:
    whole = path.read_bytes()
    if how == "no":
        path.unlink()
    else:
        path.write_bytes(whole[: len(whole) // 2] if how == "cut" else draw.randbytes(300))


def hostile_profile(draw: random.Random, shop: Workshop) -> Case:
    """Profiles, `--set`, `--only` and `--from`: refused by the name that is wrong, before anything runs."""
    folder = shop.case()
    path = folder / "mine.yaml"
    good = {
        "name": "mine",
        "title": "Mine",
        "parameters": {"seed": 3},
        "notebooks": {"dpo_training": {"beta": 0.2}},
    }
    files = {
        "name": {"name": draw.choice(["..", "../../evil", "", "a/b", ".x", "a b", "/x", "x" * 300, 7, None])},
        "parameter": {"parameters": {draw.choice(["sede", "", "run", "a.b"]): 3}},
        "type": {"parameters": {"seed": draw.choice(["x", 1.5, [1], None, {}, True])}},
        "notebook": {"notebooks": {draw.choice(["nosuch", "04", ""]): {"beta": 1}}},
        "of a notebook": {
            "notebooks": {"dpo_training": draw.choice([3, None, [], {"bta": 1}, {"beta": "x"}])}
        },
        "more": {"extra": 1},
        "no title": {"title": draw.choice([None, 3, []])},
    }
    texts = ["", "7", "- a", "name: [", "a: b: c", "\0", "name: x\nname: y\ntitle: z\n", "name: &a [*a]\n"]
    options = {
        "set": [
            "--set",
            draw.choice(["seed", "=3", "seed=x", "a.b.c=1", ".seed=1", "sede=1", "dpo_training.bta=1"]),
        ],
        "only": ["--only", draw.choice(["99", "nosuch", "02,,x", "../01"])],
        "from": ["--from", draw.choice(["99", "nosuch", ""])],
        "profile": [
            "--profile",
            draw.choice(["nosuch", "", "..", "../nano", " nano", "x" * 300, "a\0b", "~x/y.yaml"]),
        ],
    }
    way = draw.choice([*files, *options, "text", "good", "folder", "latin-1"])
    given = ["--profile", str(path)] + options.get(way, [])
    if way == "text":
        path.write_text(draw.choice(texts))
    elif way == "folder":
        path.mkdir()
    elif way == "latin-1":
        path.write_bytes("name: Modèle\ntitle: x\n".encode("latin-1"))
    else:
        path.write_text(yaml.safe_dump(good | files.get(way, {})))
    about = f"{way} {files.get(way, options.get(way, ''))}"
    right = _profile_is_kept(shop, way)
    return Case(about, lambda: cli.main(["run", *given]), (), right, works=way == "good")


def _profile_is_kept(shop: Workshop, way: str):
    def right(_: str) -> bool:
        record = json.loads((shop.folder / "runs" / "mine" / "run.json").read_text())
        return way == "good" and record["profile"]["parameters"] == {"seed": 3}

    return right


def hostile_run(draw: random.Random, shop: Workshop) -> Case:
    """A finished run with a torn or foreign file: the report names it."""
    folder = shop.folder / "runs" / "nano"
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("tables", "fig", "metrics"):
        (folder / name).mkdir(parents=True)
    for name, content in (
        ("metrics.json", {"a": 1.5}),
        ("run.json", {"seed": 1}),
        ("tables/t.json", [{"a": 1}]),
    ):
        (folder / name).write_text(json.dumps(content))
    name = draw.choice(["metrics.json", "run.json", "tables/t.json"])
    damage = ['{"a": 1', "", "[1]", "7", '{"a": NaN}', "\0", "null", '{"a": {"b": [1]}}', '{"a": null}', "é"]
    if name == "run.json":
        damage += [
            '{"profile": 7}',
            '{"parameters": []}',
            '{"experiments": 3}',
            '{"profile": {"parameters": 1}}',
        ]
    text = draw.choice(damage)
    (folder / name).write_bytes(text.encode("latin-1" if text == "é" else "utf-8"))
    gone = draw.random() < 0.2
    if gone:
        (folder / "metrics.json").unlink()
    names = ((name, "metrics.json", "report."),)
    call = ["report", "--engine", "typst", "--language", "en"]
    return Case(f"{name} {text!r} {gone}", lambda: cli.main(call), names, writes=(folder,))


KINDS = {
    "output folder": hostile_output,
    "output file": hostile_target,
    "resume": hostile_resume,
    "profile": hostile_profile,
    "report": hostile_run,
}
