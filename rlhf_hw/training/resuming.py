"""Going on with a stopped run: only with the settings, the data and the models that it began with.

Beside the trainer's files each resumable checkpoint holds what decides a run's result. A run that would go on
with anything else is refused, since half of it would be of another kind. Free are where results go, how often
something is logged, evaluated or saved, how a step's pairs are shared among processes and batches, and, where
the learning rate is constant, how long the run is.
"""

import json
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from transformers import Trainer
from transformers.integrations import TensorBoardCallback

from rlhf_hw.errors import InputError
from rlhf_hw.models.batches import TokenizedGroups
from rlhf_hw.models.hub import hub_commit
from rlhf_hw.paths import resolve
from rlhf_hw.training.checkpoints import WHOLE
from rlhf_hw.training.config import SOURCES, Training
from rlhf_hw.training.distributed import is_main, world_size
from rlhf_hw.training.folders import STEPS_KEPT, remove_later_steps, remove_old_steps
from rlhf_hw.training.reference import content_hash

# what the tokens say themselves, and what may change
BY_CONTENT = SOURCES | {f"{part}_{name}" for part in ("train", "eval") for name in ("template", "split")}
BY_CONTENT |= {"max_train", "skip_train", "max_eval", "max_prompt_tokens", "max_reply_tokens"}
FREE = {"output_dir", "log_dir", "logging_steps", "evaluations", "save_steps", "resume", "report_to"}
FREE |= {"batch_size", "gradient_accumulation_steps", "gradient_checkpointing", "deepspeed"}
LENGTH = {"epochs", "max_steps"}


def run_identity(
    config: Training, train: TokenizedGroups, evaluation: TokenizedGroups | None
) -> dict[str, Any]:
    """What decides a run's result: its settings, and hashes of its data and of the models that it reads.

    Args:
        config: The settings.
        train, evaluation: The tokenized data.
    """
    free = BY_CONTENT | FREE | (LENGTH if config.lr_scheduler_type == "constant" else set())
    settings = {name: value for name, value in config.model_dump(mode="json").items() if name not in free}
    pairs = config.batch_size * config.gradient_accumulation_steps * world_size()
    models = {"model": _model(config.model)}
    if reference := getattr(config, "reference_model", None):
        models["reference_model"] = _model(reference)
    data = {"train_dataset": _tokens(train), "eval_dataset": evaluation and _tokens(evaluation)}
    return {**settings, "pairs of a step": pairs, **models, **data}


def _model(name: str) -> str:
    folder = resolve(name)
    return content_hash(folder) if folder.is_dir() else f"{name}@{hub_commit(name)}"


def _tokens(groups: TokenizedGroups) -> str:
    columns = [part for name, values in sorted(groups.columns.items()) for part in (name, values.tobytes())]
    return content_hash(groups.ids.tobytes(), groups.offsets.tobytes(), *columns)


def go_on(trainer: Trainer, run: dict[str, Any], checkpoint: str | Path) -> float:
    """Make a trainer ready to go on from a checkpoint; return the epochs that were done by then.

    What TensorBoard was told after that step is taken back: the run comes by there again.

    Args:
        trainer: Before it trains.
        run: Its `run_identity`.
        checkpoint: A resumable checkpoint that is whole.

    Raises:
        InputError: the checkpoint is of a run with other settings, data or models.
    """
    _check_same(checkpoint, run)
    if is_main():  # later ones are not whole, and a kill may have come before the oldest was removed
        remove_later_steps(checkpoint)
        remove_old_steps(Path(checkpoint).parent, keep=STEPS_KEPT)
    state = json.loads((Path(checkpoint) / "trainer_state.json").read_text(encoding="utf-8"))
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, TensorBoardCallback) and is_main():
            callback.tb_writer = SummaryWriter(callback.logging_dir, purge_step=state["global_step"] + 1)
    return float(state["epoch"] or 0)


def _check_same(checkpoint: str | Path, now: dict[str, Any]) -> None:
    then = json.loads((Path(checkpoint) / WHOLE).read_text(encoding="utf-8"))["run"]
    for name in sorted(then.keys() | now.keys()):
        if then.get(name) != now.get(name):
            values = f": {then.get(name)}, now {now.get(name)}" if name not in SOURCES else ""
            raise InputError(
                f"resume: {name} was another in the run of {checkpoint}{values}; go on with what it began "
                "with, or start anew without --resume"
            )
