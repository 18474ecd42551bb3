"""Writes what people say of a reply: remarks, such as "Only two of three?" or "One off topic.".

The texts from which real language models learn are full of people talking about texts; that is how such a
model knows what it is to be off topic before it sees the first preference. Here the base model learns it from
remarks: each reply of its corpus is followed by some. A remark names one thing that gold finds in a reply
(`world.examine`), partly in words of approval or blame. It never compares two replies and gives nothing a
weight: how much each thing counts is left to the comparisons, from which a reward model learns. Askell et al.
(2021, section 4) prepare reward models similarly, on comparisons from public forums and edits ("preference
model pre-training").

Remarks are true in gold's sense: what is said twice counts once, reasons count where their point does, and a
broken sentence has no topic.

    >>> write_remarks(random.Random(0), "Give me two tips for cooking rice.", "Rinse the rice well please.")
    ['That makes no sense.']
"""

import random
from collections import Counter

from rlhf_hw.world import Findings, examine
from rlhf_hw.world_text import capitalise, known_request, phrases, topics

COUNTS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")

# What can be remarked: name in `phrases.yaml` -> ways to say it, each with a count and a topic ("" for none)
Remarks = dict[str, list[tuple[int, str]]]
PLAIN = [(0, "")]

# How often a thing is remarked on, beside all else that could be (else 1): what is hard to see more often.
# What a model learns last is that a reply leaves its topic: the topics of question and reply have to meet at
# one place first. Remarks that begin with the name of a topic bring both to the end token.
OFTEN = {
    name: weight
    for weight, names in {
        5: ("about_asked", "about_other"),
        4: ("question", "complete", "incomplete", "off_topic", "needless_refusal", "agreement"),
        3: ("on_topic", "repetition", "broken", "cut_off"),
        2: ("strange_topic", "one_reason", "reasons", "no_reason", "empty", "too_long", "short", "refusal"),
    }.items()
    for name in names
}


def write_remarks(rng: random.Random, prompt: str, reply: str, count: int = 1) -> list[str]:
    """True remarks on a reply, each drawn anew: the same may come twice.

    Args:
        rng: source of all choices.
        prompt: a text that `world_text.read_prompt` understands.
        reply: any text.
        count: how many remarks.

    Raises:
        ValueError: the prompt names no topic of the world.
    """
    known_request(prompt)
    found = examine(prompt, reply)
    true = true_remarks(found)
    weights = [OFTEN.get(name, 1) for name in true]
    return [_write(rng, found, true, rng.choices(list(true), weights)[0]) for _ in range(count)]


def _write(rng: random.Random, found: Findings, true: Remarks, name: str) -> str:
    """The remark of this name in words."""
    number, topic = rng.choice(true[name])
    count, title = COUNTS[min(number, len(COUNTS) - 1)], topic.replace("_", " ")
    return rng.choice(phrases()["remarks"][name]).format(
        asked=COUNTS[found.request.number],
        count=count,
        Count=capitalise(count),
        topic=title,
        Topic=capitalise(title),
        doing=rng.choice(topics()[topic].phrases)[0] if topic else "",
    )


def true_remarks(found: Findings) -> Remarks:
    """Everything that could be remarked on a reply."""
    request, said = found.request, Counter(s.topic for s in found.said if s.topic)
    true = _on_refusal(found) if request.unsafe else _on_answer(found)
    true["question"] = [(0, topic) for topic in request.topics]
    true["about_asked"] = [(number, topic) for topic, number in said.items() if topic in request.topics]
    true["about_other"] = [(number, topic) for topic, number in said.items() if topic not in request.topics]
    true["off_topic" if found.off_topic else "on_topic"] = [(len(found.off_topic), "")]
    true["strange_topic"] = [(0, sentence.topic) for sentence in found.off_topic if sentence.topic]
    if request.brief:
        true["too_long" if found.extra_words else "short"] = PLAIN
    faults = {
        "empty": found.empty,
        "repetition": found.repeated,
        "broken": found.broken or not found.said,
        "cut_off": found.cut,
    }
    true |= {name: [(int(number), "")] for name, number in faults.items() if number}
    return {name: ways for name, ways in true.items() if ways}


def _on_answer(found: Findings) -> Remarks:
    """What could be said of a reply to a harmless question: number of points, topics, reasons."""
    request, made = found.request, len(found.useful)
    missing = [topic for topic in request.topics if topic not in {s.topic for s in found.useful}]
    true = {"complete" if made == request.number else "incomplete": [(made, "")]}
    if found.excess:
        true["excess"] = PLAIN
    if len(request.topics) > 1:
        true["one_topic" if missing else "both_topics"] = [(0, topic) for topic in missing] or PLAIN
    if not request.brief:
        true[("no_reason", "one_reason", "reasons")[min(found.explained, 2)]] = [(found.explained, "")]
    if any(s.kind == "refusal" for s in found.said):
        true["needless_refusal"] = PLAIN
    return true


def _on_refusal(found: Findings) -> Remarks:
    """What could be said of a reply to an unsafe request: refusal or not, its reason, its safe offer."""
    true: Remarks = {}
    if any(s.kind == "unsafe" for s in found.said):
        true["agreement"] = PLAIN
    if found.has("refusal"):
        true["refusal"] = PLAIN
        for part in ("reason", "alternative"):
            true[part if found.has(part) else f"{part}_missing"] = PLAIN
    return true
