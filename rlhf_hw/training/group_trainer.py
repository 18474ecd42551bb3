"""Training over shared-prompt batches: `transformers.Trainer` with our own order, batches and losses.

Each subclass of `GroupTrainer` (module `trainers`) says which targets its batches need and what the loss of a
group is; averaging, logging and evaluation stay here.
"""

import sys
from contextlib import nullcontext
from functools import partial

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm
from transformers import Trainer, TrainerCallback
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_utils import EvalPrediction

from rlhf_hw.models.attention import refuse_beyond_window
from rlhf_hw.models.batches import GroupDataset, LengthGroupedSampler, TokenizedGroups, build_batch
from rlhf_hw.training.config import Training
from rlhf_hw.training.folders import remove_old_steps

TOKENS_AT_ONCE = 6144
STEPS_KEPT = 2  # resumable checkpoints, the one before the last in case the last was cut short
LOSS_ONLY = ("reference", "columns")  # entries of a batch that the loss reads and the model does not


def tokens_at_once(config: Training) -> int | None:
    """About how many tokens a step may work through at a time; None for the whole batch.

    On a processor a few long rows would otherwise decide how much memory a whole run takes. On a GPU the
    batch size is chosen to fill it, and DeepSpeed's engine steps after each backward pass.
    """
    whole = torch.cuda.is_available() or config.deepspeed or not config.separable
    return None if whole else TOKENS_AT_ONCE


class KeepNewestSteps(TrainerCallback):
    """Of the resumable checkpoints of a run the newest two stay; nothing else of a like name is touched."""

    def on_save(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            remove_old_steps(args.output_dir, keep=STEPS_KEPT)


class Progress(TrainerCallback):
    """One plain progress line on standard error, in terminals, notebooks and logs alike."""

    def __init__(self, title: str):
        self.title, self.bar = title, None

    def on_train_begin(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            self.bar = tqdm(
                total=state.max_steps,
                desc=self.title,
                file=sys.stderr,
                mininterval=2,
                initial=state.global_step,
            )

    def on_step_end(self, args, state, control, **kwargs):
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if self.bar is not None:
            shown = {
                k: f"{v:.3f}" for k, v in (logs or {}).items() if k in ("loss", "accuracy", "eval_accuracy")
            }
            self.bar.set_postfix(shown, refresh=False)

    def on_train_end(self, args, state, control, **kwargs):
        if self.bar is not None:
            self.bar.close()


class GroupTrainer(Trainer):
    """`Trainer` over `TokenizedGroups`: own order, own batches, a loss from the pair forward's output.

    Subclasses give `group_loss(outputs, batch) -> (loss of each group, named measurements of each group)`.
    Measurements stay on the device and are averaged when the trainer logs.
    """

    targets = "none"
    # compute_loss returns a mean over the batch, so the Trainer divides by the accumulation steps
    loss_is_scaled_for_ga = False

    def __init__(
        self,
        config: Training,
        model,
        args,
        train: TokenizedGroups,
        evaluation: TokenizedGroups | None,
        pad_id: int,
        title: str,
    ):
        self.config = config
        for groups in filter(None, (train, evaluation)):
            refuse_beyond_window(model, groups.longest)
        self.pad_id = pad_id
        self.seen: dict[str, Tensor] = {}
        super().__init__(
            model=model,
            args=args,
            train_dataset=GroupDataset(train),
            eval_dataset=None if evaluation is None else GroupDataset(evaluation),
            compute_metrics=self.evaluation_metrics,
            callbacks=[Progress(title), KeepNewestSteps()],
        )
        self.remove_callback(PrinterCallback)
        # a dataset of indices needs to know which groups they point into
        self.collators = {
            "train": partial(self.collate_parts, train),
            "eval": partial(self.collate, evaluation, "eval"),
        }

    def collate(self, groups: TokenizedGroups, part: str, indices: list[int]) -> dict[str, Tensor]:
        """Build the batch of some indices."""
        return build_batch(groups, indices, self.pad_id, targets=self.targets)

    def collate_parts(self, groups: TokenizedGroups, indices: list[int]) -> dict:
        """Build a training batch; one too long for a processor as `{"parts": [batch, ...]}`."""
        limit, tokens = tokens_at_once(self.config), len(indices) * int(groups.lengths[indices].max())
        count = min(len(indices), -(-tokens // limit)) if limit else 1
        parts = [self.collate(groups, "train", part) for part in np.array_split(indices, count)]
        return parts[0] if count == 1 else {"parts": parts}

    def training_step(self, model, inputs, num_items_in_batch=None):
        if "parts" not in inputs:
            return super().training_step(model, inputs, num_items_in_batch)
        parts, loss = inputs["parts"], 0.0
        groups = sum(len(part["ends"]) for part in parts)
        for number, part in enumerate(parts, 1):
            # processes exchange gradients once, after the last part
            with nullcontext() if number == len(parts) else self.accelerator.no_sync(model):
                share = {"share": len(part["ends"]) / groups}
                loss += super().training_step(model, part | share, num_items_in_batch)
        return loss

    def get_train_dataloader(self):
        self.data_collator = self.collators["train"]
        return super().get_train_dataloader()

    def get_eval_dataloader(self, eval_dataset=None):
        self.data_collator = self.collators["eval"]
        return super().get_eval_dataloader(eval_dataset)

    def _save(self, output_dir=None, state_dict=None):
        if state_dict is not None:  # DeepSpeed hands over copies, in which tied weights stand twice
            tied = getattr(self.model, "all_tied_weights_keys", {})
            state_dict = {name: tensor for name, tensor in state_dict.items() if name not in tied}
        super()._save(output_dir, state_dict)

    def _get_train_sampler(self, train_dataset=None):
        return LengthGroupedSampler(
            self.train_dataset.groups.lengths,
            self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size,
            self.args.seed,
        )

    def _get_eval_sampler(self, eval_dataset):
        """By length: only means are taken, and batches of similar lengths hold little padding."""
        return np.argsort(-eval_dataset.groups.lengths, kind="stable").tolist()

    def _prepare_input(self, data):
        """Move data to the device; DeepSpeed would round floats to bf16, and here they are the loss's own."""
        if isinstance(data, Tensor) and data.is_floating_point():
            return data.to(self.args.device)
        return super()._prepare_input(data)

    def group_loss(self, outputs: Tensor, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        raise NotImplementedError

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        extra = {k: inputs.pop(k) for k in LOSS_ONLY if k in inputs}
        share = inputs.pop("share", 1.0)  # of the whole batch
        outputs = model(**inputs)
        each, measured = self.group_loss(outputs, inputs | extra)
        if self.model.training:
            for name, value in measured.items():
                total = self.seen.setdefault(name, torch.zeros(2, device=value.device))
                total += torch.stack([value.detach().float().sum(), value.new_tensor(float(value.numel()))])
        loss = share * each.mean()
        return (loss, {"measured": measured}) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs and self.seen:
            names = sorted(self.seen)
            totals = self.accelerator.reduce(
                torch.stack([self.seen[n] for n in names]), reduction="sum"
            ).cpu()
            logs |= {name: float(total / count) for name, (total, count) in zip(names, totals, strict=True)}
            self.seen = {}
        super().log(logs, start_time)

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            loss, outputs = self.compute_loss(model, inputs, return_outputs=True)
        self.measured_names = sorted(outputs["measured"])
        values = torch.stack([outputs["measured"][n].float() for n in self.measured_names], dim=1)
        return loss.detach(), values.contiguous(), values[:, 0].contiguous()

    def evaluation_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        """Mean of each measurement over the evaluation set."""
        means = np.atleast_2d(prediction.predictions).mean(axis=0)
        return dict(zip(self.measured_names, map(float, means), strict=True))
