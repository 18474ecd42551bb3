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
from rlhf_hw.stats.intervals import Estimate

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


def taken_apart(pairs: list[Pair]) -> dict[str, Estimate]:
    return decompose.decompose(decompose.gap_cells(pairs, score, ENDS), draws=300)


def share_of(parts: dict[str, Estimate], factor: str) -> float:
    return parts[factor].value / parts["gap"].value


def named(pairs: list[Pair]) -> list[str]:
    return decompose.named_factors(decompose.gap_cells(pairs, score, ENDS), reference_sd(pairs))


def reference_sd(pairs: list[Pair]) -> float:
    replies = [pair.reference for pair in pairs]
    return float(score([r.prompt for r in replies], [r.reply_ids for r in replies]).std())


@pytest.mark.parametrize("fault", FACTORS)
def test_single_planted_fault_is_named_and_gets_most_of_the_gap(fault):
    right = 0
    for seed in range(10):
        pairs = planted(clean_pairs(seed), fault, seed)
        right += share_of(taken_apart(pairs), fault) >= 0.8 and named(pairs) == [fault]
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
    assert parts["gap"].value == pytest.approx(-3.0, abs=0.4)
    assert named(pairs) == ["readout"]


@pytest.mark.parametrize(
    "faults", [("readout", "length"), ("template", "repetition"), ("readout", "template")]
)
def test_pairs_of_faults_are_both_named(faults):
    pairs = planted(planted(clean_pairs(1), faults[0], 1), faults[1], 1)
    parts = taken_apart(pairs)
    assert set(named(pairs)) == set(faults)
    assert sum(share_of(parts, fault) for fault in faults) > 0.8


def test_clean_world_gives_no_false_alarm():
    for seed in range(8):
        assert named(clean_pairs(seed)) == []


@pytest.mark.parametrize("prompts", [12, 24, 100])
def test_chance_alone_is_blamed_no_more_often_than_promised(prompts):
    """Skewed parts of mean zero in 1000 worlds, no smallest size: the family-wise error is at most 1 %."""
    generator, alarms = np.random.default_rng(prompts), 0
    for _ in range(1000):
        parts = generator.choice([-1, 1], (2, prompts)) * generator.gamma(2, size=(2, prompts))
        cells = {frozenset(): parts.sum(0), frozenset("a"): parts[1], frozenset("b"): parts[0]}
        cells[frozenset("ab")] = np.zeros(prompts)
        alarms += bool(decompose.named_factors(cells, 1.0, ("a", "b"), smallest=0))
    assert alarms <= 17  # 10 expected at most; 17 is two standard deviations more


def test_naming_needs_size_chance_and_counts_prompts_once():
    even, noise = np.full(20, 0.5), np.tile([3.0, -3.0], 10)
    cells = {frozenset(): even + noise, frozenset("a"): noise, frozenset("b"): even}
    cells[frozenset("ab")] = np.zeros(20)
    assert decompose.named_factors(cells, 1.0, ("a", "b")) == ["a"]
    assert decompose.named_factors(cells, 3.0, ("a", "b")) == []  # 0.5 is too little beside 3
    twice = np.repeat([2, 1, -1, 2, 0.5, 1, -0.5, 1], 5)
    alone = {frozenset(): twice, frozenset("a"): 0 * twice}
    assert decompose.named_factors(alone, 1.0, ("a",)) == ["a"]
    assert decompose.named_factors(alone, 1.0, ("a",), prompts=np.repeat(np.arange(8), 5)) == []


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


def test_rest_splits_into_quality_and_unfamiliarity():
    generator = np.random.default_rng(0)
    gold, spread = generator.normal(1.0, 1, 800), generator.normal(2.0, 1, 800)
    rest = 0.5 * gold + 0.3 * spread + 0.2 + generator.normal(0, 0.1, 800)
    cells = {frozenset(): rest + 4, frozenset({"readout"}): rest}
    slope = decompose.gold_price(0.5 * gold, gold)
    parts = decompose.decompose(cells, ["readout"], gold_gap=gold, gold_price=slope, ood=spread, draws=500)
    assert parts["readout"].value == pytest.approx(4)
    assert parts["quality"].value == pytest.approx(0.5 * gold.mean())
    assert parts["ood"].value == pytest.approx(0.6, abs=0.05)
    assert parts["rest"].low < 0.2 < parts["rest"].high
    assert sum(part.value for name, part in parts.items() if name != "gap") == pytest.approx(
        parts["gap"].value
    )
    assert decompose.part_metrics(parts)["ood_low"] == parts["ood"].low


def test_gold_gap_needs_its_price():
    with pytest.raises(ValueError, match="gold_price"):
        decompose.decompose({frozenset(): [1.0, 2.0]}, [], gold_gap=[1.0, 1.0])


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
