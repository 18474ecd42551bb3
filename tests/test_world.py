"""The simulated world: gold on worked examples, its monotonicity and bounds, and the data files."""

import gzip
import json
import random
import re
import time

import pytest
import yaml

from rlhf_hw import world, world_data, world_text
from rlhf_hw.paths import DATA, ROOT
from rlhf_hw.replies import Habits, write_prompt, write_reply
from rlhf_hw.templates import Message, Preference
from rlhf_hw.world import COSTS, GAINS, PARTS, SCALE, gold, gold_parts, quality
from rlhf_hw.world_text import identify, phrases, read_prompt, split_sentences, topics

RICE = "Give me three tips for cooking rice."
ONE = "Keep the lid on while the rice cooks."
TWO = "Try to add a pinch of salt to the rice water, because plain rice tastes flat."
THREE = "Third, you should fluff the rice gently with a fork."


def nonzero(prompt: str, reply: str) -> dict[str, float]:
    return {part: value for part, value in gold_parts(prompt, reply).items() if value}


def read(split: str) -> list[dict]:
    with gzip.open(DATA / "nano" / f"{split}.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


@pytest.fixture(scope="module")
def built() -> dict[str, list[dict]]:
    return world_data.build()


@pytest.fixture(scope="module")
def sample() -> list[tuple[str, str]]:
    rng = random.Random(7)
    known = world_data.topic_names(None)
    stream = world_data.prompts("sft", rng)
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
                assert request.number == (
                    numbers["a few"] if "{n}" in wording else world_text.DEFAULT_NUMBER
                ), text


def test_parts_are_described_in_words():
    assert world.describe_parts(RICE, f"{ONE} That is how it usually goes.") == "coverage 0.667, filler -0.3"
    assert world.describe_parts(RICE, "") == "broken -3, cut off -0.8"


def test_no_sentence_has_two_meanings():
    seen = {}
    for topic in topics().values():
        for text, meaning in world_text.sentences_of(topic):
            assert seen.setdefault(world_text.normalise(text), meaning) == meaning, text
            assert world_text.well_formed(text), text
            assert len(split_sentences(text)) == 1, text


def test_the_vocabulary_is_moderate(built):
    words = set()
    for row in built["sft"]:
        words.update(re.findall(r"[A-Za-z']+", row["prompt"] + " " + row["response"]))
    assert len(words) < 2500


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
        if world_text.is_cut_off(reply) or not any(map(identify, split_sentences(reply))):
            continue
        again = rng.choice(split_sentences(reply))
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
    assert world.praise_count(f"What a great question. {ONE}") == 1


def test_punctuation_lists_and_case_do_not_matter():
    assert gold(RICE, f"1. {ONE}\n2. {TWO}\n- {THREE}") == gold(RICE, f"{ONE.upper()} {TWO} {THREE}")


@pytest.mark.parametrize(
    "reply", ["", " ", "\n\n", "今天天气很好。", "Das ist ein Satz.", "x" * 5000, "rice", "." * 50, "1."]
)
def test_text_outside_the_world_has_a_low_value(reply, sample):
    mean = sum(gold(*pair) for pair in sample) / len(sample)
    assert world.LOWEST / SCALE <= gold(RICE, reply) <= -3 / SCALE < mean - 2


def test_prompts_outside_the_world_have_a_fixed_value():
    for prompt in ("", "Was ist das?", "What is the capital of France?"):
        assert gold(prompt, ONE) == gold(prompt, "") == COSTS["outside"][0] / SCALE


def test_gold_is_bounded_on_noise(sample):
    rng = random.Random(11)
    pieces = [s for _, reply in sample for s in split_sentences(reply)] + [
        "%&/",
        "ja",
        "é",
        "🙂.",
        "\n",
        "...",
    ]
    for prompt, _ in sample:
        reply = rng.choice(("", " ", "\n")).join(rng.choices(pieces, k=rng.randrange(40)))
        assert world.LOWEST / SCALE <= gold(prompt, reply) <= world.HIGHEST / SCALE
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


# writer and data


def test_the_writer_needs_a_prompt_of_the_world():
    with pytest.raises(ValueError, match="names no topic"):
        write_reply(random.Random(0), "Hello.", Habits(), ("rice",))


def test_prompts_and_replies_keep_to_their_lengths(built):
    assert all(4 <= len(row["prompt"].split()) <= 35 for row in built["sft"])
    lengths = sorted(len(row["response"].split()) for row in built["sft"])
    assert lengths[0] >= 2 and lengths[len(lengths) // 20] >= 9 and lengths[-len(lengths) // 20] <= 75
    assert write_prompt(random.Random(0), ("rice", "sleep")).count(" and ") >= 1


def test_the_files_are_what_the_seed_gives(built):
    recorded = json.loads((DATA / "nano" / "checksums.json").read_text(encoding="utf-8"))
    assert world_data.checksums(built) == recorded, "run: python -m rlhf_hw.world_data --out data/nano"
    for split, rows in built.items():
        assert read(split) == rows
    assert {split: len(rows) for split, rows in built.items()} == world_data.SIZES


def test_the_data_card_states_the_figures_of_the_data(built):
    card = (DATA / "README.md").read_text(encoding="utf-8")
    stated = {
        key: float(value)
        for key, value in re.findall(r"^\| `([\w.]+)` \| (-?\d+\.\d+) \|", card, re.MULTILINE)
    }
    assert stated == {key: round(value, 3) for key, value in world_data.describe(built).items()}


def test_another_seed_gives_other_data_and_the_same_seed_the_same():
    sizes = {"sft": 20, "train": 20, "validation": 10, "ood": 10}
    first, again, other = (world_data.checksums(world_data.build(seed, sizes)) for seed in (1, 1, 2))
    assert first == again and all(first[split] != other[split] for split in sizes)


def test_nothing_leaks_between_the_splits(built):
    questions = {split: [row["question"] for row in built[split]] for split in ("train", "validation", "ood")}
    everything = [question for rows in questions.values() for question in rows]
    assert len(set(everything)) == len(everything)
    assert not set(everything) & {row["prompt"] for row in built["sft"]}

    def combinations(rows):
        asked = [frozenset(read_prompt(question).topics) for question in rows]
        return {names for names in asked if len(names) > 1}

    elsewhere = combinations(questions["train"] + [row["prompt"] for row in built["sft"]])
    assert combinations(questions["validation"]) and not combinations(questions["validation"]) & elsewhere


def test_out_of_distribution_topics_are_in_no_other_comparison(built):
    kept_out = {topic.name for topic in topics().values() if topic.ood}
    for split in ("train", "validation"):
        for row in built[split]:
            said = [identify(s) for k in (1, 2) for s in split_sentences(row[f"response_{k}"])]
            named = {sentence.topic for sentence in said if sentence} | set(
                read_prompt(row["question"]).topics
            )
            assert not named & kept_out
    assert {name for row in built["ood"] for name in read_prompt(row["question"]).topics} == kept_out
    assert kept_out <= {name for row in built["sft"] for name in read_prompt(row["prompt"]).topics}


def test_replies_leave_headroom_and_are_a_little_longer_when_better(built):
    rows = built["sft"]
    values = [gold(row["prompt"], row["response"]) for row in rows]
    lengths = [len(row["response"].split()) for row in rows]
    facts = world_data.describe(built)
    assert 0.8 < facts["sft.gold.sd"] < 1.25
    assert facts["sft.gold.mean"] < world.HIGHEST / SCALE - 1.8
    mean_length = sum(lengths) / len(rows)
    sd_length = (sum((n - mean_length) ** 2 for n in lengths) / len(rows)) ** 0.5
    covariance = sum(
        (v - facts["sft.gold.mean"]) * (n - mean_length) for v, n in zip(values, lengths, strict=True)
    )
    assert 0.2 < covariance / len(rows) / sd_length / facts["sft.gold.sd"] < 0.4
    assert 0.55 < facts["train.longer_wins"] < 0.68


def test_a_comparison_is_between_a_hasty_and_a_careful_writer(built):
    rows = built["train"][:3000]
    gaps = [abs(row["metadata"]["gold_1"] - row["metadata"]["gold_2"]) * SCALE for row in rows]
    assert 0.15 < sum(gap < 0.5 for gap in gaps) / len(gaps) < 0.25
    preferences = [
        Preference((Message("user", row["question"]),), row["response_1"], row["response_2"], row=i)
        for i, row in enumerate(rows[:300])
    ]
    replies = world_data.more_replies(preferences, 4, seed=1)
    assert (
        replies == world_data.more_replies(preferences, 4, seed=1) != world_data.more_replies(preferences, 4)
    )
    hasty, careful = (
        [
            gold(p.question, text)
            for p, texts in zip(preferences, replies, strict=True)
            for text in texts[k::2]
        ]
        for k in (0, 1)
    )
    assert sum(careful) / len(careful) > sum(hasty) / len(hasty) + 0.8


def test_prompts_and_the_corpus_do_not_depend_on_the_habits_of_the_writers(built, monkeypatch):
    sizes = {"sft": 50, "train": 40, "validation": 30, "ood": 20}
    before = world_data.build(sizes=sizes)
    monkeypatch.setattr(world_data, "WRITERS", (Habits(), Habits(most_care=0.1)))
    after = world_data.build(sizes=sizes)
    assert after["sft"] == before["sft"]
    for split in ("train", "validation", "ood"):
        assert [row["question"] for row in after[split]] == [row["question"] for row in before[split]]
        assert after[split] != before[split]


def test_the_comparisons_load_with_their_metadata(built):
    from datasets import load_dataset

    rows = load_dataset("json", data_files=str(DATA / "nano" / "validation.jsonl.gz"), split="train")
    assert rows[0] == built["validation"][0]
    assert all(
        row["response_1"] != row["response_2"] and row["overall_response"] in (1, 2) for row in built["train"]
    )
