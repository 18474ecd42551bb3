"""Writes the prompts and replies of the simulated world, good and bad ones, from a random generator.

A reply is drawn in two steps: how careful its writer is this time (uniform from `least_care` to `most_care`),
then everything else given that care: how many of the points asked for it makes, whether it gives reasons,
pads, drifts, repeats, flatters, refuses or breaks off. Replies so differ in quality, and better ones are
somewhat longer, as in human data. `Habits` holds the dials.

    >>> rng = random.Random(0)
    >>> prompt = write_prompt(rng, ("rice",))
    >>> reply = write_reply(rng, prompt, Habits(), ("rice", "sleep"))
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from rlhf_hw.world.text import Request, capitalise, identify, known_request, phrases, topics

MARKS = (("First", "Second", "Third"), ("First", "Also", "In addition"), ("First", "Then", "Next"))


@dataclass(frozen=True)
class Habits:
    """Dials of the writer: probabilities, those named `careless_*` times one minus the writer's care.

    `broken` is the share of replies with one sentence made of halves of two others; it is 0 where a language
    model learns from the replies and above 0 in comparisons, so that a reward model has seen nonsense.
    """

    least_care: float = 0.0
    most_care: float = 1.0
    exact: float = 0.05  # the number of points is the one asked for; rises by `exact_gain` with care
    exact_gain: float = 0.45
    reason: float = 0.05  # a point comes with its reason; rises by `reason_gain` with care
    reason_gain: float = 0.5
    marker: float = 0.3  # the points are introduced by "First", "Also", ...
    opener: float = 0.35
    closer: float = 0.25
    praise: float = 0.12
    careless_off_topic: float = 0.4
    careless_filler: float = 0.5
    careless_repetition: float = 0.35
    careless_refusal: float = 0.06
    careless_agreement: float = 0.8  # agrees to something unsafe
    instead: float = 0.75  # an off-topic, empty or repeated sentence takes the place of another one
    cut_off: float = 0.03
    broken: float = 0.0


def write_prompt(rng: random.Random, names: Sequence[str], held_out: bool = False) -> str:
    """A prompt on one or two topics.

    Args:
        rng: source of all choices.
        names: names of one or two topics; two topics ask for at least two points.
        held_out: use the wordings that are kept for validation.
    """
    doing, do = zip(*(rng.choice(topics()[name].phrases) for name in names), strict=True)
    numbers = {word: value for word, value in phrases()["numbers"].items() if value >= len(names)}
    # A larger number is asked for more often: it leaves more room for better and worse replies.
    number = rng.choice([word for word, value in numbers.items() for _ in range(value)])
    singular, plural = rng.choice(phrases()["nouns"]).split(" | ")
    alone = number == "one"
    text = rng.choice(phrases()["wordings_held_out" if held_out else "wordings"]).format(
        n=number,
        tips=singular if alone else plural,
        are="is" if alone else "are",
        doing=" and ".join(doing),
        do=" and ".join(do),
    )
    if rng.random() < 0.2:
        text += " " + rng.choice(phrases()["brief_held_out" if held_out else "brief"])
    if rng.random() < 0.12:
        text = rng.choice(phrases()["greetings"]) + " " + text
    if rng.random() < 0.12:
        text += " " + rng.choice(phrases()["thanks"])
    return text


def write_reply(rng: random.Random, prompt: str, habits: Habits, known: Sequence[str]) -> str:
    """One reply to a prompt of the world.

    Args:
        rng: source of all choices.
        prompt: a text that `read_prompt` understands.
        habits: dials of the writer.
        known: names of the harmless topics that a drifting reply may turn to.

    Raises:
        ValueError: the prompt names no topic of the world.
    """
    request = known_request(prompt)
    care = rng.uniform(habits.least_care, habits.most_care)
    body = _unsafe_body(rng, request, habits, care) if request.unsafe else _body(rng, request, habits, care)
    body = _spoil(rng, request, habits, care, body, known)
    if rng.random() < habits.broken:
        body[rng.randrange(len(body))] = _broken_sentence(rng, known)
    text = " ".join(_with_manners(rng, request, habits, body))
    return _cut(rng, text) if rng.random() < habits.cut_off else text


def write_medley(rng: random.Random, prompt: str, known: Sequence[str]) -> str:
    """Sentences of most kinds in any order, as no writer would put them.

    In what writers write, faults go together: the careless one drifts, pads and gives no reasons, so that one
    fault can be guessed from another. Here each sentence is drawn by itself; the share of on-topic ones, and
    that of points with a reason, are drawn for the reply.

    Args:
        rng: source of all choices.
        prompt: a text that `read_prompt` understands.
        known: names of the harmless topics that off-topic sentences are about.

    Raises:
        ValueError: the prompt names no topic of the world.
    """
    request = known_request(prompt)
    asked = [name for name in request.topics if topics()[name].points]
    others = [name for name in known if name not in request.topics and topics()[name].points]
    on_topic, explained, points, body = rng.random(), rng.random(), [], []
    for _ in range(rng.randint(1, request.number + 2)):
        kind = rng.random()
        if kind < 0.12:
            body.append(rng.choice(phrases()[rng.choice(("filler", "filler", "praise", "closers"))]))
        elif kind < 0.17:
            body.append(_broken_sentence(rng, others))
        elif kind < 0.19 or (request.unsafe and kind < 0.7):
            body.append(_on_unsafe(rng, request))
        else:
            names = asked if asked and rng.random() < on_topic else others
            if kind > 0.9 and points:
                clause, reason = rng.choice(points)
            else:
                clause, reason = rng.choice(topics()[rng.choice(names)].points)
            points.append((clause, reason))
            body.append(_point(rng, clause, reason, explained))
    text = " ".join(_with_markers(rng, body) if rng.random() < 0.3 else body)
    return _cut(rng, text) if rng.random() < 0.06 else text


def _on_unsafe(rng: random.Random, request: Request) -> str:
    """A refusal, fit for any request, or what else may be said to an unsafe one."""
    unsafe = [name for name in request.topics if topics()[name].unsafe]
    if not unsafe:
        return _refusal(rng, None)
    topic = rng.choice(unsafe)
    if rng.random() < 0.25:
        return rng.choice(topics()[topic].alternatives)
    group = rng.choice(("refusals", "reasons", "unsafe_help"))
    return _refusal(rng, topic) if group == "refusals" else _phrase(rng, group, topic)


def _phrase(rng: random.Random, group: str, topic: str) -> str:
    """A sentence of a group of `phrases.yaml` that names the topic."""
    doing, do = rng.choice(topics()[topic].phrases)
    return capitalise(rng.choice(phrases()[group]).format(doing=doing, do=do))


def _point(rng: random.Random, clause: str, reason: str | None, reason_share: float) -> str:
    text = capitalise(rng.choice(phrases()["frames"]).format(clause=clause))
    return f"{text}, because {reason}." if reason and rng.random() < reason_share else text + "."


def _number_of_points(rng: random.Random, asked: int, habits: Habits, care: float) -> int:
    if rng.random() < habits.exact + habits.exact_gain * care:
        return asked
    if rng.random() < 0.8:
        return rng.randint(min(1, asked - 1), asked - 1)
    return asked + rng.choice((1, 1, 2))


def _body(rng: random.Random, request: Request, habits: Habits, care: float) -> list[str]:
    """The sentences that answer a harmless request: points in random order, or a needless refusal."""
    if rng.random() < habits.careless_refusal * (1 - care):
        return [_refusal(rng, None)]
    count = _number_of_points(rng, request.number, habits, care)
    names = list(request.topics)
    rng.shuffle(names)
    if len(names) > 1 and rng.random() < 0.5 * (1 - care):
        names = names[:1]  # forgets the second topic
    decks = [rng.sample(topics()[name].points, len(topics()[name].points)) for name in names]
    chosen = [decks[i % len(decks)][i // len(decks)] for i in range(count)]
    brief = 0.2 if request.brief and rng.random() < 0.3 + 0.7 * care else 1.0
    share = brief * (habits.reason + habits.reason_gain * care)
    return [_point(rng, clause, reason, share) for clause, reason in chosen]


def _refusal(rng: random.Random, topic: str | None) -> str:
    if topic is None or rng.random() < 0.3:
        return rng.choice(phrases()["refusals_general"])
    return _phrase(rng, "refusals", topic)


def _unsafe_body(rng: random.Random, request: Request, habits: Habits, care: float) -> list[str]:
    """A refusal with or without a reason and a safe offer, or vague agreement."""
    topic = next(name for name in request.topics if topics()[name].unsafe)
    if rng.random() < habits.careless_agreement * (1 - care):
        count = rng.choice((1, 2, 2, 3))
        doing, do = rng.choice(topics()[topic].phrases)
        return [t.format(doing=doing, do=do) for t in rng.sample(phrases()["unsafe_help"], count)]
    body = [_refusal(rng, topic)]
    if rng.random() < 0.25 + 0.45 * care:
        body.append(_phrase(rng, "reasons", topic))
    if rng.random() < 0.2 + 0.5 * care:
        body.append(rng.choice(topics()[topic].alternatives))
    return body


def _spoil(
    rng: random.Random, request: Request, habits: Habits, care: float, body: list[str], known: Sequence[str]
) -> list[str]:
    """Adds off-topic sentences, filler and repetition, each more likely the less careful the writer is."""
    body, careless = list(body), 1 - care
    others = [name for name in known if name not in request.topics and topics()[name].points]
    if len(body) > 1 and rng.random() < habits.careless_repetition * careless:
        place = rng.randrange(len(body) - 1) + 1
        _put(rng, body, place, body[rng.randrange(place)], habits)
    for _ in range(2):
        if rng.random() < habits.careless_off_topic * careless:
            clause, reason = rng.choice(topics()[rng.choice(others)].points)
            _put(rng, body, rng.randrange(len(body) + 1), _point(rng, clause, reason, habits.reason), habits)
    for _ in range(2):
        if rng.random() < habits.careless_filler * careless:
            _put(rng, body, rng.randrange(len(body) + 1), rng.choice(phrases()["filler"]), habits)
    return body or [rng.choice(phrases()["filler"])]


def _put(rng: random.Random, body: list[str], place: int, sentence: str, habits: Habits) -> None:
    """Puts a sentence at a place, often instead of what stands there: bad replies are then not long ones."""
    instead = len(body) > 1 and rng.random() < habits.instead
    body[place : place + instead] = [sentence]


def _with_manners(rng: random.Random, request: Request, habits: Habits, body: list[str]) -> list[str]:
    """Puts markers, an opener, praise and a closer around the body."""
    harmless = not request.unsafe
    if harmless and rng.random() < habits.marker:
        body = _with_markers(rng, body)
    if harmless and rng.random() < habits.opener:
        if rng.random() < 0.4:
            opener = rng.choice(phrases()["openers_general"])
        else:
            opener = _phrase(rng, "openers", rng.choice(request.topics))
        body = [opener, *body]
    if rng.random() < habits.praise:
        praise = rng.choice(phrases()["praise"])
        body = [praise, *body] if rng.random() < 0.7 else [*body, praise]
    return [*body, rng.choice(phrases()["closers"])] if rng.random() < habits.closer else body


def _with_markers(rng: random.Random, body: list[str]) -> list[str]:
    """Introduces the points by "First", "Also", ...; filler, refusals and nonsense stay as they are."""
    places = [i for i, text in enumerate(body) if (meaning := identify(text)) and meaning.kind == "point"]
    if len(places) < 2:
        return body
    marks = [*rng.choice(MARKS), *["Also"] * len(places)][: len(places) - 1] + ["Finally"]
    for place, mark in zip(places, marks, strict=True):
        body[place] = f"{mark}, {body[place][0].lower()}{body[place][1:]}"
    return body


def _broken_sentence(rng: random.Random, known: Sequence[str]) -> str:
    """The first half of one point and the second half of another."""
    names = [name for name in known if topics()[name].points]
    first, second = (rng.choice(topics()[rng.choice(names)].points)[0].split() for _ in range(2))
    return capitalise(" ".join(first[: len(first) // 2] + second[len(second) // 2 :])) + "."


def _cut(rng: random.Random, text: str) -> str:
    """The text broken off after some word in its second half, without the end of a sentence."""
    words = text.split()
    return " ".join(words[: rng.randint(len(words) // 2, len(words) - 1)]).rstrip(".,!?")
