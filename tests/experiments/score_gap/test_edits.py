"""Each correction makes two replies equal in one respect and leaves the others alone."""

import pytest

from rlhf_hw.experiments.score_gap.edits import (
    Pair,
    ScoredReply,
    correct,
    cut_to,
    make_pairs,
    remove_repetition,
    split_sentences,
    unroll,
)
from rlhf_hw.experiments.score_gap.faults import plant_truncation

STOP, END, NEWLINE = 1, 2, 3
ENDS = frozenset({STOP})
TAIL = (END, NEWLINE)


def test_edits_worked_by_hand():
    first, second = (10, 11, 12, STOP), (13, 14, 15, STOP)
    assert split_sentences(first + second + (16,), ENDS) == [first, second, (16,)]
    assert unroll((5, 6, 5, 6, 5, 6, 7)) == ((5, 6, 7), (5, 6, 5, 6))
    assert unroll((5, 5, 6)) == ((5, 5, 6), ())
    assert remove_repetition(first + second + first + first, ENDS) == first + second
    assert cut_to(first + second, 4, ENDS) == first
    assert cut_to(first + second + first, 4, ENDS) == first + first
    assert cut_to(first + second + second, 4, ENDS) == first + first  # as much repetition as before
    assert cut_to(first + (20,) * 5, 4, ENDS) == first + (20,) * 4
    assert cut_to(first + second, 7, ENDS) == first + second


def test_each_correction_leaves_the_other_respects_alone():
    first, second = (10, 11, 12, STOP), (13, 14, 15, STOP)
    pair = Pair(ScoredReply((9,), first + second, (END,)), ScoredReply((8, 9), second, TAIL))
    assert correct(pair, ["readout"], ENDS).generated == ScoredReply((9,), first + second, TAIL)
    assert correct(pair, ["template"], ENDS).generated == ScoredReply((8, 9), first + second, (END,))
    assert correct(pair, ["length"], ENDS).generated == ScoredReply((9,), first, (END,))
    for factor in ("truncation", "repetition"):
        assert correct(pair, [factor], ENDS) == pair
    with pytest.raises(ValueError, match="no correction for"):
        correct(pair, ["lenght"], ENDS)


def test_a_cut_reply_is_compared_with_an_equally_cut_reference_and_else_closed():
    first, second = (10, 11, 12, STOP), (13, 14, 15, STOP)
    cut = plant_truncation(ScoredReply((9,), first + second, TAIL), 6)
    assert cut.reply_ids == first + (13, 14)
    longer = correct(Pair(cut, ScoredReply((9,), second + first, TAIL)), ["truncation"], ENDS)
    assert longer.reference.reply_ids == second + (10, 11) and longer.generated == cut
    shorter = correct(Pair(cut, ScoredReply((9,), first, TAIL)), ["truncation"], ENDS)
    assert shorter.generated.reply_ids == first + TAIL


def test_a_cut_reply_that_was_closed_is_compared_with_a_cut_and_closed_reference():
    first, second = (10, 11, 12, STOP), (13, 14, 15, STOP)
    (pair,) = make_pairs([(9,)], [first + second[:2]], [second + first], TAIL, finished=[False], closed=True)
    assert pair.generated.reply_ids == first + second[:2] + TAIL
    fixed = correct(pair, ["truncation"], ENDS)
    assert fixed.reference.reply_ids == second + first[:2] + TAIL and fixed.generated == pair.generated
    assert correct(pair, ["length", "readout"], ENDS) == pair


def test_make_pairs_refuses_empty_replies_and_uneven_lists():
    with pytest.raises(ValueError, match="row 0: an empty reply"):
        make_pairs([(1,)], [()], [(2,)], TAIL)
    with pytest.raises(ValueError, match="2 prompts need"):
        make_pairs([(1,), (2,)], [(1,)], [(2,), (3,)], TAIL)
