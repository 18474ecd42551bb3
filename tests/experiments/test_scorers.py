"""The reward model is set against others on the same pairs; both intervals decide."""

import numpy as np
import pytest

from rlhf_hw.experiments import scorers
from rlhf_hw.experiments.result import table_metrics


def test_mcnemar_compares_the_first_scorer_with_every_other():
    margins = {
        "reward model": np.array([1, 1, 1, 1, 1, 1, -1, 1.0]),
        "length": np.array([-1, -1, -1, -1, -1, -1, 1, 1.0]),
        "words": np.array([1, 1, 1, 1, 1, 1, -1, 1.0]),
    }
    table = scorers.mcnemar_table(margins, range(8))
    assert table.index.tolist() == ["length", "words"] and table["p_value"].tolist() == [0.125, 1.0]
    assert table.loc["length", ["only_first", "only_second"]].tolist() == [6, 1]
    found = table_metrics("mcnemar", table)
    assert found["mcnemar.length.only_first"] == 6
    assert scorers.mcnemar_table({"reward model": margins["length"]}, range(8)).empty


@pytest.mark.parametrize(
    ("prompts", "trainings", "said"),
    [
        ((0.05, 0.2), (0.01, 0.3), "better"),
        ((0.05, 0.2), (-0.1, 0.3), "no difference shown"),
        ((-0.2, -0.01), (-0.3, -0.02), "worse"),
        ((0.0, 0.2), (0.1, 0.2), "no difference shown"),
    ],
)
def test_a_verdict_is_what_both_intervals_allow(prompts, trainings, said):
    ends = {"lead_low": prompts[0], "lead_high": prompts[1]}
    alone = f"prompts [{prompts[0]:+.3f}, {prompts[1]:+.3f}]"
    several = ends | {"lead_trainings_low": trainings[0], "lead_trainings_high": trainings[1]}
    expected = f"{said} ({alone}, trainings [{trainings[0]:+.3f}, {trainings[1]:+.3f}])"
    assert scorers.verdict(several, "lead") == expected
    assert scorers.verdict(ends, "lead").endswith(f"({alone})")
