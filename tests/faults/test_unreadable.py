"""Folders and files that may not be read or written: one message that names them, and says what to do.

Root may read all, so each command runs in a process of its own that has given up this right (Linux).
"""

import ctypes
import os
import re
import sys
import traceback
from collections.abc import Iterator

import pytest

import rlhf_hw.pipeline.runner
import rlhf_hw.report.build
import rlhf_hw.training.launch  # noqa: F401 - loaded before the rights are gone
from rlhf_hw import cli
from tests.faults.campaign import REMEDIES
from tests.faults.run_kinds import shielded
from tests.faults.workshop import Workshop, snapshot

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="gives up rights as Linux knows them")

CAPABILITIES = 0x20080522  # version 3 of what capget and capset take
PASSES_MODES = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Iterator[Workshop]:
    made = Workshop(tmp_path_factory.mktemp("unreadable") / "workshop").build()
    for name in ("runs/nano/metrics", "runs/nano/tables", "runs/nano/fig", "out"):
        (made.folder / name).mkdir(parents=True)
    (made.folder / "runs/nano/metrics.json").write_text('{"a": 1.5}')
    (made.folder / "runs/nano/run.json").write_text("{}")
    (made.folder / "mine.yaml").write_text("name: mine\ntitle: Mine\n")
    (made.folder / "settings.yaml").write_text("seed: 1\n")
    with shielded(made):
        yield made


def give_up_passing_modes() -> None:
    """From here on, this process may only read and write what the modes of files and folders say."""
    system, header = ctypes.CDLL(None, use_errno=True), (ctypes.c_uint32 * 2)(CAPABILITIES, 0)
    rights = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; then the upper half of each
    assert system.capget(header, rights) == 0
    for number in range(3):
        rights[number] &= ~PASSES_MODES
    assert system.capset(header, rights) == 0


def told_without_rights(shop: Workshop, call: list[str]) -> tuple[int, str]:
    """Exit status and standard error of a command that is held to the modes of what it reads."""
    ours, theirs = os.pipe()
    if not (child := os.fork()):
        status = 99
        try:
            os.dup2(theirs, 2)
            sys.stderr = os.fdopen(2, "w")
            give_up_passing_modes()
            status = cli.main(call)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    os.close(theirs)
    with os.fdopen(ours) as stream:
        said = stream.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said


def calls(shop: Workshop) -> dict[str, list[str]]:
    """Commands by what they read."""
    out = ["--output", str(shop.folder / "out" / "scores.jsonl")]
    train = [
        "--train-dataset",
        str(shop.data / "pairs.jsonl"),
        "--output-dir",
        str(shop.folder / "out" / "model"),
    ]
    train += ["--dtype", "fp32", "--report-to", "none", "--max-steps", "1", "--batch-size", "4"]
    return {
        "check": ["check-data", str(shop.data / "pairs.jsonl"), "--template", "HOMEWORK"],
        "check folder": ["check-data", str(shop.data), "--template", "HOMEWORK"],
        "score": ["score", str(shop.replies), "--model", str(shop.reward), *out],
        "replies": ["check-replies", str(shop.replies)],
        "train": ["train", "rm", "--model", str(shop.policy), *train],
        "train dpo": ["train", "dpo", "--model", str(shop.policy), *train],
        "settings": [
            "train",
            "rm",
            "--model",
            str(shop.policy),
            *train,
            "--config",
            str(shop.folder / "settings.yaml"),
        ],
        "logs": [
            "train",
            "rm",
            "--model",
            str(shop.policy),
            *train,
            "--log-dir",
            str(shop.folder / "out" / "logs"),
        ],
        "profile": ["run", "--profile", str(shop.folder / "mine.yaml")],
        "run": ["run"],
        "report": ["report", "--engine", "typst", "--language", "en"],
        "explore": ["explore", str(shop.folder / "runs" / "nano")],
        "explore out": ["explore", str(shop.replies), "--out", str(shop.folder / "out" / "page.html")],
        "explore file": ["explore", str(shop.replies)],
    }


CASES = [
    *((f"data{name}", "check") for name in ("", "/pairs.jsonl")),
    *((f"data{name}", "check folder") for name in ("",)),
    *((f"data{name}", "train") for name in ("", "/pairs.jsonl")),
    *((f"data{name}", "score") for name in ("", "/replies.jsonl")),
    *((f"data{name}", "replies") for name in ("", "/replies.jsonl")),
    ("data", "explore file"),
    *(
        (f"models/reward{name}", "score")
        for name in ("", "/config.json", "/model.safetensors", "/tokenizer.json")
    ),
    ("models/reward/rendering.json", "score"),
    ("models", "score"),
    *((f"models/policy{name}", "train dpo") for name in ("", "/config.json", "/model.safetensors")),
    ("models", "train"),
    *((f"runs/nano{name}", "report") for name in ("", "/metrics.json", "/run.json", "/tables")),
    *((f"runs/nano{name}", "run") for name in ("", "/run.json")),
    ("runs", "run"),
    ("runs", "report"),
    ("runs/nano", "explore"),
    ("mine.yaml", "profile"),
    ("settings.yaml", "settings"),
]


@pytest.mark.parametrize("mode", [0o000, pytest.param(0o444, marks=pytest.mark.full)], ids=oct)
@pytest.mark.parametrize(("name", "what"), CASES)
def test_what_may_not_be_read_is_named(shop, name: str, what: str, mode: int) -> None:
    place = shop.folder / name
    if mode and place.is_file():
        pytest.skip("a file that may be read")
    before = place.stat().st_mode
    place.chmod(mode)
    try:
        status, said = told_without_rights(shop, calls(shop)[what])
    finally:
        place.chmod(before)
    assert status == 1 and said.count("\n") == 1 and said.startswith("error: "), said
    assert str(place) in said and re.search(REMEDIES, said.lower()), said
    assert "the hub" not in said, said


@pytest.mark.parametrize("what", ["score", "train", "logs", "run", "explore out"])
def test_where_nothing_may_be_written_is_named_before_the_work_begins(shop, what: str) -> None:
    place = shop.folder / ("runs/nano" if what == "run" else "shut")
    place.mkdir(exist_ok=True)
    before = snapshot(place)
    place.chmod(0o555)
    try:
        status, said = told_without_rights(shop, [a.replace("/out/", "/shut/") for a in calls(shop)[what]])
    finally:
        place.chmod(0o755)
    assert status == 1 and said.count("\n") == 1 and said.startswith("error: "), said
    assert str(place) in said and re.search(REMEDIES, said.lower()), said
    assert snapshot(place) == before
