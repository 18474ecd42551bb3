"""The same once more with whole reward models: the biased one and one on balanced pairs, trained end to end.

Heads on frozen states are quick, but a model that may change its states could learn length otherwise. Both
kinds learn from as many pairs. Those of the balanced one are drawn from twice as many with labels: balancing
by leaving out costs labels, and drawing a pair twice would be no new pair.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rlhf_hw.experiments.length_bias.biased_labels import (
    SeenReplies,
    biased_labels,
    in_parts,
    pairs_unread,
    with_outcomes,
)
from rlhf_hw.experiments.length_bias.length_bias import Judged, LengthStudy, judge_rewards
from rlhf_hw.experiments.length_bias.remedies import BINS, balanced_rows
from rlhf_hw.experiments.pair_files import write_pairs
from rlhf_hw.experiments.plural.reply_states import found_model
from rlhf_hw.models.scoring import RewardModel, score_groups
from rlhf_hw.preferences.templates import Preference
from rlhf_hw.training.config import RewardTraining
from rlhf_hw.training.launch import run_training
from rlhf_hw.workers import in_workers

WHOLE = ("biased", "balanced")


def labelled_sets(
    preferences: Sequence[Preference], share: float, seed: int, folder: Path
) -> dict[str, Path]:
    """Label pairs, and write one half of them, and as many that are balanced in bins.

    Args:
        preferences: Comparisons of the world; their labels are not used.
        share: Of labels that length decides.
        seed: Of the labels and of what is left out.
        folder: Where the files go.

    Returns:
        The file of each of `WHOLE`, with the homework's keys. Where balance leaves fewer, both have as many.
    """
    rng = np.random.default_rng(seed)
    pairs = pairs_unread(preferences)
    won = biased_labels(pairs, share, rng)
    kept = balanced_rows(pairs.longer, won, rng, BINS)
    labelled = with_outcomes(pairs, won)
    size = min(len(labelled) // 2, len(kept))
    rows = {"biased": np.arange(size), "balanced": rng.permutation(kept)[:size]}
    files = {name: folder / f"{name}-{seed}.jsonl" for name in WHOLE}
    for name, path in files.items():
        write_pairs(path, [labelled[n] for n in rows[name]])
    return files


def whole_models(
    sets: Sequence[Sequence[Preference]], study: LengthStudy, settings: RewardTraining, seed: int = 0
) -> list[dict[str, Judged]]:
    """Train both kinds on each set of pairs, side by side, and judge them as heads are judged.

    Args:
        sets: Pairs of each replicate, of which half as many are learned from.
        study: With the share of labels by length, the held-out pairs and the candidates.
        settings: Of training; the model, and in `output_dir` a folder for all that is written.
        seed: Replicate k has `seed + k`.
    """
    jobs = []
    for k, preferences in enumerate(sets):
        files = labelled_sets(preferences, study.share, seed + k, settings.output_dir)
        for name, path in files.items():
            change = {"train_dataset": str(path), "output_dir": settings.output_dir / f"{name}-{seed + k}"}
            change |= {"model": found_model(settings.model), "seed": seed + k}
            jobs.append(settings.model_copy(update=change))
    judged = iter(in_workers(trained_and_judged, [(job, study) for job in jobs], "whole reward models"))
    return [{name: next(judged) for name in WHOLE} for _ in sets]


def trained_and_judged(settings: RewardTraining, study: LengthStudy) -> Judged:
    """Train one reward model, and let it score the candidates and the held-out pairs."""
    run_training("rm", settings)
    limits = {n: getattr(settings, n) for n in ("max_prompt_tokens", "max_reply_tokens")}
    model = RewardModel(settings.output_dir, dtype=settings.dtype, **limits)
    scores = [whole_scores(model, replies) for replies in (study.candidates, study.held_out)]
    return judge_rewards(scores[0], np.subtract(*scores[1].T), study)


def whole_scores(model: RewardModel, replies: SeenReplies) -> np.ndarray:
    """Rewards, shape (prompts, K)."""
    found = np.zeros(replies.words.shape)
    for groups, rows in in_parts(model, replies.asked, replies.texts):
        found[:, rows] = score_groups(model.model, groups, model.renderer.pad_id, model.dtype)
    return found
