"""One training with one loss and one learning rate, and what the policy then answers; and many of them.

Replicate k has pairs, labels, a start and a seed of its own. The learning rate of each loss is the one with
the highest mean gold on prompts that nothing else is measured on; it is sought in the first replicate, on
honest labels. All policies draw their replies with the same random numbers.

    answers = train_variants(study, results / "variant_answers.json")
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rlhf_hw.experiments.pair_files import write_pairs
from rlhf_hw.experiments.variants.variant_settings import (
    FLIPPED,
    HONEST,
    SHUFFLED,
    TRIED_ON,
    VARIANTS,
    variant_settings,
)
from rlhf_hw.files import read_json, write_json
from rlhf_hw.models.batches import group_tokens
from rlhf_hw.models.generation import generate
from rlhf_hw.models.loading import load_policy, pick_device
from rlhf_hw.models.log_probs import exact_kl
from rlhf_hw.models.rendering import Renderer
from rlhf_hw.preferences.templates import Preference
from rlhf_hw.training.config import SETTINGS
from rlhf_hw.training.launch import run_training
from rlhf_hw.workers import in_workers
from rlhf_hw.world.gold import gold

UNTRAINED = "start"  # in place of a loss: the policy before any training
CHOICE, REPORTED = "choice", "reported"  # prompts for the choice of the rate, and those that are reported


@dataclass(frozen=True)
class PolicyPlan:
    """One policy: `loss` may be `UNTRAINED`; `labels` is one of `TRIED_ON`; `training` the replicate."""

    loss: str
    rate: float
    labels: str = HONEST
    training: int = 0

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.loss}-{self.labels}-{self.rate:g}-{self.training}"

    @property
    def tries(self) -> bool:
        """Whether it may decide on a learning rate; else it answers only the prompts that are reported."""
        return self.labels == HONEST and self.training == 0


@dataclass(frozen=True)
class VariantStudy:
    """What is trained and asked.

    Attributes:
        starts: The policy that each replicate starts from.
        pairs: Comparisons of each replicate.
        asked: `CHOICE` and `REPORTED` -> one comparison a prompt that is answered.
        folder: For label files and checkpoints, which go again when they were asked.
        losses: Of `VARIANTS`.
        rates: Learning rates that are tried for each.
        beta: See `variant_settings`.
        flipped: Share of labels that are turned where some are; cDPO and rDPO are told it.
        told: What these are told of honest labels.
        training: Settings of every training (batch size, limits, dtype).
        sampling: Of `generation.generate`.
        seed: Of the first replicate; the next have the next.
    """

    starts: Sequence[Path]
    pairs: Sequence[Sequence[Preference]]
    asked: Mapping[str, Sequence[Preference]]
    folder: Path
    losses: Sequence[str] = VARIANTS
    rates: Sequence[float] = (1e-4,)
    beta: float = 0.1
    flipped: float = 0.3
    told: float = 0.1
    training: Mapping[str, Any] = field(default_factory=dict)
    sampling: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0

    @property
    def shares(self) -> dict[str, float]:
        """Labels -> share of them that are turned."""
        return {HONEST: 0.0, FLIPPED: self.flipped, SHUFFLED: 0.5}

    def labelled(self, labels: str, training: int) -> list[Preference]:
        """The pairs of a replicate with such labels."""
        return turned_labels(self.pairs[training], self.shares[labels], self.seed + training)

    def own_settings(self, plan: PolicyPlan) -> tuple[str, dict[str, Any]]:
        """The kind of a plan's training, and the settings of its loss."""
        told = self.told if plan.labels == HONEST else self.shares[plan.labels]
        return variant_settings(plan.loss, self.beta, told)


def turned_labels(preferences: Sequence[Preference], share: float, seed: int) -> list[Preference]:
    """Comparisons of which a share has chosen and rejected exchanged.

    The labels turned at a smaller share are among those turned at a larger one.
    """
    turned = np.random.default_rng(seed).random(len(preferences)) < share
    return [
        replace(p, chosen=p.rejected, rejected=p.chosen) if turn else p
        for p, turn in zip(preferences, turned, strict=True)
    ]


def write_labels(study: VariantStudy) -> None:
    """A file of pairs, with the homework's keys, for each kind of labels and each replicate."""
    for labels in study.shares:
        for k in range(len(study.pairs)):
            write_pairs(labels_file(study, labels, k), study.labelled(labels, k))


def labels_file(study: VariantStudy, labels: str, training: int) -> Path:
    """Where the pairs of a replicate lie."""
    return study.folder / f"{labels}-{training}.jsonl"


def train_variants(study: VariantStudy, place: Path) -> pd.DataFrame:
    """Train all policies, side by side, and let them answer.

    Args:
        study: What is trained and asked.
        place: The file for the answers, which `load_answers` reads back.

    Returns:
        One row a policy and prompt: `loss`, `labels`, `rate`, `training` of its plan; `part`, `prompt`, the
        place among its prompts; `kl` (exact, nats from the start), `gold`, `words`, `finished`.
    """
    write_labels(study)
    tried = [PolicyPlan(UNTRAINED, 0.0, training=k) for k in range(len(study.starts))]
    tried += [PolicyPlan(loss, rate) for loss in study.losses for rate in study.rates]
    first = answered_by(tried, study, "learning rates")
    taken = chosen_rates(first)
    rest = [
        PolicyPlan(loss, taken[loss], labels, k)
        for labels, losses in TRIED_ON.items()
        for loss in study.losses
        for k in range(len(study.starts))
        if loss in losses and (labels, k) != (HONEST, 0)
    ]
    found = pd.concat([first, answered_by(rest, study, "variants")], ignore_index=True)
    shutil.rmtree(study.folder)
    write_json(place, found.to_dict("list"))
    return found


def load_answers(place: Path) -> pd.DataFrame:
    """What `train_variants` wrote."""
    return pd.DataFrame(read_json(place))


def answered_by(plans: Sequence[PolicyPlan], study: VariantStudy, title: str) -> pd.DataFrame:
    """The answers of several policies."""
    return pd.concat(in_workers(trained_answers, [(plan, study) for plan in plans], title), ignore_index=True)


def chosen_rates(answers: pd.DataFrame) -> dict[str, float]:
    """Loss -> the rate with the highest mean gold on the prompts of the choice, the smallest of equals."""
    rows = (answers["part"] == CHOICE) & (answers["labels"] == HONEST) & (answers["training"] == 0)
    known = answers[rows & (answers["loss"] != UNTRAINED)]
    means = known.groupby(["loss", "rate"])["gold"].mean()
    return {loss: float(means[loss].idxmax()) for loss in known["loss"].unique()}


def trained_answers(plan: PolicyPlan, study: VariantStudy) -> pd.DataFrame:
    """Train one policy, and let it answer; its checkpoint goes again."""
    start = study.starts[plan.training]
    if not plan.tries:
        study = replace(study, asked={REPORTED: study.asked[REPORTED]})
    if plan.loss == UNTRAINED:
        found = answers_measured(start, start, study)
    else:
        kind, settings = training_settings(plan, study)
        run_training(kind, SETTINGS[kind](**settings))
        found = answers_measured(settings["output_dir"], start, study)
        shutil.rmtree(settings["output_dir"])
    return found.assign(loss=plan.loss, labels=plan.labels, rate=plan.rate, training=plan.training)


def training_settings(plan: PolicyPlan, study: VariantStudy) -> tuple[str, dict[str, Any]]:
    """The kind of a plan's training and all its settings."""
    kind, own = study.own_settings(plan)
    pairs = str(labels_file(study, plan.labels, plan.training))
    settings = {
        "model": str(study.starts[plan.training]),
        "output_dir": study.folder / plan.name,
        "train_dataset": pairs,
        "train_template": "HOMEWORK",
        "learning_rate": plan.rate,
        "seed": study.seed + plan.training,
        "report_to": "none",
    }
    if kind == "sft":  # it asks for held-out pairs; nothing is read off them
        settings |= {"eval_dataset": pairs, "eval_template": "HOMEWORK", "eval_split": "train", "max_eval": 2}
    return kind, settings | dict(study.training) | own


def answers_measured(policy: Path, start: Path, study: VariantStudy) -> pd.DataFrame:
    """A policy's replies to all prompts: gold, length and distance from the start, one row a prompt."""
    limits = {n: study.training[n] for n in ("max_prompt_tokens", "max_reply_tokens") if n in study.training}
    renderer = Renderer.load(policy, **limits)
    models = [load_policy(folder).to(pick_device()) for folder in (policy, start)]
    # those that all policies answer come first: random numbers go by the place
    parts = {name: study.asked[name] for name in (REPORTED, CHOICE) if name in study.asked}
    asked = [p for part in parts.values() for p in part]
    prompts = [p.prompt for p in asked]
    replies = generate(models[0], renderer, prompts, seed=study.seed, **study.sampling)
    groups = group_tokens(renderer.prompt_ids(prompts), [[reply.ids] for reply in replies])
    return pd.DataFrame(
        {
            "part": [name for name, part in parts.items() for _ in part],
            "prompt": [n for part in parts.values() for n in range(len(part))],
            "kl": exact_kl(*models, groups, renderer.pad_id)[:, 0].astype(float),
            "gold": [gold(p.question, reply.text) for p, reply in zip(asked, replies, strict=True)],
            "words": [len(reply.text.split()) for reply in replies],
            "finished": [reply.finished for reply in replies],
        }
    )
