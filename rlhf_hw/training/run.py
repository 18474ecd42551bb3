"""Train reward models, DPO policies and language models on shared-prompt batches.

Schedules, resuming, logging, mixed precision and DeepSpeed are `transformers.Trainer`'s; batches, losses and
the pair forward are ours. Each `train_*` function takes a validated config, trains, writes a standard
checkpoint with its tokenizer and rendering, and returns the log history.
"""

import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from transformers import PreTrainedModel

from rlhf_hw.errors import InputError
from rlhf_hw.files import make_folder, write_json
from rlhf_hw.models.batches import TokenizedGroups, conversation_groups
from rlhf_hw.models.cpu_speed import keep_freed_memory
from rlhf_hw.models.forward import log_prob_batch, score_batch, use_pair_forward
from rlhf_hw.models.loading import load_policy, start_reward_model, use_padding
from rlhf_hw.models.rendering import Renderer
from rlhf_hw.paths import resolve
from rlhf_hw.preferences.reading import DataReport
from rlhf_hw.preferences.templates import Conversation
from rlhf_hw.training.arguments import prepare_arguments
from rlhf_hw.training.checkpoints import (
    TrainingResult,
    last_resumable,
    readable_by_transformers_4,
)
from rlhf_hw.training.config import (
    DPOTraining,
    LanguageModelTraining,
    RewardTraining,
    SupervisedTraining,
    Training,
)
from rlhf_hw.training.distributed import is_main, join_processes
from rlhf_hw.training.estimate import announced
from rlhf_hw.training.finite import naming_rows
from rlhf_hw.training.folders import RECORD, UNFINISHED, publish, saving, take_folder, unfinished
from rlhf_hw.training.group_trainer import GroupTrainer
from rlhf_hw.training.groups import load_pairs, read_groups
from rlhf_hw.training.lora import add_lora, merge_lora
from rlhf_hw.training.reference import reference_log_probs
from rlhf_hw.training.resources import check_resources
from rlhf_hw.training.resuming import go_on
from rlhf_hw.training.trackers import begin_trackers, ends_trackers
from rlhf_hw.training.trainers import DPOTrainer, LanguageModelTrainer, RewardTrainer

if TYPE_CHECKING:
    from peft import LoraModel

log = logging.getLogger(__name__)


@ends_trackers
def train_reward_model(config: RewardTraining) -> TrainingResult:
    """Train a reward model on preference pairs; without a training set it writes the untrained one."""
    _begin(config)
    renderer = Renderer.load(
        config.model,
        reads_at=config.reads_at,
        max_prompt_tokens=config.max_prompt_tokens,
        max_reply_tokens=config.max_reply_tokens,
    )
    if not renderer.pads_apart:
        raise InputError(
            f"{config.model}: the tokenizer pads with the token that ends a reply, where the score is read, "
            "and has no other control token to pad with: other systems would read the scores before it. Add "
            "one to tokenizer and model (tokenizer.add_special_tokens({'pad_token': '<pad>'}), "
            "model.resize_token_embeddings(len(tokenizer)), save both)"
        )
    train, evaluation, reports = read_groups(config, renderer)
    model = use_padding(start_reward_model(config.model, seed=config.seed), renderer.pad_id)
    if train is None:
        return _save_untrained(config, model, renderer, reports)
    adapters = add_lora(model, config.lora_rank, config.seed, model.score) if config.lora_rank else None
    use_pair_forward(model, score_batch)
    _announce(config, train)
    trainer = RewardTrainer(
        config,
        model,
        prepare_arguments(config, len(train), evaluation is not None),
        train,
        evaluation,
        renderer.pad_id,
        "reward model",
    )
    return _fit(trainer, config, renderer, reports, adapters=adapters)


@ends_trackers
def train_dpo(config: DPOTraining) -> TrainingResult:
    """Fine-tune a policy on preference pairs, with DPO's loss or another of the table."""
    _begin(config)
    renderer = Renderer.load(
        config.model, max_prompt_tokens=config.max_prompt_tokens, max_reply_tokens=config.max_reply_tokens
    )
    train, evaluation, reports = read_groups(config, renderer)
    if train is None:
        raise InputError(
            "train_dataset is empty: DPO has nothing to train on; give a file, a folder or a hub id"
        )
    _announce(config, train)
    reference = config.reference_model or config.model
    if resolve(reference).is_dir():  # also where a notebook's kernel works elsewhere
        reference = str(resolve(reference))
    started = time.perf_counter()
    references = {
        part: reference_log_probs(reference, groups, renderer.pad_id, config.dtype)
        for part, groups in (("train", train), ("eval", evaluation))
        if groups is not None and config.loss_entry.needs_reference
    }
    seconds = time.perf_counter() - started
    model = use_padding(load_policy(config.model), renderer.pad_id)
    adapters = add_lora(model, config.lora_rank, config.seed) if config.lora_rank else None
    use_pair_forward(model, log_prob_batch)
    # after the models: from here on, ZeRO 3 would load only a share of each
    arguments = prepare_arguments(config, len(train), evaluation is not None)
    trainer = DPOTrainer(config, references, model, arguments, train, evaluation, renderer.pad_id, "DPO")
    return _fit(trainer, config, renderer, reports, {"reference_seconds": seconds}, adapters)


@ends_trackers
def train_sft(config: SupervisedTraining) -> TrainingResult:
    """Fine-tune a policy on the chosen replies of preference pairs: the first step of RLHF, and DPO's start.

    The DPO paper begins so where no fine-tuned model is at hand (Rafailov et al. 2023, section 5), because
    the reference model should know the kind of replies that were compared.

    Raises:
        ValueError: no training or no evaluation set is named.
    """
    _begin(config)
    parts = {part: load_pairs(config, part) for part in ("train", "eval")}
    for part, (_, report) in parts.items():
        if report is None:
            raise InputError(f"{part}_dataset is empty: SFT needs one; give a file, a folder or a hub id")
    renderer = Renderer.load(
        config.model, max_prompt_tokens=config.max_prompt_tokens, max_reply_tokens=config.max_reply_tokens
    )
    said = {part: [Conversation(p.prompt, p.chosen) for p in pairs] for part, (pairs, _) in parts.items()}
    model = load_policy(config.model)
    adapters = add_lora(model, config.lora_rank, config.seed) if config.lora_rank else None
    reports = {part: report for part, (_, report) in parts.items()}
    return train_language_model(config, model, renderer, said["train"], said["eval"], reports, adapters)


@ends_trackers
def train_language_model(
    config: LanguageModelTraining,
    model: PreTrainedModel,
    renderer: Renderer,
    examples: Sequence[Conversation],
    held_out: Sequence[Conversation],
    reports: dict[str, DataReport] | None = None,
    adapters: "LoraModel | None" = None,
) -> TrainingResult:
    """Train a language model on conversations.

    Args:
        config: The settings; `model` and the data sets named there are not read.
        model: A causal language model, fresh or trained.
        renderer: Its renderer.
        examples, held_out: Conversations for training and evaluation.
        reports: What reading them dropped.
        adapters: LoRA adapters of the model.

    Raises:
        ValueError: nothing of a conversation would be learned, or its reply would be left out.
    """
    if is_main():  # of several processes one holds the lock
        take_folder(config.output_dir)
        begin_trackers(config)
    for conversation in (*examples, *held_out):
        if not (conversation.spoken or conversation.remarks):
            raise InputError("a conversation that is not spoken needs remarks: nothing else is learned of it")
        if conversation.remarks and not config.train_on_prompt:
            raise InputError(
                "train_on_prompt: replies with remarks stand in the prompt and would not be learned"
            )
    train, evaluation = (conversation_groups(part, renderer) for part in (examples, held_out))
    use_padding(model, renderer.pad_id)
    spoken = {"train": np.array([c.spoken for c in examples]), "eval": np.array([c.spoken for c in held_out])}
    trainer = LanguageModelTrainer(
        config,
        spoken,
        use_pair_forward(model, log_prob_batch),
        prepare_arguments(config, len(train), True),
        train,
        evaluation,
        renderer.pad_id,
        "language model",
    )
    return _fit(trainer, config, renderer, reports or {}, adapters=adapters)


def _begin(config: Training) -> None:
    """Join the other processes, and take the run's folder before any work is done."""
    join_processes(config.deepspeed is not None)
    if is_main():
        take_folder(config.output_dir)
        if config.log_dir:
            make_folder(config.log_dir, "log_dir")
    check_resources(config)
    if is_main():
        begin_trackers(config)


def _announce(config: Training, train: TokenizedGroups) -> None:
    if is_main():
        log.info("%s: %s", config.model, announced(config, train))


def _fit(
    trainer: GroupTrainer,
    config: Training,
    renderer: Renderer,
    reports: dict[str, DataReport],
    extra: dict[str, float] | None = None,
    adapters: "LoraModel | None" = None,
) -> TrainingResult:
    """Run a trainer, or resume it, and write its model, renderer and record into `config.output_dir`.

    Args:
        trainer: Ready to train, with the arguments of `prepare_arguments`.
        config: The settings.
        renderer: Saved beside the model.
        reports: What reading the data sets dropped.
        extra: More measurements for the record.
        adapters: LoRA adapters of the trainer's model, merged before it is saved.
    """
    keep_freed_memory()
    last = last_resumable(config.output_dir) if config.resume else None
    if config.resume and last is None and is_main():
        log.warning("resume: no checkpoint to go on from in %s; training starts anew", config.output_dir)
    begun = go_on(trainer, trainer.identity, last) if last else 0.0
    started = time.perf_counter()
    with naming_rows(config, trainer.train_dataset.groups.rows, from_pairs="train" in reports):
        output = trainer.train(resume_from_checkpoint=last)
        trainer.finite.refuse_weights(trainer.model, output.global_step)
    seconds = time.perf_counter() - started
    if adapters is not None:
        merge_lora(adapters)
    # without the trainer's own mean of all losses, which counts only what came after a resume
    history = [{k: v for k, v in h.items() if k != "train_loss"} for h in trainer.state.log_history]
    pairs = len(trainer.train_dataset)
    logged = [h["loss"] for h in history if "loss" in h]
    metrics = {
        "pairs": pairs,
        "steps": output.global_step,
        "epochs": trainer.state.epoch,
        "seconds": seconds,
        "pairs_per_second": pairs * (trainer.state.epoch - begun) / seconds,
        "loss_first": logged[0],
        "loss_last": float(np.mean(logged[-5:])),
        **(extra or {}),
    }
    result = TrainingResult(config.output_dir, history, metrics, reports)
    if is_main():
        unfinished(config.output_dir)
    with saving(config.output_dir / UNFINISHED):
        # every process: ZeRO 3 collects the weights here
        trainer.save_model(str(config.output_dir / UNFINISHED))
        if is_main():
            _complete(config, renderer, result)
    if is_main():
        publish(config.output_dir)
    trainer.accelerator.wait_for_everyone()
    return result


def _save_untrained(config, model, renderer, reports) -> TrainingResult:
    result = TrainingResult(config.output_dir, [], {"pairs": 0, "steps": 0}, reports)
    if is_main():
        log.info("no training set: the model is written to %s as it is", config.output_dir)
        with saving(unfinished(config.output_dir)) as folder:
            model.save_pretrained(folder)
            _complete(config, renderer, result)
        publish(config.output_dir)
    return result


def _complete(config: Training, renderer: Renderer, result: TrainingResult) -> None:
    """Add tokenizer, rendering, settings and history to the weights of the new checkpoint."""
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
    write_json(folder / RECORD, record)
