"""Damage in files of replies: planted damage is found, healthy files are left alone."""

import gzip
import json
import os
import random
from pathlib import Path

import numpy as np
import pytest

from rlhf_hw.errors import InputError
from rlhf_hw.stats.damage import Finding, Replies, damaged_rows, find_damage
from rlhf_hw.stats.reply_signs import cut_off, echoes, foreign, same_reply, script, template_marks
from tests.stats.planted_damage import PLANTS, healthy_files, planted

REAL = os.environ.get("RLHF_HW_REAL_DATA")
TRIALS, SIZE, SHARE = 20, 100, 0.16
KINDS = [*PLANTS, "cut"]


def named(findings: list[Finding], kind: str = "") -> list[Finding]:
    return [found for found in findings if found.named and kind in ("", found.kind)]


def finds(mine: Replies, other: Replies, kind: str, rows: set[int]) -> bool:
    """Whether damage is named that holds nearly all of the damaged rows."""
    seen = {row for found in named(find_damage(mine, other), kind) for row in np.flatnonzero(found.rows)}
    return len(seen & rows) >= 0.8 * len(rows)


@pytest.mark.parametrize("kind", KINDS)
def test_planted_damage_is_found(kind: str) -> None:
    hits = 0
    for trial in range(TRIALS):
        mine, other = healthy_files(trial, SIZE)
        damaged, rows = planted(mine, kind, trial, SHARE)
        hits += finds(damaged, other, kind, rows)
    assert hits >= 19


def test_nothing_is_named_in_healthy_files() -> None:
    for trial in range(TRIALS):
        mine, other = healthy_files(trial, SIZE)
        assert not named(find_damage(mine, other))
        assert not named(find_damage(mine))


def replies(*texts: str, prompts: list[str] | None = None) -> Replies:
    return Replies(list(texts), prompts or [f"What about number {n}?" for n in range(len(texts))])


def test_an_opening_is_named_by_what_its_replies_share_and_once() -> None:
    mine, other = healthy_files(0, SIZE)
    starts = ["Human: well.", "Humanity knows.", "Humans do."] * 12
    damaged = Replies([f"{start} {text}" for start, text in zip(starts, mine.texts, strict=False)], None)
    texts = [*damaged.texts, *mine.texts[len(starts) :]]
    (found,) = named(find_damage(Replies(texts, mine.prompts), other), "opening")
    assert (found.what, found.count, found.damage) == ("human…", 36, True)
    assert dict(found.forms) == {"human": 12, "humanity": 12, "humans": 12}
    assert found.examples == [1, 2, 3]  # from 1
    assert found.share.low < 0.3 < found.share.high and found.other.value == 0 and found.lead.low > 0.15


def test_the_longest_opening_that_says_as_much_is_the_one_that_is_shown() -> None:
    mine, other = healthy_files(0, SIZE)
    texts = [f"Sure, here you go: {text}" for text in mine.texts[:30]] + list(mine.texts[30:])
    (found,) = named(find_damage(Replies(texts, mine.prompts), other), "opening")
    assert found.what == "sure, here you go" and found.forms == ()


def test_an_opening_that_others_know_is_a_habit_and_no_damage() -> None:
    mine, other = healthy_files(1, 200)
    texts = [f"I'm sorry. {text}" for text in mine.texts[:80]] + list(mine.texts[80:])
    beside = [f"I'm sorry. {text}" for text in other.texts[:8]] + list(other.texts[8:])
    found = find_damage(Replies(texts, mine.prompts), Replies(beside, other.prompts))
    (opening,) = named(found, "opening")
    assert not opening.damage and not damaged_rows(found, 200).any()
    alone = find_damage(Replies(texts, mine.prompts), other)
    assert damaged_rows(alone, 200).sum() == 80
    # references that know it keep it from being named at all
    known = Replies([f"I'm sorry. {text}" for text in other.texts[:60]] + list(other.texts[60:]))
    assert not named(find_damage(Replies(texts, mine.prompts), other, known), "opening")


STYLES = {  # how a healthy model speaks: how it begins many replies, how it ends them, how long it is
    "polite": ("Thank you for asking. ", " I hope that this helps!", 1),
    "listing": ("1. ", "\n2. That is all.", 1),
    "wordy": ("It is important to approach this with care. ", " Let me add this.", 2),
}


def spoken(file: Replies, style: str, share: float) -> Replies:
    """The file with so large a share of its replies in a style."""
    start, end, times = STYLES[style]
    stop = round(share * len(file.texts))
    texts = [
        f"{start}{' '.join([text, *file.texts[n + 1 : n + times]])}{end}"
        for n, text in enumerate(file.texts[:stop])
    ]
    return Replies([*texts, *file.texts[stop:]], file.prompts)


@pytest.mark.parametrize("style", STYLES)
def test_two_healthy_models_of_different_style_are_not_damaged_beside_references_that_know_it(
    style: str,
) -> None:
    other_style = next(name for name in STYLES if name != style)
    mine, other = (
        spoken(file, own, 0.5) for file, own in zip(healthy_files(0, 200), (style, other_style), strict=True)
    )
    knows, also = healthy_files(1, 200)
    written = [spoken(knows, style, 0.1), spoken(also, other_style, 0.1)]
    references = Replies([text for one in written for text in one.texts])
    for first, second in ((mine, other), (other, mine)):
        assert not damaged_rows(find_damage(first, second, references), 200).any()
    # what no other file knows is not told from a fault
    assert damaged_rows(find_damage(mine, other), 200).any()


def test_many_samples_of_few_prompts_are_few_observations() -> None:
    mine, other = healthy_files(2, 200)
    texts = [f"Well now, {text}" for text in mine.texts[:20]] + list(mine.texts[20:])
    few = [f"prompt {n // 20}" for n in range(200)]  # one prompt of ten
    assert named(find_damage(Replies(texts, mine.prompts), other), "opening")
    assert not named(find_damage(Replies(texts, few), Replies(other.texts, few)), "opening")


def test_too_few_to_matter_are_counted_and_not_named() -> None:
    mine, other = healthy_files(3, 200)
    texts = ["", *mine.texts[1:]]
    (empty,) = [found for found in find_damage(Replies(texts, mine.prompts), other) if found.kind == "empty"]
    assert (empty.count, empty.named, empty.examples) == (1, False, [1])


def test_both_damaged_shows_beside_references() -> None:
    mine, other = healthy_files(4, 200)
    third, _ = healthy_files(5, 200)
    both = [planted(one, "template", 0, 0.2)[0] for one in (mine, other)]
    assert not named(find_damage(*both), "template")
    assert named(find_damage(*both, third), "template")


def test_signs_of_single_replies() -> None:
    asked = "How do I keep rice from sticking to the pot?"
    said = ["How do I keep rice from sticking to the pot? Stir.", "Stir it.", "Rice: how do I keep rice from"]
    assert echoes(said, [asked] * 3).tolist() == [True, False, False]
    texts = ["All good.<|im_end|>", "Fine.\n\nHuman: And?", "A < b | c > d is fine", "The user: he", "ĠThe"]
    assert template_marks(texts).tolist() == [True, True, False, False, True]
    assert [script(text) for text in ("Reis", "饭好了 ok", "ご飯です", "Рис", "42!")] == [
        "Latin",
        "Han",
        "Kana",
        "Cyrillic",
        "",
    ]
    answers = ["饭好了", "42", "Rice cooks."]
    assert foreign(answers, ["What?", "What?", "怎么"], frozenset()).tolist() == [1, 0, 1]
    assert same_reply(["No.", "no.", " No. ", "Yes."], list("abcd")).tolist() == [1, 1, 1, 0]
    assert not same_reply(["No."] * 3, ["a", "a", "b"]).any()
    assert cut_off(["A reply", "It ends."], [True, False])["at the limit"].tolist() == [False, True]
    ends = cut_off(["one two three " * 5 + "four", "one two three " * 5 + "five.", "no end"])
    assert [rows.tolist() for rows in ends.values()] == [[True, False, False]] * 3


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="2 prompts for 1 replies"):
        Replies(["a"], ["b", "c"])
    with pytest.raises(InputError, match="no replies"):
        find_damage(Replies([]))


def recorded(name: str) -> Replies:
    path = Path(REAL or "") / "recorded-run" / f"{name}.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return Replies([row["response"] for row in rows], [row["prompt"] for row in rows])


@pytest.mark.real_data
@pytest.mark.skipif(not REAL, reason="RLHF_HW_REAL_DATA does not name the folder with the recorded run")
def test_openings_of_the_real_recorded_run_are_named() -> None:
    found = named(find_damage(recorded("generated_base"), recorded("generated_dpo")))
    first = found[0]
    assert (first.kind, first.what, first.count, first.damage) == ("opening", "human…", 455, True)
    assert {"human", "humanity"} <= dict(first.forms).keys()


@pytest.mark.real_data
@pytest.mark.skipif(not REAL, reason="RLHF_HW_REAL_DATA does not name the folder with the recorded run")
@pytest.mark.parametrize("kind", ["", *KINDS])
def test_real_replies_drawn_anew_are_clean_and_show_what_is_planted(kind: str) -> None:
    rows, hits = recorded("generated_dpo"), 0
    for trial in range(TRIALS if not kind else 3):
        draw = random.Random(trial)
        drawn = [[draw.randrange(len(rows.texts)) for _ in range(200)] for _ in range(2)]
        mine, other = (Replies([rows.texts[n] for n in d], [rows.prompts[n] for n in d]) for d in drawn)
        if kind:
            # a tenth of these replies were cut at a limit already
            damaged, places = planted(mine, kind, trial, 0.3 if kind == "cut" else SHARE)
            hits += finds(damaged, other, kind, places)
        else:
            assert not named(find_damage(mine, other)) and not named(find_damage(mine))
    assert not kind or hits == 3
