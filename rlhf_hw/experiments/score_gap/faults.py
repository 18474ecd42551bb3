"""Faults that are put into scored replies on purpose, to test whether a decomposition finds them.

Each function `plant_*` is the reverse of a correction of `edits`; what no correction removes is planted by
`world_faults`. A world without a fault is made from
preference pairs (`make_items`): of the two replies to a prompt one plays the generated reply, the other the
reference. `make_faults` gives the faults that go with a model's renderer.

    items = make_items(reward_model.renderer, preferences)
    faults = make_faults(reward_model.renderer, items, ends)
    faulty = faults[0].plant(items[0].pair(0), items[0])
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from rlhf_hw.experiments.score_gap.edits import Ids, Pair, ScoredReply, split_sentences
from rlhf_hw.models.rendering import END_OF_TURN, TEMPLATE_END, Renderer
from rlhf_hw.preferences.templates import Message, Preference
from rlhf_hw.stats.text import sentences

LIMIT = 0.1  # quantile of the lengths: nine replies in ten are cut
FILLER = 4  # sentences of an answer to another prompt, appended as padding
TIMES = 5  # repetitions of the last sentence in a looping reply


@dataclass(frozen=True)
class Item:
    """One prompt with two replies, and what faults are made of; `question` is the prompt's last turn."""

    question: str
    prompt: Ids
    replies: tuple[Ids, Ids]
    tail: Ids
    other_prompt: Ids
    filler: Ids

    def pair(self, generated: int) -> Pair:
        """The pair in which reply `generated` (0 or 1) plays the generated one."""
        sides = [ScoredReply(self.prompt, reply, self.tail) for reply in self.replies]
        return Pair(sides[generated], sides[1 - generated])


@dataclass(frozen=True)
class Fault:
    """A fault with its name in figures, the part of the gap that is its own, and how it is planted."""

    name: str
    factor: str
    plant: Callable[[Pair, Item], Pair]

    @property
    def key(self) -> str:
        """Its name in the keys of metrics."""
        return self.name.replace(" ", "_").replace(",", "")


def plant_readout(reply: ScoredReply, tail: Ids) -> ScoredReply:
    """The score is read after another tail: without the newline, or right after the content."""
    return replace(reply, tail=tail)


def plant_template(reply: ScoredReply, prompt: Ids) -> ScoredReply:
    """The prompt is rendered in another way."""
    return replace(reply, prompt=prompt)


def plant_truncation(reply: ScoredReply, cap: int) -> ScoredReply:
    """Generation stopped after `cap` tokens."""
    if len(reply.content) <= cap:
        return reply
    return replace(reply, content=reply.content[:cap], finished=False)


def plant_length(reply: ScoredReply, filler: Ids) -> ScoredReply:
    """Further sentences follow that the reply did not need."""
    return replace(reply, content=reply.content + filler)


def plant_repetition(reply: ScoredReply, times: int, ends: frozenset[int]) -> ScoredReply:
    """The last sentence is said `times` times more."""
    return replace(reply, content=reply.content + split_sentences(reply.content, ends)[-1] * times)


def plant(pair: Pair, fault: Callable[..., ScoredReply], *args) -> Pair:
    """The pair with a fault in its generated reply: `plant(pair, plant_truncation, 24)`."""
    return replace(pair, generated=partial(fault, pair.generated)(*args))


def plant_padding(pair: Pair, filler: Ids) -> Pair:
    """Padding where the generated reply is as long as the reference; in a shorter one it is bad content."""
    short = len(pair.generated.content) < len(pair.reference.content)
    return pair if short else plant(pair, plant_length, filler)


def make_items(renderer: Renderer, preferences: Sequence[Preference], seed: int = 0) -> list[Item]:
    """Items from preference pairs; padding comes from the chosen reply to some other prompt."""
    generator = np.random.default_rng(seed)
    texts = [[p.chosen for p in preferences], [p.rejected for p in preferences]]
    contents = [renderer.content_ids(side) for side in texts]
    shift = int(generator.integers(1, max(2, len(preferences))))
    donors = [texts[0][(i + shift) % len(preferences)] for i in range(len(preferences))]
    fillers = renderer.text_ids([" " + " ".join(sentences(text)[:FILLER]) for text in donors])
    rendered = renderer.prompt_ids([p.prompt for p in preferences])
    others = renderer.text_ids([plain_template(p.prompt) for p in preferences])
    return [
        Item(
            preference.question,
            tuple(prompt),
            (tuple(chosen), tuple(rejected)),
            tuple(renderer.suffix),
            tuple(other),
            tuple(filler),
        )
        for preference, prompt, chosen, rejected, other, filler in zip(
            preferences, rendered, *contents, others, fillers, strict=True
        )
        if chosen and rejected
    ]


def plain_template(prompt: Sequence[Message]) -> str:
    """A conversation in another template, without control tokens: `USER: ... ASSISTANT:`."""
    return " ".join(f"{m.role.upper()}: {m.content}" for m in prompt) + " ASSISTANT:"


def make_faults(renderer: Renderer, items: Sequence[Item], ends: frozenset[int]) -> list[Fault]:
    """Six single faults for a model with this renderer, five for a template that ends at the end token.

    Truncation is planted as in generation: one limit on the number of tokens for all replies.
    """
    limit = max(1, int(np.quantile([len(reply) for item in items for reply in item.replies], LIMIT)))
    tails = {kind: tuple(Renderer(renderer.tokenizer, kind).suffix) for kind in (END_OF_TURN, TEMPLATE_END)}
    other = tails[TEMPLATE_END if renderer.reads_at == END_OF_TURN else END_OF_TURN]
    name = "read after the end token" if renderer.reads_at == END_OF_TURN else "read at the end token"
    faults = [
        Fault("read at the last word", "readout", lambda pair, item: plant(pair, plant_readout, ())),
        Fault(
            "other template", "template", lambda pair, item: plant(pair, plant_template, item.other_prompt)
        ),
        Fault("cut at a limit", "truncation", lambda pair, item: plant(pair, plant_truncation, limit)),
        Fault("padded", "length", lambda pair, item: plant_padding(pair, item.filler)),
        Fault("looping", "repetition", lambda pair, item: plant(pair, plant_repetition, TIMES, ends)),
    ]
    if other != tuple(renderer.suffix):
        faults.insert(0, Fault(name, "readout", lambda pair, item: plant(pair, plant_readout, other)))
    return faults
