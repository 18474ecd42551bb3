"""100,000 pairs made from real ones: checked, tokenized and trained on in less than 3 GB.

Needs RLHF_HW_REAL_DATA and minutes: RLHF_HW_SLOW=1 runs it.
"""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rlhf_hw.models.rendering import Renderer
from rlhf_hw.paths import LOCAL_COPIES
from rlhf_hw.training.base_model import new_language_model, train_tokenizer
from rlhf_hw.training.config import NewModel

PAIRS = 100_000
LIMIT = 3 * 2**30
# What a run took at its peak is known to its own process alone.
PROGRAM = """
import resource, sys
from rlhf_hw.cli import main
status = main(sys.argv[1:])
print("PEAK", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
sys.exit(status)
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.real_data,
    pytest.mark.skipif(
        not (os.environ.get("RLHF_HW_SLOW") and os.environ.get("RLHF_HW_REAL_DATA")),
        reason="set RLHF_HW_SLOW=1 and RLHF_HW_REAL_DATA",
    ),
]


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    folder = Path(os.environ["RLHF_HW_REAL_DATA"]).expanduser().resolve() / LOCAL_COPIES["Anthropic/hh-rlhf"]
    files = sorted(folder.rglob("train.jsonl.gz"))
    return [json.loads(line) for file in files for line in gzip.open(file, "rt", encoding="utf-8")]


@pytest.fixture(scope="module")
def big_file(rows, tmp_path_factory) -> Path:
    """Real pairs over and over, numbered in the first turn: equal ones would be dropped as duplicates."""
    path = tmp_path_factory.mktemp("big") / "train.jsonl"
    with path.open("w", encoding="utf-8") as stream:
        for number in range(PAIRS):
            row = rows[number % len(rows)]
            marked = {k: row[k].replace("Human:", f"Human: ({number})", 1) for k in ("chosen", "rejected")}
            stream.write(json.dumps(marked) + "\n")
    return path


@pytest.fixture(scope="module")
def base_folder(rows, tmp_path_factory) -> Path:
    """A model of the default's size, 7 million parameters, with random weights."""
    folder = tmp_path_factory.mktemp("base")
    tokenizer = train_tokenizer([row["chosen"] for row in rows[:2000]], vocabulary=8192)
    new_language_model(tokenizer, NewModel()).save_pretrained(folder)
    Renderer(tokenizer).save(folder)
    return folder


def peak_memory(*arguments: str) -> tuple[int, str]:
    """Run a command of `rlhf-hw`; return its peak memory in bytes and what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, timeout=1200
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return int(done.stdout.rpartition("PEAK")[2]), done.stdout


def test_check_data(big_file) -> None:
    peak, printed = peak_memory("check-data", str(big_file), "--template", "HH", "--json")
    report = json.loads(printed.rpartition("PEAK")[0])
    assert report["rows"] == PAIRS and report["used"] > 0.95 * PAIRS
    assert peak < LIMIT
    print(f"check-data: {peak / 2**30:.2f} GiB, {report['used']} of {PAIRS} pairs used")


def test_training(big_file, base_folder, tmp_path) -> None:
    settings = {
        "model": base_folder,
        "output-dir": tmp_path,
        "train-dataset": big_file,
        "train-template": "HH",
    }
    settings |= {"max-steps": 5, "batch-size": 4, "gradient-accumulation-steps": 4, "report-to": "none"}
    flags = [str(part) for name, value in settings.items() for part in (f"--{name}", value)]
    peak, _ = peak_memory("train", "rm", *flags)
    record = json.loads((tmp_path / "training.json").read_text())
    assert record["metrics"]["pairs"] > 0.95 * PAIRS and record["metrics"]["steps"] == 5
    assert peak < LIMIT
    print(f"training: {peak / 2**30:.2f} GiB with {record['metrics']['pairs']} pairs")
