"""Builds the data files of the simulated world: the same content from the same seed on every machine.

    python -m rlhf_hw.world.build --out data/nano

| file | rows | what |
|---|---|---|
| sft | 45,000 | prompt, response and remarks on it, on all topics, for the base language model |
| medley | 23,000 | prompt, sentences of most kinds, and remarks on these, for the base language model |
| train | 12,000 | comparisons in the homework's schema |
| validation | 1,000 | comparisons; wordings and combinations of topics that occur nowhere else |
| ood | 500 | comparisons on the topics marked `ood`, which are in sft and medley, in no other comparison |

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

from rlhf_hw.files import replacing, write_text
from rlhf_hw.preferences.templates import Preference
from rlhf_hw.world.annotators import Annotator, Features, best_possible_accuracy, users
from rlhf_hw.world.gold import gold
from rlhf_hw.world.remarks import write_remarks
from rlhf_hw.world.text import topics
from rlhf_hw.world.writers import Habits, write_medley, write_prompt, write_reply

SIZES = {"sft": 45_000, "medley": 23_000, "train": 12_000, "validation": 1_000, "ood": 500}
REMARKS = 4  # on each reply of sft and medley
SEED = 2024
UNSAFE_SHARE = 0.08
DOUBLE_SHARE = {"sft": 0.25, "train": 0.25, "validation": 0.4, "ood": 0.2}
SFT_HABITS = Habits()
# The two writers of a comparison, one hasty and one careful: data sets compare models of unequal strength.
# Both stray more and pad less than those of sft, and the hasty one gives more reasons than carelessness
# would have it: so it is not words alone that decide, but whether a reply suits its prompt.
PAIR_HABITS = replace(
    SFT_HABITS, exact_gain=0.95, reason_gain=0.9, careless_filler=0.3, careless_off_topic=0.6
)
HASTY = replace(PAIR_HABITS, most_care=0.3, reason=0.2, broken=0.1)
CAREFUL = replace(PAIR_HABITS, least_care=0.8, cut_off=0.0)
WRITERS = (HASTY, CAREFUL)

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
    rng: random.Random, prompt: str, annotators: Sequence[Annotator], known: Sequence[str]
) -> dict | None:
    """One comparison in the homework's schema, or None when the annotator sees a tie.

    Returns:
        `question`, `response_1`, `response_2`, `overall_response` (1 or 2) and `metadata` with the gold
        reward of both replies, the annotator's name, and the probability that this annotator prefers
        response 1.
    """
    writers = rng.sample(WRITERS, 2)
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
    """Replies to the prompts of comparisons by the same writers in turn.

    Args:
        preferences: Comparisons of this world; their prompts name topics in use there.
        count: Replies to each.
        seed: Seed of all choices.
    """
    rng, known = random.Random(f"{seed}/more"), topic_names(False)
    return [
        [write_reply(rng, p.question, WRITERS[i % len(WRITERS)], known) for i in range(count)]
        for p in preferences
    ]


def build(
    seed: int = SEED, sizes: Mapping[str, int] = SIZES, annotators: Sequence[Annotator] | None = None
) -> dict[str, list[dict]]:
    """All splits as lists of rows.

    Args:
        seed: seed of every choice.
        sizes: rows per split, with the keys of `SIZES`.
        annotators: who compares; twenty users of the standard group when None.
    """
    annotators = annotators or users(20, seed=seed)
    used: set[str] = set()
    splits: dict[str, list[dict]] = {}
    for split in ("validation", "ood", "train"):
        rng = random.Random(f"{seed}/{split}")
        known = topic_names(split == "ood")
        rows = splits[split] = []
        # a source of their own: the prompts, and with them sft, stay when the habits of the writers change
        for prompt in prompts(split, random.Random(f"{seed}/{split}/prompts")):
            if len(rows) == sizes[split]:
                break
            row = None if prompt in used else write_comparison(rng, prompt, annotators, known)
            if row is not None:
                used.add(prompt)
                rows.append(row)
    corpus = {split: _with_remarks(split, seed, sizes[split], used) for split in ("sft", "medley")}
    return {**corpus, **splits}


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


def describe(splits: Mapping[str, Sequence[dict]]) -> dict[str, float]:
    """Figures for the data card: gold of the sft replies, noise and length bias of the comparisons."""
    values = [gold(row["prompt"], row["response"]) for row in splits["sft"]]
    mean = sum(values) / len(values)
    facts = {
        "sft.gold.mean": mean,
        "sft.gold.sd": (sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5,
    }
    for name in ("train", "validation", "ood"):
        rows = splits[name]
        facts[f"{name}.best_possible_accuracy"] = best_possible_accuracy(
            row["metadata"]["probability"] for row in rows
        )
        lengths = [(len(row["response_1"].split()), len(row["response_2"].split()), row) for row in rows]
        decided = [(a > b) == (row["overall_response"] == 1) for a, b, row in lengths if a != b]
        facts[f"{name}.longer_wins"] = sum(decided) / len(decided)
    return facts


def main() -> None:
    """Builds the files and logs the figures of the data card."""
    parser = argparse.ArgumentParser(description="Build the data files of the simulated preference world.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the files, such as data/nano")
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    splits = build(arguments.seed)
    write(arguments.out, splits)
    for name, value in describe(splits).items():
        log.info("%s: %.4f", name, value)


if __name__ == "__main__":
    main()
