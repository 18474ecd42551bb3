"""Mixed data, part by part: which pairs belong together, whose texts may be shown, who is right on each part.

Several sources that are read together are mixed, and the `meta` of each pair names its own. A part is all
sources whose names begin alike: "helpful, harmless" makes two parts of helpful-base, helpful-online and
harmless-base. One number over all of them hides a part on which nothing was learned, and a word that speaks
for a reply in one part may speak against it in another.

    labels = parts_of(pairs["meta"], "helpful, harmless")
    found = judge_parts(scorers.orders, pairs, labels, whole)
    found.metrics["parts.harmless.lead.words"], found.claims["rm_beats_words_harmless"]

Each part may have reward models of its own (`own_models` in notebooks 01 and 02), which learn from its
sources alone (`training.smaller`). Then each pair is scored by the model of its part (`score_replicates`),
and the first part's models are those that judge replies.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rlhf_hw.errors import InputError
from rlhf_hw.experiments.result import Result
from rlhf_hw.experiments.scored_pairs import baseline_margins
from rlhf_hw.paths import is_of_part
from rlhf_hw.preferences.templates import Preference
from rlhf_hw.stats.calibration import outcomes
from rlhf_hw.stats.replicates import Replicated, beyond, replicated_lead, replicated_rate

SHOW_ALL, SHOW_NONE = "all", "none"
REWARD_MODEL = "rm"  # in the keys; the others are "words" (fitted on its pairs), "length" and "part_words"


@dataclass(frozen=True, kw_only=True)
class PartsJudged(Result):
    """Who is right on each part.

    Attributes:
        rates: Part -> "rm", "length", "words", "part_words" -> accuracy with its intervals.
        leads: Part -> scorer -> accuracy of the reward model minus its.
    """

    rates: dict[str, dict[str, Replicated]]
    leads: dict[str, dict[str, Replicated]]


def metas_of(pairs: pd.DataFrame) -> list[Mapping]:
    """`meta` of each row of a score file; empty ones where it has none."""
    return list(pairs["meta"]) if "meta" in pairs else [{}] * len(pairs)


def part_names(text: str) -> list[str]:
    """The names in a list with commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def part_key(name: str) -> str:
    """A part's name as it stands in keys of metrics: small letters, figures and underscores."""
    return re.sub(r"\W+", "_", name).strip("_").lower()


def parts_of(metas: Iterable[Mapping], names: str, each: bool = True) -> list[str]:
    """The part of each pair.

    Args:
        metas: `meta` of each, whose `source` names the source it comes from.
        names: The parts, see the module's docstring; empty: none are asked for.
        each: Whether every part has to have a pair.

    Returns:
        One name a pair; an empty list where no parts are asked for.

    Raises:
        InputError: a pair belongs to no part or to two, or no pair to one of them.
    """
    if not (wanted := part_names(names)):
        return []
    found = [[n for n in wanted if is_of_part(str(m.get("source", "")), n)] for m in metas]
    sources = sorted({str(m.get("source", "")) for m in metas} - {""})
    known = f"the sources are {', '.join(sources) or 'unknown: the data have one alone'}"
    for row, mine in enumerate(found, start=1):
        if len(mine) != 1:
            what = f"belongs to {' and '.join(mine)}" if mine else "belongs to no part"
            raise InputError(f"parts {names!r}: pair {row} {what}; {known}, and a part is all that begin so")
    if each and (missing := sorted(set(wanted) - {name for name, *_ in found})):
        raise InputError(f"parts {names!r}: no pair belongs to {', '.join(missing)}; {known}")
    return [name for name, *_ in found]


def first_rows(metas: Iterable[Mapping], names: str) -> list[int]:
    """The rows of the first part; all where no parts are named."""
    metas = list(metas)
    first = next(iter(part_names(names)), None)
    labels = parts_of(metas, names, each=False) or [first] * len(metas)
    return [row for row, label in enumerate(labels) if label == first]


def of_first_part(pairs: pd.DataFrame, names: str) -> pd.DataFrame:
    """The scored pairs of the first part; all where no parts are named."""
    return pairs.iloc[first_rows(metas_of(pairs), names)].reset_index(drop=True)


def words_by_part(train: Sequence[Preference], pairs: pd.DataFrame, names: str) -> np.ndarray:
    """Margins of a bag of words for each part, fitted on its model's own pairs; shape (pairs,).

    Args:
        train: From `score_replicates.learned_pairs`. pairs: Scored pairs. names: The parts.
    """
    own, labels = (
        np.array(parts_of(metas, names, each=False)) for metas in ([p.meta for p in train], metas_of(pairs))
    )
    margins = np.zeros(len(pairs))
    for part in dict.fromkeys(labels):
        learned = [train[n] for n in np.flatnonzero(own == part)]
        margins[labels == part] = baseline_margins(learned, pairs[labels == part])["words"]
    return margins


def rows_shown(metas: Iterable[Mapping], names: str) -> np.ndarray:
    """Which texts may be shown: all, none, or those whose source begins with one of the names.

    A row whose source is unknown is shown only where all are.

    Args:
        metas: `meta` of each row.
        names: "all", "none", or names with commas.
    """
    if names == SHOW_ALL:
        return np.array([True for _ in metas], dtype=bool)
    parts = [name for name in part_names(names) if name != SHOW_NONE]
    sources = [str(m.get("source", "")) for m in metas]
    return np.array([any(is_of_part(source, part) for part in parts) for source in sources], dtype=bool)


def even_rows(labels: Sequence[str], count: int) -> list[int]:
    """The first rows of each part, as many of each, together `count` at most; all for 0."""
    parts = list(dict.fromkeys(labels))
    each = count // len(parts) if count else len(labels)
    rows = [[row for row, label in enumerate(labels) if label == part][:each] for part in parts]
    return sorted(row for part in rows for row in part)


def judge_parts(
    orders: Mapping[str, np.ndarray],
    pairs: pd.DataFrame,
    labels: Sequence[str],
    whole: Sequence[Preference] = (),
    names: str = "",
    seed: int = 0,
) -> PartsJudged:
    """The reward model, the length rule and two bags of words on each part.

    The bag of words fitted on the reward model's own pairs has to serve all parts at once and does not see
    of which one a reply is, unless each part has a model of its own (`words_by_part`). `part_words` is what
    words can reach: fitted on all training pairs of the part; so is the length rule.

    Args:
        orders: "rm" and perhaps "words" -> outcomes, shape (replicates, pairs), from `Scorers.orders`.
        pairs: The scored pairs.
        labels: From `parts_of`, for the pairs.
        whole: All training pairs; without them there is neither length rule nor `part_words`.
        names: The parts, to tell those of `whole` apart.
        seed: Of resampling.
    """
    rates: dict[str, dict[str, Replicated]] = {}
    leads: dict[str, dict[str, Replicated]] = {}
    own = np.array(parts_of([p.meta for p in whole], names)) if whole else np.array([])
    for part in dict.fromkeys(labels):
        rows = np.flatnonzero(np.array(labels) == part)
        prompts = list(pairs["prompt_key"].iloc[rows])
        right = {name: orders[name][:, rows] for name in (REWARD_MODEL, "words") if name in orders}
        if len(whole):
            learned = [whole[n] for n in np.flatnonzero(own == part)]
            fitted = baseline_margins(learned, pairs.iloc[rows])
            right |= {"length": outcomes(fitted["length"]), "part_words": outcomes(fitted["words"])}
        rates[part] = {name: replicated_rate(r, prompts, seed=seed) for name, r in right.items()}
        ours = right.pop(REWARD_MODEL)
        leads[part] = {name: replicated_lead(ours, theirs, prompts) for name, theirs in right.items()}
    metrics, claims, rows = part_numbers(rates, leads, labels)
    return PartsJudged(metrics=metrics, claims=claims, tables={"parts": rows}, rates=rates, leads=leads)


def part_numbers(
    rates: Mapping[str, Mapping[str, Replicated]],
    leads: Mapping[str, Mapping[str, Replicated]],
    labels: Sequence[str],
) -> tuple[dict[str, float], dict[str, bool], list[dict]]:
    """Numbers, claims beyond both intervals, and one row a part for the report's tables.

    Returns:
        `parts.<part>.pairs`, `.<scorer>.accuracy` and `.lead.<scorer>` with their intervals;
        `rm_beats_<scorer>_<part>` and `<scorer>_beats_rm_<part>`; `part`, `key` and the same claims without
        the part's name.
    """
    metrics: dict[str, float] = {"parts.count": len(rates)}
    claims, rows = {}, []
    for part, scorers in rates.items():
        key = part_key(part)
        metrics[f"parts.{key}.pairs"] = list(labels).count(part)
        for name, rate in scorers.items():
            metrics |= rate.named(f"parts.{key}.{name}.accuracy")
        said = {}
        for name, lead in leads[part].items():
            metrics |= lead.named(f"parts.{key}.lead.{name}")
            side = beyond(metrics, f"parts.{key}.lead.{name}")
            said |= {f"rm_beats_{name}": side > 0, f"{name}_beats_rm": side < 0}
        claims |= {f"{claim}_{key}": holds for claim, holds in said.items()}
        rows.append({"part": part, "key": key} | said)
    return metrics, claims, rows
