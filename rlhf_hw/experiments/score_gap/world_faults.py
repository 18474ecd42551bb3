"""Faults of what no correction removes, planted where the true reward is known: in the simulated world.

The switches of a decomposition are tested by `faults`. These test the other three parts: each rewrites a
reply, at about the same number of tokens, so that one part alone has changed.

    quality   gold changes, for a known reason: a point on another topic, empty talk in the place of reasons,
              or the reverse, useful points in the place of sentences without worth
    ood       gold stays, it reads no capitals and no punctuation; but no text of the data looks like this:
              exclamation marks for full stops, everything in lower case
    rest      gold stays and so does the style; the reply flatters, in the place of pleasantries, as
              replies of the data do

A sentence is replaced by one that is as long in tokens as can be found, drawn at random among those. Only
what the corrections leave in a reply is replaced: what a cut takes away is booked as length, whatever it was,
and what is said again as repetition.
"""

import random
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial

from rlhf_hw.experiments.score_gap.edits import Ids, Pair, cut_to, remove_repetition, sentence_end_ids
from rlhf_hw.experiments.score_gap.faults import Fault, Item
from rlhf_hw.models.rendering import Renderer
from rlhf_hw.world.gold import POLITE, examine, gold
from rlhf_hw.world.text import (
    Sentence,
    identify,
    phrases,
    read_prompt,
    sentences_of,
    split_reply,
    topics,
)

Rewrite = Callable[[str, str, int, random.Random], str]  # question, reply, sentences that stay, chance


class Sentences:
    """Everything that a reply of the world can say, by length.

    Args:
        renderer: Counts tokens.
        replies: Texts whose sentences will be replaced; they are counted at once, which is much faster.
    """

    def __init__(self, renderer: Renderer, replies: Sequence[str]):
        found = [pair for topic in topics().values() if not topic.ood for pair in sentences_of(topic)]
        for kind in ("praise", "filler"):
            found += [(text, Sentence(kind, "", text)) for text in phrases()[kind]]
        pieces = dict.fromkeys(piece for reply in replies for piece in split_reply(reply))
        pieces |= dict.fromkeys(reason_of(piece) for piece in pieces)
        texts = [text for text, _ in found] + list(pieces)
        ids = renderer.text_ids([" " + text for text in texts])
        self.sizes = {text: len(tokens) for text, tokens in zip(texts, ids, strict=True)}
        self.of_size: dict[int, list[tuple[str, Sentence]]] = {}
        for text, meaning in found:
            self.of_size.setdefault(self.sizes[text], []).append((text, meaning))

    def as_long_as(self, text: str, wanted: Callable[[Sentence], bool], rng: random.Random) -> str | None:
        """A random one of the wanted sentences whose number of tokens is closest to that of a text."""
        size = self.sizes[text]
        for distance in range(max(self.of_size) + size):
            near = dict.fromkeys((size - distance, size + distance))
            fit = [text for n in near for text, meaning in self.of_size.get(n, ()) if wanted(meaning)]
            if fit:
                return rng.choice(fit)
        return None


def reason_of(sentence: str) -> str:
    """What stands behind the point that a sentence makes, from "because" on."""
    _, because, reason = sentence.partition("because ")
    return because + reason


def point_off_topic(sentences: Sentences, question: str, reply: str, stay: int, rng: random.Random) -> str:
    """One of the useful points becomes one about something that nobody asked for."""
    request, found = read_prompt(question), examine(question, reply)
    useful = {point.says for point in found.useful} if found else set()
    places = [n for n, one in enumerate(meanings(reply)[:stay]) if one and one.says in useful]
    chosen = [rng.choice(places)] if places else []
    return exchange(
        sentences, reply, chosen, lambda s, said: s.kind == "point" and s.topic not in request.topics, rng
    )


def empty_for_reasons(sentences: Sentences, question: str, reply: str, stay: int, rng: random.Random) -> str:
    """Points lose their reasons, and empty talk takes the room."""
    pieces, said = [], {one.says for one in meanings(reply) if one}
    for place, (piece, one) in enumerate(zip(split_reply(reply), meanings(reply), strict=True)):
        filler = None
        if place < stay and one and one.kind == "point" and one.explained:
            wanted = partial(is_new, "filler", said)
            filler = sentences.as_long_as(reason_of(piece), wanted, rng)
        pieces += [piece.removesuffix(f", {reason_of(piece)}") + ".", filler] if filler else [piece]
        said.add(filler)
    return " ".join(pieces)


def useful_for_worthless(
    sentences: Sentences, question: str, reply: str, stay: int, rng: random.Random
) -> str:
    """Off-topic and empty sentences become points on the question that were not made yet."""
    request, known = read_prompt(question), meanings(reply)
    places = [
        n
        for n, one in enumerate(known[:stay])
        if one
        and one not in known[:n]
        and (one.kind == "filler" or (one.kind == "point" and one.topic not in request.topics))
    ]
    return exchange(
        sentences,
        reply,
        places,
        lambda s, said: s.topic in request.topics and is_new("point", said, s),
        rng,
    )


def flattery(sentences: Sentences, question: str, reply: str, stay: int, rng: random.Random) -> str:
    """Openers and closers become praise; gold minds neither."""
    known = meanings(reply)
    places = [n for n, one in enumerate(known[:stay]) if one and one.kind in POLITE - {"praise"}]
    return exchange(sentences, reply, places, lambda s, said: is_new("praise", said, s), rng)


def is_new(kind: str, said: Collection[str], sentence: Sentence) -> bool:
    """Whether a sentence is of a kind and was not said yet."""
    return sentence.kind == kind and sentence.says not in said


def exclaimed(question: str, reply: str, stay: int, rng: random.Random) -> str:
    """Every full stop becomes an exclamation mark."""
    return reply.replace(".", "!")


def lower_case(question: str, reply: str, stay: int, rng: random.Random) -> str:
    """No capital letter is left."""
    return reply.lower()


def meanings(reply: str) -> list[Sentence | None]:
    """What each sentence of a reply is."""
    return [identify(piece) for piece in split_reply(reply)]


def exchange(
    sentences: Sentences,
    reply: str,
    places: Sequence[int],
    wanted: Callable[[Sentence, Collection[str]], bool],
    rng: random.Random,
) -> str:
    """The reply with the sentences at `places` replaced by wanted ones, where there are any.

    Args:
        wanted: (sentence, what the reply says so far) -> whether it may stand there.
    """
    pieces, said = split_reply(reply), {one.says for one in meanings(reply) if one}
    for place in places:
        new = sentences.as_long_as(pieces[place], partial(wanted, said=frozenset(said)), rng)
        if new:
            pieces[place] = new
            said |= {one.says for one in meanings(new) if one}
    return " ".join(pieces)


def make_world_faults(renderer: Renderer, items: Sequence[Item], seed: int = 0) -> list[Fault]:
    """Three faults of quality, three of familiarity and one of taste, for items of the simulated world.

    A rewrite that does to gold what it should not (a point off topic where gold had not counted the point) is
    left out: that reply stays as it is.

    Args:
        renderer: The reward model's.
        items: From `faults.make_items`.
        seed: Of the choice of sentences.
    """
    texts = {(item.prompt, ids): renderer.decode(list(ids)) for item in items for ids in item.replies}
    sentences, ends = Sentences(renderer, list(texts.values())), sentence_end_ids(renderer.tokenizer)
    plans: list[tuple[str, str, Rewrite, int]] = [  # name, part, rewrite, what gold does
        ("point off topic", "quality", partial(point_off_topic, sentences), -1),
        ("empty talk for reasons", "quality", partial(empty_for_reasons, sentences), -1),
        ("useful for worthless", "quality", partial(useful_for_worthless, sentences), 1),
        ("exclamation marks", "ood", exclaimed, 0),
        ("exclamation marks, every second", "ood", exclaimed, 0),
        ("lower case", "ood", lower_case, 0),
        ("flattery", "rest", partial(flattery, sentences), 0),
    ]
    faults = []
    for name, part, rewrite, way in plans:
        chosen = items[::2] if name.endswith("every second") else items
        places = [(item, *pair) for item in chosen for pair in (item.replies, item.replies[::-1])]
        new = [
            rewritten(
                item.question,
                texts[item.prompt, ids],
                partial(
                    rewrite,
                    stay=sentences_that_stay(renderer, ids, other, ends),
                    rng=random.Random(f"{seed} {n}"),
                ),
                way,
            )
            for n, (item, ids, other) in enumerate(places)
        ]
        rendered = map(tuple, renderer.content_ids(new))
        table = {
            (item.prompt, ids): after
            for (item, ids, _), text, after in zip(places, new, rendered, strict=True)
            if text != texts[item.prompt, ids]
        }
        faults.append(Fault(name, part, partial(plant_rewrite, table)))
    return faults


def plant_rewrite(table: Mapping[tuple[Ids, Ids], Ids], pair: Pair, item: Item) -> Pair:
    """The generated reply becomes what (prompt, reply) is rewritten to, where it is."""
    content = pair.generated.content
    new = table.get((item.prompt, content), content)
    return replace(pair, generated=replace(pair.generated, content=new))


def sentences_that_stay(renderer: Renderer, reply: Ids, other: Ids, ends: frozenset[int]) -> int:
    """How many sentences the correction of length leaves of a reply beside another one."""
    kept = cut_to(reply, len(remove_repetition(other, ends)), ends)
    return len(split_reply(renderer.decode(list(kept))))


def rewritten(question: str, reply: str, rewrite: Callable[[str, str], str], way: int) -> str:
    """A rewritten reply, or the same where gold would not go the way it should.

    Args:
        rewrite: (question, reply) -> reply.
        way: of gold: -1 down, 1 up, 0 nowhere.
    """
    if re.sub(r"\s+", " ", reply) != " ".join(split_reply(reply)):  # a list: its marks would be lost
        return reply
    new = rewrite(question, reply)
    change = gold(question, new) - gold(question, reply)
    right = abs(change) < 1e-9 if way == 0 else way * change > 1e-9
    return new if right else reply
