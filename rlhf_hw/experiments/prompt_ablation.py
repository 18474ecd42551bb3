"""What the prompt is worth to a reward model: its accuracy with the prompt taken away or exchanged.

The same pairs are scored three times: after their own prompt, after an empty one, and after that of another
pair. What is left without the prompt was read from the replies alone, from words, length or style. A foreign
prompt is of the same part of the data, so that the question is lost and its kind is not.

    pairs = [held_out[n] for n in even_rows(labels, 200)]
    found = measure_ablation(own, {"empty": tables, "foreign": tables})
    found.metrics["rm.prompt.foreign.accuracy"], found.claims["prompt_matters"]
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from rlhf_hw.errors import InputError
from rlhf_hw.experiments.data_parts import part_key
from rlhf_hw.experiments.result import Result
from rlhf_hw.experiments.scored_pairs import right_orders
from rlhf_hw.preferences.templates import Message, Preference
from rlhf_hw.stats.replicates import Replicated, beyond, replicated_lead, replicated_rate

EMPTY = (Message("user", ""),)


@dataclass(frozen=True, kw_only=True)
class PromptAblation(Result):
    """Accuracy by what stands before the replies; `table` has one row for each, over all pairs."""

    table: pd.DataFrame


def without_prompts(preferences: Sequence[Preference]) -> list[Preference]:
    """The same pairs after an empty user turn."""
    return [replace(p, prompt=EMPTY) for p in preferences]


def with_foreign_prompts(
    preferences: Sequence[Preference], labels: Sequence[str] = (), seed: int = 0
) -> list[Preference]:
    """The same pairs, each after the prompt of another one of its part.

    Args:
        preferences: The pairs.
        labels: The part of each; without them all are one.
        seed: Of the exchange.

    Raises:
        InputError: all pairs of a part have the same prompt.
    """
    parts = np.array(labels if len(labels) else [""] * len(preferences))
    found = list(preferences)
    for part in dict.fromkeys(parts):
        rows = np.random.default_rng(seed).permutation(np.flatnonzero(parts == part))
        for place, row in enumerate(rows):
            mine = preferences[row].prompt
            others = (preferences[n].prompt for n in (*rows[place + 1 :], *rows[:place]))
            foreign = next((prompt for prompt in others if prompt != mine), None)
            if foreign is None:
                raise InputError(f"prompt ablation: the {len(rows)} pairs {part} all have the same prompt")
            found[row] = replace(preferences[row], prompt=foreign)
    return found


def measure_ablation(
    own: Sequence[pd.DataFrame],
    changed: Mapping[str, Sequence[pd.DataFrame]],
    labels: Mapping[int, str] | None = None,
    seed: int = 0,
) -> PromptAblation:
    """Accuracy with the own prompt and with each other, and what is lost.

    Args:
        own: The pairs, or more of them, after their own prompts, as each replicate scored them.
        changed: "empty", "foreign" -> some of the pairs after that prompt, as each replicate scored them.
        labels: Part of each pair by its `id`; or None.
        seed: Of resampling.

    Returns:
        Metrics `rm.prompt.pairs`, `rm.prompt.<own, empty, foreign>.accuracy` and
        `rm.prompt.<empty, foreign>.drop` (own minus that, on the same pairs), all with their intervals; where
        there are parts the same under `parts.<part>.prompt`. Claims beyond both intervals: `prompt_matters`
        (a foreign prompt costs accuracy), `prompt_not_needed_to_beat_guessing` (an empty one leaves some).
    """
    tables = {"own": own, **changed}
    common = set.intersection(*(set(t["id"]) for several in tables.values() for t in several))
    same = {
        name: [t[t["id"].isin(common)].sort_values("id") for t in several] for name, several in tables.items()
    }
    right = {name: right_orders(several) for name, several in same.items()}
    first = same["own"][0]
    found = rates_of(right, list(first["prompt_key"]), "rm.prompt", seed)
    left = beyond(found, "rm.prompt.empty.accuracy", 0.5) > 0
    claims = {
        "prompt_matters": beyond(found, "rm.prompt.foreign.drop") > 0,
        "prompt_not_needed_to_beat_guessing": left,
    }
    parts = np.array([(labels or {}).get(n, "") for n in first["id"]])
    for part in dict.fromkeys(parts[parts != ""]):
        rows = np.flatnonzero(parts == part)
        some = {name: values[:, rows] for name, values in right.items()}
        prompts = list(first["prompt_key"].iloc[rows])
        found |= rates_of(some, prompts, f"parts.{part_key(part)}.prompt", seed)
    rates = {name: Replicated.of(found, f"rm.prompt.{name}.accuracy").named("accuracy") for name in right}
    return PromptAblation(metrics=found, claims=claims, table=pd.DataFrame(rates).T)


def rates_of(
    right: Mapping[str, np.ndarray], prompts: Sequence, prefix: str, seed: int = 0
) -> dict[str, float]:
    """`<prefix>.pairs`, and for each prompt its accuracy and, but for the own one, its drop."""
    found: dict[str, float] = {f"{prefix}.pairs": len(prompts)}
    for name, values in right.items():
        found |= replicated_rate(values, prompts, seed=seed).named(f"{prefix}.{name}.accuracy")
        if name != "own":
            found |= replicated_lead(right["own"], values, prompts).named(f"{prefix}.{name}.drop")
    return found
