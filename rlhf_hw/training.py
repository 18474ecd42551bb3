"""Train reward models, DPO policies and language models on shared-prompt batches.

Schedules, resuming, logging, mixed precision and DeepSpeed are `transformers.Trainer`'s; batches, losses and
the pair forward are ours. Each `train_*` function takes a validated config, trains, writes a standard
checkpoint with its tokenizer and rendering, and returns the log history.
"""

import json
import logging
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from peft import LoraModel
from transformers import PreTrainedModel, TrainingArguments

from rlhf_hw.batches import TokenizedGroups, conversation_groups, tokenize_preferences
from rlhf_hw.checkpoints import (
    RECORD,
    UNFINISHED,
    last_resumable,
    publish,
    readable_by_transformers_4,
    unfinished,
)
from rlhf_hw.config import DPOTraining, LanguageModelTraining, RewardTraining, Training
from rlhf_hw.data import DataReport, load_preferences
from rlhf_hw.deepspeed_settings import deepspeed_settings
from rlhf_hw.estimate import estimate
from rlhf_hw.lora import add_lora, merge_lora
from rlhf_hw.memory import keep_freed_memory
from rlhf_hw.models import (
    load_policy,
    load_reward_model,
    log_prob_batch,
    pick_dtype,
    score_batch,
    use_pair_forward,
)
from rlhf_hw.processes import is_main, join_processes, world_size
from rlhf_hw.rendering import Renderer
from rlhf_hw.scoring import reference_log_probs
from rlhf_hw.templates import Conversation
from rlhf_hw.trainers import DPOTrainer, GroupTrainer, LanguageModelTrainer, RewardTrainer

log = logging.getLogger(__name__)


@dataclass
class TrainingResult:
    """What a training run leaves: its checkpoint, log history (one dict a log step), and data reports."""

    checkpoint: Path
    history: list[dict]
    metrics: dict[str, float]
    reports: dict[str, DataReport] = field(default_factory=dict)

    def curve(self, name: str) -> list[dict]:
        """The logged values of one quantity as `{"step", "value"}`."""
        return [{"step": h["step"], "value": h[name]} for h in self.history if name in h]

    def last(self, name: str, count: int = 5) -> float:
        """Mean of the last logged values of one quantity, which single batches make noisy."""
        return float(np.mean([point["value"] for point in self.curve(name)[-count:]]))


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
        eval_strategy="steps" if evaluate else "no",
        eval_steps=max(1, steps // config.evaluations) if evaluate else None,
        eval_on_start=evaluate and not (config.resume and last_resumable(config.output_dir)),
        save_strategy="steps" if config.save_steps else "no",
        save_steps=config.save_steps or 500,
        save_total_limit=2,
        report_to=config.report_to,
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


def load_groups(
    config: Training, renderer: Renderer, part: str
) -> tuple[TokenizedGroups | None, DataReport | None]:
    """Read and tokenize the training or evaluation pairs of a config; (None, None) when it names none."""
    source, template, split, limit = (
        (config.train_dataset, config.train_template, config.train_split, config.max_train)
        if part == "train"
        else (config.eval_dataset, config.eval_template, config.eval_split, config.max_eval)
    )
    if source is None:
        return None, None
    preferences, report = load_preferences(source, template, split, limit)
    groups, _, counts = tokenize_preferences(preferences, renderer)
    report.dropped["equal after truncation"] += counts.pop("equal_after_truncation")
    report.used = len(groups)
    report.statistics |= {k.replace("_", " "): float(v) for k, v in counts.items()}
    report.statistics |= {
        "prompt tokens, mean": float(groups.prompt_lengths.mean()),
        "reply tokens, mean": float(groups.reply_lengths.mean()),
    }
    return groups, report


def train_reward_model(config: RewardTraining) -> TrainingResult:
    """Train a reward model on preference pairs; without a training set it writes the untrained one."""
    join_processes(config.deepspeed is not None)
    renderer = Renderer.load(
        config.model,
        reads_at=config.reads_at,
        max_prompt_tokens=config.max_prompt_tokens,
        max_reply_tokens=config.max_reply_tokens,
    )
    train, evaluation, reports = _both(config, renderer)
    model = load_reward_model(config.model, seed=config.seed)
    model.config.pad_token_id = renderer.pad_id
    if train is None:
        return _save_untrained(config, model, renderer, reports)
    use_pair_forward(model, score_batch)
    adapters = add_lora(model, config.lora_rank, config.seed, model.score) if config.lora_rank else None
    _announce(config, train)
    trainer = RewardTrainer(
        config,
        model,
        _prepare(config, len(train), evaluation is not None),
        train,
        evaluation,
        renderer.pad_id,
        "reward model",
    )
    return _fit(trainer, config, renderer, reports, adapters=adapters)


def train_dpo(config: DPOTraining) -> TrainingResult:
    """Fine-tune a policy with DPO on preference pairs."""
    join_processes(config.deepspeed is not None)
    renderer = Renderer.load(
        config.model, max_prompt_tokens=config.max_prompt_tokens, max_reply_tokens=config.max_reply_tokens
    )
    train, evaluation, reports = _both(config, renderer)
    if train is None:
        raise ValueError(
            "train_dataset is empty: DPO has nothing to train on; give a file, a folder or a hub id"
        )
    _announce(config, train)
    reference = config.reference_model or config.model
    started = time.perf_counter()
    references = {
        part: reference_log_probs(reference, groups, renderer.pad_id, config.dtype)
        for part, groups in (("train", train), ("eval", evaluation))
        if groups is not None
    }
    seconds = time.perf_counter() - started
    model = use_pair_forward(load_policy(config.model), log_prob_batch)
    adapters = add_lora(model, config.lora_rank, config.seed) if config.lora_rank else None
    # after the models: from here on, ZeRO 3 would load only a share of each
    arguments = _prepare(config, len(train), evaluation is not None)
    trainer = DPOTrainer(config, references, model, arguments, train, evaluation, renderer.pad_id, "DPO")
    return _fit(trainer, config, renderer, reports, {"reference_seconds": seconds}, adapters)


def train_language_model(
    config: LanguageModelTraining,
    model: PreTrainedModel,
    renderer: Renderer,
    examples: Sequence[Conversation],
    held_out: Sequence[Conversation],
) -> TrainingResult:
    """Train a language model on conversations.

    Args:
        config: The settings; `model` and the data sets named there are not read.
        model: A causal language model, fresh or trained.
        renderer: Its renderer.
        examples, held_out: Conversations for training and evaluation.

    Raises:
        ValueError: nothing of a conversation would be learned, or its reply would be left out.
    """
    for conversation in (*examples, *held_out):
        if not (conversation.spoken or conversation.remarks):
            raise ValueError("a conversation that is not spoken needs remarks: nothing else is learned of it")
        if conversation.remarks and not config.train_on_prompt:
            raise ValueError(
                "train_on_prompt: replies with remarks stand in the prompt and would not be learned"
            )
    train, evaluation = (conversation_groups(part, renderer) for part in (examples, held_out))
    spoken = {"train": np.array([c.spoken for c in examples]), "eval": np.array([c.spoken for c in held_out])}
    trainer = LanguageModelTrainer(
        config,
        spoken,
        use_pair_forward(model, log_prob_batch),
        _prepare(config, len(train), True),
        train,
        evaluation,
        renderer.pad_id,
        "language model",
    )
    return _fit(trainer, config, renderer, {})


def _announce(config: Training, train: TokenizedGroups) -> None:
    if is_main():
        log.info("%s: %s", config.model, estimate(config, train))


def _both(config: Training, renderer: Renderer):
    parts = {part: load_groups(config, renderer, part) for part in ("train", "eval")}
    reports = {part: report for part, (_, report) in parts.items() if report is not None}
    return parts["train"][0], parts["eval"][0], reports


def _prepare(config: Training, pairs: int, evaluate: bool) -> TrainingArguments:
    """Training arguments, with the traces of an earlier run in the folder removed unless it is resumed.

    Args:
        config: The settings.
        pairs: Number of training pairs.
        evaluate: There are pairs for evaluation.
    """
    # TensorBoard's folder can only be named by the environment
    log_dir = config.log_dir or config.output_dir / "logs"
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(log_dir)
    if not config.resume and is_main():
        for old in log_dir.rglob("events.out.tfevents.*"):  # two runs in one folder would mix their curves
            old.unlink()
        for old in config.output_dir.glob("checkpoint-*"):  # a later resume would go on from the wrong run
            shutil.rmtree(old)
    return training_arguments(config, pairs, evaluate)


def _fit(
    trainer: GroupTrainer,
    config: Training,
    renderer: Renderer,
    reports: dict[str, DataReport],
    extra: dict[str, float] | None = None,
    adapters: LoraModel | None = None,
) -> TrainingResult:
    """Run a trainer, or resume it, and write its model, renderer and record into `config.output_dir`.

    Args:
        trainer: Ready to train, with the arguments of `_prepare`.
        config: The settings.
        renderer: Saved beside the model.
        reports: What reading the data sets dropped.
        extra: More measurements for the record.
        adapters: LoRA adapters of the trainer's model, merged before it is saved.
    """
    keep_freed_memory()
    last = last_resumable(config.output_dir) if config.resume else None
    started = time.perf_counter()
    output = trainer.train(resume_from_checkpoint=last)
    seconds = time.perf_counter() - started
    if adapters is not None:
        merge_lora(adapters)
    history = trainer.state.log_history
    pairs = len(trainer.train_dataset)
    logged = [h["loss"] for h in history if "loss" in h]
    metrics = {
        "pairs": pairs,
        "steps": output.global_step,
        "epochs": trainer.state.epoch,
        "seconds": seconds,
        "pairs_per_second": pairs * trainer.state.epoch / seconds,
        "loss_first": logged[0],
        "loss_last": float(np.mean(logged[-5:])),
        **(extra or {}),
    }
    result = TrainingResult(config.output_dir, history, metrics, reports)
    if is_main():
        unfinished(config.output_dir)
    trainer.save_model(str(config.output_dir / UNFINISHED))  # every process: ZeRO 3 collects the weights here
    if is_main():
        _finish(config, renderer, result)
    trainer.accelerator.wait_for_everyone()
    return result


def _save_untrained(config, model, renderer, reports) -> TrainingResult:
    result = TrainingResult(config.output_dir, [], {"pairs": 0, "steps": 0}, reports)
    if is_main():
        log.info("no training set: the model is written to %s as it is", config.output_dir)
        model.save_pretrained(unfinished(config.output_dir))
        _finish(config, renderer, result)
    return result


def _finish(config: Training, renderer: Renderer, result: TrainingResult) -> None:
    """Add tokenizer, rendering, settings and history to the weights and put the checkpoint in its place."""
    folder = Path(config.output_dir) / UNFINISHED
    (folder / "training_args.bin").unlink(missing_ok=True)  # pickled settings
    renderer.save(folder)
    readable_by_transformers_4(folder)
    record = {
        "config": json.loads(config.model_dump_json()),
        "metrics": result.metrics,
        "history": result.history,
        "data": {part: report.to_dict() for part, report in result.reports.items()},
    }
    (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    publish(config.output_dir)


def load_result(folder: str | Path) -> TrainingResult:
    """Read back the result of a finished training run from its checkpoint folder."""
    record = json.loads((Path(folder) / RECORD).read_text(encoding="utf-8"))
    reports = {part: DataReport(**report) for part, report in record["data"].items()}
    return TrainingResult(Path(folder), record["history"], record["metrics"], reports)
