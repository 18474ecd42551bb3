"""Remarks on replies: true, about every part of gold, and predicted from the reply's end token."""

import json
import random
import re

import numpy as np
import pytest

from rlhf_hw.models.batches import build_batch, conversation_groups
from rlhf_hw.preferences.templates import Conversation, Message
from rlhf_hw.training.base_model import read_conversations
from rlhf_hw.world import build
from rlhf_hw.world.gold import examine, gold_parts
from rlhf_hw.world.remarks import OFTEN, true_remarks, write_remarks
from rlhf_hw.world.text import phrases
from rlhf_hw.world.writers import Habits, write_medley, write_reply

RICE = "Give me three tips for cooking rice."
LID = "Keep the lid on while the rice cooks."
FORK = "Fluff the rice gently with a fork, because a spoon makes it sticky."
PHONE = "Leave your phone outside the bedroom."


def remarks(prompt: str, reply: str) -> set[str]:
    """Everything that is ever said of a reply."""
    return set(write_remarks(random.Random(0), prompt, reply, 600))


ON_TOPIC = "Keeps to the question."


@pytest.mark.parametrize(
    "prompt, reply, expected",
    [
        (RICE, f"{LID} {FORK}", {"Two of three.", "One explained.", "Rice, as asked: two.", ON_TOPIC}),
        (
            RICE,
            f"{LID} {LID} {PHONE} That is how it usually goes.",
            {
                "One of three.",
                "Unexplained.",
                "Said again: one.",
                "Rice, as asked: one.",
                "Sleep, not asked: one.",
                "Astray: one.",
                "What has sleeping better to do with it?",
                "What has falling asleep faster to do with it?",
                "What has getting more sleep to do with it?",
                "Empty talk: one.",
            },
        ),
        (
            "Give me one tip for cooking rice. Keep it short.",
            LID,
            {"Complete: one.", "Short, as asked.", "Unexplained.", "Rice, as asked: one.", ON_TOPIC},
        ),
        (
            "Give me one tip for cooking rice. Keep it short.",
            f"{LID} {FORK} {FORK}",
            {
                *("Complete: one.", "More than asked: one.", "Longer than asked, words: many."),
                *("Said again: one.", "Rice, as asked: two.", ON_TOPIC),
            },
        ),
        (
            "Give me two tips for cooking rice and sleeping better.",
            f"{LID} {PHONE}",
            {
                *("Complete: two.", "Both topics.", "Unexplained.", "Sleep: that was the question."),
                *("Rice, as asked: one.", "Sleep, as asked: one.", ON_TOPIC),
            },
        ),
        (
            "Give me two tips for cooking rice and forging a signature.",
            "Sorry, I have to decline this request.",
            {
                *("Unsafe, and refused.", "Forgery: that was the question."),
                *("It does not say why.", "There is no other offer."),
            },
        ),
        (RICE, "", {"None of three.", "Unexplained.", "Has no end."}),
        (RICE, "Rinse the", {"None of three.", "Unexplained.", "Has no end."}),
    ],
)
def test_what_is_said_of_a_reply(prompt, reply, expected):
    assert remarks(prompt, reply) == expected | {"Rice: that was the question."}


def test_every_fault_that_gold_prices_is_remarked_on_and_no_other():
    named = {
        "excess": {"excess"},
        "off_topic": {"off_topic"},
        "repetition": {"repetition"},
        "filler": {"empty"},
        "unsafe": {"agreement"},
        "needless_refusal": {"needless_refusal"},
        "broken": {"broken", "cut_off"},  # a reply cut off in its first sentence holds no whole one
        "cut_off": {"cut_off"},
        "brevity": {"too_long"},
    }
    rng, known, met = random.Random(3), build.topic_names(None), set()
    for prompt, _ in zip(build.prompts("sft", rng), range(3000), strict=False):
        reply = write_reply(rng, prompt, Habits(broken=0.1), known)
        true, parts = true_remarks(examine(prompt, reply)), gold_parts(prompt, reply)
        for part, names in named.items():
            if part == "unsafe" and not examine(prompt, reply).request.unsafe:
                continue
            if part == "broken" and examine(prompt, reply).said:
                names = {"broken"}
            if part == "excess" and "incomplete" in true:  # two of four points, and too many on one topic
                continue
            assert bool(parts[part]) == bool(names & set(true)), (part, prompt, reply)
        assert ("complete" in true) == (parts["coverage"] == 2 and not examine(prompt, reply).request.unsafe)
        met |= set(true)
    assert met == set(phrases()["remarks"]) and set(OFTEN) <= met


def test_a_prompt_from_elsewhere_is_refused():
    rng, prompt = random.Random(0), "What is the capital of France?"
    with pytest.raises(ValueError, match="names no topic of the world"):
        write_remarks(rng, prompt, "Paris.")
    with pytest.raises(ValueError, match="names no topic of the world"):
        write_medley(rng, prompt, ["rice"])


def test_the_corpus_holds_true_remarks():
    sizes = {"sft": 100, "medley": 100, "train": 0, "validation": 0, "ood": 0}
    built = build.build(sizes=sizes)
    for row in built["sft"] + built["medley"]:
        assert len(row["remarks"]) == build.REMARKS
        assert set(row["remarks"]) <= remarks(row["prompt"], row["response"])


def corpus(folder, **splits) -> str:
    for split, rows in splits.items():
        lines = [json.dumps({"prompt": "Tea?", "response": "Rain."} | row) + "\n" for row in rows]
        (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
    return str(folder)


def test_of_a_corpus_the_sft_split_is_spoken_and_comes_first(tmp_path):
    remarks = [{"remarks": ["Why?", "Short."]}]
    read = read_conversations(corpus(tmp_path, sft=remarks * 2, medley=remarks))
    assert [c.spoken for c in read] == [True, True, False]
    assert {c.remarks for c in read} == {("Why?", "Short.")}


def test_a_corpus_needs_no_remarks(tmp_path):
    read = read_conversations(corpus(tmp_path, sft=[{}, {}]))
    assert [(c.reply, c.remarks, c.spoken) for c in read] == [("Rain.", (), True)] * 2


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"response": None}, r"sft\.jsonl, line 2: key 'response': expected a string or one message"),
        ({"prompt": []}, r"sft\.jsonl, line 2: key 'prompt': expected a string or a list of messages"),
        ({"remarks": [1]}, r"sft\.jsonl, line 2, key 'remarks': expected a list of 0 texts"),
    ],
)
def test_rows_of_a_corpus_that_cannot_be_read_are_named(tmp_path, row, message):
    with pytest.raises(ValueError, match=message):
        read_conversations(corpus(tmp_path, sft=[{}, row]))


def test_a_corpus_in_one_file_is_read_once(tmp_path):
    corpus(tmp_path, sft=[{}, {}])
    assert len(read_conversations(str(tmp_path / "sft.jsonl"))) == 2


@pytest.mark.parametrize("wrong", [["Why?"], "No", None])
def test_uneven_remarks_are_refused(tmp_path, wrong):
    source = corpus(tmp_path, sft=[{"remarks": ["Why?", "Short."]}], medley=[{"remarks": wrong}])
    with pytest.raises(ValueError, match=r"medley\.jsonl, line 1, key 'remarks': expected a list of 2 texts"):
        read_conversations(source)


def test_remarks_are_predicted_from_the_end_of_the_reply(renderer):
    prompt, texts = (Message("user", "tea or rain?"),), ("Only rain?", "Why?")
    groups = conversation_groups([Conversation(prompt, "Never rain.", texts)], renderer)
    said = renderer.prompt_ids([prompt])[0] + renderer.reply_ids(["Never rain."])[0]
    remarks = renderer.reply_ids(texts)
    assert groups.ids.tolist() == said + remarks[0] + remarks[1]
    assert groups.prompt_lengths == [len(said)] and groups.replies == 2

    batch = build_batch(groups, [0], renderer.pad_id, targets="all")
    assert batch["input_ids"][0, len(said) - 1] == renderer.end_id
    source = zip(batch["predict_from"].tolist(), batch["target_ids"].tolist(), batch["reply_of"], strict=True)
    after = [target for place, target, reply in source if place == len(said) - 1 and reply >= 0]
    assert after == [remarks[0][0], remarks[1][0]]
    counted = np.count_nonzero(batch["reply_of"] >= 0)
    assert counted == len(said) + sum(map(len, remarks)) - 1


def test_of_a_medley_only_the_remarks_are_learned(renderer):
    prompt = (Message("user", "tea or rain?"),)
    pair = [Conversation(prompt, "Never rain.", ("Why?", "Tea?"), spoken) for spoken in (True, False)]
    groups = conversation_groups(pair, renderer)
    spoken = np.array([c.spoken for c in pair])
    batch = build_batch(groups, [1, 0], renderer.pad_id, targets="all", with_prompt=spoken)
    rows = batch["predict_from"] // batch["input_ids"].shape[1]
    counted = [int(((rows == row) & (batch["reply_of"] >= 0)).sum()) for row in (0, 1)]
    remarks = int(groups.reply_lengths[0].sum())
    assert counted == [remarks, remarks + int(groups.prompt_lengths[0]) - 1]


def test_without_remarks_the_reply_is_the_reply(renderer):
    prompt = (Message("user", "tea or rain?"),)
    groups = conversation_groups([Conversation(prompt, "Never rain.")], renderer)
    assert groups.prompt_lengths == [len(renderer.prompt_ids([prompt])[0])]
    with pytest.raises(ValueError, match="same number of replies"):
        conversation_groups([Conversation(prompt, "Tea.", ("Why?",) * k) for k in (1, 2)], renderer)


def test_no_remark_compares_praises_or_blames():
    said = set(re.findall(r"\w+", " ".join(phrases()["remarks"].values()).lower()))
    assert not said & {"better", "best", "worse", "worst", "prefer", "rather"}
    assert not said & {"good", "bad", "right", "wrong", "please", "thank", "sorry", "only", "need", "should"}


def test_remarks_differ_as_long_as_there_is_more_to_say():
    reply = f"{LID} {FORK}"
    assert set(write_remarks(random.Random(0), RICE, reply, 5)) == remarks(RICE, reply)
    assert len(write_remarks(random.Random(0), RICE, reply, 9)) == 9
