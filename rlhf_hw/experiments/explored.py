"""Every reply and pair of a run, or of anybody's files, as the data of a page to look at them.

    explored_run(RUNS / "nano")                              the sets of prompts of a finished run
    explored_files(["pairs.jsonl", "base.jsonl", ...])       files of replies and pairs, or a folder of them
    explored(["nano"])                                       either, as `rlhf-hw explore` names them

Nothing is scored here: what the files say is put side by side; module `explored_cases` says in which form.
Here alone a file may be without scores: whoever else reads score files refuses one.
Texts that are not to be shown (`show_texts`, as in notebooks 02 and 05) are not in the data at all.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from rlhf_hw.errors import InputError
from rlhf_hw.experiments.case_addresses import SETS_SHOWN
from rlhf_hw.experiments.data_parts import SHOW_ALL, metas_of
from rlhf_hw.experiments.explored_cases import Cases, Findings, Tables
from rlhf_hw.experiments.explored_damage import damage_by_reply
from rlhf_hw.experiments.explored_tables import read_anything
from rlhf_hw.files import check_readable, read_json
from rlhf_hw.paths import RUNS
from rlhf_hw.preferences.score_files import read_pairs, read_replies

INFERENCE = "05_dpo_inference_analysis"  # whose parameters in the run's record say what may be shown
POLICIES = ("base", "sft", "dpo", "reference")
# Name of a set of prompts -> how its score files are called, replies of each policy and pairs
REPLY_SETS = {name: f"generated_{name}_{{}}" for name in SETS_SHOWN} | {"hard": "hard_{}"}
PAIR_SETS = {f"pairs-{name}": name for name in SETS_SHOWN}
PAIR_SETS |= {"pairs-hard": "hard_rm_of_hard_on_hard"}
PAGE = "explorer.html"
SCORE_FILES = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet")


def explored(
    sources: Sequence[str],
    mapping: Mapping[str, str] | None = None,
    show_texts: str | None = None,
    template: str | None = None,
) -> tuple[dict[str, Any], Path]:
    """What a command line names: one run, by name or folder, or files of replies and pairs and their folders.

    Returns:
        What there is to look at, and where its page belongs.

    Raises:
        InputError: the run has no scored replies or pairs; else as `explored_files`.
    """
    runs = [folder for folder in (RUNS / sources[0], Path(sources[0])) if (folder / "scores").is_dir()]
    if len(sources) > 1 or not runs:
        return explored_files(sources, mapping, show_texts, template), Path(PAGE)
    if (found := explored_run(runs[0], show_texts)) is None:
        raise InputError(f"{runs[0]} has no scored replies or pairs: run its notebooks 02 and 05 first")
    return found, runs[0] / "report" / PAGE


def explored_run(
    folder: Path, show_texts: str | None = None, findings: Findings | None = damage_by_reply
) -> dict[str, Any] | None:
    """What there is to look at in a run.

    Args:
        folder: The run's folder; its score files are those of notebooks 02, 05 and 12.
        show_texts: Whose texts are in it ("all", "none", or how the names of their sources begin); default:
            as the run's notebook 05 had it.
        findings: What is wrong with replies, see `explored_cases`.

    Returns:
        Plain data for `report.explorer`, as `Cases.data` describes them; None where the run has no scored
        replies or pairs.

    Raises:
        InputError: policies answered other prompts, or `run.json` is no JSON.
    """
    parameters = _parameters(folder)
    check_readable(folder / "scores")
    read = all_trainings(folder / "scores")
    pairs = {name: tables for name, file in PAIR_SETS.items() if (tables := read(file, read_pairs))}
    given = {p: parameters.get(f"scores_{p}", "") for p in ("base", "dpo")}
    world = bool(parameters.get("world", True)) and not all(given.values())
    cases = Cases(
        show_texts or parameters.get("show_texts") or SHOW_ALL, world, sources_of(pairs.values()), findings
    )
    sets = {name: _policies(read, file) for name, file in REPLY_SETS.items()}
    if all(given.values()):  # notebook 05 read recorded replies
        sets = {"validation": {p: [read_replies(path)] for p, path in given.items()}}
    for name, tables in sets.items():
        if tables:
            cases.add_replies(name, tables)
    for name, found in pairs.items():
        cases.add_pairs(name, found)
    end = _json(folder / "reward_model" / "tokenizer_config.json").get("eos_token")
    limit = parameters.get("max_reply_tokens")
    return cases.data(folder.name, end_token=end, read_tokens=limit) if cases.sets else None


def explored_files(
    paths: Iterable[str | Path],
    mapping: Mapping[str, str] | None = None,
    show_texts: str | None = None,
    template: str | None = None,
    findings: Findings | None = damage_by_reply,
) -> dict[str, Any]:
    """What there is to look at in files of replies and pairs, whoever wrote them, with scores or without.

    Reply files whose prompts are the same stand side by side, each under its own name; beside them the chosen
    replies of pairs of the same prompts, where there are such.

    Args:
        paths: Files of pairs and of replies, or folders of such files.
        mapping: Other names of their keys (`score_files.parse_mapping`).
        template: How the rows of pairs without scores are read (`preferences.templates`); those of the
            homework, of both editions, are known without it.
        show_texts, findings: As in `explored_run`; by default all texts are in it.

    Raises:
        InputError: a folder holds no such file, a file is neither of pairs nor of replies, or some of its
            rows have scores and others have none.
        UnknownName: a row lacks a key that others have, scores included.
        FileNotFoundError: a path is not there.
    """
    files = [file for path in paths for file in _files(Path(path))]
    found: dict[str, dict[str, pd.DataFrame]] = {"pairs": {}, "replies": {}}
    for file in files:
        kind, table = read_anything(file, mapping, template)
        found[kind][_named(file, found[kind])] = table
    pairs, replies = found["pairs"], found["replies"]
    cases = Cases(show_texts or SHOW_ALL, False, sources_of([[table] for table in pairs.values()]), findings)
    for name, tables in _together(replies).items():
        cases.add_replies(name, _with_references(tables, list(pairs.values())))
    for name, table in pairs.items():
        cases.add_pairs(f"pairs-{name}", [table])
    title = ", ".join(dict.fromkeys(Path(path).resolve().name for path in paths))
    return cases.data(title)


def all_trainings(folder: Path) -> Callable[[str, Callable], list[pd.DataFrame]]:
    """A function from the name of a run's score file to the tables of all its trainings.

    The file of the first training has the plain name, those of others end in `-1`, `-2`, ...
    """

    def read(name: str, reader: Callable) -> list[pd.DataFrame]:
        tables: list[pd.DataFrame] = []
        while (path := folder / f"{name}{f'-{len(tables)}' if tables else ''}.jsonl").exists():
            tables.append(reader(path))
        return tables

    return read


def sources_of(groups: Iterable[Sequence[pd.DataFrame]]) -> dict[str, set[str]]:
    """Prompt -> the sources of the pairs that have it, as far as the pairs name theirs."""
    found: dict[str, set[str]] = {}
    for table in (table for tables in groups for table in tables):
        for key, meta in zip(table["prompt_key"], metas_of(table), strict=True):
            if "source" in meta:
                found.setdefault(key, set()).add(str(meta["source"]))
    return found


def _policies(read: Callable[[str, Callable], list[pd.DataFrame]], file: str) -> Tables:
    return {policy: tables for policy in POLICIES if (tables := read(file.format(policy), read_replies))}


def _json(path: Path) -> dict[str, Any]:
    return read_json(path, remedy="run the notebooks again, with --force") if path.exists() else {}


def _parameters(folder: Path) -> dict[str, Any]:
    """What notebook 05 ran with, else what the run's profile says to all."""
    record = _json(folder / "run.json")
    try:
        return record.get("profile", {}).get("parameters", {}) | record.get("parameters", {}).get(
            INFERENCE, {}
        )
    except (AttributeError, TypeError) as error:
        raise InputError(f"{folder / 'run.json'}: no record of a run; remove it and run again") from error


def _files(path: Path) -> list[Path]:
    """The score files that a path names."""
    if not path.is_dir():
        return [path]
    found = [file for file in sorted(path.iterdir()) if file.name.endswith(SCORE_FILES)]
    if not found:
        raise InputError(
            f"{path}: no files of replies or pairs in this folder ({', '.join(SCORE_FILES)}), and no run "
            "either; name another folder, or the files"
        )
    return found


def _named(file: Path, taken: Mapping[str, Any]) -> str:
    """What a file's replies or pairs are called: its name without what all such names have."""
    stem = file.name.removesuffix(".gz").rpartition(".")[0]
    stem = stem.removeprefix("generated_").removeprefix("replies_").removesuffix("_pairs")
    name, count = stem, 1
    while name in taken:
        count += 1
        name = f"{stem} {count}"
    return name


def _together(replies: Mapping[str, pd.DataFrame]) -> dict[str, Tables]:
    """Set -> policy -> replies: files with the same prompts in the same order are a set.

    Where all of a set are called `test_base`, `test_dpo` and the like, it is the set "test" of the policies.
    """
    groups: dict[tuple, dict[str, list[pd.DataFrame]]] = {}
    for name, table in replies.items():
        groups.setdefault(tuple(table["prompt_key"]), {})[name] = [table]
    shared = Counter(head for group in groups.values() if (head := _common_head(group)))
    sets: dict[str, Tables] = {}
    for group in groups.values():
        head = _common_head(group)
        if shared[head] == 1:
            group = {name.removeprefix(f"{head}_"): tables for name, tables in group.items()}
        tables = dict(sorted(group.items(), key=lambda item: (*POLICIES, item[0]).index(item[0])))
        alone = "replies" if len(groups) == 1 else ", ".join(tables)
        sets[head if shared[head] == 1 else alone] = tables
    return sets


def _common_head(names: Iterable[str]) -> str:
    """What stands before the policy in all the names; empty where one does not end in a policy."""
    heads = {head if policy in POLICIES else "" for head, _, policy in (n.rpartition("_") for n in names)}
    return heads.pop() if len(heads) == 1 else ""


def _with_references(tables: Tables, pairs: Sequence[pd.DataFrame]) -> Tables:
    """With the chosen reply to each prompt, where scored pairs have one for some of them."""
    asked = next(iter(tables.values()))[0]
    chosen: dict[str, tuple[str, float]] = {}
    for table in pairs:
        for key, text, score in zip(table["prompt_key"], table["chosen"], table["chosen_score"], strict=True):
            chosen.setdefault(key, (text, score))
    if "reference" in tables or not chosen.keys() & set(asked["prompt_key"]):
        return tables
    found = [chosen.get(key, (None, None)) for key in asked["prompt_key"]]
    columns = {"response": [text for text, _ in found], "score": [score for _, score in found]}
    return {**tables, "reference": [asked[["prompt", "prompt_key"]].assign(**columns)]}
