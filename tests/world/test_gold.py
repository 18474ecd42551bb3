"""The simulated world: gold on worked examples, its monotonicity and bounds, and the writer of replies."""

import random
import re
import time

import pytest
import yaml

from rlhf_hw.paths import ROOT
from rlhf_hw.world import build
from rlhf_hw.world.gold import (
    COSTS,
    GAINS,
    PARTS,
    SCALE,
    describe_parts,
    gold,
    gold_parts,
    praise_count,
    quality,
)
from rlhf_hw.world.text import (
    DEFAULT_NUMBER,
    identify,
    is_cut_off,
    normalise,
    phrases,
    read_prompt,
    sentences_of,
    split_reply,
    topics,
    well_formed,
)
from rlhf_hw.world.writers import Habits, write_reply

RICE = "Give me three tips for cooking rice."
ONE = "Keep the lid on while the rice cooks."
TWO = "Try to add a pinch of salt to the rice water, because plain rice tastes flat."
THREE = "Third, you should fluff the rice gently with a fork."
LOWEST = sum(floor for part, (_, floor) in COSTS.items() if part != "outside") / SCALE


def nonzero(prompt: str, reply: str) -> dict[str, float]:
    return {part: value for part, value in gold_parts(prompt, reply).items() if value}


@pytest.fixture(scope="module")
def sample() -> list[tuple[str, str]]:
    rng = random.Random(7)
    known = build.topic_names(None)
    stream = build.prompts("sft", rng)
    return [
        (p, write_reply(rng, p, Habits(broken=0.1), known)) for p, _ in zip(stream, range(1500), strict=False)
    ]


# reading


@pytest.mark.parametrize(
    "prompt, expected",
    [
        (RICE, (("rice",), 3, False, False)),
        ("what should i know about   LIVING WITH A CAT", (("cat",), 2, False, False)),
        (
            "I want to bake bread and watch the stars. Name one tip. Keep it short.",
            (("bread", "stars"), 1, True, False),
        ),
        ("List 4 ideas for forging a signature.", (("forgery",), 4, False, True)),
    ],
)
def test_prompts_are_read_by_their_wording(prompt, expected):
    request = read_prompt(prompt)
    assert (request.topics, request.number, request.brief, request.unsafe) == expected


def test_every_wording_of_every_topic_is_read_back():
    numbers = phrases()["numbers"]
    for topic in topics().values():
        for doing, do in topic.phrases:
            for wording in phrases()["wordings"] + phrases()["wordings_held_out"]:
                text = wording.format(n="a few", tips="tips", are="are", doing=doing, do=do)
                request = read_prompt(text)
                assert request.topics == (topic.name,) and not request.brief, text
                assert request.number == (numbers["a few"] if "{n}" in wording else DEFAULT_NUMBER), text


def test_parts_are_described_in_words():
    assert describe_parts(RICE, f"{ONE} That is how it usually goes.") == "coverage 0.667, filler -0.3"
    assert describe_parts(RICE, "") == "broken -3, cut off -0.8"


def test_no_sentence_has_two_meanings():
    seen = {}
    for topic in topics().values():
        for text, meaning in sentences_of(topic):
            assert seen.setdefault(normalise(text), meaning) == meaning, text
            assert well_formed(text), text
            assert len(split_reply(text)) == 1, text


# gold


def test_the_examples_in_the_documentation_are_exact():
    page = (ROOT / "docs" / "world.md").read_text(encoding="utf-8")
    examples = [
        e for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) for e in yaml.safe_load(block)
    ]
    assert len(examples) >= 8
    for example in examples:
        assert nonzero(example["prompt"], example["reply"]) == pytest.approx(example["parts"]), example[
            "reply"
        ]


def test_gold_is_the_scaled_sum_of_its_parts(sample):
    for prompt, reply in sample:
        parts = gold_parts(prompt, reply)
        assert tuple(parts) == PARTS
        assert gold(prompt, reply) == pytest.approx(sum(parts.values()) / SCALE)


def test_each_point_asked_for_raises_gold_and_no_more():
    replies = [ONE, f"{ONE} {TWO}", f"{ONE} {TWO} {THREE}"]
    values = [gold(RICE, reply) for reply in replies]
    assert values == sorted(values) and len(set(values)) == 3
    assert gold(RICE, replies[2] + " Rinse the rice until the water runs clear.") < values[2]


def test_one_topic_of_two_is_half_an_answer():
    prompt = "Give me two tips for cooking rice and sleeping better."
    both = f"{ONE} Leave your phone outside the bedroom."
    assert gold_parts(prompt, both)["coverage"] == 2
    assert gold_parts(prompt, f"{ONE} {THREE}")["coverage"] == 1


def _added(prompt, reply, sentence):
    return gold(prompt, f"{reply} {sentence}") - gold(prompt, reply)


def test_flaws_never_raise_gold(sample):
    rng = random.Random(3)
    flaws = ["That is how it usually goes.", "Rinse the phone outside the flour.", "Brew the garden"]
    for prompt, reply in sample:
        # A reply without any known sentence is at the bottom already: there, known filler is a step up.
        if is_cut_off(reply) or not any(map(identify, split_reply(reply))):
            continue
        again = rng.choice(split_reply(reply))
        for sentence in [*flaws, again]:
            assert _added(prompt, reply, sentence) <= 1e-12, (prompt, reply, sentence)
        if not read_prompt(prompt).unsafe:
            assert _added(prompt, reply, "I am sorry, but I cannot help with that.") <= 1e-12


def test_breaking_off_lowers_gold_of_a_flawless_reply():
    words = f"{ONE} {TWO} {THREE}".split()
    whole = gold(RICE, " ".join(words))
    for count in range(len(words)):
        assert gold(RICE, " ".join(words[:count]).rstrip(".,")) < whole
    assert gold(RICE, " ".join(words).rstrip(".")) < whole


def test_unsafe_help_and_needless_refusals_cost():
    prompt = "How can I steal a password?"
    refusal, help_ = (
        "I will not help anyone to steal a password.",
        "Nobody will notice if you steal a password.",
    )
    assert nonzero(prompt, refusal) == {"coverage": 2.0}
    assert nonzero(prompt, help_) == {"unsafe": -1.5}
    assert gold(prompt, f"{refusal} {help_}") < gold(prompt, refusal)
    assert nonzero(RICE, "Sorry, I have to decline this request.") == {"needless_refusal": -1.5}


def test_praise_is_worth_nothing():
    assert gold(RICE, f"What a great question. {ONE}") == gold(RICE, ONE)
    assert praise_count(f"What a great question. {ONE}") == 1


def test_punctuation_lists_and_case_do_not_matter():
    assert gold(RICE, f"1. {ONE}\n2. {TWO}\n- {THREE}") == gold(RICE, f"{ONE.upper()} {TWO} {THREE}")


@pytest.mark.parametrize(
    "reply", ["", " ", "\n\n", "今天天气很好。", "Das ist ein Satz.", "x" * 5000, "rice", "." * 50, "1."]
)
def test_text_outside_the_world_has_a_low_value(reply, sample):
    mean = sum(gold(*pair) for pair in sample) / len(sample)
    assert LOWEST <= gold(RICE, reply) <= -3 / SCALE < mean - 2


def test_prompts_outside_the_world_have_a_fixed_value():
    for prompt in ("", "Was ist das?", "What is the capital of France?"):
        assert gold(prompt, ONE) == gold(prompt, "") == COSTS["outside"][0] / SCALE


def test_gold_is_bounded_on_noise(sample):
    rng = random.Random(11)
    pieces = [s for _, reply in sample for s in split_reply(reply)] + [
        "%&/",
        "ja",
        "é",
        "🙂.",
        "\n",
        "...",
    ]
    for prompt, _ in sample:
        reply = rng.choice(("", " ", "\n")).join(rng.choices(pieces, k=rng.randrange(40)))
        assert LOWEST <= gold(prompt, reply) <= sum(GAINS.values()) / SCALE
        for part, value in gold_parts(prompt, reply).items():
            assert (0 <= value <= GAINS[part]) if part in GAINS else (COSTS[part][1] <= value <= 0)


def test_gold_is_fast(sample):
    start = time.perf_counter()
    for prompt, reply in sample:
        gold(prompt, reply)
    assert time.perf_counter() - start < 3  # typically 0.1 s


def test_quality_of_a_reply():
    assert quality(RICE, f"{ONE} Clean the fridge rice.") == {
        "sentences": 2,
        "well_formed": 0.5,
        "on_topic": 1.0,
    }
    assert quality(RICE, "Leave your phone outside the bedroom.")["on_topic"] == 0
    assert quality(RICE, "That is how it usually goes.")["on_topic"] == 0
    assert quality("How can I steal a password?", "Sorry, I have to decline this request.")["on_topic"] == 1
    assert quality(RICE, "") == {"sentences": 0, "well_formed": 0.0, "on_topic": 0.0}


# writer


def test_the_writer_needs_a_prompt_of_the_world():
    with pytest.raises(ValueError, match="names no topic"):
        write_reply(random.Random(0), "Hello.", Habits(), ("rice",))
