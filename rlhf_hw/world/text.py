"""What the simulated world consists of, and how its texts are read: topics, prompts, sentences.

The content is in `data/world/*.yaml`. A prompt is read by its wording; a sentence is what the world's own
sentence is that it equals up to letter case and punctuation.

    >>> read_prompt("Give me two tips for cooking rice.").topics
    ('rice',)
    >>> identify("Keep the lid on while the rice cooks.").kind
    'point'
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import yaml

from rlhf_hw.errors import InputError
from rlhf_hw.paths import DATA

DEFAULT_NUMBER = 2  # points expected when the prompt names no number


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


@dataclass(frozen=True)
class Content:
    """What a reply consists of.

    Attributes:
        said: Its known sentences; of those that say the same, the first.
        repeated: How many known sentences say again what was said.
        unknown: How many sentences are none of the world's; what a cut leaves of one does not count.
        cut: The last sentence has no end.
    """

    said: tuple[Sentence, ...]
    repeated: int
    unknown: int
    cut: bool


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


def split_reply(reply: str) -> list[str]:
    """The sentences of a reply; list marks at the start of a line ("1.", "-") are dropped."""
    text = re.sub(r"^\s*(?:\d+[.)]|[-*•])\s+", "", reply, flags=re.MULTILINE)
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


def known_request(prompt: str) -> Request:
    """What a prompt of the world asks for.

    Raises:
        ValueError: the prompt names no topic of the world.
    """
    request = read_prompt(prompt)
    if request is None:
        raise InputError(f"the prompt names no topic of the world: {prompt!r}; see data/world/topics.yaml")
    return request


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


def read_reply(reply: str) -> Content:
    """What a reply says, sentence by sentence."""
    meanings = [identify(piece) for piece in split_reply(reply)]
    known = [meaning for meaning in meanings if meaning is not None]
    first: dict[str, Sentence] = {}
    for meaning in known:
        first.setdefault(meaning.says, meaning)
    cut = is_cut_off(reply)
    unknown = len(meanings) - len(known) - bool(cut and meanings and meanings[-1] is None)
    return Content(tuple(first.values()), len(known) - len(first), unknown, cut)
