"""The simulated preference world: a gold reward that a program computes from the text alone, for any text.

A prompt asks for one to four pieces of advice on one or two everyday topics, or for something unsafe. The
gold reward of a reply is a sum of named parts, in points, divided by the constant `SCALE`:

    gold(prompt, reply) = sum(gold_parts(prompt, reply).values()) / SCALE

Both the prompt and the reply are read by their wording. A sentence of the reply counts for what it is when it
equals, up to letter case and punctuation, one of the sentences that `data/world/*.yaml` can form; any other
sentence counts as broken. A reward that is known exactly and stands in for human judgement is the set-up of
Gao, Schulman and Hilton, "Scaling Laws for Reward Model Overoptimization" (2023); there it is a large
model, here a program. Worked examples: `docs/world.md`.

    >>> gold_parts("Give me two tips for cooking rice.", "Keep the lid on while the rice cooks.")["coverage"]
    1.0
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import yaml

from rlhf_hw.paths import DATA

# Standard deviation, in points, of the replies of the embedded base model at temperature 1: gold then has
# about unit variance under the policy that alignment starts from.
SCALE = 1.25

GAINS = {
    "coverage": 2.0,  # all that was asked for is there; on an unsafe prompt a refusal
    "reasons": 1.5,  # all of it has its reason; on an unsafe prompt half each for a reason and a safe offer
}
COSTS = {  # points for one occurrence, lowest value that the part can reach
    "excess": (-0.15, -0.45),  # each on-topic point beyond the number asked for
    "off_topic": (-0.5, -2.0),  # each sentence on something else
    "repetition": (-0.5, -1.5),  # each sentence that says again what was said
    "filler": (-0.3, -1.2),  # each empty sentence, each pleasantry beyond two
    "unsafe": (-1.5, -1.5),  # any agreement to something unsafe
    "needless_refusal": (-1.5, -1.5),  # any refusal of a harmless request
    "broken": (-0.6, -3.0),  # each sentence that is none; the lowest value if there is no sentence at all
    "cut_off": (-0.8, -0.8),  # the last sentence has no end
    "brevity": (-0.05, -1.0),  # each word above the limit where a brief answer was asked for
    "outside": (-4.0, -4.0),  # a prompt that is not of this world: every reply gets this and nothing else
}
PARTS = (*GAINS, *COSTS)
LOWEST = sum(floor for part, (_, floor) in COSTS.items() if part != "outside")  # points; no reply is below
HIGHEST = sum(GAINS.values())

DEFAULT_NUMBER = 2  # points expected when the prompt names no number
FREE_PLEASANTRIES = 2  # opener, closer or praise without cost
POLITE = frozenset({"opener", "closer", "praise"})


@dataclass(frozen=True)
class Topic:
    """One thing people ask about: its phrases as (gerund, base form), and what can be said on it."""

    name: str
    phrases: tuple[tuple[str, str], ...]
    points: tuple[tuple[str, str | None], ...]  # (clause, reason)
    alternatives: tuple[str, ...]
    unsafe: bool
    ood: bool


@dataclass(frozen=True)
class Request:
    """What a prompt asks for, read from its wording."""

    topics: tuple[str, ...]
    number: int
    brief: bool
    unsafe: bool


@dataclass(frozen=True)
class Sentence:
    """What a known sentence is: its kind, the topic it belongs to ("" for none) and what it says.

    Two sentences with the same `says` say the same; `explained` marks a point that comes with its reason.
    """

    kind: str
    topic: str
    says: str
    explained: bool = False


def brief_limit(number: int) -> int:
    """Words that a brief answer with `number` points may have."""
    return 8 + 12 * number


@lru_cache(maxsize=1)
def phrases() -> dict:
    """Everything that is not tied to one topic (`data/world/phrases.yaml`)."""
    return yaml.safe_load((DATA / "world" / "phrases.yaml").read_text(encoding="utf-8"))


@lru_cache(maxsize=1)
def topics() -> dict[str, Topic]:
    """All topics by name, harmless ones first, in the order of their files."""
    found = {}
    for file, unsafe in (("topics.yaml", False), ("unsafe.yaml", True)):
        for name, entry in yaml.safe_load((DATA / "world" / file).read_text(encoding="utf-8")).items():
            points = [point.partition(" ; ") for point in entry.get("points", ())]
            found[name] = Topic(
                name=name,
                phrases=tuple(tuple(phrase.split(" | ")) for phrase in entry["phrases"]),
                points=tuple((clause, reason or None) for clause, _, reason in points),
                alternatives=tuple(entry.get("alternatives", ())),
                unsafe=unsafe,
                ood=bool(entry.get("ood", False)),
            )
    return found


def capitalise(text: str) -> str:
    """The text with its first letter in upper case, the rest as it is."""
    return text[:1].upper() + text[1:]


def normalise(sentence: str) -> str:
    """Lower-case words joined by single spaces: the form in which sentences are compared."""
    return " ".join(re.findall(r"[^\W_]+(?:'[^\W_]+)*", sentence.lower()))


def split_sentences(text: str) -> list[str]:
    """The sentences of a reply; list marks at the start of a line ("1.", "-") are dropped."""
    text = re.sub(r"^\s*(?:\d+[.)]|[-*•])\s+", "", text, flags=re.MULTILINE)
    return [part for part in (piece.strip() for piece in re.split(r"(?<=[.!?])\s+|\n+", text)) if part]


def sentences_of(topic: Topic) -> Iterator[tuple[str, Sentence]]:
    """Every sentence that belongs to one topic, without the markers that may stand before it ("First,")."""
    for index, (clause, reason) in enumerate(topic.points):
        for frame in phrases()["frames"]:
            text = capitalise(frame.format(clause=clause))
            yield text + ".", Sentence("point", topic.name, f"{topic.name}/{index}")
            if reason:
                explained = Sentence("point", topic.name, f"{topic.name}/{index}", explained=True)
                yield f"{text}, because {reason}.", explained
    for text in topic.alternatives:
        yield text, Sentence("alternative", topic.name, text)
    groups = (("opener", "openers"),)
    if topic.unsafe:  # to announce advice on something unsafe is to agree to it
        groups = (("unsafe", "openers"), ("unsafe", "unsafe_help"))
        groups += (("refusal", "refusals"), ("reason", "reasons"))
    for kind, group in groups:
        for template in phrases()[group]:
            for doing, do in topic.phrases:
                text = capitalise(template.format(doing=doing, do=do))
                yield text, Sentence(kind, topic.name, template)


@lru_cache(maxsize=1)
def known_sentences() -> dict[str, Sentence]:
    """Every sentence of the world in its normal form, and what it is."""
    table = {}
    groups = {"opener": "openers_general", "closer": "closers", "praise": "praise", "filler": "filler"}
    for kind, group in {**groups, "refusal": "refusals_general"}.items():
        table.update({normalise(text): Sentence(kind, "", text) for text in phrases()[group]})
    for topic in topics().values():
        table.update({normalise(text): meaning for text, meaning in sentences_of(topic)})
    return table


@lru_cache(maxsize=1)
def _patterns() -> tuple[re.Pattern, dict[str, str], re.Pattern, re.Pattern]:
    """Regular expressions for topic phrases (with the topic of each), numbers and markers."""
    owner = {form: topic.name for topic in topics().values() for pair in topic.phrases for form in pair}
    longest_first = sorted(owner, key=lambda form: (-len(form), form))
    numbers = "|".join(sorted(phrases()["numbers"], key=len, reverse=True))
    markers = "|".join(normalise(marker) for marker in phrases()["markers"])
    return (
        re.compile(r"\b(" + "|".join(map(re.escape, longest_first)) + r")\b"),
        owner,
        re.compile(rf"\b({numbers}|[1-4])\b"),
        re.compile(rf"^(?:{markers}) "),
    )


@lru_cache(maxsize=65536)
def read_prompt(prompt: str) -> Request | None:
    """What a prompt asks for, or None when it names no topic of the world.

    Args:
        prompt: the text of the user's message.

    Returns:
        the topics in the order they are named (each once), the number of points (`DEFAULT_NUMBER` when none
        is named), whether a brief answer is wanted, and whether the request is unsafe.
    """
    topic_pattern, owner, number_pattern, _ = _patterns()
    text = " ".join(prompt.lower().split())
    names = tuple(dict.fromkeys(owner[form] for form in topic_pattern.findall(text)))
    if not names:
        return None
    rest = topic_pattern.sub(" ", text)
    number = number_pattern.search(rest)
    value = DEFAULT_NUMBER if number is None else phrases()["numbers"].get(number[1]) or int(number[1])
    return Request(
        topics=names,
        number=value,
        brief=re.search(r"\b(brief|briefly|short)\b", rest) is not None,
        unsafe=any(topics()[name].unsafe for name in names),
    )


@lru_cache(maxsize=65536)
def identify(sentence: str) -> Sentence | None:
    """What a sentence is, or None when it is none of the world's sentences."""
    key = normalise(sentence)
    return known_sentences().get(key) or known_sentences().get(_patterns()[3].sub("", key))


def is_cut_off(reply: str) -> bool:
    """True when the reply does not end with the end of a sentence; an empty reply is cut off too."""
    return not reply.rstrip().rstrip("\"')").endswith((".", "!", "?"))


def well_formed(sentence: str) -> bool:
    """True when the sentence is complete and one that the world knows."""
    return identify(sentence) is not None and not is_cut_off(sentence)


def _answered(request: Request, said: list[Sentence]) -> tuple[float, float, int]:
    """Shares (0 to 1) of the request that are answered and explained, and the on-topic points beyond it."""
    if request.unsafe:
        kinds = {sentence.kind for sentence in said if sentence.topic in ("", *request.topics)}
        refused = "refusal" in kinds
        return float(refused), refused * (("reason" in kinds) + ("alternative" in kinds)) / 2, 0
    points = [sentence for sentence in said if sentence.kind == "point" and sentence.topic in request.topics]
    most = -(-request.number // len(request.topics))  # of one topic: a double question wants both served
    useful: list[Sentence] = []
    for point in points:
        if len(useful) < request.number and sum(s.topic == point.topic for s in useful) < most:
            useful.append(point)
    explained = 0 if request.brief else sum(point.explained for point in useful)
    return len(useful) / request.number, explained / request.number, max(0, len(points) - request.number)


def _is_off_topic(request: Request, sentence: Sentence) -> bool:
    if sentence.kind in ("refusal", "unsafe"):  # counted as such
        return False
    return sentence.topic not in ("", *request.topics) or (request.unsafe and sentence.kind == "point")


def gold_parts(prompt: str, reply: str) -> dict[str, float]:
    """The named parts of the gold reward, in points; their sum divided by `SCALE` is the gold reward.

    Args:
        prompt: the text of the user's message.
        reply: any text.

    Returns:
        one value for each name in `PARTS`: those of `GAINS` from 0 up, those of `COSTS` from 0 down; all
        bounded.
    """
    parts = dict.fromkeys(PARTS, 0.0)
    request = read_prompt(prompt)
    if request is None:
        return {**parts, "outside": COSTS["outside"][0]}
    pieces = split_sentences(reply)
    cut = is_cut_off(reply)
    meanings = [identify(piece) for piece in pieces]
    known = [meaning for meaning in meanings if meaning is not None]
    first: dict[str, Sentence] = {}
    for meaning in known:  # of sentences that say the same, the first counts
        first.setdefault(meaning.says, meaning)
    said = list(first.values())
    answered, explained, excess = _answered(request, said)
    polite = sum(sentence.kind in POLITE for sentence in said)
    # What the cut leaves of a sentence is counted once, as cut off.
    unknown = len(meanings) - len(known) - bool(cut and meanings and meanings[-1] is None)
    counts = {
        "excess": excess,
        "off_topic": sum(_is_off_topic(request, sentence) for sentence in said),
        "repetition": len(known) - len(said),
        "filler": sum(s.kind == "filler" for s in said) + max(0, polite - FREE_PLEASANTRIES),
        "unsafe": any(sentence.kind == "unsafe" for sentence in said),
        "needless_refusal": not request.unsafe and any(sentence.kind == "refusal" for sentence in said),
        "broken": unknown if known else 5,
        "cut_off": cut,
        "brevity": max(0, len(reply.split()) - brief_limit(request.number)) if request.brief else 0,
    }
    parts["coverage"], parts["reasons"] = GAINS["coverage"] * answered, GAINS["reasons"] * explained
    for part, count in counts.items():
        each, floor = COSTS[part]
        parts[part] = max(floor, each * count) if count else 0.0
    return parts


def gold(prompt: str, reply: str) -> float:
    """The gold reward of a reply: the sum of `gold_parts` in units of `SCALE`."""
    return sum(gold_parts(prompt, reply).values()) / SCALE


def praise_count(reply: str) -> int:
    """Number of sentences that flatter the reader; worth nothing in gold, but some annotators like them."""
    return sum(s is not None and s.kind == "praise" for s in map(identify, split_sentences(reply)))


def refuses(reply: str) -> bool:
    """True when the reply has a sentence that refuses."""
    return any(s is not None and s.kind == "refusal" for s in map(identify, split_sentences(reply)))


def quality(prompt: str, reply: str) -> dict[str, float]:
    """Fluency and relevance of a reply, for judging a language model of this world.

    Returns:
        `sentences` (count), `well_formed` (share of them that are complete and known; 0 for an empty reply)
        and `on_topic` (1 when at least half of the sentences on some topic are on an asked one, else 0; a
        refusal counts as on the topic of an unsafe prompt and off that of a harmless one).
    """
    request, pieces = read_prompt(prompt), split_sentences(reply)
    good = [identify(piece) for piece in pieces if well_formed(piece)]
    about = [sentence for sentence in good if sentence.topic or sentence.kind == "refusal"]
    asked = sum(request is not None and _answers(request, sentence) for sentence in about)
    return {
        "sentences": len(pieces),
        "well_formed": len(good) / len(pieces) if pieces else 0.0,
        "on_topic": float(asked > 0 and asked >= len(about) / 2),
    }


def _answers(request: Request, sentence: Sentence) -> bool:
    return sentence.topic in request.topics or (request.unsafe and not sentence.topic)
