"""Parts of mixed data: told apart by their sources, judged apart, and shown only where that is allowed."""

import numpy as np
import pandas as pd
import pytest
from scored_replies import policies

from rlhf_hw.experiments.data_parts import (
    even_rows,
    first_rows,
    of_first_part,
    part_key,
    parts_of,
    rows_shown,
)
from rlhf_hw.experiments.pair_evaluation import evaluate, evaluate_parts
from rlhf_hw.experiments.part_steps import compare_parts, steps_by_part
from rlhf_hw.preferences.templates import Message, Preference

NAMES = "helpful, harmless"
METAS = [{"source": "helpful-base"}, {"source": "harmless-base"}, {"source": "helpful-online"}]
MARKER = "ZQXMARKER"  # stands in every harmless text


def pair(part: str, n: int, good: str, bad: str) -> Preference:
    mark = f" {MARKER}" if part == "harmless" else ""
    prompt = (Message("user", f"{part} question {n}{mark}"),)
    return Preference(prompt, f"{good} {n}{mark}", f"{bad} {n}{mark}", row=n, meta={"source": f"{part}-base"})


def mixture(count: int, start: int = 0) -> list[Preference]:
    """In one part "yes" is right and "no" is wrong, in the other the other way round."""
    found = []
    for n in range(start, start + count):
        found.append(pair("helpful", n, "yes", "no") if n % 2 else pair("harmless", n, "no", "yes"))
    return found


def scored(pairs: list[Preference], right: dict[str, float]) -> pd.DataFrame:
    """The pairs, ordered as labelled by so large a share of each part."""
    rows, seen = [], {}
    for p in pairs:
        part = p.meta["source"].partition("-")[0]
        place = seen[part] = seen.get(part, -1) + 1
        margin = 1.0 if place % 10 < 10 * right[part] else -1.0
        rows.append(
            {
                "id": p.row,
                "prompt": p.question,
                "prompt_key": p.question,
                "chosen": p.chosen,
                "margin": margin,
            }
            | {"rejected": p.rejected, "chosen_score": margin, "rejected_score": 0.0, "meta": dict(p.meta)}
        )
    return pd.DataFrame(rows)


def judged(*shares: dict[str, float], show_texts: str = "all", own_parts: str = ""):
    pairs, train = mixture(200), mixture(80, start=1000)
    tables = [scored(pairs, share) for share in shares]
    found = evaluate(tables, [train] * len(shares), show_texts=show_texts, own_parts=own_parts)
    return evaluate_parts(found, tables[0], NAMES, train)


def test_a_part_is_all_sources_whose_names_begin_alike():
    assert parts_of(METAS, NAMES) == ["helpful", "harmless", "helpful"]
    assert parts_of(METAS, "") == [] and part_key("HH Helpful-2") == "hh_helpful_2"


@pytest.mark.parametrize(
    ("metas", "names", "message"),
    [
        (METAS, "helpful", "pair 2 belongs to no part; the sources are harmless-base, helpful-base"),
        (METAS, "helpful, harmless, h", "pair 1 belongs to helpful and h"),
        (METAS[:1], NAMES, "no pair belongs to harmless"),
        ([{}], NAMES, "unknown: the data have one alone"),
    ],
)
def test_a_pair_without_a_part_is_named(metas, names, message):
    with pytest.raises(ValueError, match=message):
        parts_of(metas, names)


def test_texts_are_shown_by_the_name_of_their_source_and_by_nothing_else():
    assert rows_shown(METAS, "helpful").tolist() == [True, False, True]
    assert rows_shown([*METAS, {}], "all").all() and not rows_shown(METAS, "none").any()
    assert rows_shown([{}, {"source": ""}], "helpful").tolist() == [False, False]
    assert rows_shown(METAS, "").tolist() == [False] * 3


def test_as_many_rows_of_each_part_are_taken():
    labels = ["a", "a", "a", "b", "a", "b", "b"]
    assert even_rows(labels, 4) == [0, 1, 3, 5] and even_rows(labels, 0) == list(range(7))


def test_a_part_on_which_nothing_was_learned_is_found_out():
    found = judged({"helpful": 0.9, "harmless": 0.5}, {"helpful": 0.9, "harmless": 0.5})
    assert found.metrics["parts.helpful.rm.accuracy"] == pytest.approx(0.9)
    assert found.metrics["parts.harmless.rm.accuracy"] == pytest.approx(0.5)
    assert found.metrics["parts.count"] == 2 and found.metrics["parts.harmless.pairs"] == 100
    # one bag of words for both is wrong where the other part is right; one for each part knows all
    words = [found.metrics[f"parts.{part}.words.accuracy"] for part in ("helpful", "harmless")]
    assert sum(words) == pytest.approx(1)
    assert found.metrics["parts.helpful.part_words.accuracy"] == 1
    assert found.metrics["parts.harmless.lead.part_words"] == pytest.approx(-0.5)
    assert found.claims["part_words_beats_rm_harmless"] and not found.claims["rm_beats_part_words_harmless"]
    assert [row["part"] for row in found.tables["parts"]] == ["harmless", "helpful"]
    assert "parts.helpful.rm.accuracy_trainings_low" in found.metrics


def test_where_each_part_has_a_model_its_words_are_fitted_on_that_models_pairs():
    shares = {"helpful": 0.9, "harmless": 0.5}
    found, mixed = judged(shares, shares, own_parts=NAMES), judged(shares, shares)
    words = [f"parts.{part}.words.accuracy" for part in ("helpful", "harmless")]
    assert [found.metrics[key] for key in words] == [1, 1]
    assert sum(mixed.metrics[key] for key in words) == pytest.approx(1), "what is right in one is wrong there"
    assert found.metrics["baseline.words.accuracy"] == 1
    same = ("baseline.length.accuracy", "parts.helpful.rm.accuracy", "parts.harmless.part_words.accuracy")
    assert [found.metrics[key] for key in same] == [mixed.metrics[key] for key in same]


def test_the_first_part_is_the_first_that_is_named():
    assert first_rows(METAS, NAMES) == [0, 2] and first_rows(METAS, "harmless, helpful") == [1]
    assert first_rows(METAS, "") == [0, 1, 2] and first_rows([], NAMES) == []
    table = pd.DataFrame({"meta": METAS, "id": [7, 8, 9]})
    assert list(of_first_part(table, NAMES)["id"]) == [7, 9]
    assert list(of_first_part(table, NAMES).index) == [0, 1] and len(of_first_part(table, "")) == 3


def test_a_claim_about_a_part_needs_both_intervals():
    """Over prompts the lead over the length rule is plain, over two trainings that disagree it is not."""
    steady = judged({"helpful": 0.9, "harmless": 0.9}, {"helpful": 0.9, "harmless": 0.9})
    wild = judged({"helpful": 1.0, "harmless": 0.9}, {"helpful": 0.7, "harmless": 0.9})
    assert steady.claims["rm_beats_length_helpful"] and wild.claims["rm_beats_length_harmless"]
    assert wild.metrics["parts.helpful.lead.length_low"] > 0 and not wild.claims["rm_beats_length_helpful"]


def test_no_harmless_text_reaches_what_is_told():
    found = judged({"helpful": 0.5, "harmless": 0.1}, show_texts="helpful")  # its worst mistakes are harmless
    assert MARKER not in found.examples.to_string() and len(found.examples)
    assert MARKER in judged({"helpful": 0.5, "harmless": 0.1}).examples.to_string()
    assert len(judged({"helpful": 0.5, "harmless": 0.1}, show_texts="none").examples) == 0


def test_steps_are_those_of_each_part():
    tables = policies({"sft": [(0.0, 0.0)] * 2, "dpo": [(0.0, 0.0)] * 2}, prompts=80)
    labels = ["helpful" if n % 2 else "harmless" for n in range(80)]
    for table in tables["dpo"]:
        table.loc[np.array(labels) == "helpful", "score"] += 5.0
        table["finished"] = [label == "helpful" for label in labels]
    found = steps_by_part(tables, labels)
    assert found.metrics["parts.helpful.dpo_base.win_rate"] == 1
    assert 0.2 < found.metrics["parts.harmless.dpo_base.win_rate"] < 0.8
    assert found.metrics["parts.helpful.dpo_base.win_rate_length_controlled"] > 0.9
    assert "parts.helpful.dpo_base.judge_win_rate_length_controlled_trainings_low" in found.metrics
    assert found.metrics["parts.helpful.dpo.finished"] == 1 and found.metrics["parts.harmless.prompts"] == 40
    assert found.metrics["parts.harmless.dpo.finished"] == 0
    assert found.claims["dpo_raises_score_helpful"] and not found.claims["dpo_raises_score_harmless"]
    assert [row["step"] for row in found.tables["part_steps"]][:2] == ["SFT / base", "DPO / SFT"]


def test_cases_are_of_those_whose_texts_may_be_shown():
    tables = policies({"sft": [(0.0, 0.0)], "dpo": [(0.5, 0.2)]})
    metas = [{"source": "helpful-base" if n % 2 else "harmless-base"} for n in range(80)]
    for policy, several in tables.items():
        for n in range(0, 80, 2):
            several[0].loc[n, ["prompt", "response"]] = [f"{MARKER} {n}", f"{MARKER} {policy} {n}"]
        several[0].loc[::2, "score"] *= 10  # the telling ones are those that must not be shown
    found = compare_parts({"validation": tables}, metas, data_parts=NAMES, show_texts="helpful")
    assert len(found.cases) == 18 and MARKER not in str(found.cases) + str(found.tables) + str(found.metrics)
    assert found.metrics["texts.shown"] == "helpful" and "parts.harmless.dpo_base.win_rate" in found.metrics
    everything = compare_parts({"validation": tables}, metas)
    assert MARKER in str(everything.tables["samples"]) and everything.by_part == {}
