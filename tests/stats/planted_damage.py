"""Healthy files of replies, and damage of each kind planted into them, for the tests of `stats.damage`."""

import gzip
import json
import random
import re
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from rlhf_hw.paths import DATA
from rlhf_hw.stats.damage import Replies

FRENCH = (
    "Pour répondre à cette question, il faut d'abord comprendre que les choses sont plus compliquées "
    "qu'elles ne paraissent, et que chacun doit y réfléchir longuement avant de choisir."
)
GERMAN = (
    "Das kommt ganz darauf an, wie man die Sache betrachtet; am besten ist es, wenn man zuerst in Ruhe "
    "nachdenkt und dann mit jemandem spricht, der sich damit auskennt."
)
CHINESE = "这个问题需要从多个方面考虑，首先要了解具体情况，然后再决定怎么做。"
RUSSIAN = "Это зависит от многих обстоятельств, поэтому сначала стоит спокойно подумать."
Plant = Callable[[str, str, random.Random], str]
# kind -> ways to damage a reply: (reply, prompt, random numbers) -> text
PLANTS: dict[str, Sequence[Plant]] = {
    "opening": (
        lambda reply, prompt, draw: f"{draw.choice(['Human:', 'Humanity', 'Humans', 'Humanoid'])} {reply}",
        lambda reply, prompt, draw: f"Sure, here is what you asked for: {reply}",
        lambda reply, prompt, draw: f") {reply}",
        lambda reply, prompt, draw: f"人类{reply}",
    ),
    "language": tuple(
        lambda reply, prompt, draw, text=text: text for text in (FRENCH, GERMAN, CHINESE, RUSSIAN)
    ),
    "prompt": (
        lambda reply, prompt, draw: f"{prompt} {reply}",
        lambda reply, prompt, draw: f"Q: {prompt}\nA: {reply}",
        lambda reply, prompt, draw: f'"{prompt.upper()}" {reply}',
    ),
    "template": (
        lambda reply, prompt, draw: f"{reply}<|im_end|>",
        lambda reply, prompt, draw: f"{reply}\n\nHuman: And what else?",
        lambda reply, prompt, draw: f"assistant\n{reply}",
        lambda reply, prompt, draw: f"USER: {prompt} ASSISTANT: {reply}</s>",
    ),
    "empty": (lambda reply, prompt, draw: "", lambda reply, prompt, draw: " \n\u200b"),
    "same": (lambda reply, prompt, draw: "I'm sorry, but I cannot help with that.",),
    "loop": (
        lambda reply, prompt, draw: f"{reply} {'and so it goes on and on ' * 30}.",
        lambda reply, prompt, draw: " ".join([reply.split(".")[0] + "."] * 8),
    ),
}
# how a limit counts
PARTS = {"words": r"\s*\S+", "characters": r"(?s:.)", "tokens": r"\s*\w{1,4}|\s*\W|\s+"}


@lru_cache(maxsize=1)
def written() -> list[dict]:
    """The embedded training pairs, which the simulated world's writers wrote."""
    with gzip.open(DATA / "nano" / "train.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def healthy_files(seed: int, size: int) -> tuple[Replies, Replies]:
    """Two files of replies by the simulated world's writers, to other prompts each."""
    rows = random.Random(seed).sample(written(), 2 * size)
    sides = rows[:size], rows[size:]
    mine, theirs = (
        Replies([row[f"response_{1 + n % 2}"] for n, row in enumerate(side)], [r["question"] for r in side])
        for side in sides
    )
    return mine, theirs


def planted(healthy: Replies, kind: str, trial: int, share: float) -> tuple[Replies, set[int]]:
    """A file with so large a share of its replies damaged, and their rows from 0."""
    draw = random.Random(trial)
    if kind == "cut":
        return cut_at_a_limit(healthy, list(PARTS.values())[trial % len(PARTS)], share)
    rows = set(draw.sample(range(len(healthy.texts)), round(share * len(healthy.texts))))
    way = PLANTS[kind][trial % len(PLANTS[kind])]
    pairs = enumerate(zip(healthy.texts, healthy.prompts, strict=True))
    texts = [way(reply, prompt, draw) if n in rows else reply for n, (reply, prompt) in pairs]
    return Replies(texts, healthy.prompts), rows


def cut_at_a_limit(healthy: Replies, part: str, share: float) -> tuple[Replies, set[int]]:
    """All replies cut at the length that so large a share of them exceeds."""
    parts = [re.findall(part, text) for text in healthy.texts]
    limit = int(np.quantile([len(found) for found in parts], 1 - share))
    rows = {row for row, found in enumerate(parts) if len(found) > limit}
    return Replies(["".join(found[:limit]) for found in parts], healthy.prompts), rows
