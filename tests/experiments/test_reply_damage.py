"""Damage of the replies that notebook 05 compares, and win rates without it."""

import numpy as np
from scored_replies import policies

from rlhf_hw.experiments.set_damage import damage_of_sets


def answered(effects: dict, spoilt: range = range(0)) -> dict:
    """Scored replies to 80 prompts; some of the first DPO model's are empty, with high scores."""
    tables = policies(effects)
    dpo = tables["dpo"][0]
    for row in spoilt:
        dpo.loc[row, ["response", "score"]] = ["", 9.0]
    return {"validation": tables}


EFFECTS = {"sft": [(0.0, 0.0)] * 2, "dpo": [(-1.0, 0.0)] * 2, "reference": [(0.0, 0.0)] * 2}


def test_sound_files_are_counted_and_nothing_is_said_of_win_rates() -> None:
    found = damage_of_sets(answered(EFFECTS))
    # base, SFT and DPO of two trainings
    assert found.metrics["damage.files"] == 6 and found.metrics["damage.signs"] == 0
    assert found.metrics["damage.validation.dpo.share"] == 0 and found.tables == {}
    assert not any("win_rate" in key for key in found.metrics)


def test_damage_stands_in_a_table_and_win_rates_are_given_without_it() -> None:
    sets = answered(EFFECTS, range(20))
    found = damage_of_sets(sets)
    (row,) = found.tables["damage"]
    told = {key: row[key] for key in ("set", "policy", "training", "kind", "count", "damage", "rows")}
    assert told == {
        "set": "validation",
        "policy": "dpo",
        "training": 1,
        "kind": "empty",
        "count": 20,
        "damage": True,
        "rows": "1, 2, 3",
    }
    assert row["share"] == 0.25 and row["lead"].startswith("+25.0% [+1") and row["lead"].endswith("%]")
    assert found.metrics["damage.validation.dpo.share"] == 0.125  # a quarter of one of two trainings
    assert found.metrics["damage.validation.dpo_base.prompts"] == 60
    won = np.mean(
        [
            (dpo["score"] > base["score"])[20:].mean()
            for dpo, base in zip(sets["validation"]["dpo"], sets["validation"]["base"], strict=True)
        ]
    )
    assert found.metrics["damage.validation.dpo_base.win_rate"] == won
    assert "damage.validation.sft_base.win_rate" not in found.metrics


def test_replies_that_all_replicates_share_are_checked_once() -> None:
    sets = answered(EFFECTS)
    sets["validation"]["base"] = [sets["validation"]["base"][0]] * 2
    assert damage_of_sets(sets).metrics["damage.files"] == 5
