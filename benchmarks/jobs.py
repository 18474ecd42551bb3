"""Run one job and write what it measured: `python benchmarks/jobs.py job.json result.json`."""

import json
import sys
import tempfile
from pathlib import Path

import inference_jobs
import profiling
import scaling
import systems
import torch
from measuring import (
    forget_memory,
    matrix_peak,
    peak_memory,
    step_seconds,
    useful_flops,
    watch_steps,
)


def training_job(job: dict) -> dict:
    """Train, and add rates to what `systems.train` measured."""
    watch_steps()
    forget_memory()
    with tempfile.TemporaryDirectory(dir=Path(job["folder"]).parent) as output:
        result = systems.train(job | {"output": output})
    result["memory_gib"] = peak_memory()
    clock, processor = step_seconds()
    result["step_pairs_per_second"] = job["batch"] / clock
    result["processor_seconds_per_pair"] = processor / job["batch"]
    result["total_pairs_per_second"] = job["batch"] * job["steps"] / result["seconds"]
    groups = systems.tokenized(Path(job["folder"]), job["batch"] * job["steps"])
    prompts, replies = groups.prompt_lengths, groups.reply_lengths
    # forward and backward; TRL at its defaults runs the reference model within the step
    passes = 3 + (job["task"] == "dpo" and job["system"] == "trl")
    flops = passes * useful_flops(Path(job["folder"]) / "policy", prompts, replies, head=job["task"] == "dpo")
    result["useful_flops_per_second"] = flops / len(prompts) * result["step_pairs_per_second"]
    result["tokens"] = {"prompt": float(prompts.mean()), "replies": replies.mean(axis=0).tolist()}
    return result


def inference_job(job: dict) -> dict:
    run = inference_jobs.score if job["task"] == "score" else inference_jobs.generate
    return run(job) | {"memory_gib": peak_memory()}


def peak_job(job: dict) -> dict:
    return {"flops": {d: matrix_peak(d, tuple(job["sizes"]), job["seconds"]) for d in job["dtypes"]}}


def prepare_job(job: dict) -> dict:
    import workloads

    workload = workloads.Workload(**job["workload"])
    workloads.prepare(workload, job["source"], Path(job["folder"]))
    return {}


KINDS = {
    "rm": training_job,
    "dpo": training_job,
    "score": inference_job,
    "generate": inference_job,
    "peak": peak_job,
    "profile": profiling.profile_steps,
    "scaling": scaling.scaling,
    "prepare": prepare_job,
}


def main() -> None:
    """Run the job named on the command line."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    if job.get("threads"):
        torch.set_num_threads(job["threads"])
    result = KINDS[job["task"]](job)
    Path(sys.argv[2]).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
