"""Writes what people say of a reply: remarks, such as "Two of three." or "Astray: one.".

The texts from which real language models learn are full of people talking about texts; that is how such a
model knows what it is to be off topic before it sees the first preference. Here the base model learns it from
remarks: each reply of its corpus is followed by some. A remark names one thing that gold finds in a reply
(`gold.examine`), or the topic of the question. It neither praises nor blames, compares no two replies and
gives nothing a weight: what is good, and how much each thing counts, is left to the comparisons, from which a
reward model learns. Askell et al. (2021, section 4) prepare reward models similarly, on comparisons from
public forums and edits ("preference model pre-training").

Remarks are true in gold's sense: what is said twice counts once, reasons count where their point does, and a
broken sentence has no topic.

    >>> write_remarks(random.Random(0), "Give me two tips for cooking rice.", "Rinse the rice well please.")
    ['Senseless: one.']
"""

import random
from collections import Counter

from rlhf_hw.world.gold import Findings, examine
from rlhf_hw.world.text import capitalise, known_request, phrases, topics

COUNTS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "many")

# What can be remarked: name in `phrases.yaml` -> what of, each with a count and a topic ("" for none)
Remarks = dict[str, list[tuple[int, str]]]
PLAIN = [(0, "")]

# How often a thing is remarked on, beside all else that could be (else 1): what is hard to see more often.
# What a model learns last is that a reply leaves its topic: the topics of question and reply have to meet at
# one place first. Remarks that begin with the name of a topic bring both to the end token.
OFTEN = {
    name: weight
    for weight, names in {
        5: ("about_asked", "about_other", "excess", "repetition"),
        4: ("question", "complete", "incomplete", "off_topic", "needless_refusal", "agreement", "too_long"),
        3: ("on_topic", "broken", "cut_off", "explained", "empty"),
        2: ("strange_topic", "unexplained", "short", "refusal"),
    }.items()
    for name in names
}


def write_remarks(rng: random.Random, prompt: str, reply: str, count: int = 1) -> list[str]:
    """True remarks on a reply, each on something else as long as there is more to remark.

    Args:
        rng: source of all choices.
        prompt: a text that `read_prompt` understands.
        reply: any text.
        count: how many remarks.

    Raises:
        ValueError: the prompt names no topic of the world.
    """
    known_request(prompt)
    found = examine(prompt, reply)
    every = [(name, *way) for name, ways in true_remarks(found).items() for way in ways]
    chosen: list[tuple[str, int, str]] = []
    while len(chosen) < count:
        left = [way for way in every if way not in chosen] or every
        chosen.append(rng.choices(left, [OFTEN.get(name, 1) for name, *_ in left])[0])
    return [_write(rng, found, *way) for way in chosen]


def _write(rng: random.Random, found: Findings, name: str, number: int, topic: str) -> str:
    """The remark of this name in words."""
    count, asked = (COUNTS[min(n, len(COUNTS) - 1)] for n in (number, found.request.number))
    title = topic.replace("_", " ")
    return phrases()["remarks"][name].format(
        asked=asked,
        count=count,
        Count=capitalise(count),
        Topic=capitalise(title),
        doing=rng.choice(topics()[topic].phrases)[0] if topic else "",
    )


def true_remarks(found: Findings) -> Remarks:
    """Everything that could be remarked on a reply."""
    request, about = found.request, Counter(s.topic for s in found.said if s.kind == "point")
    asked = [s for s in found.said if s.topic in request.topics]
    true = _on_refusal(found) if request.unsafe else _on_answer(found)
    true["question"] = [(0, topic) for topic in request.topics]
    true["about_asked"] = [(number, topic) for topic, number in about.items() if topic in request.topics]
    true["about_other"] = [(number, topic) for topic, number in about.items() if topic not in request.topics]
    true["off_topic"] = [(len(found.off_topic), "")] if found.off_topic else []
    true["on_topic"] = PLAIN if asked and not found.off_topic and not found.broken else []
    strange = dict.fromkeys(s.topic for s in found.off_topic if s.topic not in ("", *request.topics))
    true["strange_topic"] = [(0, topic) for topic in strange]
    true["short"] = PLAIN if request.brief and not found.extra_words else []
    faults = {
        "too_long": found.extra_words,
        "empty": found.empty,
        "repetition": found.repeated,
        "broken": found.broken,
        "cut_off": found.cut,
    }
    true |= {name: [(int(number), "")] for name, number in faults.items() if number}
    return {name: ways for name, ways in true.items() if ways}


def _on_answer(found: Findings) -> Remarks:
    """What could be said of a reply to a harmless question: number of points, topics, reasons."""
    request, made = found.request, len(found.useful)
    missing = [topic for topic in request.topics if topic not in {s.topic for s in found.useful}]
    true = {"complete" if made == request.number else "incomplete": [(made, "")]}
    if found.excess and made == request.number:
        true["excess"] = [(found.excess, "")]
    if len(request.topics) > 1:
        true["topic_missing" if missing else "both_topics"] = [(0, topic) for topic in missing] or PLAIN
    if found.explained:
        true["explained"] = [(found.explained, "")]
    elif not any(s.explained for s in found.said):
        true["unexplained"] = PLAIN
    if any(s.kind == "refusal" for s in found.said):
        true["needless_refusal"] = PLAIN
    return true


def _on_refusal(found: Findings) -> Remarks:
    """What could be said of a reply to an unsafe request: refusal or not, its reason, its safe offer."""
    if any(s.kind == "unsafe" for s in found.said):
        return {"agreement": PLAIN}
    if not found.has("refusal"):
        return {}
    parts = {part: found.has(part) for part in ("reason", "alternative")}
    return {"refusal": PLAIN} | {part if there else f"{part}_missing": PLAIN for part, there in parts.items()}
