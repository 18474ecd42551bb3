"""Judges whose prices of length and of kind are known: the parts must come out as they were put in."""

import json
import shutil
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from earlier_replies import earlier_folder, planted_judge

from rlhf_hw.errors import InputError
from rlhf_hw.experiments.earlier_run.gap_parts import CONTRASTS, gap_parts
from rlhf_hw.experiments.earlier_run.judged_replies import (
    GENERATED,
    cut_replies,
    read_earlier,
    read_judges,
    write_cut,
)
from rlhf_hw.experiments.earlier_run.reply_forms import KINDS, cut_to_words, forms_of
from rlhf_hw.experiments.earlier_run.riddle import solve_riddle
from rlhf_hw.experiments.earlier_run.telling import (
    find_earlier,
    judge_table,
    part_rows,
    reach_table,
    read_kept_riddle,
    shares_table,
    sides_table,
    source_table,
)
from rlhf_hw.figures.earlier_run import riddle_at_a_look, sign_and_slope
from rlhf_hw.files import write_json
from rlhf_hw.preferences.score_files import read_replies, write_scores
from rlhf_hw.stats.text import words

PRICE, KIND, EXTRA = 0.02, 1.0, -0.3  # points a word, a list, a reply of DPO; of the judge of helpful pairs


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """The run's folder, with the replies that are cut to equal length."""
    folder = earlier_folder(tmp_path_factory.mktemp("earlier") / "run")
    write_cut(read_earlier(folder), folder)
    return folder


@pytest.fixture(scope="module")
def scores(run: Path) -> Path:
    """Two kinds of judges with opposite prices, two seeds each."""
    folder = run.parent / "scores"
    for seed in range(2):
        planted_judge(folder / f"plain/helpful-{seed}", run, PRICE, KIND, EXTRA, seed=seed)
        planted_judge(folder / f"plain/harmless-{seed}", run, -PRICE, -KIND, -EXTRA, seed=10 + seed)
    return folder


@pytest.fixture(scope="module")
def replies(run: Path) -> pd.DataFrame:
    return read_earlier(run)


@pytest.fixture(scope="module")
def found(replies: pd.DataFrame, scores: Path):
    return solve_riddle(replies, read_judges(scores, replies))


def scale(folder: Path, kind: str) -> float:
    """The standard deviation in which a judge's scores are told, averaged over seeds as they are."""
    tables = [read_replies(p / "replies_test_base.jsonl") for p in sorted(folder.glob(f"plain/{kind}-*"))]
    return 1 / np.mean([1 / np.std(table["score"].to_numpy()) for table in tables])


def moved(replies: pd.DataFrame, contrast: str, column: str) -> float:
    """By how much a column's means differ between the two sides of a contrast."""
    means = replies.groupby("source")[column].mean()
    first, second = CONTRASTS[contrast]
    return sum(w * means[s] for s, w in first.items()) - sum(w * means[s] for s, w in second.items())


@pytest.mark.parametrize("contrast", CONTRASTS)
@pytest.mark.parametrize("kind, way", [("helpful", 1), ("harmless", -1)])
def test_length_kind_and_rest_come_out_as_they_were_put_in(found, replies, scores, contrast, kind, way):
    parts, unit = found.parts["plain", kind][contrast], scale(scores, kind)
    planted = {
        "length": way * PRICE * moved(replies, contrast, "words") / unit,
        "list": way * KIND * moved(replies, contrast, "list") / unit,
    }
    for name, truth in planted.items():
        assert parts[name].value == pytest.approx(truth, abs=0.03), name
        assert parts[name].prompts.low - 0.02 < truth < parts[name].prompts.high + 0.02
    assert parts["kind"].value == pytest.approx(sum(parts[name].value for name in KINDS))
    summed = parts["length"].value + parts["kind"].value + parts["rest"].value
    assert summed == pytest.approx(parts["gap"].value)
    if contrast.startswith("dpo_base"):
        assert parts["rest"].value == pytest.approx(way * EXTRA / unit, abs=0.05)
        assert parts["rest_across"].value == pytest.approx(way * EXTRA / unit, abs=0.3)  # prompts differ


def test_what_is_to_be_explained_lends_itself_to_no_price(replies):
    """A bonus for all of DPO's replies, which are shorter, is no price of length: it is rest."""
    bonus = 5.0 * replies["source"].str.endswith("DPO").to_numpy()
    noise = 0.1 * np.random.default_rng(0).normal(size=len(replies))
    parts = gap_parts(bonus + noise, replies)["dpo_base_test"]
    assert parts["gap"].value == pytest.approx(5, abs=0.1) == parts["rest"].value
    assert abs(parts["length"].value) < 0.05 and abs(parts["kind"].value) < 0.05
    assert parts["gap"].trainings is None  # a single judge says nothing of others


def test_intervals_are_over_prompts_and_over_judges(found):
    numbers = found.metrics
    for key in (
        "dpo_base_test.length",
        "own.slope",
        "own.foretold.base_pairs",
        "test.win_rate",
        "own.accuracy",
    ):
        ends = [numbers[f"earlier.plain.helpful.{key}{end}"] for end in ("_low", "_high")]
        over = [numbers[f"earlier.plain.helpful.{key}_trainings{end}"] for end in ("_low", "_high")]
        assert ends[0] < numbers[f"earlier.plain.helpful.{key}"] < ends[1] and over[0] <= over[1]


def test_own_pairs_foretell_the_part_of_length_and_hold_no_such_replies(found, scores, replies):
    numbers = {k.removeprefix("earlier.plain.helpful.own."): v for k, v in found.metrics.items()}
    unit = scale(scores, "helpful")
    assert numbers["slope"] == pytest.approx(100 * PRICE / unit, rel=0.05)
    truth = PRICE * moved(replies, "base_pairs", "words") / unit
    assert numbers["foretold.base_pairs"] == pytest.approx(truth, rel=0.15)
    assert numbers["as_long"] == 0 and numbers["base_test_beyond"] == 1
    assert numbers["pairs"] == 60 and numbers["words_rare"] < 60


def test_sign_and_win_rate_go_with_the_price_of_length(found):
    signs, numbers = found.signs, found.metrics
    assert list(signs["kind"]) == ["harmless"] * 2 + ["helpful"] * 2
    assert ((signs["slope"] > 0) == (signs["difference"] < 0)).all()
    assert numbers["earlier.signs.agree"] == numbers["earlier.signs.judges"] == 4
    assert numbers["earlier.signs.below"] == 2 and numbers["earlier.signs.correlation"] < -0.5
    claims = found.claims
    assert claims["earlier_plain_helpful_test_dpo_below"] and claims["earlier_plain_harmless_test_dpo_above"]
    assert claims["earlier_some_test_dpo_below"] and not claims["earlier_all_test_dpo_below"]
    assert claims["earlier_plain_helpful_pays_for_length"] and claims["earlier_some_charges_for_length"]


def test_the_rest_has_a_side_of_its_own_beside_length_and_kind(found):
    """Planted against DPO by the judge of helpful pairs and for it by the other."""
    for which in ("test", "train"):
        assert found.claims[f"earlier_plain_helpful_{which}_rest_below"]
        assert found.claims[f"earlier_plain_harmless_{which}_rest_above"]
    sides = sides_table(found.metrics)
    assert list(sides["seeds"]) == ["2", "2"]
    assert list(sides["test: rest"]) == list(sides["test: score"]) == ["above", "below"]
    shares = shares_table(found.metrics).map(lambda share: int(share.rstrip("%")))
    for which in ("test", "train"):
        assert (
            shares[[f"{which}: {part}" for part in ("length", "kind", "rest")]].sum(axis=1) - 100
        ).abs().max() < 3
    numbers = {k.removeprefix("earlier.plain.helpful."): v for k, v in found.metrics.items()}
    assert shares["test: rest"]["plain.helpful"] == pytest.approx(
        100 * numbers["dpo_base_test.rest"] / numbers["dpo_base_test.gap"], abs=0.6
    )
    opened = {**found.metrics, "earlier.plain.helpful.dpo_base_test.gap_high": 1.0}
    assert shares_table(opened)["test: rest"]["plain.helpful"] == "–"  # of what may be none, no share
    assert sides_table(opened)["test: score"]["plain.helpful"] == "open"


def test_replies_cut_to_equal_length_lose_what_length_was_worth(found, replies, scores):
    numbers = {k.removeprefix("earlier.plain.helpful.cut."): v for k, v in found.metrics.items()}
    unit = scale(scores, "helpful")
    assert numbers["dpo_base_test_length"] == pytest.approx(
        PRICE * moved(replies, "dpo_base_test", "words") / unit, rel=0.1
    )
    whole = numbers["dpo_base_test"] + numbers["dpo_base_test_length"]
    assert whole == pytest.approx(found.metrics["earlier.plain.helpful.dpo_base_test.gap"])
    assert numbers["base_chosen_length"] == pytest.approx(PRICE * 89 / unit, rel=0.2)  # 150 words and 61
    cut = cut_replies(replies)
    for one, other in (("test base", "test DPO"), ("test DPO", "test base")):
        sizes = [[len(words(text)) for text in cut[source]] for source in (one, other)]
        assert abs(np.mean(sizes[0]) - np.mean(sizes[1])) < 3  # sentences have ten words


@pytest.mark.parametrize(
    "gone, lost",
    [
        ("replies_test_base_cut", ".cut."),
        ("pairs_train", "_pairs."),
        ("validation_helpful", ".own."),
        ("replies_train_dpo", "_train.gap"),
    ],
)
def test_without_some_scores_the_rest_stands(scores, replies, tmp_path, gone, lost):
    judge = shutil.copytree(scores / "plain/helpful-0", tmp_path / "plain/helpful-0")
    (judge / f"{gone}.jsonl").unlink()
    found = solve_riddle(replies, read_judges(tmp_path, replies))
    keys = [key for key in found.metrics if ".texts." not in key and ".foretold." not in key]
    assert not any(lost in key for key in keys)
    assert found.metrics["earlier.plain.helpful.dpo_base_test.rest"] == pytest.approx(
        EXTRA / scale(tmp_path, "helpful"), abs=0.05
    )
    assert found.claims["earlier_one_seed"] and found.claims["earlier_plain_helpful_test_dpo_below"]
    for draw in (riddle_at_a_look, sign_and_slope):
        plt.close(draw(found))


def test_replies_are_found_by_their_text_in_whatever_order_they_were_scored(scores, replies, tmp_path):
    judge = tmp_path / "plain" / "helpful-0"
    shutil.copytree(scores / "plain/helpful-0", judge)
    for file in (*GENERATED.values(), "pairs_train"):
        path = judge / f"{file}.jsonl"
        path.write_text("\n".join(path.read_text().splitlines()[::-1]) + "\n")
    (one,), (other,) = (read_judges(p, replies)["plain", "helpful"].scores[:1] for p in (tmp_path, scores))
    assert np.allclose(one, other)


def test_what_is_missing_is_named(run, scores, replies, tmp_path):
    with pytest.raises(FileNotFoundError, match="train_pairs"):
        read_earlier(tmp_path)
    with pytest.raises(FileNotFoundError, match="no judge in"):
        read_judges(tmp_path, replies)
    judge = tmp_path / "plain" / "helpful-0"
    shutil.copytree(scores / "plain/helpful-0", judge)
    path = judge / "replies_test_base.jsonl"
    path.write_text("\n".join(path.read_text().splitlines()[3:]) + "\n")
    with pytest.raises(InputError, match="replies_test_base: 3 of 120 replies have no score"):
        read_judges(tmp_path, replies)
    other = shutil.copytree(run, tmp_path / "other")
    rows = [{"prompt": "q", "response": "r"}] * 120
    write_scores(other / "replies_test_dpo.jsonl", rows)
    with pytest.raises(InputError, match="same prompts in the same order"):
        read_earlier(other)


def test_kinds_of_text_are_read_from_its_surface():
    texts = {
        "1. One.\n2) Two.": ["list"],
        "Points:\n- one\n* two.": ["list"],
        "As an AI language model, I say no.": ["refusal"],
        "I can't help with that. Ask a friend.": ["refusal"],
        "It goes on and": ["unfinished"],
        'He said "yes."': [],
        "Once 1. and no list.": [],
        "Fine. " * 40 + "I am sorry.": [],
    }
    table = forms_of(list(texts))
    for row, kinds in enumerate(texts.values()):
        assert [kind for kind in KINDS if table[kind][row]] == kinds, list(texts)[row]


@pytest.mark.parametrize(
    "target, kept",
    [(9, "One two three. Four five six.\nSeven."), (4, "One two three."), (1, "One two three.")],
)
def test_a_reply_is_cut_where_a_sentence_ends(target, kept):
    assert cut_to_words("One two three. Four five six.\nSeven.", target) == kept


def test_kept_numbers_tell_the_same_as_the_rows(found, tmp_path):
    """And no text of a row is among them."""
    kept = {**found.metrics, **{f"claims.{name}": True for name, holds in found.claims.items() if holds}}
    write_json(tmp_path / "metrics.json", kept)
    again = read_kept_riddle(tmp_path / "metrics.json")
    assert again.metrics == json.loads(json.dumps(found.metrics))
    assert all(isinstance(value, int | float) for value in again.metrics.values())
    assert again.claims == {name: True for name, holds in found.claims.items() if holds}
    for table in (source_table, reach_table, lambda m: part_rows(m, "dpo_base_test")):
        assert table(again.metrics).equals(table(found.metrics)) and len(table(found.metrics))
    table = judge_table(found.metrics, {"nobody's": "no.key", "wins": "test.win_rate"}, ".2f")
    assert list(table) == ["wins"] and list(table.index) == ["plain.harmless", "plain.helpful"]
    assert table["wins"]["plain.helpful"].count("[") == 2  # over prompts, over trainings
    with pytest.raises(FileNotFoundError, match="RLHF_HW_REAL_DATA"):
        read_kept_riddle(tmp_path / "none.json")


def test_rows_are_looked_for_where_real_data_lie(run, scores, tmp_path, monkeypatch):
    monkeypatch.delenv("RLHF_HW_REAL_DATA", raising=False)
    assert find_earlier() is None and find_earlier(str(run)) is None
    assert find_earlier(str(run), str(scores)) == (run, scores)
    (tmp_path / "earlier-run").mkdir()
    monkeypatch.setenv("RLHF_HW_REAL_DATA", str(tmp_path))
    assert find_earlier() is None  # the replies without scores
    (tmp_path / "earlier-run-scores").mkdir()
    assert find_earlier() == (tmp_path / "earlier-run", tmp_path / "earlier-run-scores")
    with pytest.raises(FileNotFoundError, match="is no folder"):
        find_earlier(str(tmp_path / "nowhere"))
