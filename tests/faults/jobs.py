"""What is killed and started again, and a process that forks and kills it: `with Forks() as forks: ...`.

Each job is called with the folder of its inputs and the one for its results; called again after a kill it
goes on, or does its work anew.
"""

import contextlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import rlhf_hw.training.reference
from rlhf_hw.paths import ROOT

LIMIT = 240  # seconds that a job may take
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate"}


class Forks:
    """A process that has loaded the libraries, and forks one for each job."""

    def __enter__(self) -> "Forks":
        shown = {**os.environ, "PYTHONPATH": str(ROOT), "RLHF_HW_WORKERS": "1"}
        command = [sys.executable, "-m", "tests.faults.jobs"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.server = subprocess.Popen(command, env=shown, cwd=ROOT, stderr=subprocess.DEVNULL, **pipes)
        return self

    def __exit__(self, *_) -> None:
        self.server.communicate(timeout=60)

    def run(self, job: str, inputs: Path, folder: Path, **kill) -> dict:
        """Do a job; with `seconds` or `changes` it is killed after these, unless it ends before.

        With `full_after` the file system `disk` is full after so many changes, with `largest` no file can be
        longer than so many bytes.

        Returns:
            `killed`, `seconds` that it ran, `changes` of files that it made, `error` if it raised one.
        """
        asked = {"job": job, "inputs": str(inputs), "folder": str(folder), **kill}
        self.server.stdin.write(json.dumps(asked) + "\n")
        self.server.stdin.flush()
        return json.loads(self.server.stdout.readline())


def _serve() -> None:
    """Fork a process for each line of standard input, and say on standard output how it ended."""
    import rlhf_hw.experiments.answers  # noqa: F401
    import rlhf_hw.experiments.score_texts  # noqa: F401
    import rlhf_hw.pipeline.runner  # noqa: F401
    import rlhf_hw.training.launch  # noqa: F401

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what jobs print is no answer
    for line in sys.stdin:
        asked = json.loads(line)
        log, started = Path(asked["inputs"]).with_name("job.log"), time.monotonic()
        child = os.fork()
        if child == 0:
            try:
                _work(asked, log)
            finally:
                os._exit(0)
        status = _wait(child, started + asked.get("seconds", LIMIT))
        found = json.loads(log.read_text()) if status is not None and log.exists() else {}
        log.unlink(missing_ok=True)
        killed = status is None or os.WIFSIGNALED(status)
        print(
            json.dumps({"killed": killed, "seconds": time.monotonic() - started, **found}),
            file=answers,
            flush=True,
        )


def _wait(child: int, until: float) -> int | None:
    """The status with which a process ended; None if it was killed here."""
    while time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def _work(asked: dict, log: Path) -> None:
    folder, made = asked["folder"], [0]

    def count(event: str, arguments: tuple) -> None:
        named = (
            arguments and isinstance(arguments[0], str | os.PathLike) and str(arguments[0]).startswith(folder)
        )
        if named and (event in CHANGES or event == "open" and (arguments[2] or 0) & WRITES):
            made[0] += 1
            if made[0] == asked.get("changes"):
                os.kill(os.getpid(), signal.SIGKILL)
            if made[0] == asked.get("full_after"):
                _fill(asked["disk"])

    rlhf_hw.training.reference.RUNS = Path(folder) / "runs"  # with the references of this run alone
    if largest := asked.get("largest"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))
    sys.addaudithook(count)
    found = {}
    try:
        JOBS[asked["job"]](Path(asked["inputs"]), Path(folder))
    except BaseException:
        found["error"] = traceback.format_exc()
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    log.write_text(json.dumps({**found, "changes": made[0]}))


def _fill(disk: str) -> None:
    """Fill a file system to its last byte."""
    with contextlib.suppress(OSError), open(Path(disk) / "filling", "wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 12))


def train(kind: str, more: dict | None = None) -> Callable[[Path, Path], None]:
    """A training of five steps with a checkpoint after each second one."""

    def job(inputs: Path, folder: Path) -> None:
        from rlhf_hw.training.config import SETTINGS
        from rlhf_hw.training.launch import TRAIN

        values = {
            "model": str(inputs / "models" / "policy"),
            "output_dir": folder,
            "train_dataset": str(inputs / "data" / "pairs.jsonl"),
            "eval_dataset": str(inputs / "data" / "pairs.jsonl"),
            "eval_split": "train",
            "evaluations": 1,
            "batch_size": 4,
            "max_steps": 5,
            "learning_rate": 1e-3,
            "logging_steps": 1,
            "dtype": "fp32",
            "report_to": "none",
            "save_steps": 2,
            "resume": True,
        }
        TRAIN[kind](SETTINGS[kind](**values | (more or {})))

    return job


def score(inputs: Path, folder: Path) -> None:
    """Score replies and pairs."""
    from rlhf_hw.experiments.score_texts import score_texts

    model = str(inputs / "models" / "reward")
    score_texts([inputs / "data" / "replies.jsonl"], model, folder / "replies.jsonl.gz")
    score_texts([inputs / "data" / "pairs.jsonl"], model, folder / "pairs.jsonl", "HOMEWORK")


def sample(inputs: Path, folder: Path) -> None:
    """Sample replies from three policies, score and write them, as notebook 05 does."""
    from rlhf_hw.experiments.answers import answer
    from rlhf_hw.experiments.replicate_work import AnswerSettings
    from rlhf_hw.pipeline.graph import replica
    from rlhf_hw.preferences.reading import load_preferences

    models = inputs / "models"
    policy, reward = models / "policy", models / "reward"
    asked = load_preferences(str(inputs / "data" / "pairs.jsonl"), "HOMEWORK")[0][:4]
    setting = AnswerSettings(sampling={"max_new_tokens": 8}, kl_prompts=2)
    steps = [{"sft": policy, "dpo": policy, "reward_model": reward}]
    answer({"validation": asked}, policy, steps, folder, setting, named=replica)


def notebook(inputs: Path, folder: Path) -> None:
    """Run a profile of two small notebooks."""
    from unittest.mock import patch

    from rlhf_hw.pipeline.profiles import Profile
    from rlhf_hw.pipeline.runner import run_profile

    profile = Profile(name="short", title="Short", parameters={"folder": str(folder)})
    with patch("rlhf_hw.pipeline.run_folder.RUNS", folder / "runs"):
        run_profile(profile, notebooks=inputs / "notebooks")


def report(inputs: Path, folder: Path) -> None:
    """Typeset a finished run's report in English."""
    from unittest.mock import patch

    from rlhf_hw import cli

    copy = folder / "nano"
    copy.mkdir(parents=True, exist_ok=True)
    for name in ("metrics.json", "run.json"):
        shutil.copyfile(inputs / name, copy / name)
    for name in ("metrics", "tables", "fig"):
        shutil.copytree(inputs / name, copy / name, dirs_exist_ok=True)
    with patch("rlhf_hw.report.build.RUNS", folder), patch("rlhf_hw.paths.RUNS", folder):
        if status := cli.main(["report", "--engine", "typst", "--language", "en"]):
            raise SystemExit(status)


def logged(inputs: Path, folder: Path) -> None:
    """A training with TensorBoard's logs in `logs/` beside its folder, which may lie on another disk."""
    logs = {"report_to": "tensorboard", "log_dir": folder.with_name("logs")}
    train("rm", logs | {"max_steps": 24, "save_steps": 6, "evaluations": 24})(inputs, folder)  # several pages


JOBS = {
    "rm": train("rm"),
    "logged": logged,
    "sft": train("sft"),
    "dpo": train("dpo"),
    "lora": train("rm", {"lora_rank": 4}),
    "score": score,
    "sample": sample,
    "notebook": notebook,
    "report": report,
}


def kills(job: dict, draw: random.Random, count: int) -> list[dict]:
    """Random points at which to kill a job: of its time, and of the changes of files that it makes."""
    times = [{"seconds": draw.uniform(0, job["seconds"])} for _ in range(count // 2)]
    return times + [{"changes": draw.randint(1, job["changes"])} for _ in range(count - len(times))]


if __name__ == "__main__":
    _serve()
