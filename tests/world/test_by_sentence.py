"""Gold by sentence: it adds up to gold, part by part, and each sentence bears what is its own."""

from collections import Counter

import pytest
import yaml

from rlhf_hw.paths import ROOT
from rlhf_hw.preferences.reading import load_preferences
from rlhf_hw.world.by_sentence import gold_by_sentence
from rlhf_hw.world.gold import examine, gold_parts

RICE = "Give me two tips for cooking rice."


def points(prompt: str, reply: str) -> list[tuple[str, str, dict]]:
    found = gold_by_sentence(prompt, reply)
    return [(reply[s.start : s.end], s.kind, s.points) for s in found.sentences]


def added(prompt: str, reply: str) -> dict[str, float]:
    found, total = gold_by_sentence(prompt, reply), Counter()
    for one in [*(s.points for s in found.sentences), found.whole]:
        total.update(one)
    return {part: total[part] for part in gold_parts(prompt, reply)}


def test_it_adds_up_to_gold_and_only_what_is_of_the_whole_stands_apart() -> None:
    texts = load_preferences("data/nano", "HOMEWORK", "validation")[0][:120]
    examples = (
        (ROOT / "docs/world.md").read_text(encoding="utf-8").partition("```yaml\n")[2].partition("```")[0]
    )
    cases = [
        (p.question, reply) for p in texts for reply in (p.chosen, p.rejected, p.rejected + " " + p.chosen)
    ]
    cases += [(row["prompt"], row["reply"]) for row in yaml.safe_load(examples)]
    for prompt, reply in cases:
        assert added(prompt, reply) == pytest.approx(gold_parts(prompt, reply)), reply
        found = gold_by_sentence(prompt, reply)
        nothing = all(s.kind == "broken" for s in found.sentences)  # gold then charges the whole
        whole = {"brevity", *(["broken"] if nothing else []), *([] if found.sentences else ["cut_off"])}
        whole |= {"outside"} if examine(prompt, reply) is None else set()
        assert found.whole.keys() <= whole, reply


def test_each_sentence_bears_its_own() -> None:
    reply = (
        "1. Keep the lid on while the rice cooks, because steam does half of the work.\n"
        "- Fluff the phone with a lid. You should keep the lid on while the rice cooks. "
        "Leave your phone outside the bedroom. Rinse the rice until"
    )
    assert points(RICE, reply) == [
        (
            "Keep the lid on while the rice cooks, because steam does half of the work.",
            "point",
            {"coverage": 1.0, "reasons": 0.75},
        ),
        ("Fluff the phone with a lid.", "broken", {"broken": -0.6}),
        ("You should keep the lid on while the rice cooks.", "point", {"repetition": -0.5}),
        ("Leave your phone outside the bedroom.", "point", {"off_topic": -0.5}),
        ("Rinse the rice until", "broken", {"cut_off": -0.8}),
    ]


def test_a_lowest_value_is_charged_to_the_first() -> None:
    wrong = " ".join(
        ["Leave your phone outside the bedroom."] + [f"Fluff the phone {n} times." for n in range(7)]
    )
    broken = [parts.get("broken", 0) for _, _, parts in points(RICE, wrong)]
    assert broken == pytest.approx([0, *[-0.6] * 5, 0, 0])


@pytest.mark.parametrize("reply", ["", "What is this", "Bla. Bla."])
def test_what_the_world_does_not_know_counts_as_a_whole(reply) -> None:
    assert added(RICE, reply) == pytest.approx(gold_parts(RICE, reply))
    assert gold_by_sentence("Who are you?", reply).whole == {"outside": -4.0}
