"""A recorded run in small, and the real one where it is at hand."""

import json
import os
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest

from rlhf_hw.experiments import recorded
from rlhf_hw.experiments.recorded_runs import find_recorded, read_run, read_runs
from rlhf_hw.figures import recorded as drawing
from rlhf_hw.preferences.score_files import write_scores

REAL = os.environ.get("RLHF_HW_REAL_DATA")
SECRET = "zanzibar"  # stands for text that must not get into the aggregates


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """60 prompts; a word is worth 0.1, DPO's replies are shorter by 10 words and worth 2 more."""
    generator = np.random.default_rng(0)

    def text(count: int) -> str:
        return " ".join([SECRET, *(f"w{n}" for n in generator.integers(0, 9999, count - 1))])

    pairs, replies = [], {"base": [], "dpo": []}
    for number in range(60):
        prompt, sizes = f"{SECRET} {number}", generator.integers(10, 60, size=2)
        sides = {"better": 0.1 * sizes[0] + 0.5, "worse": 0.1 * sizes[1]}
        pairs.append({"prompt": prompt} | {f"{k}_score": v for k, v in sides.items()})
        pairs[-1] |= {f"{k}_response": text(n) for k, n in zip(sides, sizes, strict=True)}
        for policy, size, bonus in (("base", 60, 0.0), ("dpo", 50, 2.0)):
            size = size + int(generator.integers(-5, 6))
            row = {"prompt": prompt, "response": text(size), "score": 0.1 * size + bonus}
            replies[policy].append(row)
    write_scores(tmp_path / "rm_scores_validation.jsonl.gz", pairs)
    for policy, rows in replies.items():
        write_scores(tmp_path / f"generated_{policy}.jsonl", rows)
    return tmp_path


def summarised(folder: Path) -> recorded.RecordedRun:
    runs = read_run(folder)
    return recorded.summarise(recorded.fullest(runs), runs)


def test_length_and_what_is_beyond_it_are_told_apart(folder):
    metrics = summarised(folder).metrics
    assert metrics["recorded.dpo.wins"] > 0.95 and metrics["recorded.claims.dpo_shorter"] == 1
    assert metrics["recorded.dpo.score_difference"] == pytest.approx(1.0, abs=0.2)
    assert metrics["recorded.dpo.score_difference_length_controlled"] == pytest.approx(2.0, abs=0.1)
    # Base replies are worth no more than their words; chosen references have 0.5 beside them.
    rise, share = (metrics[f"recorded.rise.base.{key}"] for key in ("rise", "rise_length_share"))
    assert rise * share == pytest.approx(rise + 0.25, abs=0.35)
    assert metrics["recorded.dpo.score_difference_length_controlled_low"] > 1.5
    # DPO won every prompt with the shorter reply: who would win at equal length nobody has seen.
    assert metrics["recorded.claims.gain"] == 1 and "recorded.claims.gain_at_equal_length" not in metrics
    assert "recorded.claims.dpo_repeats_more" not in metrics


def test_gap_is_taken_to_the_chosen_reply_of_the_same_prompt(folder):
    rows = recorded.fullest(read_run(folder))
    metrics = recorded.summarise(rows).metrics
    expected = (rows.base["score"] - rows.pairs["chosen_score"]).mean()
    assert metrics["recorded.gap.base"] == pytest.approx(expected, abs=1e-5)


def test_its_figures_are_drawn_from_rows_and_shown_from_files(folder, tmp_path, monkeypatch):
    found = summarised(folder)
    for name in drawing.DRAWINGS:
        drawing.show_recorded(found, name, tmp_path / "fig")
        assert (tmp_path / "fig" / f"{name}.pdf").exists()
    forest = drawing.recorded_win_rate(found.metrics)
    labels = [text.get_text() for text in forest.axes[0].get_yticklabels()]
    assert labels[:2] == ["all prompts, as counted", "all prompts, at equal length"]
    assert drawing.recorded_length(found.lengths).axes[0].get_title().startswith("pairs\n")
    shown = []
    monkeypatch.setattr(drawing, "FIG", tmp_path / "fig")
    monkeypatch.setattr("IPython.display.display", shown.append)
    kept = recorded.RecordedRun(metrics=found.metrics, cases=[], kept=True)
    drawing.show_recorded(kept, "recorded_length", tmp_path)
    assert shown[0].width == pytest.approx(6.3 * 150, abs=1)
    plt.close("all")


def test_its_tables_show_runs_signs_and_what_others_published(folder):
    metrics = summarised(folder).metrics
    runs = drawing.runs_table(metrics).table
    assert list(runs) == [folder.name] and runs.loc["dpo_words", folder.name] == "50"
    assert runs.loc["win_rate", folder.name].endswith("]") and "base_opening" not in runs.index
    signs = drawing.signs_table(metrics).table
    empty = signs[signs["sign"] == "empty"].loc["base"]
    assert empty["share"].startswith("0.0% [0.0%, ") and empty["lead"].startswith("+0.0% [-")
    assert (empty["count"], empty["said"], empty["rows"]) == ("0", "", "")
    published = drawing.published_table(metrics).table
    assert published.loc["Guoxi-Zhang/pku-llm", "accuracy"] == "0.706 to 0.717"
    assert published.loc["Shu-Feather", "base"] == ""


def test_an_estimate_is_read_with_its_interval_and_statements_are_true_or_false(folder):
    found = summarised(folder)
    assert found.estimate("dpo.win_rate", ".2f").startswith(f"{found.metrics['recorded.dpo.win_rate']:.2f} [")
    assert found.estimate("no.such.number") == "unknown"
    said = recorded.statements(found.metrics)
    assert said["dpo_shorter"] and not said["dpo_repeats_more"] and found.claims == {}
    kept = {key.removeprefix("recorded.claims.") for key in found.metrics if ".claims." in key}
    assert kept & said.keys() == {name for name, holds in said.items() if holds}


def test_nothing_that_is_kept_holds_text_of_a_row(folder, tmp_path):
    found = summarised(folder)
    metrics, cases = found.metrics, found.cases
    path = tmp_path / "kept" / "recorded.json"
    recorded.write_kept(found, path)
    assert SECRET not in path.read_text(encoding="utf-8")
    kept = recorded.read_kept(path)
    assert (kept.metrics, kept.cases, kept.scores) == (dict(sorted(metrics.items())), cases, {})
    assert kept.kept and not found.kept
    assert all(isinstance(value, float | str) for value in metrics.values())
    assert cases[0]["case"] == "gain" and cases[0]["score_difference"] == max(
        c["score_difference"] for c in cases
    )


def test_a_damaged_base_is_named_and_left_out(folder, tmp_path):
    path = tmp_path / "generated_base.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows[:20]:  # the fault comes with low scores, which DPO beats
        row |= {"response": f"Humanity {row['response']}", "score": -9.0}
    for row in rows[20:]:
        row["score"] += 4.0
    write_scores(path, rows)
    metrics = summarised(folder).metrics
    assert metrics["recorded.base.damage.opening_text"] == f"humanity {SECRET}"
    assert (
        metrics["recorded.base.damage.opening_count"] == 20 and metrics["recorded.claims.base_damaged"] == 1
    )
    assert metrics["recorded.base.damage.opening_rows"] == "1, 2, 3"
    assert metrics["recorded.base.damage.opening_lead_low"] > 0.2
    first = metrics["recorded.base.damage.openings.1.text"], metrics["recorded.base.damage.openings.1.count"]
    assert first == (f"humanity {SECRET}", 20) and "recorded.base.damage.openings.1.damage" in metrics
    shown = drawing.signs_table(metrics).table.iloc[0]
    assert (shown["sign"], shown["said"]) == (f"opening: humanity {SECRET}", "damage")
    assert metrics["recorded.dpo.wins"] > 0.33 and metrics["recorded.dpo.sound.wins"] == 0
    assert metrics["recorded.dpo.sound.prompts"] == metrics["recorded.dpo.other_opening.prompts"] == 40
    assert "recorded.claims.gain_without_damage" not in metrics
    assert metrics["recorded.runs.1.sound"] == 40 and metrics["recorded.runs.1.base_damaged"] == 0.333333


def test_what_does_not_fit_is_refused(folder, tmp_path):
    rows = [json.loads(line) for line in (folder / "generated_dpo.jsonl").read_text().splitlines()]
    write_scores(folder / "generated_dpo.jsonl", rows[::-1])
    with pytest.raises(ValueError, match="same prompts in the same order"):
        read_run(folder)
    with pytest.raises(FileNotFoundError, match="keep=True"):
        recorded.read_kept(tmp_path / "nothing.json")


def test_rows_are_looked_up_in_the_folder_given_and_in_the_environment(folder, tmp_path, monkeypatch):
    monkeypatch.delenv("RLHF_HW_REAL_DATA", raising=False)
    assert find_recorded() == []
    assert find_recorded(str(folder)) == [folder]
    monkeypatch.setenv("RLHF_HW_REAL_DATA", str(tmp_path))
    assert find_recorded() == []
    (tmp_path / "recorded-run").mkdir()
    assert find_recorded() == [(tmp_path / "recorded-run").resolve()]
    assert find_recorded(f"{folder}, {tmp_path / 'recorded-run'}") == [folder, tmp_path / "recorded-run"]
    with pytest.raises(FileNotFoundError, match="is no folder"):
        find_recorded(str(tmp_path / "nowhere"))


@pytest.mark.real_data
@pytest.mark.skipif(not REAL, reason="RLHF_HW_REAL_DATA does not name the folder with the recorded run")
def test_kept_aggregates_are_those_of_the_real_rows():
    runs = read_runs(find_recorded())
    found, kept = recorded.summarise(recorded.fullest(runs), runs), recorded.read_kept()
    assert found.metrics == pytest.approx(kept.metrics, abs=2e-6) and len(found.cases) == len(kept.cases)
    published = {"validation.accuracy_strict": 0.745, "base.score_mean": 2.167, "dpo.wins": 0.571}
    for key, value in published.items():
        assert kept.metrics[f"recorded.{key}"] == pytest.approx(value, abs=5e-4)
