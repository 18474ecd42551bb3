"""Two runs side by side: only on pairs that both have judged, and the difference pair by pair."""

import json
from pathlib import Path

import pandas as pd
import pytest

from rlhf_hw.experiments.other_run import accuracies_by_part, compare_runs, read_numbers, read_other_run
from rlhf_hw.preferences.score_files import write_scores


def rows(right: int, count: int = 100, prefix: str = "q") -> list[dict]:
    """Pairs of two parts; of each part the first `right` in a hundred are ordered as labelled."""
    found = []
    for n in range(count):
        part = "helpful" if n % 2 else "harmless"
        score = 1.0 if n < right else -1.0
        found.append({"id": n, "prompt": f"{prefix}{n}", "chosen": f"a{n}", "rejected": f"b{n}"})
        found[-1] |= {"chosen_score": score, "rejected_score": 0.0, "meta": {"source": f"{part}-base"}}
    return found


@pytest.fixture
def tables(tmp_path: Path) -> list[pd.DataFrame]:
    from rlhf_hw.preferences.score_files import read_pairs

    return [read_pairs(write_scores(tmp_path / f"mine{k}.jsonl", rows(90 + k))) for k in range(2)]


def made(folder: Path, **change) -> Path:
    for k in range(2):
        name = f"validation{'-1' if k else ''}.jsonl"
        (folder / "scores").mkdir(parents=True, exist_ok=True)
        write_scores(folder / "scores" / name, rows(60 + k, **change)[::-1])
    (folder / "metrics.json").write_text(json.dumps({"rm.train.pairs": 2000}))
    return folder / "metrics.json"


def test_the_same_pairs_are_compared_whatever_their_order(tables, tmp_path):
    found = compare_runs(tables, read_other_run(made(tmp_path / "hh")), "helpful, harmless")
    assert found.reason == "" and found.metrics["beside.run"] == "hh" and found.metrics["beside.pairs"] == 100
    assert found.metrics["beside.all.own"] == pytest.approx(0.905)
    assert found.metrics["beside.all.lead"] == pytest.approx(0.3)
    assert found.metrics["beside.train_pairs"] == 2000 and found.metrics["beside.mixed"] == 1
    assert found.claims["ahead_of_other_run_harmless"] and not found.claims["behind_other_run_harmless"]
    assert "beside.helpful.lead_trainings_low" in found.metrics


def test_other_pairs_give_no_table_and_the_reason(tables, tmp_path):
    found = compare_runs(tables, read_other_run(made(tmp_path / "hh", prefix="other")))
    assert (
        found.metrics == {"beside.missing": found.reason}
        and "hh was judged on other pairs (0 of 100 and 100" in found.reason
    )
    fewer = compare_runs(tables, read_other_run(made(tmp_path / "few", count=90)))
    assert "90 of 100 and 90 pairs are the same" in fewer.reason
    nearly = compare_runs(tables, read_other_run(made(tmp_path / "most", count=97)))
    assert nearly.metrics["beside.pairs"] == 97  # truncation made three of them equal there


def test_a_run_that_was_not_made_is_none(tables, tmp_path):
    assert read_other_run(tmp_path / "hh" / "metrics.json") is None
    assert "not made" in compare_runs(tables, None).reason
    (tmp_path / "metrics.json").write_text("{")
    with pytest.raises(ValueError, match="metrics.json, line 1: not JSON"):
        read_numbers(tmp_path / "metrics.json")


def test_a_figure_gets_what_is_known_of_each_part(tables, tmp_path):
    other = compare_runs(tables, read_other_run(made(tmp_path / "hh")), "helpful, harmless")
    numbers = {f"parts.helpful.rm.accuracy{end}": 0.6 for end in ("", "_low", "_high")}
    found = accuracies_by_part(numbers, "helpful, harmless", other, "hh")
    assert list(found["helpful"]) == ["reward model", "reward model of hh"]
    assert found["harmless"]["reward model of hh"]["accuracy"] == other.rates["harmless"].value
