"""Read and tokenize the preference pairs that a training run's settings name, with the data of their loss."""

from collections.abc import Sequence
from dataclasses import replace
from numbers import Real

import numpy as np

from rlhf_hw.errors import InputError, UnknownName
from rlhf_hw.models.batches import TokenizedGroups, tokenize_preferences
from rlhf_hw.models.rendering import Renderer
from rlhf_hw.preferences.reading import DataReport, load_preferences
from rlhf_hw.preferences.templates import Preference
from rlhf_hw.training.config import PairTraining, Training

LARGEST = float(np.finfo(np.float32).max)


def read_groups(
    config: PairTraining, renderer: Renderer
) -> tuple[TokenizedGroups | None, TokenizedGroups | None, dict[str, DataReport]]:
    """The training and the evaluation pairs of a run, each None where none are named, and their reports."""
    parts = {part: load_groups(config, renderer, part) for part in ("train", "eval")}
    reports = {part: report for part, (_, report) in parts.items() if report is not None}
    return parts["train"][0], parts["eval"][0], reports


def load_groups(
    config: PairTraining, renderer: Renderer, part: str
) -> tuple[TokenizedGroups | None, DataReport | None]:
    """Read and tokenize the "train" or "eval" pairs of a config; (None, None) when it names none."""
    preferences, report = load_pairs(config, part)
    if report is None:
        return None, None
    groups, kept, counts = tokenize_preferences(preferences, renderer)
    names = config.loss_entry.columns(config)
    source = f"{report.source} ({report.split})"
    columns = {name: read_column(preferences, name, source)[kept] for name in names}
    groups = replace(groups, columns=columns, rows=kept)
    if config.loss_entry.token_weights:
        groups = replace(groups, weights=config.loss_entry.token_weights(groups, config))
    report.dropped["equal after truncation"] += counts.pop("equal_after_truncation")
    report.used = len(groups)
    report.statistics |= {k.replace("_", " "): float(v) for k, v in counts.items()}
    report.statistics |= {
        "prompt tokens, mean": float(groups.prompt_lengths.mean()),
        "reply tokens, mean": float(groups.reply_lengths.mean()),
    }
    return groups, report


def load_pairs(config: Training, part: str) -> tuple[list[Preference], DataReport | None]:
    """The "train" or "eval" pairs that a config names; none and None when it names none."""
    if part == "train":
        source, skip = (config.train_dataset, config.train_template, config.train_split), config.skip_train
    else:
        source, skip = (config.eval_dataset, config.eval_template, config.eval_split), 0
    if source[0] is None:
        return [], None
    return load_preferences(*source, config.max_train if part == "train" else config.max_eval, skip)


def where_it_stands(preference: Preference, source: str) -> str:
    """A pair's file and line, or its row in the data set, as messages name it."""
    return str(preference.place or f"{source}, row {preference.row}")


def read_column(preferences: Sequence[Preference], key: str, source: str) -> np.ndarray:
    """One number a pair from its `meta`, shape (G,), fp32.

    Args:
        preferences: G pairs, as a template read them.
        key: Which number.
        source: Where they come from, for messages.

    Raises:
        KeyError: A pair has no such key; names the row and the keys it has.
        ValueError: It is no finite number.
    """
    for preference in preferences:
        where = f"{where_it_stands(preference, source)}, key {key!r}"
        if key not in preference.meta:
            raise UnknownName(
                f"{where}: the loss reads it from the pair's data, which has {sorted(preference.meta)}; "
                "name one of these, or let the template put it into `meta`"
            )
        value = preference.meta[key]
        # beyond the largest of fp32 it would become infinite
        if isinstance(value, bool) or not isinstance(value, Real) or not abs(value) <= LARGEST:
            raise InputError(f"{where}: the loss needs a finite number, found {value!r}")
    return np.array([preference.meta[key] for preference in preferences], dtype=np.float32)
