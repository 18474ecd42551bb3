"""Gold laid over a reply's own sentences: which one earned or cost how much, for who reads the text.

    for sentence in gold_by_sentence(prompt, reply).sentences:
        reply[sentence.start : sentence.end], sentence.kind, sentence.points

A part that has a lowest value (`gold.COSTS`) is charged to the sentences in their order until it is reached;
what belongs to the reply as a whole, such as too many words, stands apart. All together they add up to
`gold.gold_parts`.
"""

from dataclasses import dataclass

from rlhf_hw.world.gold import COSTS, FREE_PLEASANTRIES, GAINS, PARTS, POLITE, Findings, examine, gold_parts
from rlhf_hw.world.text import Sentence, identify, is_cut_off, split_reply

BROKEN = "broken"  # the kind of a sentence that the world does not know


@dataclass(frozen=True)
class JudgedSentence:
    """One sentence of a reply.

    Attributes:
        start, end: Where it stands in the reply, in characters.
        kind: What it is: "point", "filler", ..., or "broken".
        points: Part of gold -> points that it earned or cost; empty where it counts for nothing.
    """

    start: int
    end: int
    kind: str
    points: dict[str, float]


@dataclass(frozen=True)
class ReplyBySentence:
    """`sentences` in their order, and `whole`: the points of the reply as a whole, part by part."""

    sentences: list[JudgedSentence]
    whole: dict[str, float]


def gold_by_sentence(prompt: str, reply: str) -> ReplyBySentence:
    """Lay the points of `gold_parts` over the sentences of a reply.

    Args:
        prompt: the text of the user's message.
        reply: any text.

    Returns:
        its sentences with their points; those of all and of `whole` add up to `gold_parts`, part by part.
    """
    left, found = gold_parts(prompt, reply), examine(prompt, reply)
    pieces = split_reply(reply)
    shares = [{} for _ in pieces] if found is None else _claims(found, pieces, reply)
    judged, at = [], 0
    for piece, claims in zip(pieces, shares, strict=True):
        start = max(reply.find(piece, at), at)
        at = start + len(piece)
        points = {}
        for part, claim in claims.items():
            given = max(claim, left[part]) if part in COSTS else min(claim, left[part])
            if given:
                points[part] = given
                left[part] -= given
        meaning = identify(piece)
        judged.append(JudgedSentence(start, at, meaning.kind if meaning else BROKEN, points))
    return ReplyBySentence(judged, {part: left[part] for part in PARTS if abs(left[part]) > 1e-9})


def _claims(found: Findings, pieces: list[str], reply: str) -> list[dict[str, float]]:
    """What each sentence earns and costs by itself, before any lowest value."""
    cut, seen, polite = is_cut_off(reply), set(), 0
    surplus = _surplus(found)
    claims = []
    for number, piece in enumerate(pieces):
        last, meaning, own = number == len(pieces) - 1, identify(piece), {}
        if cut and last:
            own["cut_off"] = COSTS["cut_off"][0]
        if meaning is None:
            if not (cut and last):
                own["broken"] = COSTS["broken"][0]
        elif meaning.says in seen:
            own["repetition"] = COSTS["repetition"][0]
        else:
            seen.add(meaning.says)
            polite += meaning.kind in POLITE
            own |= _first_time(found, meaning, surplus, polite > FREE_PLEASANTRIES)
        claims.append(own)
    return claims


def _surplus(found: Findings) -> set[str]:
    """What the points say that stand beyond the number asked for."""
    topics = found.request.topics
    useful = {point.says for point in found.useful}
    others = [s.says for s in found.said if s.kind == "point" and s.topic in topics and s.says not in useful]
    return set(others[len(others) - found.excess :])


def _first_time(found: Findings, meaning: Sentence, surplus: set[str], impolite: bool) -> dict[str, float]:
    """What a known sentence earns and costs that says something for the first time."""
    request, own = found.request, {}
    mine = meaning.topic in ("", *request.topics)
    if meaning in found.useful:
        own["coverage"] = GAINS["coverage"] / request.number
        if meaning.explained and not request.brief:
            own["reasons"] = GAINS["reasons"] / request.number
    elif meaning.says in surplus:
        own["excess"] = COSTS["excess"][0]
    if meaning in found.off_topic:
        own["off_topic"] = COSTS["off_topic"][0]
    if meaning.kind == "filler" or (meaning.kind in POLITE and impolite):
        own["filler"] = COSTS["filler"][0]
    if meaning.kind == "unsafe":
        own["unsafe"] = COSTS["unsafe"][0]
    if meaning.kind == "refusal":
        part = "coverage" if request.unsafe else "needless_refusal"
        if mine or not request.unsafe:
            own[part] = GAINS["coverage"] if request.unsafe else COSTS["needless_refusal"][0]
    if request.unsafe and mine and meaning.kind in ("reason", "alternative"):
        own["reasons"] = GAINS["reasons"] / 2
    return own
