"""From our settings to those of `transformers.Trainer`, in a folder that is ready for the run."""

import os

import numpy as np
import torch
from transformers import TrainingArguments

from rlhf_hw.models.loading import pick_dtype
from rlhf_hw.training.checkpoints import last_resumable
from rlhf_hw.training.config import Training
from rlhf_hw.training.distributed import deepspeed_settings, is_main, world_size
from rlhf_hw.training.folders import remove_old_steps, take_events


def training_arguments(config: Training, pairs: int, evaluate: bool) -> TrainingArguments:
    """Translate a config into `TrainingArguments`."""
    cpu = not torch.cuda.is_available()
    bf16 = pick_dtype(config.dtype) == torch.bfloat16
    world = world_size()
    per_step = config.batch_size * config.gradient_accumulation_steps * world
    steps = config.max_steps if config.max_steps > 0 else int(np.ceil(pairs / per_step) * config.epochs)
    arguments = TrainingArguments(
        output_dir=str(config.output_dir),
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=2 * config.batch_size,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        learning_rate=config.learning_rate,
        num_train_epochs=config.epochs,
        max_steps=config.max_steps,
        lr_scheduler_type=config.lr_scheduler_type,
        warmup_steps=config.warmup_ratio,
        weight_decay=config.weight_decay,
        adam_beta2=config.adam_beta2,
        max_grad_norm=config.max_grad_norm,
        bf16=bf16,
        use_cpu=cpu,
        activation_checkpointing=config.gradient_checkpointing,
        seed=config.seed,
        logging_steps=config.logging_steps,
        logging_first_step=True,
        logging_nan_inf_filter=False,  # it would hide them, and ask the device after each batch
        eval_strategy="steps" if evaluate else "no",
        eval_steps=max(1, steps // config.evaluations) if evaluate else None,
        eval_on_start=evaluate and not (config.resume and last_resumable(config.output_dir)),
        save_strategy="steps" if config.save_steps else "no",
        save_steps=config.save_steps or 500,
        report_to=config.report_to.split(","),
        deepspeed=deepspeed_settings(config),
        ddp_backend="gloo" if cpu and world > 1 else None,
        ddp_find_unused_parameters=False,
        disable_tqdm=True,
        remove_unused_columns=False,
        label_names=[],
        dataloader_num_workers=0,
        dataloader_pin_memory=not cpu,
    )
    if arguments.n_gpu > 1:  # DataParallel cuts tensors by rows and would part targets from their batch
        arguments._n_gpu = 1
    return arguments


def prepare_arguments(config: Training, pairs: int, evaluate: bool) -> TrainingArguments:
    """Training arguments, without the traces of an earlier run in its folders, unless that is resumed.

    Args:
        config: The settings.
        pairs: Number of training pairs.
        evaluate: There are pairs for evaluation.
    """
    # TensorBoard's folder can only be named by the environment
    log_dir = config.log_dir or config.output_dir / "logs"
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(log_dir)
    if is_main():
        if not config.resume:
            remove_old_steps(config.output_dir)
        take_events(log_dir, config.resume)
    return training_arguments(config, pairs, evaluate)
