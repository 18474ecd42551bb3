"""The decomposition must find the faults that were put in, and none where there is none."""

import numpy as np
import pytest

from rlhf_hw.experiments.score_gap import decompose
from rlhf_hw.experiments.score_gap.edits import (
    FACTORS,
    Pair,
    ScoredReply,
    make_pairs,
)
from rlhf_hw.experiments.score_gap.faults import (
    plant,
    plant_length,
    plant_readout,
    plant_repetition,
    plant_template,
    plant_truncation,
)

STOP, END, NEWLINE, SYSTEM = 1, 2, 3, 4
ENDS = frozenset({STOP})
TAIL = (END, NEWLINE)


def sentence(generator: np.random.Generator, words: range) -> tuple[int, ...]:
    """Five to nine words and a full stop."""
    return (*generator.choice(list(words), size=generator.integers(5, 10)).tolist(), STOP)


def clean_pairs(seed: int, count: int = 150) -> list[Pair]:
    """Generated and reference replies from one distribution, rendered and read alike."""
    generator = np.random.default_rng(seed)

    def content() -> tuple[int, ...]:
        return tuple(w for _ in range(generator.integers(3, 8)) for w in sentence(generator, range(10, 400)))

    prompts = [(SYSTEM, *generator.integers(10, 400, size=5).tolist()) for _ in range(count)]
    return make_pairs(prompts, [content() for _ in prompts], [content() for _ in prompts], TAIL)


def score(prompts, replies) -> np.ndarray:
    """A reward model with every weakness: quality of words, length, loops, template, and where it is read."""
    values = []
    for prompt, reply in zip(prompts, replies, strict=True):
        words = [token for token in reply if token >= 10]
        value = np.mean([np.sin(word) for word in words]) + 0.05 * len(words)
        value += 0.1 * (len(words) - len(set(words)))
        value += 0.0 if prompt[0] == SYSTEM else 2.0
        value += {NEWLINE: 0.0, END: 3.0}.get(reply[-1], 4.0 if reply[-1] != STOP else 3.5)
        values.append(value)
    return np.array(values)


def planted(pairs: list[Pair], fault: str, seed: int) -> list[Pair]:
    generator = np.random.default_rng(1000 + seed)
    new = []
    for pair in pairs:
        arguments = {
            "readout": (plant_readout, (END,)),
            "template": (plant_template, pair.reference.prompt[1:]),
            "truncation": (plant_truncation, 20),
            "length": (
                plant_length,
                tuple(w for _ in range(5) for w in sentence(generator, range(400, 900))),
            ),
            "repetition": (plant_repetition, 4, ENDS),
        }[fault]
        new.append(plant(pair, *arguments))
    return new


def taken_apart(pairs: list[Pair]) -> dict[str, np.ndarray]:
    return decompose.prompt_parts(decompose.gap_cells(pairs, score, ENDS))


def share_of(parts: dict[str, np.ndarray], factor: str) -> float:
    return parts[factor].mean() / parts["gap"].mean()


def named(pairs: list[Pair]) -> list[str]:
    return decompose.named_parts(taken_apart(pairs), reference_sd(pairs))


def reference_sd(pairs: list[Pair]) -> float:
    replies = [pair.reference for pair in pairs]
    return float(score([r.prompt for r in replies], [r.reply_ids for r in replies]).std())


@pytest.mark.parametrize("fault", FACTORS)
def test_single_planted_fault_is_named_and_gets_most_of_the_gap(fault):
    right = 0
    for seed in range(10):
        pairs = planted(clean_pairs(seed), fault, seed)
        right += 0.8 <= share_of(taken_apart(pairs), fault) <= 1.2 and named(pairs) == [fault]
    assert right >= 9


def test_readout_fault_in_both_directions():
    """Trained at the end token and read at the newline, the reverse of the parametrised case."""
    pairs = [
        Pair(
            ScoredReply(pair.generated.prompt, pair.generated.content, TAIL),
            ScoredReply(pair.reference.prompt, pair.reference.content, (END,)),
        )
        for pair in clean_pairs(0)
    ]
    parts = taken_apart(pairs)
    assert parts["gap"].mean() == pytest.approx(-3.0, abs=0.4)
    assert named(pairs) == ["readout"]


@pytest.mark.parametrize(
    "faults", [("readout", "length"), ("template", "repetition"), ("readout", "template")]
)
def test_pairs_of_faults_are_both_named(faults):
    pairs = planted(planted(clean_pairs(1), faults[0], 1), faults[1], 1)
    parts = taken_apart(pairs)
    assert set(named(pairs)) == set(faults)
    assert 0.8 < sum(share_of(parts, fault) for fault in faults) < 1.2


def test_clean_world_gives_no_false_alarm():
    for seed in range(8):
        assert named(clean_pairs(seed)) == []


@pytest.mark.parametrize("prompts", [12, 24, 100])
def test_chance_alone_is_blamed_no_more_often_than_promised(prompts):
    """Skewed parts of mean zero in 1000 worlds, no smallest size: the family-wise error is at most 1 %."""
    generator, alarms = np.random.default_rng(prompts), 0
    for _ in range(1000):
        parts = generator.choice([-1, 1], (2, prompts)) * generator.gamma(2, size=(2, prompts))
        alarms += bool(
            decompose.named_parts(dict(zip("ab", parts, strict=True)) | {"gap": parts[0]}, 1.0, smallest=0)
        )
    assert alarms <= 17  # 10 expected at most; 17 is two standard deviations more


def test_naming_needs_size_chance_and_counts_prompts_once():
    even, noise = np.full(20, 0.5), np.tile([3.0, -3.0], 10)
    parts = {"gap": even + noise, "a": even, "b": noise}
    assert decompose.named_parts(parts, 1.0) == ["a"]
    assert decompose.named_parts(parts, 3.0) == []  # 0.5 is too little beside 3
    twice = np.repeat([2, 1, -1, 2, 0.5, 1, -0.5, 1], 5)
    alone = {"gap": twice, "a": twice}
    assert decompose.named_parts(alone, 1.0) == ["a"]
    assert decompose.named_parts(alone, 1.0, prompts=np.repeat(np.arange(8), 5)) == []


def test_shapley_values_of_a_game_worked_by_hand():
    # Correcting a takes 6 away, b takes 2, both together 10: the extra 2 is shared.
    gap = {(): 10.0, ("a",): 4.0, ("b",): 8.0, ("a", "b"): 0.0}
    cells = {frozenset(key): [value, 2 * value] for key, value in gap.items()}
    assert decompose.shapley_values(cells, ["a", "b"]) == pytest.approx(np.array([[7, 14], [3, 6]]))


def test_shapley_values_sum_to_the_gap_and_equal_the_mean_over_orders():
    from itertools import permutations

    generator = np.random.default_rng(0)
    cells = {cell: generator.normal(size=7) for cell in decompose.subsets(FACTORS)}
    values = decompose.shapley_values(cells, FACTORS)
    assert values.sum(axis=0) == pytest.approx(cells[frozenset()] - cells[frozenset(FACTORS)])
    expected = np.zeros((5, 7))
    for order in permutations(range(5)):
        before: frozenset[str] = frozenset()
        for place in order:
            expected[place] += cells[before] - cells[before | {FACTORS[place]}]
            before = before | {FACTORS[place]}
    assert values == pytest.approx(expected / 120)


def test_missing_cell_is_refused():
    with pytest.raises(KeyError, match="1 of 4 cells are missing"):
        decompose.shapley_values(
            {frozenset(): [1.0], frozenset("a"): [1.0], frozenset("b"): [1.0]}, ["a", "b"]
        )


def test_stages_give_an_interaction_to_the_fault_that_is_corrected_first():
    # Read at the wrong token (6 points) and, there, length pays 4 more; read rightly it pays nothing.
    gap = {(): 10.0, ("readout",): 0.0, ("length",): 6.0, ("readout", "length"): 0.0}
    cells = {frozenset(key): [value] for key, value in gap.items()}
    factors = ["readout", "length"]
    assert decompose.shapley_values(cells, factors)[:, 0] == pytest.approx([8, 2])
    assert decompose.shapley_values(cells, factors, [["readout"], ["length"]])[:, 0] == pytest.approx([10, 0])
    with pytest.raises(ValueError, match="each of the factors"):
        decompose.shapley_values(cells, factors, [["readout"]])


def test_staged_values_sum_to_the_gap_and_need_eight_cells():
    generator = np.random.default_rng(0)
    needed = decompose.cells_of(decompose.ORDER)
    assert len(needed) == 8 and len(decompose.cells_of((FACTORS,))) == 32
    cells = {cell: generator.normal(size=5) for cell in needed}
    values = decompose.shapley_values(cells, FACTORS, decompose.ORDER)
    assert values.sum(axis=0) == pytest.approx(cells[frozenset()] - cells[frozenset(FACTORS)])
    with pytest.raises(KeyError, match="32 cells are missing"):
        decompose.shapley_values(cells, FACTORS)


def world_of_signs(generator: np.random.Generator, prompts: int) -> tuple[dict, np.ndarray, np.ndarray]:
    """Cells, gold gaps and signs, where a unit of gold pays 0.5 and a unit of the sign 0.3."""
    gold, sign = generator.normal(1.0, 1, prompts), generator.normal(2.0, 1, prompts)
    rest = 0.5 * gold + 0.3 * sign + 0.2 + generator.normal(0, 0.5, prompts)
    return {frozenset(): rest + 4, frozenset({"readout"}): rest}, gold, sign


def test_rest_splits_into_quality_and_unfamiliarity():
    cells, gold, sign = world_of_signs(np.random.default_rng(0), 4000)
    slope = decompose.gold_price(0.5 * gold, gold)
    parts = decompose.prompt_parts(cells, ["readout"], gold_gap=gold, gold_price=slope, ood=sign)
    means = {name: part.mean() for name, part in parts.items()}
    assert means["readout"] == pytest.approx(4)
    assert means["quality"] == pytest.approx(0.5 * gold.mean())
    assert means["ood"] == pytest.approx(0.6, abs=0.06) and means["rest"] == pytest.approx(0.2, abs=0.06)
    assert sum(part for name, part in parts.items() if name != "gap") == pytest.approx(parts["gap"])


def test_the_part_of_signs_is_slope_times_mean_and_its_spread_covers():
    """The values of `ood` stand for an estimate of two means: a t interval of them covers its truth."""
    generator, covered = np.random.default_rng(1), 0
    for _ in range(400):
        cells, gold, sign = world_of_signs(generator, 40)
        rest = np.asarray(cells[frozenset({"readout"})]) - 0.5 * gold
        values = decompose.part_of_signs(rest, sign[:, None])
        slope = np.polyfit(sign, rest, 1)[0]
        assert values.mean() == pytest.approx(slope * sign.mean())
        half = 2.02 * values.std(ddof=1) / np.sqrt(len(values))
        covered += abs(values.mean() - 0.6) <= half
    assert 0.92 <= covered / 400 <= 0.98


def test_gold_gap_needs_its_price():
    with pytest.raises(ValueError, match="gold_price"):
        decompose.prompt_parts({frozenset(): [1.0, 2.0]}, [], gold_gap=[1.0, 1.0])


def test_equal_texts_are_scored_once():
    pairs = clean_pairs(0, count=6)
    sizes = []

    def counted(prompts, replies):
        sizes.append(len(replies))
        return score(prompts, replies)

    decompose.gap_cells(pairs, counted, ENDS)
    assert sizes[0] <= 3 * len(pairs)  # 64 edited texts a pair, nearly all equal
    seen = decompose.once(counted)
    first = decompose.gap_cells(pairs, seen, ENDS)
    again = decompose.gap_cells(pairs, seen, ENDS)  # nothing is new
    assert len(sizes) == 2 and all((first[cell] == again[cell]).all() for cell in first)

    def sizes_of(prompts, replies):
        return np.array([[len(p), len(r)] for p, r in zip(prompts, replies, strict=True)])

    vectors = decompose.once(sizes_of)
    assert vectors([[1], [1], [2, 2]], [[3], [3], [4]]).tolist() == [[1, 1], [1, 1], [2, 1]]
