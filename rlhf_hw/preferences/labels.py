"""Which of two replies is better, as a row's label says it, and the reasons for which rows are left out."""

import math
import sys
from collections.abc import Mapping
from typing import Any

from rlhf_hw.errors import InputError


class Dropped(InputError):
    """A row that cannot be used for a reason of its own, under which such rows are counted."""

    reason: str


class Tie(Dropped):
    """The row says that neither reply is better."""

    reason = "tie"


class NoLabel(Dropped):
    """Nobody has said which reply is better."""

    reason = "no label"


class UnknownLabel(Dropped):
    """The label is none of those that the template knows."""

    reason = "unknown label"


class Label0(UnknownLabel):
    """A label of 0 where 1 and 2 are the replies: nobody won, or replies are numbered from 0."""

    reason = "label 0"


class Contradiction(Dropped):
    """The row's own scores say that the rejected reply is the better one."""

    reason = "contradicting scores"


class OtherPrompt(Dropped):
    """The row's prompt is not the one that its conversations begin with."""

    reason = "contradicting prompts"


class MoreConversation(Dropped):
    """The row holds parts of the conversation that its template does not read."""

    reason = "unread conversation"


def read_label(row: Mapping[str, Any], key: str) -> Any:
    """The label in a row; NaN, as tables write nothing, is none, and true or false is not a known one."""
    label = row[key]
    if label is None or label == "" or (isinstance(label, float) and math.isnan(label)):
        raise NoLabel
    if isinstance(label, bool):
        raise UnknownLabel(f"key {key!r}: expected a number, found {label!r}")
    return label


def check_scores(chosen: Any, rejected: Any) -> None:
    """Raise where the scores of a chosen and a rejected reply, if there are both, say another order.

    Raises:
        Tie, Contradiction: they are equal, or the rejected reply's is higher.
        InputError: one is no number.
    """
    scores = [score for score in (chosen, rejected) if score is not None]
    for score in scores:
        number = isinstance(score, int | float) and not isinstance(score, bool)
        if not number or abs(score) > sys.float_info.max:
            raise InputError(f"keys 'score_chosen', 'score_rejected': expected numbers, found {score!r:.60}")
    if len(scores) < 2 or any(map(math.isnan, scores)):
        return
    if chosen == rejected:
        raise Tie
    if chosen < rejected:
        raise Contradiction(f"key 'score_chosen': {chosen} is below 'score_rejected', {rejected}")


def edition_of(row: Mapping[str, Any]) -> str:
    """Of which edition of the homework a row is: "2024" labels as PKU-SafeRLHF does, "2025" by 1 and 2."""
    if "better_response_id" not in row:
        return "2025"
    if "overall_response" in row:
        raise InputError(
            "keys 'overall_response' and 'better_response_id': labels of both editions; take one out"
        )
    return "2024"
