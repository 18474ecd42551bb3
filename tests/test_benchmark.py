"""The benchmark runs to its end on a tiny model, and losses equal TRL's; no timing is judged."""

import json
import sys

import pytest

from rlhf_hw.paths import ROOT


@pytest.fixture(scope="module")
def benchmark():
    """The benchmark's modules, which are scripts beside each other."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import against_trl

        yield against_trl
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))


@pytest.fixture(scope="module")
def results(benchmark):
    # in this process: starting twenty would take most of the time
    return benchmark.benchmark(
        benchmark.SHORT, {"rm", "dpo", "score", "generate", "exact", "profile", "scaling"}, here=True
    )


def test_every_part_was_measured(benchmark, results) -> None:
    tiny = results["workloads"]["tiny"]
    assert len(tiny["training"]) == 6 and len(tiny["inference"]) == 4 and len(tiny["exact"]) == 8
    for rounds in tiny["training"].values():
        assert rounds[0]["step_pairs_per_second"] > 0 and rounds[0]["memory_gib"] > 0
        assert 0 < rounds[0]["losses"][0] < 2
    assert tiny["training"]["dpo/trl-best"][0]["reference_seconds"] > 0
    assert tiny["training"]["dpo/trl"][0]["reference_seconds"] == 0
    json.dumps(results)


def test_losses_equal_trls_on_the_same_pairs(results) -> None:
    exact = results["workloads"]["tiny"]["exact"]
    for task in ("rm", "dpo"):
        for dtype, close in (("fp32", 1e-5), ("bf16", 2e-2)):
            ours, theirs = (exact[f"{task}/{dtype}/{system}"]["losses"] for system in ("ours", "trl"))
            assert len(ours) == 2
            assert ours == pytest.approx(theirs, abs=close)


def test_the_profile_accounts_for_the_whole_step(results) -> None:
    for found in results["workloads"]["tiny"]["profile"].values():
        kinds = found["kinds"]
        assert sum(one["share"] for one in kinds.values()) == pytest.approx(1)
        assert kinds["weight products"]["flops_per_second"] > 0
        assert kinds["optimizer and clipping"]["share"] > 0 and found["seconds"] > 0


def test_scores_equal_the_plain_loops(results) -> None:
    rounds = results["workloads"]["tiny"]["inference"]
    ours, theirs = (rounds[f"score/{system}"][0]["scores"] for system in ("ours", "transformers"))
    assert sum(ours, []) == pytest.approx(sum(theirs, []), abs=5e-2)


def test_the_report_has_every_table(benchmark, results) -> None:
    text = benchmark.report(results)
    for title in (
        "Training: tiny",
        "Scoring and generation",
        "Losses of the same pairs",
        "time goes: tiny",
        "Scaling: tiny",
    ):
        assert title in text
    assert "trl-best" in text and "utilisation" in text


def test_goals_stand_beside_what_was_measured(benchmark) -> None:
    from tables import goal_rows

    def rounds(*rates: float) -> list[dict]:
        return [{"step_pairs_per_second": r, "total_pairs_per_second": r, "memory_gib": 1 / r} for r in rates]

    results = {"dpo/ours": rounds(8, 9, 10), "dpo/trl-best": rounds(2, 3, 5)}
    rate, memory = goal_rows("135M", results)
    assert (rate["measured"], rate["reached"]) == ("3.00 (2.00 to 4.00)", "yes")
    assert (memory["measured"], memory["reached"]) == ("0.33 (0.25 to 0.50)", "yes")
    slower = results | {"dpo/ours": rounds(5, 8, 11)}
    assert [row["reached"] for row in goal_rows("135M", slower)] == ["no", "yes"]
    assert goal_rows("0.5B", results) == []


def test_a_pair_of_known_size_needs_known_arithmetic(benchmark, tmp_path) -> None:
    import numpy as np
    from measuring import useful_flops
    from transformers import Qwen2Config

    shape = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "vocab_size": 100}
    Qwen2Config(num_attention_heads=2, num_key_value_heads=1, **shape).save_pretrained(tmp_path)
    prompts, replies = np.array([4]), np.array([[2, 2]])
    weights = 8 * 8 * 2 + 8 * 4 * 2 + 3 * 8 * 16  # query and output, key and value, MLP
    seen = 4 * 4 / 2 + 2 * (2 * 4 + 2 * 2 / 2)
    expected = 2 * weights * 8 + 4 * 8 * seen
    assert useful_flops(tmp_path, prompts, replies, head=False) == expected
    assert useful_flops(tmp_path, prompts, replies, head=True) == expected + 2 * 8 * 100 * 4
