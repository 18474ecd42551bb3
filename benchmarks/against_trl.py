"""Measure this project against TRL: python benchmarks/against_trl.py [--quick | --short] [--out results.json]

Every job runs in a fresh process, ours and TRL's in turn, from the same checkpoint, pairs, dtype, batch size
and optimizer, several rounds. Printed are tables; the JSON holds every number of every round. See
docs/benchmarks.md.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import torch  # noqa: E402
from systems import ON_GPU, SYSTEMS  # noqa: E402
from tables import (  # noqa: E402
    exactness_rows,
    goal_rows,
    inference_rows,
    profile_rows,
    scaling_tables,
    table,
    training_rows,
)
from workloads import HH, Workload  # noqa: E402

from rlhf_hw.models.loading import pick_dtype  # noqa: E402
from rlhf_hw.pipeline.machine import describe_machine, installed_versions  # noqa: E402

INFERENCE = [(task, system) for task in ("score", "generate") for system in ("ours", "transformers")]
LEARNING_RATES = {"rm": 1e-4, "dpo": 1e-5}


@dataclass(frozen=True)
class Plan:
    """What a run of the benchmark does; after so many `seconds` no further job of training begins."""

    workloads: tuple[Workload, ...]
    rounds: int
    source: str
    exact_steps: int
    peak_sizes: tuple[int, ...] = (1024, 2048, 4096)
    short: bool = False
    systems: tuple[str, ...] = SYSTEMS
    seconds: float = float("inf")


FULL = Plan(
    workloads=(
        Workload("7M", 8192, batch=8, steps=40, score=1800, generate=256, base_steps=60),
        Workload("135M", 0, batch=4, steps=10, model="smollm2-135m"),
        Workload("0.5B", 8192, batch=2, steps=5),
    ),
    rounds=3,
    source=HH,
    exact_steps=5,
)
QUICK = Plan(
    workloads=(Workload("7M", 8192, batch=8, steps=5, score=64, generate=32, new_tokens=64, base_steps=10),),
    rounds=1,
    source=HH,
    exact_steps=3,
    peak_sizes=(2048,),
)
GPU = Plan(
    workloads=(
        Workload("135M", 0, batch=32, steps=40, model="smollm2-135m"),
        Workload("0.5B", 8192, batch=32, steps=20),
    ),
    rounds=1,
    source=HH,
    exact_steps=5,
    peak_sizes=(4096, 8192),
    systems=SYSTEMS + ON_GPU,
)
SHORT = Plan(
    workloads=(Workload("tiny", 400, batch=2, steps=3, score=8, generate=6, new_tokens=8),),
    rounds=1,
    source="made-up",
    exact_steps=2,
    peak_sizes=(256,),
    short=True,
)


class Runner:
    """Starts jobs, each in a process of its own, or all in this one.

    Args:
        folder: Where checkpoints, pairs and results of the jobs are kept while the benchmark runs.
        threads: Threads of each job; 0 leaves the choice to torch.
        here: Run jobs in this process: for tests, where starting processes would take most of the time.
        before: Called before each job, for example to write down what the earlier ones measured.
    """

    def __init__(self, folder: Path, threads: int = 0, here: bool = False, before=lambda: None):
        self.folder, self.threads, self.here, self.before = folder, threads, here, before
        self.started = time.perf_counter()

    def __call__(self, **job) -> dict:
        self.before()
        start = time.perf_counter()
        if self.here:
            from jobs import KINDS

            result = KINDS[job["task"]](job)
        else:
            result = self._in_a_process(job)
        what = "/".join(str(job[k]) for k in ("task", "system", "dtype") if k in job)
        numbers = {k: f"{v:.4g}" for k, v in result.items() if isinstance(v, float)}
        print(f"  {what}: {time.perf_counter() - start:.0f} s {numbers}", file=sys.stderr, flush=True)
        return result

    def if_it_can(self, job: dict) -> list[dict]:
        """The result of a job that not every machine can do; none where it fails, with the reason printed."""
        try:
            return [self(**job)]
        except Exception as error:
            print(f"  {job['task']}/{job['system']}: {type(error).__name__}: {error}", file=sys.stderr)
            return []

    def _in_a_process(self, job: dict) -> dict:
        with tempfile.TemporaryDirectory(dir=self.folder) as temporary:
            paths = [Path(temporary) / name for name in ("job.json", "result.json", "log.txt")]
            paths[0].write_text(json.dumps(job | {"threads": self.threads}), encoding="utf-8")
            quiet = {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "TOKENIZERS_PARALLELISM": "false"}
            # no data prepared by an earlier job
            environment = os.environ | quiet | {"HF_DATASETS_CACHE": f"{temporary}/datasets"}
            command = [sys.executable, str(HERE / "jobs.py"), str(paths[0]), str(paths[1])]
            with paths[2].open("w") as log:
                done = subprocess.run(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
            if done.returncode:
                raise RuntimeError(f"job {job} failed:\n{paths[2].read_text()[-3000:]}")
            return json.loads(paths[1].read_text(encoding="utf-8"))


def run_workload(run: Runner, workload: Workload, plan: Plan, only: set[str], result: dict) -> None:
    """All jobs of one workload, put into `result`; the systems' order turns round every round."""
    folder = str(run.folder / workload.name)
    run(task="prepare", workload=asdict(workload), source=plan.source, folder=folder)
    training = {f"{task}/{system}": [] for task in ("rm", "dpo") for system in plan.systems if task in only}
    inference = {f"{task}/{system}": [] for task, system in INFERENCE if task in only and workload.score}
    exact = {}
    result |= {"workload": asdict(workload), "training": training, "inference": inference, "exact": exact}
    for number in range(plan.rounds):
        for name in sorted(training, reverse=number % 2 == 1):
            if time.perf_counter() - run.started < plan.seconds:
                job = training_job(name, folder, workload, same_order=False)
                training[name] += run.if_it_can(job) if name.endswith(ON_GPU) else [run(**job)]
        for name in sorted(inference, reverse=number % 2 == 1):
            task, system = name.split("/")
            inference[name].append(
                run(
                    task=task,
                    system=system,
                    folder=folder,
                    dtype=workload.dtype,
                    pairs=workload.score,
                    replies=workload.generate,
                    new_tokens=workload.new_tokens,
                )
            )
    if "exact" in only and (workload.score or workload.model):
        for dtype in ("fp32", "bf16"):
            smaller = replace(workload, steps=plan.exact_steps, dtype=dtype)
            for name in (f"{task}/{system}" for task in ("rm", "dpo") for system in ("ours", "trl")):
                task, system = name.split("/")
                exact[f"{task}/{dtype}/{system}"] = run(
                    **training_job(name, folder, smaller, same_order=True)
                )
    if "profile" in only and not torch.cuda.is_available():
        result["profile"] = run(
            task="profile", folder=folder, dtype=workload.dtype, batch=workload.batch, steps=plan.exact_steps
        )
    if "scaling" in only and workload.score:
        result["scaling"] = run(task="scaling", folder=folder, dtype=workload.dtype, short=plan.short)


def training_job(name: str, folder: str, workload: Workload, same_order: bool) -> dict:
    """The description of one training job."""
    task, system = name.split("/")
    return {
        "task": task,
        "system": system,
        "folder": folder,
        "batch": workload.batch,
        "steps": workload.steps,
        "dtype": workload.dtype,
        "learning_rate": LEARNING_RATES[task],
        "same_order": same_order,
    }


def report(results: dict) -> str:
    """All tables of a run."""
    machine = results["machine"]
    peaks = ", ".join(f"{flops / 1e9:.0f} GFLOP/s in {dtype}" for dtype, flops in results["peak"].items())
    parts = [f"{machine['processor']}, {machine['threads']} threads; matrix products reach {peaks}"]
    for name, result in results["workloads"].items():
        workload = result["workload"]
        title = f"{name}, batch {workload['batch']}, {workload['steps']} steps, {workload['dtype']}"
        training = {name: rounds for name, rounds in result["training"].items() if rounds}
        if training:
            tokens = next(iter(training.values()))[0]["tokens"]
            mean = ", ".join(f"{n:.0f}" for n in (tokens["prompt"], *tokens["replies"]))
            rows = training_rows(training, results["peak"][workload["dtype"]])
            parts.append(
                f"## Training: {title} (mean tokens of prompt, chosen, rejected: {mean})\n\n{table(rows)}"
            )
            if goals := goal_rows(name, training):
                parts.append(f"## Goals: {name}\n\n{table(goals)}")
        if result["inference"]:
            parts.append(f"## Scoring and generation: {name}\n\n{table(inference_rows(result['inference']))}")
        if result["exact"]:
            parts.append(f"## Losses of the same pairs: {name}\n\n{table(exactness_rows(result['exact']))}")
        if "profile" in result:
            rows = profile_rows(result["profile"], results["peak"][workload["dtype"]])
            parts.append(f"## Where a step's time goes: {name}, {workload['dtype']}\n\n{table(rows)}")
        if "scaling" in result:
            parts.append(f"## Scaling: {name}, {workload['dtype']}\n\n{scaling_tables(result['scaling'])}")
    return "\n\n".join(parts)


def benchmark(
    plan: Plan, only: set[str], threads: int = 0, here: bool = False, out: Path | None = None
) -> dict:
    """Run a plan; returns every number, and writes what there is to `out` before each job."""
    results = {
        "machine": describe_machine(str(pick_dtype("auto")).removeprefix("torch."))
        | ({"threads": threads} if threads else {}),
        "system": platform.platform(),
        "versions": installed_versions(),
        "peak": {},
        "workloads": {},
    }

    def write() -> None:
        if out:
            out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")

    with tempfile.TemporaryDirectory() as temporary:
        run = Runner(Path(temporary), threads, here, before=write)
        dtypes = sorted({w.dtype for w in plan.workloads})
        seconds = 0.05 if plan.short else 1.0
        results["peak"] |= run(task="peak", dtypes=dtypes, sizes=plan.peak_sizes, seconds=seconds)["flops"]
        for workload in plan.workloads:
            run_workload(run, workload, plan, only, results["workloads"].setdefault(workload.name, {}))
    write()
    return results


def main(arguments: list[str] | None = None) -> None:
    """Read the command line, run, print and write."""
    parts = ("rm", "dpo", "score", "generate", "exact", "profile", "scaling")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="7M only, few steps, one round: some minutes")
    parser.add_argument("--short", action="store_true", help="a tiny model on made-up pairs, as in the tests")
    parser.add_argument("--gpu", action="store_true", help="the plan for a GPU: 135M and 0.5B")
    parser.add_argument("--here", action="store_true", help="all jobs in this process: no start of each")
    parser.add_argument("--seconds", type=float, help="after so many no further training job begins")
    parser.add_argument("--batch", type=int, help="pairs in a step")
    parser.add_argument("--workloads", help="names of some of the plan's workloads, by commas")
    parser.add_argument("--only", default=",".join(parts), help=f"some of {','.join(parts)}")
    parser.add_argument("--source", help="made-up, or a source of HH transcripts; default: as in the plan")
    parser.add_argument("--rounds", type=int, help="how often each job runs")
    parser.add_argument("--steps", type=int, help="steps of each training job")
    parser.add_argument("--dtype", choices=("bf16", "fp32"), help="dtype of matrix products")
    parser.add_argument("--threads", type=int, default=0, help="threads of each job; default: torch's choice")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark.json"), help="where the JSON goes")
    options = parser.parse_args(arguments)
    plan = SHORT if options.short else QUICK if options.quick else GPU if options.gpu else FULL
    given = {"steps": options.steps, "dtype": options.dtype, "batch": options.batch}
    chosen = {k: v for k, v in given.items() if v}
    names = options.workloads.split(",") if options.workloads else [w.name for w in plan.workloads]
    plan = replace(
        plan,
        workloads=tuple(replace(w, **chosen) for w in plan.workloads if w.name in names),
        rounds=options.rounds or plan.rounds,
        source=options.source or plan.source,
        seconds=options.seconds or plan.seconds,
    )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    results = benchmark(plan, set(options.only.split(",")), options.threads, options.here, options.out)
    print(report(results))


if __name__ == "__main__":
    main()
