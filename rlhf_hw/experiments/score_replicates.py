"""Every replicate of the reward model scores the same sets, side by side in worker processes.

jobs = [ScoringJob(checkpoint, {path: pairs, ...}) for checkpoint in checkpoints]
scored = score_jobs(jobs, dtype, limits)
scored[0].pairs[path]
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from rlhf_hw.experiments.scored_pairs import score_pairs
from rlhf_hw.experiments.within_prompts import RepliesBeside, score_beside
from rlhf_hw.models.scoring import RewardModel
from rlhf_hw.preferences.templates import Preference
from rlhf_hw.workers import in_workers


@dataclass(frozen=True)
class ScoringJob:
    """What one reward model is to score.

    Attributes:
        checkpoint: Its folder or hub id.
        pairs: The pairs for each score file.
        beside: Several replies to one prompt, and the score file for them; or None.
    """

    checkpoint: str
    pairs: Mapping[Path, Sequence[Preference]]
    beside: tuple[RepliesBeside, Path] | None = None


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
    tables = {path: score_pairs(reward_model, pairs, path) for path, pairs in job.pairs.items()}
    beside = None if job.beside is None else score_beside(job.beside[0], reward_model, job.beside[1])
    return Scored(tables, beside)
