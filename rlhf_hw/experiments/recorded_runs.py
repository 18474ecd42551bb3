"""Several recorded runs side by side: one line a run, and what the lines have in common.

A run is a folder with replies of a base and of a DPO model to the same prompts, in the same order:
`generated_base.jsonl` and `generated_dpo.jsonl`, or `replies_<set>_base.jsonl` and `replies_<set>_dpo.jsonl`
for each set of prompts; plain or gzip, one reply a prompt or several, with scores or without. References,
whose style is no damage, are the replies of `rm_scores_validation.jsonl` (scored pairs) and of
`train_pairs.jsonl` (the homework's keys, of either edition), where these are there. What a run lacks is left
out of its line.

    found = beside_each_other(read_runs([Path("recorded-run"), Path("earlier-run")]))
    found["recorded.runs.1.win_rate"], found["recorded.runs.2.words_difference"]
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from rlhf_hw.errors import InputError
from rlhf_hw.experiments.reply_damage import sound_rows, strange_openings, table_damage
from rlhf_hw.experiments.result import prefixed
from rlhf_hw.paths import resolve
from rlhf_hw.preferences.reading import load_preferences
from rlhf_hw.preferences.rows import SUFFIXES, RowFile
from rlhf_hw.preferences.score_files import REPLY_KEYS, prompt_key, read_pairs, read_table
from rlhf_hw.stats.calibration import outcomes
from rlhf_hw.stats.damage import Finding, damaged_rows
from rlhf_hw.stats.distributions import correlation, correlation_interval
from rlhf_hw.stats.intervals import mean_interval, rate_interval
from rlhf_hw.stats.pairs import preference_metrics
from rlhf_hw.stats.policies import compare_policies
from rlhf_hw.stats.text import reply_table

PAIRS, TRAINED = "rm_scores_validation", "train_pairs"
POLICIES, SIDES = ("base", "dpo"), ("chosen", "rejected")
REPLY_FILE = re.compile(rf"(?:generated|replies)_(?:(\w+)_)?({'|'.join(POLICIES)})")
FORM = (
    "replies of both models, generated_base.jsonl and generated_dpo.jsonl or replies_<set>_base.jsonl and "
    "replies_<set>_dpo.jsonl"
)
FOLDERS = ("recorded-run", "earlier-run")  # in that of RLHF_HW_REAL_DATA
PUBLISHED = Path(__file__).with_name("published_runs.yaml")
Numbers = dict[str, float | str]
FEWEST = 30  # prompts that a win rate without damaged replies needs


@dataclass(frozen=True)
class RunReplies:
    """One set of prompts of a recorded run.

    Attributes:
        name: The folder's name, and the set's where the run has several.
        base, dpo: One row a reply, in the same order: id, prompt, prompt_key, response, perhaps score, and
            `words`, `repetition`, `looping`.
        pairs: Scored preference pairs, or None.
        trained: Both replies of the pairs that were trained on, with `prompt` and `response`, or None.
    """

    name: str
    base: pd.DataFrame
    dpo: pd.DataFrame
    pairs: pd.DataFrame | None = None
    trained: pd.DataFrame | None = None

    @property
    def scored(self) -> bool:
        """Whether both models' replies have scores."""
        return "score" in self.base and "score" in self.dpo

    @property
    def references(self) -> list[pd.DataFrame]:
        """The replies of all pairs as one table, in a list; empty without pairs.

        One table, since an opening has to stand out from each: a small one would hide what a large one shows.
        """
        sides = [] if self.pairs is None else [self.pairs[["prompt", side]] for side in SIDES]
        tables = [side.set_axis(["prompt", "response"], axis=1) for side in sides]
        tables += [] if self.trained is None else [self.trained]
        return [pd.concat(tables, ignore_index=True)] if tables else []


def find_recorded(folders: str = "") -> list[Path]:
    """Where the rows are: in `folders`, named with commas, else in `FOLDERS` of RLHF_HW_REAL_DATA.

    Returns:
        Nothing where neither names a folder that exists.

    Raises:
        FileNotFoundError: one of `folders` does not exist.
    """
    if named := [resolve(name.strip()) for name in folders.split(",") if name.strip()]:
        if missing := next((path for path in named if not path.is_dir()), None):
            raise FileNotFoundError(f"recorded: {missing} is no folder; it should hold {FORM}")
        return named
    real = os.environ.get("RLHF_HW_REAL_DATA")
    known = [Path(real).expanduser().resolve() / name for name in FOLDERS] if real else []
    return [path for path in known if path.is_dir()]


def described(path: Path) -> pd.DataFrame:
    """Replies with their lengths in words and repetitions, and with scores where the first row has one."""
    first = next(iter(RowFile(path)), None)
    keys = REPLY_KEYS if first is not None and "score" in first[1] else REPLY_KEYS[:2]
    table = read_table(path, keys, None)
    columns = ["words", "repetition", "looping"]
    table[columns] = reply_table(table["response"])[columns]
    return table


def replies_of_pairs(path: Path) -> pd.DataFrame:
    """Both replies of preference pairs in the homework's keys: columns `prompt`, `response`."""
    pairs, _ = load_preferences(str(path), "HOMEWORK")
    rows = [(prompt_key(pair.prompt), getattr(pair, side)) for pair in pairs for side in SIDES]
    return pd.DataFrame(rows, columns=["prompt", "response"])


def files_of(folder: Path) -> dict[str, Path]:
    """Name without its ending -> file, for the files of rows in a folder."""
    found = {}
    for path in sorted(folder.iterdir()):
        if suffix := next((known for known in SUFFIXES if path.name.endswith(known)), None):
            found[path.name.removesuffix(suffix)] = path
    return found


def read_run(folder: Path) -> list[RunReplies]:
    """The sets of prompts of a recorded run.

    Raises:
        FileNotFoundError: the folder has replies of one model only, or of none.
        InputError: base and DPO replies are to other prompts, or a file cannot be read.
    """
    files = files_of(folder)
    sets: dict[str, dict[str, Path]] = {}
    for name, path in files.items():
        if match := REPLY_FILE.fullmatch(name):
            sets.setdefault(match[1] or "", {})[match[2]] = path
    if not sets or any(len(each) < len(POLICIES) for each in sets.values()):
        raise FileNotFoundError(f"{folder}: expected {FORM}; found {', '.join(files) or 'no files'}")
    pairs = read_pairs(files[PAIRS]) if PAIRS in files else None
    trained = replies_of_pairs(files[TRAINED]) if TRAINED in files else None
    found = []
    for name, each in sorted(sets.items()):
        base, dpo = (described(each[policy]) for policy in POLICIES)
        if list(base["prompt_key"]) != list(dpo["prompt_key"]):
            raise InputError(f"{folder}: base and DPO replies must be to the same prompts in the same order")
        found.append(RunReplies(f"{folder.name}, {name}" if name else folder.name, base, dpo, pairs, trained))
    return found


def read_runs(folders: Sequence[Path]) -> list[RunReplies]:
    """All sets of prompts of some runs, in order."""
    return [one for folder in folders for one in read_run(folder)]


def damage_of(one: RunReplies) -> dict[str, list[Finding]]:
    """What `stats.damage` finds in each model's replies, beside the other's and the references."""
    tables = {"base": one.base, "dpo": one.dpo}
    return {
        policy: table_damage(tables[policy], tables[other], *one.references)
        for policy, other in (POLICIES, POLICIES[::-1])
    }


def beside_each_other(
    runs: Sequence[RunReplies], damage: Sequence[Mapping] | None = None
) -> dict[str, float | str]:
    """All runs in numbers, and what others published of theirs.

    Args:
        runs: From `read_runs`.
        damage: `damage_of` each run, where it is known already.

    Returns:
        Metrics `recorded.runs.<n>.*` from 1 (`run_line`), `recorded.common.*` and `recorded.claims.*`
        (`in_common`), `recorded.published.<n>.*`: the entries of `PUBLISHED`, which says what they mean.
    """
    known = damage or [damage_of(one) for one in runs]
    lines = [run_line(one, findings) for one, findings in zip(runs, known, strict=True)]
    published = yaml.safe_load(PUBLISHED.read_text(encoding="utf-8"))
    found = in_common(lines, published)
    for group, rows in (("runs", lines), ("published", published)):
        for number, row in enumerate(rows, start=1):
            found |= prefixed(f"recorded.{group}.{number}", row)
    return found


def run_line(one: RunReplies, findings: Mapping[str, Sequence[Finding]]) -> Numbers:
    """One run in numbers.

    Returns:
        name, replies, prompts; for each policy words_mean, repetition, looping, damaged (share), opening with
        opening_share where a strange one is named, and cut (share) where replies cut off are;
        words_difference (DPO less base, with interval); with pairs accuracy (with interval), pairs,
        chosen_mean; with scores each policy's score and rise above the chosen mean, win_rate,
        win_rate_length_controlled, score_difference (with intervals), follows_length (rank correlation of the
        differences in score and in words), win_rate_sound with sound (pairs of replies that are not damaged).
    """
    prompts = one.base["prompt_key"].tolist()
    found: Numbers = {"name": one.name, "replies": len(prompts), "prompts": len(set(prompts))}
    for policy, table in (("base", one.base), ("dpo", one.dpo)):
        means = {name: float(table[name].mean()) for name in ("words", "repetition", "looping")}
        means["damaged"] = float(damaged_rows(findings[policy], len(table)).mean())
        found |= {f"{policy}_{name}": value for name, value in means.items()}
        if strange := strange_openings(findings[policy]):
            found |= {f"{policy}_opening": strange[0].what, f"{policy}_opening_share": strange[0].share.value}
        for cut in (sign for sign in findings[policy] if sign.kind == "cut" and sign.damage):
            found[f"{policy}_cut"] = cut.share.value
    longer = one.dpo["words"] - one.base["words"]
    found |= mean_interval(longer, prompts).named("words_difference")
    if one.pairs is not None:
        found |= pair_numbers(one.pairs)
    if one.scored:
        found |= score_numbers(one, sound_rows(findings, len(prompts)))
    return found


def pair_numbers(pairs: pd.DataFrame) -> dict[str, float]:
    """The reward model on its pairs: accuracy, the mean score of chosen replies, the number of pairs."""
    keys = pairs["prompt_key"].tolist()
    rated = preference_metrics(pairs["chosen_score"], pairs["rejected_score"], prompts=keys)
    accuracy = {name: rated[name] for name in ("accuracy", "accuracy_low", "accuracy_high")}
    return accuracy | {"chosen_mean": float(pairs["chosen_score"].mean()), "pairs": len(pairs)}


def score_numbers(one: RunReplies, sound: np.ndarray) -> dict[str, float]:
    """DPO beside base by score, as counted, at equal length, and where neither reply is damaged."""
    base, dpo, prompts = one.base, one.dpo, one.base["prompt_key"]
    compared = compare_policies(dpo["score"], base["score"], prompts.tolist(), dpo["words"], base["words"])
    names = ("win_rate", "win_rate_length_controlled", "score_difference")
    found = {f"{name}{end}": compared[f"{name}{end}"] for name in names for end in ("", "_low", "_high")}
    change, longer = dpo["score"] - base["score"], dpo["words"] - base["words"]
    if change.nunique() > 1 and longer.nunique() > 1:
        follows = correlation(change, longer)
        found |= correlation_interval(follows, prompts.nunique()).named("follows_length")
    for policy, table in (("base", base), ("dpo", dpo)):
        found[f"{policy}_score"] = float(table["score"].mean())
        if one.pairs is not None:
            found[f"{policy}_rise"] = found[f"{policy}_score"] - float(one.pairs["chosen_score"].mean())
    found["sound"] = int(sound.sum())
    if prompts[sound].nunique() >= FEWEST:
        won = outcomes(change[sound].to_numpy())
        found |= rate_interval(won, prompts[sound].tolist()).named("win_rate_sound")
    return found


def in_common(lines: Sequence[Numbers], published: Sequence[Mapping] = ()) -> dict[str, float]:
    """What runs have in common: does DPO's sign go with its change of length?

    The sign of a run without scores is the published one, where the entry names its `folder`.

    Returns:
        `recorded.common.runs`, `.scored`, `.shorter` (runs whose DPO replies are shorter beyond the
        interval); `recorded.claims.dpo_shorter_everywhere`, `.score_follows_length_everywhere` (prompt by
        prompt, in each run with scores), `.length_does_not_decide` (two runs change length in one direction,
        and DPO's scores move in two), `.a_published_sign_decides` (that rests on published means),
        `.beside_<folder>` (a run of that published entry is here): keys that exist only where they hold.
    """
    rated = [line for line in lines if "win_rate" in line]
    shorter = [line for line in lines if line["words_difference_high"] < 0]
    entries = {entry["folder"]: entry for entry in published if "folder" in entry}
    here = [str(line["name"]).split(",")[0] for line in lines]
    signs: dict[str, set[tuple[bool, bool]]] = {"own": set(), "all": set()}  # longer?, higher?
    for line, folder in zip(lines, here, strict=True):
        theirs = entries.get(folder, {}) if "win_rate" not in line else {}
        own = [line.get("win_rate_high", 1) < 0.5, line.get("win_rate_low", 0) > 0.5]
        known = [theirs["dpo"] < theirs["base"], theirs["dpo"] > theirs["base"]] if "dpo" in theirs else own
        changed = line["words_difference_high"] < 0 or line["words_difference_low"] > 0
        if any(known) and changed:
            for group in ("all",) if theirs else ("all", "own"):
                signs[group].add((line["words_difference"] > 0, known[1]))
    apart = {group: any((longer, not up) in found for longer, up in found) for group, found in signs.items()}
    holds = {
        "dpo_shorter_everywhere": bool(lines) and len(shorter) == len(lines),
        "score_follows_length_everywhere": bool(rated)
        and all(r.get("follows_length_low", 0) > 0 for r in rated),
        "length_does_not_decide": apart["all"],
        "a_published_sign_decides": apart["all"] and not apart["own"],
    } | {f"beside_{folder.replace('-', '_')}": folder in here for folder in entries}
    counts = {"runs": len(lines), "scored": len(rated), "shorter": len(shorter)}
    claims = {f"recorded.claims.{name}": 1 for name, true in holds.items() if true}
    return prefixed("recorded.common", counts) | claims
