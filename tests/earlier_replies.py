"""An earlier run in small, with judges whose prices of length and of kind are known."""

import json
from pathlib import Path

import numpy as np

from rlhf_hw.experiments.earlier_run.reply_forms import is_list
from rlhf_hw.preferences.score_files import write_scores
from rlhf_hw.stats.text import words

PROMPTS, PAIRS = 30, 16
SHAPE = {"base": (150, 0.6), "dpo": (90, 0.2), "pair": (60, 0.1)}  # words of a reply; share of lists


def reply_text(generator: np.random.Generator, size: int, listed: bool) -> str:
    """A reply of so many words in sentences of ten, as a list or not."""
    parts = [
        " ".join(f"w{n}" for n in generator.integers(0, 9999, min(10, size - start))) + "."
        for start in range(0, size, 10)
    ]
    return "\n".join(f"- {part[2:]}" for part in parts) if listed else " ".join(parts)


def drawn_replies(generator: np.random.Generator, prompts: list[str], policy: str) -> list[dict]:
    """Four replies to each prompt."""
    middle, share = SHAPE[policy]
    return [
        {"prompt": prompt, "response": reply_text(generator, size, generator.random() < share)}
        for prompt in prompts
        for size in generator.integers(middle // 2, middle * 3 // 2, 4)
    ]


def earlier_folder(folder: Path, seed: int = 0) -> Path:
    """A folder as `read_earlier` reads it."""
    generator = np.random.default_rng(seed)
    asked = {"test": [f"q{n}" for n in range(PROMPTS)], "train": [f"p{n}" for n in range(PAIRS)]}
    folder.mkdir(parents=True, exist_ok=True)
    for which, prompts in asked.items():
        for policy in ("base", "dpo"):
            rows = drawn_replies(generator, prompts, policy)
            write_scores(folder / f"replies_{which}_{policy}.jsonl.gz", rows)
    pairs = []
    for prompt in asked["train"]:
        two = drawn_replies(generator, [prompt], "pair")[:2]
        row = {"prompt": prompt, "better_response_id": int(generator.integers(2))}
        pairs.append(row | {f"response_{n}": reply["response"] for n, reply in enumerate(two)})
    write_scores(folder / "train_pairs.jsonl", pairs)
    return folder


def planted_judge(folder: Path, run: Path, price: float, kind: float, extra: float = 0.0, seed: int = 0):
    """Score files of a judge: so many points a word and a list, and for replies of DPO; with little noise.

    Its own held-out pairs are texts of 20 to 60 words without a list.
    """
    generator = np.random.default_rng(seed)

    def score(prompt: str, text: str, bonus: float = 0.0) -> float:
        level = 3.0 * np.sin(sum(map(ord, prompt)))  # what a prompt adds to all of its replies
        noise = 0.05 * generator.normal()
        return price * len(words(text)) + kind * is_list(text) + level + bonus + noise

    folder.mkdir(parents=True, exist_ok=True)
    for path in [*run.glob("replies_*.jsonl.gz"), *run.glob("*_cut.jsonl")]:
        bonus = extra if "dpo" in path.name else 0.0
        rows = [json.loads(line) for line in _lines(path)]
        scored = [row | {"score": score(row["prompt"], row["response"], bonus)} for row in rows]
        write_scores(folder / path.name.removesuffix(".gz"), scored)
    pairs = []
    for row in map(json.loads, _lines(run / "train_pairs.jsonl")):
        better = row[f"response_{row['better_response_id']}"]
        worse = row[f"response_{1 - row['better_response_id']}"]
        pairs.append(_pair(row["prompt"], better, worse, score))
    write_scores(folder / "pairs_train.jsonl", pairs)
    texts = np.random.default_rng(99)  # the same for all judges
    for name in ("harmless", "helpful"):
        sizes = texts.integers(20, 60, (60, 2))
        sides = [[reply_text(texts, size, False) for size in pair] for pair in sizes]
        own = [_pair(f"{name} {n}", *two, score) for n, two in enumerate(sides)]
        write_scores(folder / f"validation_{name}.jsonl", own)


def _lines(path: Path) -> list[str]:
    import gzip

    content = path.read_bytes()
    return (gzip.decompress(content) if path.suffix == ".gz" else content).decode().splitlines()


def _pair(prompt: str, chosen: str, rejected: str, score) -> dict:
    sides = {"chosen": chosen, "rejected": rejected}
    return {"prompt": prompt} | sides | {f"{side}_score": score(prompt, text) for side, text in sides.items()}
