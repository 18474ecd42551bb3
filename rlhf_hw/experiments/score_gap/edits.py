"""Edits of scored token ids, each correcting one way in which a generated reply differs from a reference.

A pair holds a generated reply as it was scored and a reference reply to the same prompt as the reward model
was trained to read it. A reply is `prompt + content + tail`; the score is read at its last id. (The model is
causal: reading at an earlier token is the same as leaving out what follows, so read-out faults are faults of
the tail.)

    readout      a finished reply ends with another tail than in training (no end token, no newline, one more)
    template     the prompt is rendered otherwise than in training
    truncation   the reply was cut off before its end token
    length       a finished reply says more, or less, than the reference
    repetition   the reply repeats itself

A correction makes the two replies of a pair equal in that respect and leaves every other respect as it is:
where a generated reply was cut, the reference is cut at the same place; length counts what is not repeated,
so a loop is not a matter of length; the shortness of a cut reply is a matter of truncation, not of length.
What is done to one side is done to the other where it applies, so that replies of equal making get equal
treatment: without a fault, corrections cancel on average. Module `faults` introduces the same faults,
to test the method.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from transformers import PreTrainedTokenizerBase

from rlhf_hw.errors import InputError

Ids = tuple[int, ...]
FACTORS = ("readout", "template", "truncation", "length", "repetition")
MIN_REPEATS = 3  # a block of tokens is a loop from its third immediate occurrence on: "very, very" is not one
MAX_PERIOD = 48  # tokens; longer loops are caught as repeated sentences
MIN_SENTENCE = 3  # tokens; shorter sentences ("Yes.") may recur without being a loop


@dataclass(frozen=True)
class ScoredReply:
    """One scored text as token ids; `tail` follows the content of a finished or closed reply only.

    `closed` marks a reply that was cut off and given the tail all the same before it was scored.
    """

    prompt: Ids
    content: Ids
    tail: Ids
    finished: bool = True
    closed: bool = False

    @property
    def reply_ids(self) -> Ids:
        """What follows the prompt; the score is read at the last id."""
        return self.content + self.tail if self.finished or self.closed else self.content


@dataclass(frozen=True)
class Pair:
    """A generated reply as scored, and a reference for the same prompt rendered as in training."""

    generated: ScoredReply
    reference: ScoredReply


def make_pairs(
    prompts: Sequence[Sequence[int]],
    generated: Sequence[Sequence[int]],
    references: Sequence[Sequence[int]],
    tail: Sequence[int],
    *,
    finished: Sequence[bool] | None = None,
    closed: bool = False,
) -> list[Pair]:
    """Pairs from token ids.

    Args:
        prompts: ids of each prompt, rendered as in training.
        generated, references: ids of the contents of the replies, without end token.
        tail: ids that follow a reply in training (the end token; for some models a newline after it).
        finished: whether each generated reply ended by itself; None: all did.
        closed: whether cut replies were scored with the tail of finished ones (as text that is rendered again
            is), and not at their last token.

    Raises:
        ValueError: lengths differ, or a reply has no token.
    """
    count = len(prompts)
    finished = [True] * count if finished is None else finished
    if {len(generated), len(references), len(finished)} != {count}:
        raise InputError(f"{count} prompts need as many generated and reference replies and flags")
    empty = [row for row in range(count) if not len(generated[row]) or not len(references[row])]
    if empty:
        raise InputError(
            f"row {empty[0]}: an empty reply cannot be taken apart; leave such rows out ({len(empty)})"
        )
    return [
        Pair(
            ScoredReply(tuple(prompt), tuple(reply), tuple(tail), bool(done), closed and not done),
            ScoredReply(tuple(prompt), tuple(reference), tuple(tail)),
        )
        for prompt, reply, reference, done in zip(prompts, generated, references, finished, strict=True)
    ]


def sentence_end_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Ids of the tokens that end a sentence or a line: they finish in . ! ? or hold a newline."""
    texts = tokenizer.batch_decode([[token] for token in range(len(tokenizer))])
    ends = (".", "!", "?", "\u3002", "\uff01", "\uff1f")
    return frozenset(
        token for token, text in enumerate(texts) if text.rstrip(' "*').endswith(ends) or "\n" in text
    )


def split_sentences(content: Ids, ends: frozenset[int]) -> list[Ids]:
    """Content cut after every run of sentence ends; joined again it is the content."""
    parts, start = [], 0
    for place, token in enumerate(content):
        last = place + 1 == len(content)
        if last or (token in ends and content[place + 1] not in ends):
            parts.append(content[start : place + 1])
            start = place + 1
    return parts


@lru_cache(maxsize=100_000)
def unroll(content: Ids) -> tuple[Ids, Ids]:
    """Content with its loops of tokens said once, and what they said again.

    A loop is a block of up to MAX_PERIOD tokens that follows itself until it stands there MIN_REPEATS times.
    """
    once: list[int] = []
    again: list[int] = []
    place = 0
    while place < len(content):
        period, end = loop_at(content, place)
        once += content[place : place + period]
        again += content[place + period : end]
        place = end
    return tuple(once), tuple(again)


def loop_at(content: Ids, place: int) -> tuple[int, int]:
    """Period and end of the shortest loop that starts at `place`; one token where none does."""
    for period in range(1, min(MAX_PERIOD, (len(content) - place) // MIN_REPEATS) + 1):
        if content[place] != content[place + period]:
            continue
        block, end = content[place : place + period], place + period
        while content[end : end + period] == block:
            end += period
        if end - place >= MIN_REPEATS * period:
            return period, end
    return 1, place + 1


def novel_sentences(content: Ids, ends: frozenset[int]) -> Iterable[tuple[Ids, bool]]:
    """Each sentence with whether it is said for the first time."""
    seen: set[Ids] = set()
    for sentence in split_sentences(content, ends):
        yield sentence, sentence not in seen or len(sentence) < MIN_SENTENCE
        seen.add(sentence)


@lru_cache(maxsize=100_000)
def remove_repetition(content: Ids, ends: frozenset[int]) -> Ids:
    """Content without sentences said before and without loops of tokens."""
    fresh = tuple(token for sentence, new in novel_sentences(content, ends) if new for token in sentence)
    return unroll(fresh)[0]


@lru_cache(maxsize=100_000)
def cut_to(content: Ids, target: int, ends: frozenset[int]) -> Ids:
    """Content with its last new sentences left out, so that about `target` tokens are not repetition.

    A sentence stays if most of it fits; the first always stays. The amount of repetition stays too: a loop
    inside a sentence that goes is kept, and where such a sentence was said again, the last one that stays is.
    """
    kept: list[int] = []
    said: set[Ids] = set()
    last: Ids = ()
    used, full = 0, False
    for sentence, new in novel_sentences(content, ends):
        once, again = unroll(sentence)
        if not new:
            kept += sentence if sentence in said else last
            continue
        full = full or (used > 0 and used + len(once) / 2 > target)
        kept += again if full else sentence
        if not full:
            used, last = used + len(once), sentence
            said.add(sentence)
    return tuple(kept)


def correct_readout(pair: Pair, ends: frozenset[int]) -> Pair:
    """A finished generated reply ends as in training."""
    return replace(pair, generated=replace(pair.generated, tail=pair.reference.tail))


def correct_template(pair: Pair, ends: frozenset[int]) -> Pair:
    """The prompt is rendered as in training."""
    return replace(pair, generated=replace(pair.generated, prompt=pair.reference.prompt))


def correct_repetition(pair: Pair, ends: frozenset[int]) -> Pair:
    """Both replies say everything once."""
    cleaned = [
        replace(side, content=remove_repetition(side.content, ends))
        for side in (pair.generated, pair.reference)
    ]
    return Pair(*cleaned)


def correct_truncation(pair: Pair, ends: frozenset[int]) -> Pair:
    """Where the generated reply was cut, a longer reference is cut there too; else the reply is closed."""
    generated, reference = pair.generated, pair.reference
    if generated.finished:
        return pair
    size = len(generated.content)
    if len(reference.content) > size:
        cut = replace(reference, content=reference.content[:size], finished=False, closed=generated.closed)
        return replace(pair, reference=cut)
    whole = [part for part in split_sentences(generated.content, ends) if part[-1] in ends]
    content = tuple(token for part in whole for token in part) or generated.content
    return replace(pair, generated=replace(generated, content=content, finished=True, closed=False))


def correct_length(pair: Pair, ends: frozenset[int]) -> Pair:
    """The reply that says more is cut, at the end of a sentence, to the other's number of new tokens."""
    generated, reference = pair.generated, pair.reference
    sizes = [len(remove_repetition(side.content, ends)) for side in (generated, reference)]
    if sizes[0] > sizes[1]:
        return replace(pair, generated=replace(generated, content=cut_to(generated.content, sizes[1], ends)))
    if sizes[0] < sizes[1] and generated.finished and reference.finished:
        return replace(pair, reference=replace(reference, content=cut_to(reference.content, sizes[0], ends)))
    return pair


# In the order of application: what is repeated or cut must be settled before lengths are compared.
CORRECTIONS: dict[str, Callable[[Pair, frozenset[int]], Pair]] = {
    "readout": correct_readout,
    "template": correct_template,
    "repetition": correct_repetition,
    "truncation": correct_truncation,
    "length": correct_length,
}


def correct(pair: Pair, factors: Iterable[str], ends: frozenset[int]) -> Pair:
    """The pair with these factors corrected and no other.

    Raises:
        ValueError: an unknown factor.
    """
    wanted = set(factors)
    if wanted - set(CORRECTIONS):
        raise InputError(
            f"no correction for {sorted(wanted - set(CORRECTIONS))}; there are {list(CORRECTIONS)}"
        )
    for name, apply in CORRECTIONS.items():
        if name in wanted:
            pair = apply(pair, ends)
    return pair


def corrected(pairs: Sequence[Pair], ends: frozenset[int]) -> list[Pair]:
    """The pairs with every factor corrected."""
    return [correct(pair, FACTORS, ends) for pair in pairs]
