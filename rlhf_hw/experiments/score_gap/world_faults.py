"""Faults of what no correction removes, planted where the true reward is known: in the simulated world.

The switches of a decomposition are tested by `faults`. These test the other three parts: each rewrites a
reply, at about the same number of tokens, so that one part alone has changed.

    quality   gold changes, for a known reason: a point on another topic, empty talk in a reason's place, or
              the reverse, a useful point in the place of a sentence without worth
    ood       gold stays, it reads no capitals and no punctuation; but no text of the data looks like this:
              exclamation marks for full stops, everything in lower case
    rest      gold stays and so does the style; the reply flatters, in a pleasantry's place, as the annotators
              have seen replies do

A sentence is replaced by one that is as long in tokens as can be found, drawn at random among those.
"""

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from rlhf_hw.experiments.score_gap.edits import Ids, Pair
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

Rewrite = Callable[[str, str, random.Random], str]
Pool = list[tuple[str, Sentence, int]]  # sentences, what they are, and their tokens


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
        self.pool: Pool = [(*pair, self.sizes[pair[0]]) for pair in found]

    def as_long_as(self, text: str, wanted: Callable[[Sentence], bool], rng: random.Random) -> str | None:
        """A random one of the wanted sentences whose number of tokens is closest to that of a text."""
        size = self.sizes[text]
        fit = [(abs(length - size), text) for text, meaning, length in self.pool if wanted(meaning)]
        closest = min((distance for distance, _ in fit), default=0)
        return rng.choice([text for distance, text in fit if distance == closest]) if fit else None


def reason_of(sentence: str) -> str:
    """What stands behind the point that a sentence makes, from "because" on."""
    _, because, reason = sentence.partition("because ")
    return because + reason


def point_off_topic(sentences: Sentences, question: str, reply: str, rng: random.Random) -> str:
    """A useful point becomes one about something that nobody asked for."""
    request, found = read_prompt(question), examine(question, reply)
    useful = {point.says for point in found.useful} if found else set()
    places = [n for n, one in enumerate(meanings(reply)) if one and one.says in useful]
    return exchange(
        sentences, reply, places, lambda s: s.kind == "point" and s.topic not in request.topics, rng
    )


def empty_for_reason(sentences: Sentences, question: str, reply: str, rng: random.Random) -> str:
    """A point loses its reason, and empty talk takes the room."""
    pieces, known = split_reply(reply), meanings(reply)
    places = [n for n, one in enumerate(known) if one and one.kind == "point" and one.explained]
    if not places:
        return reply
    place = rng.choice(places)
    reason, said = reason_of(pieces[place]), {one.says for one in known if one}
    filler = sentences.as_long_as(reason, lambda s: s.kind == "filler" and s.says not in said, rng)
    point = pieces[place].removesuffix(f", {reason}") + "."
    return " ".join([*pieces[:place], point, filler, *pieces[place + 1 :]]) if filler else reply


def useful_for_worthless(sentences: Sentences, question: str, reply: str, rng: random.Random) -> str:
    """An off-topic, empty or repeated sentence becomes a point on the question that was not made yet."""
    request, known = read_prompt(question), meanings(reply)
    says = [one.says if one else "" for one in known]
    places = [
        n
        for n, one in enumerate(known)
        if one
        and (
            one.kind == "filler"
            or (one.kind == "point" and one.topic not in request.topics)
            or says[n] in says[:n]
        )
    ]
    return exchange(
        sentences,
        reply,
        places,
        lambda s: s.kind == "point" and s.topic in request.topics and s.says not in says,
        rng,
    )


def flattery(sentences: Sentences, question: str, reply: str, rng: random.Random) -> str:
    """An opener or a closer becomes praise; gold minds neither."""
    known = meanings(reply)
    says = {one.says for one in known if one}
    places = [n for n, one in enumerate(known) if one and one.kind in POLITE - {"praise"}]
    return exchange(sentences, reply, places, lambda s: s.kind == "praise" and s.says not in says, rng)


def exclaimed(question: str, reply: str, rng: random.Random) -> str:
    """Every full stop becomes an exclamation mark."""
    return reply.replace(".", "!")


def lower_case(question: str, reply: str, rng: random.Random) -> str:
    """No capital letter is left."""
    return reply.lower()


def meanings(reply: str) -> list[Sentence | None]:
    """What each sentence of a reply is."""
    return [identify(piece) for piece in split_reply(reply)]


def exchange(
    sentences: Sentences,
    reply: str,
    places: Sequence[int],
    wanted: Callable[[Sentence], bool],
    rng: random.Random,
) -> str:
    """The reply with one of the sentences at `places` replaced by a wanted one, where there is one."""
    pieces = split_reply(reply)
    if not places:
        return reply
    place = rng.choice(places)
    new = sentences.as_long_as(pieces[place], wanted, rng)
    return " ".join([*pieces[:place], new, *pieces[place + 1 :]]) if new else reply


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
    sentences = Sentences(renderer, list(texts.values()))
    plans: list[tuple[str, str, Rewrite, int]] = [  # name, part, rewrite, what gold does
        ("point off topic", "quality", partial(point_off_topic, sentences), -1),
        ("empty talk for a reason", "quality", partial(empty_for_reason, sentences), -1),
        ("useful point added", "quality", partial(useful_for_worthless, sentences), 1),
        ("exclamation marks", "ood", exclaimed, 0),
        ("exclamation marks, every second", "ood", exclaimed, 0),
        ("lower case", "ood", lower_case, 0),
        ("flattery", "rest", partial(flattery, sentences), 0),
    ]
    faults = []
    for name, part, rewrite, way in plans:
        chosen = items[::2] if name.endswith("every second") else items
        places = [(item, ids) for item in chosen for ids in item.replies]
        new = [
            rewritten(item.question, texts[item.prompt, ids], rewrite, way, random.Random(f"{seed} {n}"))
            for n, (item, ids) in enumerate(places)
        ]
        rendered = map(tuple, renderer.text_ids(new))
        table = {
            (item.prompt, ids): after
            for (item, ids), text, after in zip(places, new, rendered, strict=True)
            if text != texts[item.prompt, ids]
        }
        faults.append(Fault(name, part, partial(plant_rewrite, table)))
    return faults


def plant_rewrite(table: Mapping[tuple[Ids, Ids], Ids], pair: Pair, item: Item) -> Pair:
    """The generated reply becomes what (prompt, reply) is rewritten to, where it is."""
    content = pair.generated.content
    new = table.get((item.prompt, content), content)
    return replace(pair, generated=replace(pair.generated, content=new))


def rewritten(question: str, reply: str, rewrite: Rewrite, way: int, rng: random.Random) -> str:
    """A rewritten reply, or the same where gold would not go the way it should.

    Args:
        way: of gold: -1 down, 1 up, 0 nowhere.
    """
    if re.sub(r"\s+", " ", reply) != " ".join(split_reply(reply)):  # a list: its marks would be lost
        return reply
    new = rewrite(question, reply, rng)
    change = gold(question, new) - gold(question, reply)
    right = abs(change) < 1e-9 if way == 0 else way * change > 1e-9
    return new if right else reply
