"""Training over shared-prompt batches: `transformers.Trainer` with our own order, batches and losses.

Each subclass of `GroupTrainer` (module `trainers`) says which targets its batches need and what the loss of a
group is; averaging, logging and evaluation stay here. A loss is one mean over all groups, or tokens, of a
step or an evaluation set, however many processes, batches and parts of a batch they are worked through in.
"""

import sys
from contextlib import nullcontext
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import Trainer, TrainerCallback
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_utils import EvalPrediction

from rlhf_hw.models.attention import refuse_beyond_window
from rlhf_hw.models.batches import GroupDataset, LengthGroupedSampler, TokenizedGroups, build_batch
from rlhf_hw.models.cpu_speed import FreedMemory
from rlhf_hw.models.forward import compile_layers
from rlhf_hw.training.activations import Sizes, parts_of_batch
from rlhf_hw.training.checkpoints import mark_whole
from rlhf_hw.training.config import Training
from rlhf_hw.training.distributed import ShareOfBatches
from rlhf_hw.training.finite import FiniteValues
from rlhf_hw.training.folders import STEPS_KEPT, remove_old_steps, saving
from rlhf_hw.training.resuming import run_identity

# entries of a batch that the loss reads and the model does not
LOSS_ONLY = ("reference", "columns", "groups", "counted", "units")


class KeepNewestSteps(TrainerCallback):
    """Of the resumable checkpoints of a run the newest two stay; nothing else of a like name is touched."""

    def on_save(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            remove_old_steps(args.output_dir, keep=STEPS_KEPT)


class HandBackMemory(TrainerCallback):
    """After each step, what malloc keeps and later batches cannot use goes back."""

    def __init__(self):
        self.freed = FreedMemory()

    def on_step_end(self, args, state, control, **kwargs):
        self.freed.after_step()


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


class EpochLoader(DataLoader):
    """A loader whose order changes with the epoch, which the trainer tells it."""

    def set_epoch(self, epoch: int) -> None:
        self.batch_sampler.set_epoch(epoch)


class GroupTrainer(Trainer):
    """`Trainer` over `TokenizedGroups`: own order, own batches, a loss from the pair forward's output.

    Subclasses give `group_loss(outputs, batch) -> (loss of each group, named measurements of each group)`. A
    loss has one or more terms, shape (B,) or (B, U); each is summed and divided by the sum of its `units`.
    Measurements stay on the device and are averaged when the trainer logs.
    """

    targets = "none"
    # compute_loss divides by what a whole step holds: the Trainer must not divide by accumulation steps
    loss_is_scaled_for_ga = True

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
        self.pad_id, self.sizes = pad_id, Sizes.of(model.config)
        self.seen: Tensor | None = None  # sums of the measurements since the last log entry, and their number
        self.measured_names: list[str] = []
        self.finite = FiniteValues()
        super().__init__(
            model=model,
            args=args,
            train_dataset=GroupDataset(train),
            eval_dataset=None if evaluation is None else GroupDataset(evaluation),
            compute_metrics=self.evaluation_metrics,
            callbacks=[Progress(title), KeepNewestSteps(), HandBackMemory()],
        )
        self.remove_callback(PrinterCallback)
        if config.compile_layers:
            compile_layers(model)

    def collate(self, groups: TokenizedGroups, part: str, indices: list[int]) -> dict[str, Tensor]:
        """Build the batch of some indices."""
        return build_batch(groups, indices, self.pad_id, targets=self.targets)

    def units(self, batch: dict[str, Tensor]) -> Tensor:
        """What each term of the loss is a mean over: how many of it a group holds, shape (B, U)."""
        return torch.ones(len(batch["ends"]), 1)

    def collate_counted(self, groups: TokenizedGroups, part: str, indices: list[int]) -> dict[str, Tensor]:
        """Build a batch that says which groups count: not those that `ShareOfBatches` filled it up with."""
        counted = torch.tensor([float(index >= 0) for index in indices])
        rows = [max(index, ~index) for index in indices]
        batch = self.collate(groups, part, rows)
        units = self.units(batch) * counted[:, None]
        return batch | {"groups": torch.tensor(rows), "counted": counted, "units": units}

    def collate_parts(self, groups: TokenizedGroups, indices: list[int]) -> dict:
        """Build a training batch; one too large for a processor as `{"parts": [batch, ...]}`."""
        longest = int(groups.lengths[[max(index, ~index) for index in indices]].max())
        count = parts_of_batch(self.config, self.sizes, len(indices), longest)
        parts = [
            self.collate_counted(groups, "train", part.tolist()) for part in np.array_split(indices, count)
        ]
        return parts[0] if count == 1 else {"parts": parts}

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """The batches of a step, and the units that this step holds in all processes, shape (U,).

        None where all steps are done: resumed there in mid-epoch, the trainer would take one more.
        """
        self.finite.begin_step()
        if self.state.global_step >= self.state.max_steps:
            return [], torch.ones(1, device=device)
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        parts = [part for batch in batches for part in batch.get("parts", [batch])]
        units = sum(part["units"].sum(0) for part in parts) if parts else torch.zeros(1)
        return batches, self.accelerator.reduce(units.to(device), reduction="sum")

    def training_step(self, model, inputs, num_items_in_batch=None):
        parts, loss = inputs.get("parts", [inputs]), 0.0
        for number, part in enumerate(parts, 1):
            # processes exchange gradients once, after the last part
            with nullcontext() if number == len(parts) else self.accelerator.no_sync(model):
                loss += super().training_step(model, part, num_items_in_batch)
        self.finite.must_be_finite(self.state.global_step + 1, "loss", loss)
        return loss

    def get_train_dataloader(self):
        order, collate = self._get_train_sampler(), partial(self.collate_parts, self.train_dataset.groups)
        return self._loader(self.train_dataset, order, self.args.train_batch_size, collate)

    def _get_train_sampler(self, train_dataset=None):
        whole = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        return LengthGroupedSampler(self.train_dataset.groups.lengths, whole, self.args.seed)

    def get_eval_dataloader(self, eval_dataset=None):
        """By length: only means are taken, and batches of similar lengths hold little padding."""
        dataset = eval_dataset or self.eval_dataset
        order = np.argsort(-dataset.groups.lengths, kind="stable").tolist()
        collate = partial(self.collate_counted, dataset.groups, "eval")
        return self._loader(dataset, order, self.args.eval_batch_size, collate)

    def _loader(self, dataset: GroupDataset, order, batch_size: int, collate) -> EpochLoader:
        """A loader of this process's share; the trainer moves each batch to the device."""
        share = ShareOfBatches(order, batch_size, self.args.world_size, self.args.process_index)
        pin = self.args.dataloader_pin_memory
        return EpochLoader(dataset, batch_sampler=share, collate_fn=collate, pin_memory=pin)

    def _save(self, output_dir=None, state_dict=None):
        if state_dict is not None:  # DeepSpeed hands over copies, in which tied weights stand twice
            tied = getattr(self.model, "all_tied_weights_keys", {})
            state_dict = {name: tensor for name, tensor in state_dict.items() if name not in tied}
        super()._save(output_dir, state_dict)

    def _save_checkpoint(self, model, trial):
        self.finite.refuse_weights(self.model, self.state.global_step)
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        with saving(folder):
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()
            if self.is_world_process_zero():
                mark_whole(folder, self.identity)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What decides this run's result."""
        evaluation = self.eval_dataset and self.eval_dataset.groups
        return run_identity(self.config, self.train_dataset.groups, evaluation)

    def _prepare_input(self, data):
        """Move data to the device; DeepSpeed would round floats to bf16, and here they are the loss's own."""
        if isinstance(data, Tensor):
            # from pinned memory the copy need not be waited for
            kept = data.is_floating_point() or not self.is_deepspeed_enabled
            if kept:
                return data.to(self.args.device, non_blocking=data.is_pinned())
        return super()._prepare_input(data)

    def group_loss(self, outputs: Tensor, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        raise NotImplementedError

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """This batch's share of the loss of its step, whose units `num_items_in_batch` gives, shape (U,)."""
        extra = {k: inputs.pop(k) for k in LOSS_ONLY if k in inputs}
        outputs = model(**inputs)
        counted, units = extra["counted"], extra["units"]
        each, measured = self.group_loss(outputs, inputs | extra)
        each = each.view(units.shape)
        self.measured_names = list(measured)
        columns = [value.detach().float() for value in measured.values()]
        measures = torch.stack(columns, dim=1) if columns else each.new_zeros(len(each), 0)
        if return_outputs:
            return None, torch.cat([counted[:, None], units, each.detach(), measures], dim=1)
        self.finite.hold(extra["groups"], each)
        sums = torch.cat([measures * counted[:, None], counted[:, None]], dim=1).sum(0)
        self.seen = sums if self.seen is None else self.seen + sums
        # processes average their gradients, and a step's loss is a sum
        share = (each * counted[:, None]).sum(0) / num_items_in_batch
        return self.args.world_size * share.sum()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs and self.seen is not None:
            self.finite.refuse()
            *totals, count = self.accelerator.reduce(self.seen, reduction="sum").tolist()
            logs |= {name: t / count for name, t in sorted(zip(self.measured_names, totals, strict=True))}
            self.seen = None
        super().log(logs, start_time)

    def _get_grad_norm(self, model, grad_norm=None):
        norm = super()._get_grad_norm(model, grad_norm)
        if norm is not None:
            self.finite.must_be_finite(self.state.global_step + 1, "gradient's norm", torch.as_tensor(norm))
        return norm

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            _, table = self.compute_loss(model, inputs, return_outputs=True)
        # no loss of a batch: the trainer would take a mean of these
        return None, table.contiguous(), table[:, 0].contiguous()

    def evaluation_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        """Loss and mean of each measurement over the evaluation set."""
        table = np.atleast_2d(prediction.predictions).astype(np.float64)
        counted, rest = table[:, 0], table[:, 1:]
        terms = (rest.shape[1] - len(self.measured_names)) // 2
        units, each, measures = np.split(rest, [terms, 2 * terms], axis=1)
        means = dict(zip(self.measured_names, (counted @ measures / counted.sum()).tolist(), strict=True))
        return {"loss": float((counted @ each / units.sum(0)).sum())} | means
