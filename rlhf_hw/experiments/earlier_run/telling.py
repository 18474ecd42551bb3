"""Where the rows of the earlier run are, what was kept of them, and its numbers as tables to read.

The rows and the scores are licensed otherwise than this project, and the prompts offend: they stay where they
are. Below the folder that RLHF_HW_REAL_DATA names, `earlier-run/` holds the run's replies and
`earlier-run-scores/` what the judges said of them; without them the numbers kept in `data/kept/` are told.

    places = find_earlier()
    found = solve_riddle(...) if places else read_kept_riddle()
    told(found.metrics, "plain.harmless.dpo_base_test.gap")      "+0.31 [+0.27, +0.35] [+0.12, +0.50]"
"""

import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from rlhf_hw.experiments.earlier_run.gap_parts import PARTS_OF_GAP
from rlhf_hw.experiments.earlier_run.judged_replies import KINDS_OF_PAIRS, RENDERINGS
from rlhf_hw.experiments.earlier_run.reply_forms import KINDS
from rlhf_hw.experiments.earlier_run.riddle import SETS, EarlierReplies, group_claims
from rlhf_hw.paths import ROOT, real_data, resolve
from rlhf_hw.stats.replicates import Replicated, beyond

KEPT_RIDDLE = ROOT / "data" / "kept" / "13_earlier_replies" / "metrics.json"
FOLDERS = ("earlier-run", "earlier-run-scores")  # in the folder of real data
SAID_OF = ("pairs", "base_test", "dpo_test", "base_train", "dpo_train")
CLAIM = "claims."
ACROSS = "rest_across"


def find_earlier(replies: str = "", scores: str = "") -> tuple[Path, Path] | None:
    """The folders with the run's replies and with the judges' scores.

    Args:
        replies, scores: Given folders, or empty for those in the folder that RLHF_HW_REAL_DATA names.

    Returns:
        None where one of them is not given and not there.

    Raises:
        FileNotFoundError: one is given and does not exist.
    """
    found, above = [], real_data()
    for given, name in zip((replies, scores), FOLDERS, strict=True):
        path = resolve(given) if given else above and above / name
        if given and not path.is_dir():
            raise FileNotFoundError(f"{name}: {path} is no folder")
        found.append(path)
    first, second = found
    return (first, second) if first and second and first.is_dir() and second.is_dir() else None


def read_kept_riddle(path: Path = KEPT_RIDDLE) -> EarlierReplies:
    """What was kept: numbers and claims, without what only figures show.

    Raises:
        FileNotFoundError: nothing was kept yet.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"neither the earlier run's rows nor {path}: name their folders (parameters `replies` and "
            "`scores`), or set RLHF_HW_REAL_DATA"
        )
    content = json.loads(path.read_text(encoding="utf-8"))
    claims = {key.removeprefix(CLAIM): True for key in content if key.startswith(CLAIM)}
    metrics = {key: value for key, value in content.items() if not key.startswith(CLAIM)}
    return EarlierReplies(metrics=metrics, claims=claims, parts={}, levels={}, signs=pd.DataFrame())


def told(metrics: Mapping[str, float], key: str, form: str = "+.2f") -> str:
    """A number below `earlier` with its intervals, over prompts and, if known, over trainings; or a dash."""
    if f"earlier.{key}" not in metrics:
        return "–"
    number = Replicated.of(metrics, f"earlier.{key}")
    if number.trainings is None:
        return f"{number.prompts:{form}}"
    low, high = number.trainings[1:]
    return f"{number.prompts:{form}} [{low:{form}}, {high:{form}}]"


def judged_groups(metrics: Mapping[str, float]) -> list[str]:
    """`<rendering>.<kind>` of the judges that there are."""
    names = [f"{rendering}.{kind}" for rendering in RENDERINGS for kind in KINDS_OF_PAIRS]
    return [name for name in names if f"earlier.{name}.dpo_base_test.gap" in metrics]


def source_table(metrics: Mapping[str, float]) -> pd.DataFrame:
    """What can be seen without a model, one row a source of replies."""
    rows = {}
    for source in SAID_OF:
        rows[source] = {"words": f"{metrics[f'earlier.texts.{source}.words']:.0f}"}
        shares = {kind: kind for kind in (*KINDS, "repetition")} | {"beyond the pairs": "beyond_pairs"}
        rows[source] |= {n: f"{metrics[f'earlier.texts.{source}.{key}']:.1%}" for n, key in shares.items()}
    return pd.DataFrame(rows).T


def judge_table(metrics: Mapping[str, float], columns: Mapping[str, str], form: str = "+.2f") -> pd.DataFrame:
    """Numbers of all judges, one row a kind and rendering.

    Args:
        metrics: With what `solve_riddle` names.
        columns: Heading -> key below `earlier.<rendering>.<kind>`; those that no judge has are left out.
        form: Of the numbers.
    """
    groups = judged_groups(metrics)
    known = {n: key for n, key in columns.items() if any(f"earlier.{g}.{key}" in metrics for g in groups)}
    rows = {g: {name: told(metrics, f"{g}.{key}", form) for name, key in known.items()} for g in groups}
    return pd.DataFrame(rows).T


def part_rows(metrics: Mapping[str, float], contrast: str) -> pd.DataFrame:
    """The parts of one difference, one row a kind and rendering of judges; empty where none has it."""
    return judge_table(metrics, {part: f"{contrast}.{part}" for part in (*PARTS_OF_GAP, ACROSS)})


def sides_table(metrics: Mapping[str, float]) -> pd.DataFrame:
    """On which side of its base each judge puts DPO, beyond the intervals; one row a kind and rendering.

    Returns:
        `seeds`, how many judges the row speaks of; for each set of prompts that they have scored, DPO by its
        mean score, by the win rate at equal length (length held equal, by wins) and by the rest of
        `gap_parts` (length and kind of text held equal, by means): "above", "below", or "open".
    """
    rows = {}
    for group in judged_groups(metrics):
        start = f"earlier.{group}."
        said = group_claims({k.removeprefix(start): v for k, v in metrics.items() if k.startswith(start)})
        rows[group] = {"seeds": f"{metrics[f'{start}seeds']:.0f}"}
        for which in (one for one in SETS if f"{start}dpo_base_{one}.gap" in metrics):
            for name, above, below in (
                ("score", "dpo_above", "dpo_below"),
                ("equal length", "dpo_wins_at_equal_length", "dpo_loses_at_equal_length"),
                ("rest", "rest_above", "rest_below"),
            ):
                ways = (said[f"{which}_{above}"], said[f"{which}_{below}"])
                rows[group][f"{which}: {name}"] = "above" if ways[0] else "below" if ways[1] else "open"
    return pd.DataFrame(rows).T.fillna("–")


def shares_table(metrics: Mapping[str, float]) -> pd.DataFrame:
    """What share of DPO minus base goes with length, with kind of text, and with neither; a row a judge.

    Below zero a part goes against the difference. A dash: the difference itself is open, so that shares of it
    mean nothing, or was not scored.
    """
    rows = {}
    for group in judged_groups(metrics):
        rows[group] = {}
        for which in SETS:
            gap = f"earlier.{group}.dpo_base_{which}"
            known = f"{gap}.gap_low" in metrics and beyond(metrics, f"{gap}.gap") != 0
            for part in ("length", "kind", "rest"):
                share = f"{metrics[f'{gap}.{part}'] / metrics[f'{gap}.gap']:.0%}" if known else "–"
                rows[group][f"{which}: {part}"] = share
    return pd.DataFrame(rows).T


def reach_table(metrics: Mapping[str, float]) -> pd.DataFrame:
    """How far the judges' own held-out pairs reach, one row a kind and rendering."""
    rows = {}
    for group in judged_groups(metrics):
        if f"earlier.{group}.own.replies" not in metrics:
            continue
        own = {name: metrics[f"earlier.{group}.own.{name}"] for name in ("replies", "words_mean", "as_long")}
        beyond = metrics[f"earlier.{group}.own.base_test_beyond"]
        rows[group] = {
            "own replies": f"{own['replies']:.0f}",
            "mean words": f"{own['words_mean']:.0f}",
            "as long as the mean base reply": f"{own['as_long']:.0f}",
            "base replies longer than 99% of them": f"{beyond:.0%}",
        }
    return pd.DataFrame(rows).T
