"""The earlier run's replies, and what each judge says of them.

The run's folder holds replies of its two models to the prompts of 500 test rows and of 128 training pairs,
four for each row, and these pairs: `replies_{test,train}_{base,dpo}` and `train_pairs`, JSON lines, plain or
gzip. A prompt of several rows has more than four replies. A judge is a reward model that never saw them. It
leaves a folder `<rendering>/<kind>-<seed>/` with score files of the same names: of the test prompts always;
where they are there, of the training prompts, of the pairs (`pairs_train`), of replies that are cut to equal
length (`replies_..._cut`), and of pairs that were held out from those it learned from (`validation_<kind>`);
`training.json` is the record of its training.

    replies = read_earlier(folder)
    judges = read_judges(scores, replies)         {("plain", "harmless"): Judges(...), ...}

Scores of two reward models have no common unit, so each judge's are divided by the standard deviation of its
scores of base replies to test prompts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from rlhf_hw.errors import InputError
from rlhf_hw.experiments.earlier_run.reply_forms import cut_to_words, forms_of
from rlhf_hw.files import read_json
from rlhf_hw.preferences.reading import load_preferences
from rlhf_hw.preferences.rows import RowFile
from rlhf_hw.preferences.score_files import prompt_key, read_pairs, read_replies, write_scores
from rlhf_hw.preferences.templates import as_prompt
from rlhf_hw.stats.text import words

GENERATED = {  # source -> file
    "test base": "replies_test_base",
    "test DPO": "replies_test_dpo",
    "train base": "replies_train_base",
    "train DPO": "replies_train_dpo",
}
PAIRED = ("chosen", "rejected")
SOURCES = (*PAIRED, *GENERATED)
CUT = {source: f"{file}_cut" for source, file in GENERATED.items()}  # the same replies, cut to equal length
KINDS_OF_PAIRS = {"harmless": ("harmless",), "helpful": ("helpful",), "both": ("harmless", "helpful")}
RENDERINGS = ("plain", "chat")
TRAINED = "training.json"  # `training.folders.RECORD`; what reads scores alone need not rest on how to train
WHERE = "python -m rlhf_hw.experiments.earlier_run.judges trains judges and lets them score"


@dataclass(frozen=True)
class Judges:
    """Reward models that differ in their seeds only.

    Attributes:
        seeds: Their seeds, in order.
        replies: Rows of `read_earlier` that all of them have scored: of whole sources, in their order.
        scores: Of these, shape (judges, replies).
        cut: Source -> scores of its replies cut to equal length, shape (judges, replies of the source); empty
            where one has not scored them.
        own: Held-out pairs of the kind that they learned from, one table a judge, in the same order, with
            `chosen_score`, `rejected_score`, `margin` and `chosen_words`, `rejected_words`; empty where one
            has not scored them.
        learned: How many pairs each learned from; empty where one has no record of its training.

    All scores are in standard deviations of the judge's scores of base replies to test prompts.
    """

    seeds: tuple[int, ...]
    replies: pd.DataFrame
    scores: np.ndarray
    cut: dict[str, np.ndarray]
    own: list[pd.DataFrame]
    learned: tuple[int, ...] = ()


def has(folder: Path, name: str) -> bool:
    """Whether a folder has a file of JSON lines, plain or gzip."""
    return any((folder / f"{name}.jsonl{end}").exists() for end in ("", ".gz"))


def placed(folder: Path, name: str) -> Path:
    """A file of JSON lines, plain or gzip.

    Raises:
        FileNotFoundError: neither is there.
    """
    for path in (folder / f"{name}.jsonl", folder / f"{name}.jsonl.gz"):
        if path.exists():
            return path
    raise FileNotFoundError(f"no {name}.jsonl (nor .gz) in {folder}; {WHERE}")


def read_earlier(folder: Path) -> pd.DataFrame:
    """The run's replies, one row each.

    Returns:
        Columns `source` (one of `SOURCES`), `prompt`, `response`, and those of `reply_forms.forms_of`. The
        n-th reply of base and that of DPO answer the same prompt.

    Raises:
        FileNotFoundError: a file is missing. InputError: base and DPO answer other prompts.
    """
    pairs, _ = load_preferences(str(placed(folder, "train_pairs")), "PKUSafeRLHF")
    keys = [prompt_key(pair.prompt) for pair in pairs]
    tables = [
        pd.DataFrame({"source": side, "prompt": keys, "response": [getattr(pair, side) for pair in pairs]})
        for side in PAIRED
    ]
    for source, file in GENERATED.items():
        rows = [row for _, row in RowFile(placed(folder, file))]
        columns = {"prompt": [prompt_key(as_prompt(row["prompt"], "prompt")) for row in rows]}
        tables.append(pd.DataFrame({"source": source, **columns, "response": [r["response"] for r in rows]}))
    for base, dpo in ((2, 3), (4, 5)):
        if list(tables[base]["prompt"]) != list(tables[dpo]["prompt"]):
            raise InputError(f"{folder}: base and DPO replies must answer the same prompts in the same order")
    table = pd.concat(tables, ignore_index=True)
    return table.join(forms_of(table["response"]))


def cut_replies(replies: pd.DataFrame) -> dict[str, list[str]]:
    """Each generated reply cut, at a sentence's end, to the words of the reply that it is compared with.

    On test prompts the longer of base and DPO loses sentences, on training prompts a reply that is longer
    than the chosen one of its prompt: the switch "length" of notebook 06, for files that any judge can score.

    Returns:
        Source -> replies, in the order of `replies`.
    """
    of = {source: list(replies["response"][replies["source"] == source]) for source in SOURCES}
    asked = {source: list(replies["prompt"][replies["source"] == source]) for source in SOURCES}
    chosen = dict(zip(reversed(asked["chosen"]), reversed(of["chosen"]), strict=True))
    beside = {"test base": of["test DPO"], "test DPO": of["test base"]}
    beside |= {source: [chosen[prompt] for prompt in asked[source]] for source in ("train base", "train DPO")}
    return {
        source: [
            cut_to_words(text, len(words(other))) for text, other in zip(of[source], others, strict=True)
        ]
        for source, others in beside.items()
    }


def write_cut(replies: pd.DataFrame, folder: Path) -> list[Path]:
    """Write `cut_replies` as files that `rlhf-hw score` reads, one for each source."""
    paths = []
    for source, texts in cut_replies(replies).items():
        asked = replies["prompt"][replies["source"] == source]
        rows = [{"prompt": prompt, "response": text} for prompt, text in zip(asked, texts, strict=True)]
        paths.append(write_scores(folder / f"{CUT[source]}.jsonl", rows))
    return paths


def read_judges(folder: Path, replies: pd.DataFrame) -> dict[tuple[str, str], Judges]:
    """All judges below a folder, by rendering and by the kind of pairs that they learned from.

    Raises:
        FileNotFoundError: there is none, or a file of one is missing. InputError: one has scored other texts.
    """
    found: dict[tuple[str, str], Judges] = {}
    cut = cut_replies(replies)
    for rendering in RENDERINGS:
        for kind in KINDS_OF_PAIRS:
            named = {int(path.name.rpartition("-")[2]): path for path in folder.glob(f"{rendering}/{kind}-*")}
            if named:
                found[rendering, kind] = judges_of(
                    [named[seed] for seed in sorted(named)], kind, replies, cut
                )
    if not found:
        raise FileNotFoundError(f"no judge in {folder}: expected folders <rendering>/<kind>-<seed>; {WHERE}")
    return found


def judges_of(
    folders: Sequence[Path], kind: str, replies: pd.DataFrame, cut: Mapping[str, Sequence[str]]
) -> Judges:
    """The judges of one kind and rendering, one folder each; `cut` is from `cut_replies`."""
    sources = [
        source
        for source in SOURCES
        if source.startswith("test") or all(has(folder, file_of(source)) for folder in folders)
    ]
    rows = replies[replies["source"].isin(sources)].reset_index(drop=True)
    scores = np.array([np.concatenate([source_scores(f, s, rows) for s in sources]) for f in folders])
    scale = scores[:, (rows["source"] == "test base").to_numpy()].std(axis=1)[:, None]
    found, own = {}, []
    if all(has(folder, CUT[source]) for source in GENERATED for folder in folders):
        for source in GENERATED:
            asked = replies["prompt"][replies["source"] == source]
            found[source] = (
                np.array([reply_scores(f, CUT[source], asked, cut[source]) for f in folders]) / scale
            )
    if all(has(folder, f"validation_{name}") for name in KINDS_OF_PAIRS[kind] for folder in folders):
        own = [held_out_pairs(f, kind, float(unit)) for f, unit in zip(folders, scale[:, 0], strict=True)]
    if len({tuple(table["prompt_key"]) for table in own}) > 1:
        raise InputError(f"{folders[0].parent}: the judges {kind} must score the same held-out pairs")
    seeds = tuple(int(folder.name.rpartition("-")[2]) for folder in folders)
    return Judges(seeds, rows, scores / scale, found, own, pairs_learned(folders))


def pairs_learned(folders: Sequence[Path]) -> tuple[int, ...]:
    """From how many pairs judges learned, by the records of their trainings; empty where one lacks it."""
    records = [folder / TRAINED for folder in folders]
    counts = [read_json(path).get("metrics", {}).get("pairs") for path in records if path.exists()]
    return tuple(counts) if len(counts) == len(folders) and None not in counts else ()


def file_of(source: str) -> str:
    """The score file of a source."""
    return GENERATED.get(source, "pairs_train")


def held_out_pairs(folder: Path, kind: str, unit: float) -> pd.DataFrame:
    """A judge's scores of held-out pairs in a unit, with the words of both replies."""
    names = KINDS_OF_PAIRS[kind]
    table = pd.concat([read_pairs(placed(folder, f"validation_{n}")) for n in names], ignore_index=True)
    counts = {f"{side}_words": [len(words(text)) for text in table[side]] for side in PAIRED}
    scored = ["chosen_score", "rejected_score", "margin"]
    return table.assign(**counts, **{name: table[name] / unit for name in scored})


def source_scores(folder: Path, source: str, replies: pd.DataFrame) -> np.ndarray:
    """A judge's scores of one source's replies, in their order."""
    rows = replies[replies["source"] == source]
    if source not in PAIRED:
        return reply_scores(folder, GENERATED[source], rows["prompt"], rows["response"])
    pairs = read_pairs(placed(folder, file_of(source)))
    known = known_scores(pairs["prompt_key"], pairs[source], pairs[f"{source}_score"])
    return looked_up(known, rows["prompt"], rows["response"], f"{folder}, {source}")


def reply_scores(folder: Path, file: str, prompts: Sequence[str], texts: Sequence[str]) -> np.ndarray:
    """A judge's scores of replies, found in a score file by prompt and text."""
    table = read_replies(placed(folder, file))
    known = known_scores(table["prompt_key"], table["response"], table["score"])
    return looked_up(known, prompts, texts, f"{folder}, {file}")


def known_scores(prompts: Sequence[str], texts: Sequence[str], scores: Sequence[float]) -> dict:
    """(prompt, reply) -> score."""
    return {(p, t): s for p, t, s in zip(prompts, texts, scores, strict=True)}


def looked_up(known: Mapping, prompts: Sequence[str], texts: Sequence[str], where: str) -> np.ndarray:
    """The scores of replies.

    Raises:
        InputError: one was not scored.
    """
    wanted = list(zip(prompts, texts, strict=True))
    missing = sum(key not in known for key in wanted)
    if missing:
        raise InputError(f"{where}: {missing} of {len(wanted)} replies have no score there; {WHERE}")
    return np.array([known[key] for key in wanted], dtype=float)
