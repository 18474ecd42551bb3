"""Replies of the simulated world as a frozen model reads them, and labels that length decides in part.

A label is honest, or by length: with the probability `share` the longer reply wins, whatever it is worth;
else an annotator without any taste for length compares gold (`plural.crowd.NEUTRAL`). So the bias is known
exactly, and a share of 0 is the control.

    pairs = pairs_read("data/base-model", preferences, limits)
    outcomes = biased_labels(pairs, share=0.3, rng=rng)       # 1 where the first reply won
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from rlhf_hw.errors import InputError
from rlhf_hw.experiments.plural.crowd import NEUTRAL, Scale, in_order
from rlhf_hw.experiments.plural.reply_states import frozen_reader, states_of_pairs
from rlhf_hw.models.forward import end_states
from rlhf_hw.models.scoring import RewardModel
from rlhf_hw.preferences.templates import Preference
from rlhf_hw.world.annotators import Features
from rlhf_hw.world.build import SFT_HABITS, topic_names
from rlhf_hw.world.writers import write_reply

TOGETHER = 8  # replies that are read beside each other after their common prompt


@dataclass(frozen=True)
class SeenReplies:
    """K replies to each of some prompts.

    Attributes:
        asked: One comparison a prompt; its labels are not used.
        texts: The replies, K a prompt.
        seen: What gold and annotators see of them.
        states: What a language model makes of them, shape (prompts, K, D).
    """

    asked: Sequence[Preference]
    texts: Sequence[Sequence[str]]
    seen: Sequence[Sequence[Features]]
    states: np.ndarray

    @classmethod
    def of(cls, asked: Sequence[Preference], texts: Sequence[Sequence[str]], states) -> "SeenReplies":
        """From the texts, which gold reads, and their states."""
        seen = [[Features.of(p.question, y) for y in ys] for p, ys in zip(asked, texts, strict=True)]
        return cls(asked, texts, seen, np.asarray(states, dtype=float))

    @cached_property
    def gold(self) -> np.ndarray:
        """True rewards, shape (prompts, K)."""
        return np.array([[one.gold for one in group] for group in self.seen])

    @cached_property
    def words(self) -> np.ndarray:
        """Lengths in words, shape (prompts, K)."""
        return np.array([[one.words for one in group] for group in self.seen], dtype=float)

    @property
    def longer(self) -> np.ndarray:
        """Of pairs, words of the first reply minus those of the second, shape (pairs,)."""
        return self.words[:, 0] - self.words[:, 1]

    @property
    def better(self) -> np.ndarray:
        """Of pairs, gold of the first reply minus that of the second, shape (pairs,)."""
        return self.gold[:, 0] - self.gold[:, 1]

    @property
    def differences(self) -> np.ndarray:
        """Of pairs, states of the first reply minus those of the second, shape (pairs, D)."""
        return self.states[:, 0] - self.states[:, 1]


def pairs_read(
    model: str, preferences: Sequence[Preference], limits: Mapping[str, Any], dtype: str = "auto"
) -> SeenReplies:
    """Pairs in the order of their rows, with the model's last hidden states at the end tokens.

    Args:
        model: Folder, from the project's root, or hub id; its weights stay as they are.
        preferences: Comparisons of the world. What truncation makes equal is left out.
        limits: `max_prompt_tokens`, `max_reply_tokens`.
        dtype: "auto", "bf16" or "fp32".
    """
    rows, states, turned = states_of_pairs(frozen_reader(model, limits, dtype), preferences)
    states[turned] = states[turned][:, ::-1]
    return SeenReplies.of(rows, [in_order(row) for row in rows], states)


def candidates_read(
    model: str,
    asked: Sequence[Preference],
    count: int,
    seed: int,
    limits: Mapping[str, Any],
    dtype: str = "auto",
) -> SeenReplies:
    """Many replies to each prompt, by the writer from whom the base model learned, read as by `pairs_read`.

    Args:
        model, limits, dtype: As there.
        asked: One a prompt.
        count: Replies to each prompt.
        seed: Of writing.
    """
    rng, known = random.Random(f"{seed}/length candidates"), topic_names(False)
    texts = [[write_reply(rng, p.question, SFT_HABITS, known) for _ in range(count)] for p in asked]
    reader, states = frozen_reader(model, limits, dtype), np.zeros(0)
    for groups, rows in in_parts(reader, asked, texts):
        part = end_states(reader.model, groups, reader.renderer.pad_id, reader.dtype)
        states = states if states.size else np.zeros((len(asked), count, part.shape[-1]))
        states[:, rows] = part
    return SeenReplies.of(asked, texts, states)


def on_one_scale(pairs: SeenReplies, *others: SeenReplies) -> list[SeenReplies]:
    """The same with states of mean 0 and deviation 1 over the replies of the first."""
    scale = Scale.of(pairs.states.reshape(-1, pairs.states.shape[-1]))
    return [replace(one, states=scale.apply(one.states)) for one in (pairs, *others)]


def in_parts(reader: RewardModel, asked: Sequence[Preference], texts: Sequence[Sequence[str]]):
    """The replies tokenized, `TOGETHER` of each prompt at a time, with their places (a slice)."""
    for start in range(0, len(texts[0]), TOGETHER):
        rows = slice(start, start + TOGETHER)
        yield reader.tokenize([p.prompt for p in asked], [group[rows] for group in texts]), rows


def pairs_unread(preferences: Sequence[Preference]) -> SeenReplies:
    """Pairs in the order of their rows, without states: for labels alone."""
    texts = [in_order(p) for p in preferences]
    return SeenReplies.of(preferences, texts, np.zeros((len(texts), 2, 0)))


def with_outcomes(pairs: SeenReplies, outcomes: np.ndarray) -> list[Preference]:
    """The comparisons with new labels: chosen is the first reply where the outcome is 1, else the second."""
    return [
        replace(p, chosen=first if won else second, rejected=second if won else first)
        for p, (first, second), won in zip(pairs.asked, pairs.texts, outcomes, strict=True)
    ]


def biased_labels(pairs: SeenReplies, share: float, rng: np.random.Generator) -> np.ndarray:
    """Labels of pairs: 1 where the first reply won, else 0, shape (pairs,).

    Args:
        pairs: Two replies to each prompt.
        share: Of labels that go to the longer reply, whatever it is worth. Where both are equally long,
            the label is honest.
        rng: Draws from it are the same for every share: labels of two shares differ by the bias alone.
    """
    if not 0 <= share <= 1:
        raise InputError(f"share of labels by length: from 0 to 1, not {share}")
    likely = np.array([NEUTRAL.compare(*both) for both in pairs.seen])
    drawn = rng.random((2, len(likely)))
    by_length = (drawn[0] < share) & (pairs.longer != 0)
    return np.where(by_length, pairs.longer > 0, drawn[1] < likely).astype(float)
