"""One training job of either system, from the same files to a saved checkpoint.

"ours" is `rlhf_hw`. "trl" is TRL at its defaults, "trl-best" with the settings it offers that help: no
activation checkpointing, batches grouped by length (`workloads.batches_of_a_long_run`), reference
log-probabilities beforehand.
On a GPU two more: "trl-liger", the same with Liger's kernels, and "ours-compiled" with compiled layers.
"""

import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from measuring import StepClock
from torch.utils.data import SequentialSampler

SYSTEMS = ("ours", "trl", "trl-best")
ON_GPU = ("ours-compiled", "trl-liger")


def train(job: dict) -> dict:
    """Run one training job.

    Args:
        job: `system`, `task` ("rm" or "dpo"), `folder` (see `workloads.prepare`), `output`, `batch`,
            `steps`, `dtype`, `learning_rate`, and `same_order`: true takes the pairs as they stand in the
            file and logs every step, so that two systems' losses can be compared.

    Returns:
        Seconds of the reference pass and of everything together, and the logged losses.
    """
    if job["system"].startswith("ours"):  # importing is no part of the work
        import rlhf_hw.training  # noqa: F401
    else:
        from trl import DPOTrainer, RewardTrainer  # noqa: F401
    started = time.perf_counter()
    run = _ours if job["system"].startswith("ours") else _trl
    history, reference_seconds = run(job, Path(job["folder"]), Path(job["output"]))
    seconds = time.perf_counter() - started
    training = StepClock.ends[-1][0] - StepClock.ends[0][0]
    return {
        "seconds": seconds,
        "reference_seconds": reference_seconds,
        "training_seconds": training,
        "setup_seconds": seconds - training - reference_seconds,
        "losses": [h["loss"] for h in history if "loss" in h],
    }


def longest_anywhere(order: Iterable[int], batch: int) -> list[int]:
    """The same batches at random: else the longest comes first, which on a GPU is not counted."""
    batches = np.array(list(order)).reshape(-1, batch)
    return np.random.default_rng(0).permutation(batches).ravel().tolist()


def _logging_steps(job: dict) -> int:
    return 1 if job["same_order"] else max(1, min(10, job["steps"] // 2))


def _ours(job: dict, folder: Path, output: Path) -> tuple[list[dict], float]:
    from rlhf_hw.training import reference
    from rlhf_hw.training.config import DPOTraining, RewardTraining
    from rlhf_hw.training.group_trainer import GroupTrainer
    from rlhf_hw.training.run import train_dpo, train_reward_model

    settings = {
        "output_dir": output / "checkpoint",
        "train_dataset": str(folder / "pairs.jsonl"),
        "train_template": "TRL",
        "max_train": job["batch"] * job["steps"],
        "max_prompt_tokens": 1024,
        "max_reply_tokens": 1024,
        "batch_size": job["batch"],
        "learning_rate": job["learning_rate"],
        "logging_steps": _logging_steps(job),
        "dtype": job["dtype"],
        "compile_layers": job["system"] == "ours-compiled",
        "report_to": "none",
    }
    with ExitStack() as stack:
        # no reference log-probabilities from an earlier job
        stack.enter_context(mock.patch.object(reference, "RUNS", output))
        ours = GroupTrainer._get_train_sampler

        def order(self, dataset=None) -> Iterable[int]:
            if job["same_order"]:
                return SequentialSampler(self.train_dataset)
            return longest_anywhere(ours(self), job["batch"])

        stack.enter_context(mock.patch.object(GroupTrainer, "_get_train_sampler", order))
        if job["task"] == "rm":
            # TRL has no such term
            config = RewardTraining(model=str(folder / "reward"), reward_regularization=0.0, **settings)
            return train_reward_model(config).history, 0.0
        result = train_dpo(DPOTraining(model=str(folder / "policy"), **settings))
        return result.history, result.metrics["reference_seconds"]


def _trl(job: dict, folder: Path, output: Path) -> tuple[list[dict], float]:
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
    from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer

    class TimedDPOTrainer(DPOTrainer):
        reference_seconds = 0.0

        def _precompute_ref_logps(self, *args, **kwargs):
            start = time.perf_counter()
            dataset = super()._precompute_ref_logps(*args, **kwargs)
            self.reference_seconds = time.perf_counter() - start
            return dataset

    checkpoint = folder / ("reward" if job["task"] == "rm" else "policy")
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    rows = load_dataset("json", data_files=str(folder / "text.jsonl"), split="train")
    rows = rows.select(range(job["batch"] * job["steps"]))
    settings = _trl_settings(job, output)
    if job["task"] == "rm":
        model = AutoModelForSequenceClassification.from_pretrained(
            checkpoint, num_labels=1, dtype=torch.float32
        )
        trainer = RewardTrainer(
            model, args=RewardConfig(**settings), train_dataset=rows, processing_class=tokenizer
        )
        trainer.train()
        trainer.save_model(str(output / "checkpoint"))
        return trainer.state.log_history, 0.0
    if job["system"] != "trl":
        # not in larger batches: they come in file order, and would be filled up to their longest row
        settings |= {"precompute_ref_log_probs": True, "precompute_ref_batch_size": job["batch"]}
    # without a reference model TRL loads the policy's checkpoint a second time, unless it reads it beforehand
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    trainer = TimedDPOTrainer(
        model, args=DPOConfig(**settings), train_dataset=rows, processing_class=tokenizer
    )
    trainer.train()
    trainer.save_model(str(output / "checkpoint"))
    return trainer.state.log_history, trainer.reference_seconds


def _trl_settings(job: dict, output: Path) -> dict:
    """The optimizer's settings are those of our `training.arguments.training_arguments`."""
    settings = {
        "output_dir": str(output),
        "per_device_train_batch_size": job["batch"],
        "num_train_epochs": 1,
        "learning_rate": job["learning_rate"],
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.03,
        "weight_decay": 0.0,
        "adam_beta2": 0.95,
        "max_grad_norm": 1.0,
        "bf16": job["dtype"] == "bf16",
        "use_cpu": not torch.cuda.is_available(),
        "seed": 0,
        "logging_steps": _logging_steps(job),
        "logging_first_step": True,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": torch.cuda.is_available(),
    }
    if job["system"] == "trl-liger":
        settings |= {"use_liger_kernel": True}
    if job["system"] != "trl":
        settings |= {"gradient_checkpointing": False}
    if job["same_order"] or job["system"] != "trl":  # its file has batches that were grouped by length
        settings |= {"train_sampling_strategy": "sequential"}
    return settings


def tokenized(folder: Path, pairs: int):
    """The first pairs of a workload as `TokenizedGroups`."""
    from rlhf_hw.models.batches import tokenize_preferences
    from rlhf_hw.models.rendering import Renderer
    from rlhf_hw.preferences.reading import load_preferences

    renderer = Renderer.load(folder / "policy", max_prompt_tokens=1024, max_reply_tokens=1024)
    preferences, _ = load_preferences(str(folder / "pairs.jsonl"), "TRL", limit=pairs)
    return tokenize_preferences(preferences, renderer)[0]
