"""Trains on hard pairs as a run trained on its own, and scores both kinds of pairs: the work with models.

Settings are read from the records beside the checkpoints of the run, so that nothing but the pairs differs.
Reward models and policies are trained side by side; within a policy's training DPO follows SFT.

    sets = hard_sets(recorded, hard_data, folder, replicates)
    train_side_by_side(sets)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rlhf_hw.experiments.replicate_work import AnswerSettings, sample_sets
from rlhf_hw.experiments.score_replicates import ScoringJob, score_job
from rlhf_hw.files import read_json
from rlhf_hw.preferences.reading import load_preferences
from rlhf_hw.preferences.templates import Preference
from rlhf_hw.training.checkpoints import RECORD
from rlhf_hw.training.config import SETTINGS, Training
from rlhf_hw.training.launch import run_training
from rlhf_hw.workers import in_workers

PLACES = ("model", "output_dir", "log_dir", "reference_model")  # of settings: where, not what


@dataclass(frozen=True)
class HardData:
    """Where the hard pairs are, and how many of them each kind of training takes; 0: as the run's own."""

    source: str
    template: str = "HOMEWORK"
    sizes: Mapping[str, int] | None = None  # by kind: "rm", "sft", "dpo"


@dataclass(frozen=True)
class Trainings:
    """Trainings that follow each other, one an artefact of the run's folder.

    Attributes:
        artefact: Its name.
        steps: Kind and settings of each.
    """

    artefact: str
    steps: tuple[tuple[str, Training], ...]

    @property
    def settings(self) -> dict[str, Any]:
        """What the results depend on, whatever folder they are in; the base model apart."""
        found: dict[str, Any] = {"model": self.steps[0][1].model}
        for kind, config in self.steps:
            found[kind] = config.model_dump(mode="json", exclude=set(PLACES))
        return found


def recorded_settings(kind: str, checkpoint: Path) -> Training:
    """The settings that a checkpoint of this project was trained with, from the record beside its weights.

    Raises:
        FileNotFoundError: there is no record; another system trained it.
    """
    path = checkpoint / RECORD
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: no record of how this checkpoint was trained, so that hard pairs could be trained on "
            "alike; leave hard_dataset empty"
        )
    return SETTINGS[kind].model_validate(read_json(path)["config"])


def training_pairs(config: Training) -> list[Preference]:
    """The pairs that a training of this project saw."""
    source = (config.train_dataset, config.train_template, config.train_split)
    return load_preferences(*source, config.max_train, config.skip_train)[0]


def hard_trainings(
    recorded: Mapping[str, Training],
    data: HardData,
    folder: Path,
    base: Path,
    replicates: int,
    named: Callable[[str, int], str],
) -> list[Trainings]:
    """What is trained on hard pairs, the longest first: for each replicate SFT with DPO, and a reward model.

    Args:
        recorded: Kind -> settings of the run's first replicate, from `recorded_settings`.
        data: The hard pairs. Replicate k begins after those that reward models before it took.
        folder: The run's folder.
        base: What everything but DPO starts from.
        replicates: How many of each.
        named: (artefact, replicate) -> name of a replicate's, from `pipeline.graph.replica`.
    """
    sizes = {kind: (data.sizes or {}).get(kind) or config.max_train for kind, config in recorded.items()}

    def config(kind: str, output: str, model: Path, k: int) -> Training:
        changes = {
            "model": str(model),
            "output_dir": folder / output,
            "train_dataset": data.source,
            "train_template": data.template,
            "train_split": "train",
            "max_train": sizes[kind],
            "skip_train": k * (sizes["rm"] or 0),
            "eval_dataset": data.source,
            "eval_template": data.template,
            "eval_split": "validation",
            "seed": recorded[kind].seed + k,
        }
        silent = {"log_dir": None, "report_to": "none", "save_steps": 0, "resume": False, "max_eval": 16}
        return recorded[kind].model_copy(update=changes | silent)

    names = {
        what: [named(f"hard/{what}", k) for k in range(replicates)] for what in ("policies", "reward_model")
    }
    policies = [
        Trainings(
            name,
            (
                ("sft", config("sft", f"{name}/sft", base, k)),
                ("dpo", config("dpo", f"{name}/dpo", folder / name / "sft", k)),
            ),
        )
        for k, name in enumerate(names["policies"])
    ]
    return policies + [
        Trainings(n, (("rm", config("rm", n, base, k)),)) for k, n in enumerate(names["reward_model"])
    ]


def train_side_by_side(trainings: Sequence[Trainings], folder: Path) -> list[Path]:
    """Train all; returns the path of each artefact."""
    in_workers(train_in_turn, [(one.steps,) for one in trainings], "training on hard pairs")
    return [folder / one.artefact for one in trainings]


def train_in_turn(steps: Sequence[tuple[str, Training]]) -> None:
    """Trainings of which each may start from the one before."""
    for kind, config in steps:
        run_training(kind, config)


def score_kinds(
    held_out: Mapping[str, Sequence[Preference]],
    models: Mapping[str, Sequence[Path]],
    base: Path,
    asked: Sequence[Preference],
    gold: Callable[[str, str], float],
    settings: AnswerSettings,
    place: Callable[[str, int], Path],
) -> tuple[dict[tuple[str, str], list[pd.DataFrame]], np.ndarray]:
    """Reward models score pairs, and the base model gives two replies to each prompt, side by side.

    Args:
        held_out: "easy" and "hard" pairs.
        models: Kind of pairs that reward models learned from -> their checkpoints, one a replicate. Those of
            easy pairs score hard pairs only: what they make of easy ones, the run has.
        base: The base model.
        asked: They give the prompts for its replies.
        gold: The true reward.
        settings: How to sample and score.
        place: (name, replicate) -> the score file.

    Returns:
        (kind learned from, kind scored) -> one table a replicate; gold of the samples, shape (prompts, 2).
    """
    jobs, wanted = [], {"hard": ("easy", "hard"), "easy": ("hard",)}
    owners = [(learned, k) for learned in wanted for k in range(len(models[learned]))]
    for learned, k in owners:
        pairs = {place(f"hard_rm_of_{learned}_on_{kind}", k): held_out[kind] for kind in wanted[learned]}
        jobs.append(ScoringJob(str(models[learned][k]), pairs))
    calls = [(sample_sets, base, {"hard": [p.prompt for p in asked]}, 2, settings)]
    calls += [(score_job, job, settings.dtype, settings.limits) for job in jobs]
    replies, *scored = in_workers(_apply, calls, "scoring")
    tables: dict[tuple[str, str], list[pd.DataFrame]] = {}
    for (learned, _), done in zip(owners, scored, strict=True):
        for kind, table in zip(wanted[learned], done.pairs.values(), strict=True):
            tables.setdefault((learned, kind), []).append(table)
    questions = [p.question for p in asked for _ in range(2)]
    values = [gold(q, reply.text) for q, reply in zip(questions, replies["hard"], strict=True)]
    return tables, np.reshape(values, (-1, 2))


def _apply(function: Callable, *arguments):
    return function(*arguments)
