"""Every replicate of the reward model scores the same sets, side by side in worker processes.

jobs = [ScoringJob(checkpoint, {path: pairs, ...}) for checkpoint in checkpoints]
scored = score_jobs(jobs, dtype, limits)
scored[0].pairs[path]

Where each part of mixed data has a reward model of its own, a replicate is several models: each pair is
scored by that of its part, and the score file holds all pairs in the order in which they were given.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from rlhf_hw.experiments.data_parts import even_rows, part_key, part_names, parts_of
from rlhf_hw.experiments.result import Result
from rlhf_hw.experiments.scored_pairs import score_pairs
from rlhf_hw.experiments.within_prompts import RepliesBeside, score_beside
from rlhf_hw.models.scoring import RewardModel
from rlhf_hw.paths import sources_in
from rlhf_hw.preferences.reading import load_preferences
from rlhf_hw.preferences.score_files import read_pairs, write_scores
from rlhf_hw.preferences.templates import Preference
from rlhf_hw.training.smaller import sources_by_part
from rlhf_hw.workers import in_workers


@dataclass(frozen=True)
class ScoringJob:
    """What one reward model is to score.

    Attributes:
        checkpoint: Its folder or hub id.
        pairs: The pairs for each score file.
        beside: Several replies to one prompt, and the score file for them; or None.
        of_parts: Part of mixed data -> checkpoint of the model that scores its pairs, where each part has one
            of its own; `checkpoint` is then that of the first part, which scores `beside`.
    """

    checkpoint: str
    pairs: Mapping[Path, Sequence[Preference]]
    beside: tuple[RepliesBeside, Path] | None = None
    of_parts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Scored:
    """What it has scored: a table for each score file, and that of the several replies, or None."""

    pairs: dict[Path, pd.DataFrame] = field(default_factory=dict)
    beside: pd.DataFrame | None = None


def score_jobs(jobs: Sequence[ScoringJob], dtype: str = "auto", **limits: int) -> list[Scored]:
    """Score and write score files, one reward model a worker.

    Args:
        jobs: One for each reward model; the larger ones first, so that the workers end together.
        dtype: "auto", "bf16" or "fp32".
        limits: `max_prompt_tokens`, `max_reply_tokens` of the renderer.
    """
    return in_workers(score_job, [(job, dtype, limits) for job in jobs], "scoring")


def score_job(job: ScoringJob, dtype: str, limits: Mapping[str, int]) -> Scored:
    """One job of `score_jobs`."""
    reward_model = RewardModel(job.checkpoint, dtype=dtype, **limits)
    beside = None if job.beside is None else score_beside(job.beside[0], reward_model, job.beside[1])
    if job.of_parts:
        tables = score_by_part(job, reward_model, dtype, limits)
    else:
        tables = {path: score_pairs(reward_model, pairs, path) for path, pairs in job.pairs.items()}
    return Scored(tables, beside)


def score_by_part(
    job: ScoringJob, first: RewardModel, dtype: str, limits: Mapping[str, int]
) -> dict[Path, pd.DataFrame]:
    """Score each pair with the model of its part, one model after the other, and write the score files.

    Args:
        job: With `of_parts`.
        first: The model of `job.checkpoint`, which is loaded already.
        dtype, limits: As in `score_jobs`.

    Raises:
        InputError: a pair belongs to no part, or to two.
    """
    names = ", ".join(job.of_parts)
    labels = {path: parts_of([p.meta for p in some], names, each=False) for path, some in job.pairs.items()}
    rows: dict[Path, dict[int, dict]] = {path: {} for path in job.pairs}
    for part, checkpoint in job.of_parts.items():
        known = checkpoint == job.checkpoint
        reward_model = first if known else RewardModel(checkpoint, dtype=dtype, **limits)
        for path, pairs in job.pairs.items():
            if places := [n for n, label in enumerate(labels[path]) if label == part]:
                scored = reward_model.score_places([pairs[n] for n in places])
                rows[path] |= {places[n]: row for n, row in scored.items()}
    for path, found in rows.items():
        write_scores(path, [found[n] for n in sorted(found)])
    return {path: read_pairs(path) for path in rows}


def learned_pairs(
    source: str, template: str, split: str, limit: int | None, skip: int = 0, names: str = ""
) -> list[Preference]:
    """The pairs that a replicate's reward model learned from; of several parts' models, part after part.

    Args:
        source, template, split, limit, skip: As in `load_preferences`; limit and skip are those of each part.
        names: The parts that have models of their own; the `meta` of each pair then names its source, also
            where a part has one source alone.
    """
    if not names:
        return load_preferences(source, template, split, limit, skip)[0]
    found = []
    for own in sources_by_part(source, names).values():
        pairs, _ = load_preferences(own, template, split, limit, skip)
        alone = {"source": Path(own).name} if len(sources_in(own)) == 1 else {}
        found += [replace(p, meta={**p.meta, **alone}) for p in pairs]
    return found


def some_of_each(pairs: Sequence[Preference], count: int, names: str = "") -> list[Preference]:
    """The first pairs, `count` in all, as many of each part that is named."""
    labels = parts_of([p.meta for p in pairs], names, each=False) or [""] * len(pairs)
    return [pairs[row] for row in even_rows(labels, count)]


def describe_learned(train: Sequence[Sequence[Preference]], names: str) -> Result:
    """From how many pairs each part's models learned, and which share of them another replicate had, too.

    Args:
        train: Each replicate's pairs, from `learned_pairs`. names: The parts; without any there is nothing.

    Returns:
        Metrics `parts.<part>.learned`, `parts.<part>.shared`; the claim `own_models`.
    """
    metrics: dict[str, float] = {}
    labels = [parts_of([p.meta for p in pairs], names, each=False) for pairs in train]
    for part in part_names(names) if train else []:
        sets = [
            {(p.prompt, p.chosen, p.rejected) for p, of in zip(pairs, own, strict=True) if of == part}
            for pairs, own in zip(train, labels, strict=True)
        ]
        others = [set().union(*sets[:k], *sets[k + 1 :]) for k in range(len(sets))]
        shares = [len(mine & rest) / len(mine) for mine, rest in zip(sets, others, strict=True)]
        metrics[f"parts.{part_key(part)}.learned"] = float(np.mean([len(mine) for mine in sets]))
        metrics[f"parts.{part_key(part)}.shared"] = float(np.mean(shares))
    return Result(metrics=metrics, claims={"own_models": bool(names)})
