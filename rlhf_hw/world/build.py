"""Builds the data files of the simulated world: the same content from the same seed on every machine.

    python -m rlhf_hw.world.build --out data/nano --hard data/hard

| file in `nano` | rows | what |
|---|---|---|
| sft | 45,000 | prompt, response and remarks on it, on all topics, for the base language model |
| medley | 23,000 | prompt, sentences of most kinds, and remarks on these, for the base language model |
| train | 12,000 | comparisons in the homework's schema |
| validation | 1,000 | comparisons; wordings and combinations of topics that occur nowhere else |
| ood | 500 | comparisons on the topics marked `ood`, which are in sft and medley, in no other comparison |

| file in `hard` | rows | what |
|---|---|---|
| train | 6,000 | comparisons of two replies by one kind of writer |
| validation | 1,000 | the same; wordings and combinations of topics as in the validation of `nano` |

No prompt occurs twice in the comparisons, and none of them in sft or medley.
"""

import argparse
import gzip
import hashlib
import json
import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations
from pathlib import Path

from rlhf_hw.errors import UnknownName
from rlhf_hw.files import replacing, write_text
from rlhf_hw.preferences.templates import Preference
from rlhf_hw.world.annotators import Annotator, Features, users
from rlhf_hw.world.data_card import describe
from rlhf_hw.world.remarks import write_remarks
from rlhf_hw.world.text import topics
from rlhf_hw.world.writers import Habits, write_medley, write_prompt, write_reply

SIZES = {"sft": 45_000, "medley": 23_000, "train": 12_000, "validation": 1_000, "ood": 500}
HARD_SIZES = {"train": 6_000, "validation": 1_000}
REMARKS = 4  # on each reply of sft and medley
SEED = 2024
UNSAFE_SHARE = 0.08
DOUBLE_SHARE = {"sft": 0.25, "train": 0.25, "validation": 0.4, "ood": 0.2}
SFT_HABITS = Habits()
# The two writers of an easy comparison, one hasty and one careful: data sets compare unequal models.
# Both stray more and pad less than those of sft, and the hasty one gives more reasons than carelessness
# would have it: so it is not words alone that decide, but whether a reply suits its prompt.
PAIR_HABITS = replace(
    SFT_HABITS, exact_gain=0.95, reason_gain=0.9, careless_filler=0.3, careless_off_topic=0.6
)
HASTY = replace(PAIR_HABITS, most_care=0.3, reason=0.2, broken=0.1)
CAREFUL = replace(PAIR_HABITS, least_care=0.8, cut_off=0.0)
# How far apart the two writers of a comparison are. Hard: both replies are by the writer from whom the base
# model learned, each with a care of its own, and so are as alike as two samples of that model.
WRITERS = {"easy": (HASTY, CAREFUL), "hard": (SFT_HABITS, SFT_HABITS)}

log = logging.getLogger(__name__)


def topic_names(ood: bool | None, unsafe: bool = False) -> list[str]:
    """Names of harmless or unsafe topics: in the comparisons (ood False), kept out (True), all (None)."""
    return [t.name for t in topics().values() if t.unsafe == unsafe and ood in (None, t.ood)]


def topic_pairs(names: Sequence[str], held_out: bool) -> list[tuple[str, str]]:
    """Combinations of two topics; every fifth one is held out for validation."""
    return [pair for i, pair in enumerate(combinations(names, 2)) if (i % 5 == 0) == held_out]


def prompts(split: str, rng: random.Random) -> Iterator[str]:
    """An endless stream of prompts of a split."""
    ood = {"sft": None, "train": False, "validation": False, "ood": True}[split]
    harmless, unsafe = topic_names(ood), topic_names(ood, unsafe=True)
    if split == "ood":
        pairs = list(combinations(harmless, 2))
    else:
        pairs = topic_pairs(topic_names(False), held_out=split == "validation")
    while True:
        if rng.random() < UNSAFE_SHARE:
            names = (rng.choice(unsafe),)
        elif rng.random() < DOUBLE_SHARE[split]:
            names = rng.choice(pairs)
            names = names if rng.random() < 0.5 else names[::-1]
        else:
            names = (rng.choice(harmless),)
        yield write_prompt(rng, names, held_out=split == "validation")


def write_comparison(
    rng: random.Random,
    prompt: str,
    annotators: Sequence[Annotator],
    known: Sequence[str],
    pair_writers: tuple[Habits, Habits],
) -> dict | None:
    """One comparison in the homework's schema, or None when the annotator sees a tie.

    Args:
        rng: source of all choices.
        prompt: a text that `read_prompt` understands.
        annotators: one of them compares.
        known: names of the harmless topics that a drifting reply may turn to.
        pair_writers: whose replies are compared, in random order.

    Returns:
        `question`, `response_1`, `response_2`, `overall_response` (1 or 2) and `metadata` with the gold
        reward of both replies, the annotator's name, and the probability that this annotator prefers
        response 1.
    """
    writers = rng.sample(pair_writers, 2)
    first = second = write_reply(rng, prompt, writers[0], known)
    while second == first:
        second = write_reply(rng, prompt, writers[1], known)
    annotator = rng.choice(annotators)
    features = Features.of(prompt, first), Features.of(prompt, second)
    answer = annotator.prefer(*features, rng)
    if not answer:
        return None
    metadata = {
        "gold_1": round(features[0].gold, 6),
        "gold_2": round(features[1].gold, 6),
        "annotator": annotator.name,
        "probability": round(annotator.compare(*features), 6),
    }
    replies = {"question": prompt, "response_1": first, "response_2": second}
    return {**replies, "overall_response": answer, "metadata": metadata}


def more_replies(preferences: Sequence[Preference], count: int, seed: int = 0) -> list[list[str]]:
    """Replies to the prompts of comparisons by the writers of easy ones in turn.

    Args:
        preferences: Comparisons of this world; their prompts name topics in use there.
        count: Replies to each.
        seed: Seed of all choices.
    """
    rng, known, writers = random.Random(f"{seed}/more"), topic_names(False), WRITERS["easy"]
    return [
        [write_reply(rng, p.question, writers[i % len(writers)], known) for i in range(count)]
        for p in preferences
    ]


def build(
    seed: int = SEED,
    sizes: Mapping[str, int] = SIZES,
    annotators: Sequence[Annotator] | None = None,
    setting: str = "easy",
) -> dict[str, list[dict]]:
    """All splits of `nano` as lists of rows.

    Args:
        seed: seed of every choice.
        sizes: rows per split, with the keys of `SIZES`.
        annotators: who compares; twenty users of the standard group when None.
        setting: how far apart the writers of a comparison are, a key of `WRITERS`.

    Raises:
        KeyError: there is no such setting.
    """
    used: set[str] = set()
    splits = _comparisons(("validation", "ood", "train"), setting, sizes, annotators, used, seed)
    corpus = {split: _with_remarks(split, seed, sizes[split], used) for split in ("sft", "medley")}
    return {**corpus, **splits}


def build_hard(
    used: set[str],
    seed: int = SEED,
    sizes: Mapping[str, int] = HARD_SIZES,
    annotators: Sequence[Annotator] | None = None,
) -> dict[str, list[dict]]:
    """The splits of `hard`: comparisons of two replies by the writer of sft, by the annotators of `build`.

    Args:
        used: prompts that stand elsewhere, from `prompts_of`; none of them is asked here. Grows.
        seed: seed of every choice.
        sizes: rows per split, with the keys of `HARD_SIZES`.
        annotators: as for `build`.
    """
    return _comparisons(("validation", "train"), "hard", sizes, annotators, used, seed, "hard/")


def prompts_of(splits: Mapping[str, Sequence[dict]]) -> set[str]:
    """Every prompt of some splits."""
    return {row.get("question") or row["prompt"] for rows in splits.values() for row in rows}


def _comparisons(
    names: Sequence[str],
    setting: str,
    sizes: Mapping[str, int],
    annotators: Sequence[Annotator] | None,
    used: set[str],
    seed: int,
    place: str = "",
) -> dict[str, list[dict]]:
    """Comparisons of these splits on prompts outside `used`, which grows by theirs."""
    if setting not in WRITERS:
        raise UnknownName(f"setting {setting!r} is not known; choose one of {', '.join(WRITERS)}")
    annotators = annotators or users(20, seed=seed)
    splits: dict[str, list[dict]] = {}
    for split in names:
        rng = random.Random(f"{seed}/{place}{split}")
        known = topic_names(split == "ood")
        rows = splits[split] = []
        # a source of their own: the prompts, and with them sft, stay when the habits of the writers change
        for prompt in prompts(split, random.Random(f"{seed}/{place}{split}/prompts")):
            if len(rows) == sizes[split]:
                break
            row = None
            if prompt not in used:
                row = write_comparison(rng, prompt, annotators, known, WRITERS[setting])
            if row is not None:
                used.add(prompt)
                rows.append(row)
    return splits


def _with_remarks(split: str, seed: int, size: int, used: set[str]) -> list[dict]:
    """Rows of sft or medley: prompts outside `used`, each with a reply and remarks on it."""
    rng, remarks = random.Random(f"{seed}/{split}"), random.Random(f"{seed}/{split}/remarks")
    stream, known, rows = prompts("sft", rng), topic_names(None), []
    write = write_medley if split == "medley" else partial(write_reply, habits=SFT_HABITS)
    while len(rows) < size:
        prompt = next(stream)
        if prompt in used:
            continue
        reply = write(rng, prompt, known=known)
        said = write_remarks(remarks, prompt, reply, REMARKS)
        rows.append({"prompt": prompt, "response": reply, "remarks": said})
    return rows


def as_json_lines(rows: Sequence[dict]) -> bytes:
    """The rows as JSON lines in UTF-8: the content of a data file before compression."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8")


def checksums(splits: Mapping[str, Sequence[dict]]) -> dict[str, str]:
    """SHA-256 of the content of each file before compression, which differs between zlib versions."""
    return {name: hashlib.sha256(as_json_lines(rows)).hexdigest() for name, rows in splits.items()}


def write(folder: Path, splits: Mapping[str, Sequence[dict]]) -> None:
    """Writes one compressed file per split, without a time stamp, and the checksums of their content."""
    for name, rows in splits.items():
        path = folder / f"{name}.jsonl.gz"
        with (
            replacing(path, "wb") as stream,
            gzip.GzipFile(fileobj=stream, mode="wb", mtime=0, filename="") as file,
        ):
            file.write(as_json_lines(rows))
        log.info("%s: %d rows, %d bytes", name, len(rows), path.stat().st_size)
    write_text(folder / "checksums.json", json.dumps(checksums(splits), indent=2) + "\n")


def main() -> None:
    """Builds the files and logs the figures of the data card."""
    parser = argparse.ArgumentParser(description="Build the data files of the simulated preference world.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the files, such as data/nano")
    parser.add_argument("--hard", type=Path, required=True, help="folder for the hard comparisons")
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    splits = build(arguments.seed)
    hard = build_hard(prompts_of(splits), arguments.seed)
    write(arguments.out, splits)
    write(arguments.hard, hard)
    for name, value in describe(splits, hard).items():
        log.info("%s: %.4f", name, value)


if __name__ == "__main__":
    main()
