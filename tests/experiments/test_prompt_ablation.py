"""What a prompt is worth: a judge that reads it loses it, one that does not keeps all."""

import pandas as pd
import pytest

from rlhf_hw.experiments.prompt_ablation import measure_ablation, with_foreign_prompts, without_prompts
from rlhf_hw.preferences.templates import Message, Preference

PAIRS = [Preference((Message("user", f"q{n // 2}"),), f"a{n}", f"b{n}", row=n) for n in range(40)]
LABELS = ["x" if n < 10 else "y" for n in range(40)]


def scored(pairs: list[Preference], reads: bool, wrong: int = 0) -> pd.DataFrame:
    """A judge that is right on all but the first `wrong`, and where it reads, only after the own prompt."""
    rows = []
    for n, p in enumerate(pairs):
        right = n >= wrong and (not reads or p.prompt == PAIRS[p.row].prompt)
        rows.append({"id": p.row, "prompt_key": p.question, "chosen": p.chosen, "rejected": p.rejected})
        rows[-1]["margin"] = 1.0 if right else -1.0
    return pd.DataFrame(rows)


def measured(reads: bool, **more):
    changed = {"empty": without_prompts(PAIRS), "foreign": with_foreign_prompts(PAIRS, LABELS)}
    tables = {name: [scored(pairs, reads, wrong) for wrong in (4, 6)] for name, pairs in changed.items()}
    return measure_ablation([scored(PAIRS, reads, wrong) for wrong in (4, 6)], tables, **more)


def test_a_foreign_prompt_is_another_one_of_the_same_part():
    foreign = with_foreign_prompts(PAIRS, LABELS, seed=1)
    for old, new, label in zip(PAIRS, foreign, LABELS, strict=True):
        assert new.prompt != old.prompt and (new.chosen, new.rejected, new.row) == (
            old.chosen,
            old.rejected,
            old.row,
        )
        assert new.prompt in {p.prompt for p, part in zip(PAIRS, LABELS, strict=True) if part == label}
    assert foreign == with_foreign_prompts(PAIRS, LABELS, seed=1)
    assert {p.question for p in without_prompts(PAIRS)} == {""}
    with pytest.raises(ValueError, match="the 2 pairs .* all have the same prompt"):
        with_foreign_prompts(PAIRS[:2])


def test_a_judge_that_reads_the_prompt_loses_it():
    found = measured(reads=True)
    assert found.metrics["rm.prompt.own.accuracy"] == pytest.approx(0.875)
    assert found.metrics["rm.prompt.foreign.accuracy"] == 0
    assert found.metrics["rm.prompt.empty.drop"] == pytest.approx(0.875)
    assert "rm.prompt.foreign.drop_trainings_low" in found.metrics
    assert found.claims == {"prompt_matters": True, "prompt_not_needed_to_beat_guessing": False}
    assert found.table.index.tolist() == ["own", "empty", "foreign"]


def test_a_judge_of_replies_alone_loses_nothing_and_pairs_are_matched_by_their_rows():
    found = measured(reads=False, labels=dict(enumerate(LABELS)))
    assert found.metrics["rm.prompt.foreign.drop"] == found.metrics["rm.prompt.empty.drop"] == 0
    assert found.claims == {"prompt_matters": False, "prompt_not_needed_to_beat_guessing": True}
    assert found.metrics["parts.x.prompt.pairs"] == 10 and found.metrics["parts.x.prompt.own.accuracy"] == 0.5
    some = {"empty": [scored(without_prompts(PAIRS[::-1][:20]), False)]}
    some["foreign"] = some["empty"]
    assert measure_ablation([scored(PAIRS, False)], some).metrics["rm.prompt.pairs"] == 20
