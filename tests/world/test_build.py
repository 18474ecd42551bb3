"""The data files of the simulated world: what the seed gives, no leakage, and what the data card states."""

import gzip
import json
import random
import re

import numpy as np
import pytest

from rlhf_hw.errors import UnknownName
from rlhf_hw.models.generation import generate
from rlhf_hw.models.loading import load_policy
from rlhf_hw.models.rendering import Renderer
from rlhf_hw.paths import DATA
from rlhf_hw.preferences.reading import load_preferences
from rlhf_hw.preferences.templates import Message, Preference
from rlhf_hw.stats.baselines import bag_of_words_margins
from rlhf_hw.world import build
from rlhf_hw.world.annotators import best_possible_accuracy
from rlhf_hw.world.gold import GAINS, SCALE, examine, gold
from rlhf_hw.world.text import identify, read_prompt, split_reply, topics
from rlhf_hw.world.writers import Habits, write_prompt, write_reply


def read(split: str, folder: str = "nano") -> list[dict]:
    with gzip.open(DATA / folder / f"{split}.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


@pytest.fixture(scope="module")
def built() -> dict[str, list[dict]]:
    return build.build()


@pytest.fixture(scope="module")
def hard(built) -> dict[str, list[dict]]:
    return build.build_hard(build.prompts_of(built))


def gold_gaps(rows: list[dict]) -> np.ndarray:
    return np.array([abs(row["metadata"]["gold_1"] - row["metadata"]["gold_2"]) for row in rows])


def test_the_vocabulary_is_moderate(built):
    words = set()
    for row in built["sft"] + built["medley"]:
        words.update(re.findall(r"[A-Za-z']+", " ".join([row["prompt"], row["response"], *row["remarks"]])))
    assert len(words) < 2500


def test_prompts_and_replies_keep_to_their_lengths(built):
    assert all(4 <= len(row["prompt"].split()) <= 35 for row in built["sft"])
    lengths = sorted(len(row["response"].split()) for row in built["sft"])
    assert lengths[0] >= 2 and lengths[len(lengths) // 20] >= 9 and lengths[-len(lengths) // 20] <= 75
    assert write_prompt(random.Random(0), ("rice", "sleep")).count(" and ") >= 1


def test_the_files_are_what_the_seed_gives(built, hard):
    for folder, splits, sizes in (("nano", built, build.SIZES), ("hard", hard, build.HARD_SIZES)):
        recorded = json.loads((DATA / folder / "checksums.json").read_text(encoding="utf-8"))
        assert build.checksums(splits) == recorded, "run: make data"
        for split, rows in splits.items():
            assert read(split, folder) == rows
        assert {split: len(rows) for split, rows in splits.items()} == sizes


def test_the_easy_files_are_those_from_before_there_were_hard_ones(built):
    """Every figure rests on them: a change here is one of the whole project."""
    sums = build.checksums(built)
    assert sums["train"] == "0c5e2eb1d786042e15eaa42954caee5e915af1f9278bcbb0601ae0015f7f062f"
    assert sums["validation"] == "91e353c00f2437c086614d50a63963946fecf55a9a21b4ba622470902720bf69"
    assert sums["sft"] == "f74516b3b11720592f0a6b43801396af1f461c057a65849b80cd310a4c0c1c66"


def test_the_data_card_states_the_figures_of_the_data(built, hard):
    card = (DATA / "README.md").read_text(encoding="utf-8")
    stated = {
        key: float(value)
        for key, value in re.findall(r"^\| `([\w.]+)` \| (-?\d+\.\d+) \|", card, re.MULTILINE)
    }
    assert stated == {key: round(value, 3) for key, value in build.describe(built, hard).items()}


def test_another_seed_gives_other_data_and_the_same_seed_the_same():
    sizes = {"sft": 20, "medley": 20, "train": 20, "validation": 10, "ood": 10}
    first, again, other = (build.checksums(build.build(seed, sizes)) for seed in (1, 1, 2))
    assert first == again and all(first[split] != other[split] for split in sizes)
    hard = build.build(1, sizes, setting="hard")
    assert [row["question"] for row in hard["train"]] == [
        row["question"] for row in build.build(1, sizes)["train"]
    ]
    assert gold_gaps(hard["train"]).mean() < gold_gaps(build.build(1, sizes)["train"]).mean()
    with pytest.raises(UnknownName, match="easy, hard"):
        build.build(1, sizes, setting="medium")


def test_nothing_leaks_between_the_splits(built, hard):
    questions = {split: [row["question"] for row in built[split]] for split in ("train", "validation", "ood")}
    questions |= {f"hard/{split}": [row["question"] for row in rows] for split, rows in hard.items()}
    everything = [question for rows in questions.values() for question in rows]
    assert len(set(everything)) == len(everything)
    corpus = {row["prompt"] for row in built["sft"] + built["medley"]}
    assert not set(everything) & corpus

    def combinations(rows):
        asked = [frozenset(read_prompt(question).topics) for question in rows]
        return {names for names in asked if len(names) > 1}

    elsewhere = combinations([*questions["train"], *questions["hard/train"], *corpus])
    for split in ("validation", "hard/validation"):
        assert combinations(questions[split]) and not combinations(questions[split]) & elsewhere


def test_out_of_distribution_topics_are_in_no_other_comparison(built, hard):
    kept_out = {topic.name for topic in topics().values() if topic.ood}
    for split in ("train", "validation"):
        for row in built[split] + hard[split]:
            said = [identify(s) for k in (1, 2) for s in split_reply(row[f"response_{k}"])]
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
    facts = build.describe(built, {})
    assert 0.8 < facts["sft.gold.sd"] < 1.25
    assert facts["sft.gold.mean"] < sum(GAINS.values()) / SCALE - 1.8
    mean_length = sum(lengths) / len(rows)
    sd_length = (sum((n - mean_length) ** 2 for n in lengths) / len(rows)) ** 0.5
    covariance = sum(
        (v - facts["sft.gold.mean"]) * (n - mean_length) for v, n in zip(values, lengths, strict=True)
    )
    assert 0.2 < covariance / len(rows) / sd_length / facts["sft.gold.sd"] < 0.4
    assert 0.55 < facts["train.longer_wins"] < 0.68


def test_in_a_medley_faults_do_not_go_together(built):
    """In what writers write, who leaves the topic gives fewer reasons and pads more; here nobody does."""

    def with_off_topic(rows):
        """Correlations of the share of off-topic points with the share of explained ones, and with filler."""
        found = [f for f in (examine(row["prompt"], row["response"]) for row in rows) if f]
        points = [[s for s in f.said if s.kind == "point"] for f in found]
        kept = [(f, said) for f, said in zip(found, points, strict=True) if said and not f.request.unsafe]
        off_topic = [len(f.off_topic) / len(said) for f, said in kept]
        explained = [sum(s.explained for s in said) / len(said) for _, said in kept]
        return np.corrcoef([off_topic, explained, [f.empty for f, _ in kept]])[0, 1:]

    assert max(abs(with_off_topic(built["medley"][:4000]))) < 0.05
    reasons, filler = with_off_topic(built["sft"][:4000])
    assert reasons < -0.15 and filler > 0.1


def test_a_comparison_is_between_a_hasty_and_a_careful_writer(built):
    rows = built["train"][:3000]
    assert 0.05 < (gold_gaps(rows) * SCALE < 0.5).mean() < 0.1
    preferences = [
        Preference((Message("user", row["question"]),), row["response_1"], row["response_2"], row=i)
        for i, row in enumerate(rows[:300])
    ]
    replies = build.more_replies(preferences, 4, seed=1)
    assert replies == build.more_replies(preferences, 4, seed=1) != build.more_replies(preferences, 4)
    hasty, careful = (
        [
            gold(p.question, text)
            for p, texts in zip(preferences, replies, strict=True)
            for text in texts[k::2]
        ]
        for k in (0, 1)
    )
    assert sum(careful) / len(careful) > sum(hasty) / len(hasty) + 0.8


def test_a_hard_comparison_is_between_two_replies_of_the_writer_of_the_corpus(built, hard):
    """Its two replies are as far apart as any two he gives to one prompt, and as good."""
    rng, known = random.Random(5), build.topic_names(False)
    replies = [
        [gold(q, write_reply(rng, q, build.SFT_HABITS, known)) for _ in range(2)]
        for q in (row["question"] for row in hard["train"][:3000])
    ]
    his, gaps = np.array(replies), gold_gaps(hard["train"])
    spread = np.abs(his[:, 0] - his[:, 1])
    assert abs(np.median(gaps) - np.median(spread)) < 0.06 and abs(gaps.mean() - spread.mean()) < 0.06
    both = np.array([[row["metadata"][f"gold_{k}"] for k in (1, 2)] for row in hard["train"]])
    assert abs(both.mean() - his.mean()) < 0.05 and abs(both[:, 0].mean() - both[:, 1].mean()) < 0.06
    assert np.median(gaps) < 0.5 * np.median(gold_gaps(built["train"]))
    annotators = {row["metadata"]["annotator"] for row in built["train"]}
    assert {row["metadata"]["annotator"] for row in hard["train"]} == annotators


def test_two_samples_of_the_base_model_differ_as_the_replies_of_a_hard_comparison(built, hard):
    """The rule of the hard setting; the easy pairs are more than 1.5 times as far apart."""
    asked, _ = load_preferences(str(DATA / "hard"), "HOMEWORK", "validation", 128)
    folder = DATA / "base-model"
    replies = generate(
        load_policy(folder), Renderer.load(folder), [p.prompt for p in asked], samples=2, max_new_tokens=120
    )
    values = np.array([gold(asked[i // 2].question, r.text) for i, r in enumerate(replies)]).reshape(-1, 2)
    spread = np.abs(values[:, 0] - values[:, 1]).mean()
    assert 0.8 < gold_gaps(hard["validation"]).mean() / spread < 1.25
    assert gold_gaps(built["validation"]).mean() / spread > 1.5


def test_words_alone_do_not_decide_a_comparison(built):
    train, _ = load_preferences(str(DATA / "nano"), "HOMEWORK", "train", 3000)
    held_out, _ = load_preferences(str(DATA / "nano"), "HOMEWORK", "validation")
    sides = (
        [getattr(p, side) for p in part] for part in (train, held_out) for side in ("chosen", "rejected")
    )
    margins = bag_of_words_margins(*sides)
    best = best_possible_accuracy(row["metadata"]["probability"] for row in built["validation"])
    assert 0.7 < (margins > 0).mean() < best - 0.08


def test_prompts_and_the_corpus_do_not_depend_on_the_habits_of_the_writers(built, monkeypatch):
    sizes = {"sft": 50, "medley": 30, "train": 40, "validation": 30, "ood": 20}
    before = build.build(sizes=sizes)
    monkeypatch.setitem(build.WRITERS, "easy", (Habits(), Habits(most_care=0.1)))
    after = build.build(sizes=sizes)
    assert after["sft"] == before["sft"] and after["medley"] == before["medley"]
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
