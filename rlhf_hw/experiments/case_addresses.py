"""Where a figure's points and bars lead: the address of each reply and pair in the reply explorer.

    pair_addresses(pairs)["rejected"]       ("set=pairs-validation&x=b.words&y=b.score", ["1-0", "1-1", ...])
    reply_addresses(sets["validation"], NAMES)     the same for each policy, under the name in figures
    pair_bars(sets)[0]                      (scores, "set=pairs-validation&h=b.score&r.b.score=")

What stands behind the # of the explorer's page (`report/explorer/cases.js`): the set of cases, the two
replies that are compared, and the two axes of its chart, so that the point is marked there, too. The key of a
case is the number of its training, from 1, and that of its row in the score file, from 0. Bars lead to what
the explorer's histogram counts of a variable; the range of its values ends the address.
"""

from collections.abc import Mapping, Sequence

import pandas as pd

OPPONENTS = {"base": "dpo", "sft": "base", "dpo": "base", "reference": "dpo"}  # beside which each is shown
SIDE_OF_PAIR = {"chosen": "a", "rejected": "b"}  # as the explorer calls the two that are compared
SETS_SHOWN = ("validation", "train", "ood")  # sets that the explorer has, of replies and of pairs
Bars = list[tuple[pd.Series, str]]  # for each histogram its values, and the address that a range ends


def case_keys(count: int) -> list[str]:
    """The keys of all cases of the first training, which figures draw."""
    return [f"1-{row}" for row in range(count)]


def pair_addresses(pairs: pd.DataFrame, name: str = "validation") -> dict[str, tuple[str, list[str]]]:
    """Side of a pair -> what its replies lead to.

    Args:
        pairs: Scored pairs of the first training, all of the score file.
        name: Of the file.
    """
    axes = {side: f"x={mine}.words&y={mine}.score" for side, mine in SIDE_OF_PAIR.items()}
    return {side: (f"set=pairs-{name}&{shown}", case_keys(len(pairs))) for side, shown in axes.items()}


def reply_addresses(
    policies: Mapping[str, Sequence[pd.DataFrame]], names: Mapping[str, str], name: str = "validation"
) -> dict[str, tuple[str, list[str]]]:
    """Name of a policy in figures -> what its replies to a set of prompts lead to.

    Args:
        policies: Policy -> scored replies of each training; the first is drawn.
        names: Policy -> its name in figures (`experiments.replies.NAMES`).
        name: Of the set.
    """
    return {
        names[policy]: (
            f"set={name}&a={policy}&b={OPPONENTS[policy]}&x=a.words&y=a.score",
            case_keys(len(tables[0])),
        )
        for policy, tables in policies.items()
    }


def pair_bars(sets: Mapping[str, pd.DataFrame]) -> Bars:
    """What histograms of scores lead to: of each set those of rejected and of chosen replies, as drawn.

    Args:
        sets: Name -> scored pairs of the first training; one that the explorer does not have leads nowhere.
    """
    bars = []
    for name, pairs in sets.items():
        for side in ("rejected", "chosen"):
            variable = f"{SIDE_OF_PAIR[side]}.score"
            address = f"set=pairs-{name}&h={variable}&r.{variable}=" if name in SETS_SHOWN else ""
            bars.append((pairs[f"{side}_score"], address))
    return bars


def margin_bars(pairs: pd.DataFrame, name: str = "validation") -> Bars:
    """What the histograms of the margins above and below zero lead to; ties are in neither."""
    margins, shown = pairs["margin"], f"set=pairs-{name}&h=score&score={{}}&r.score="
    return [(margins[margins > 0], shown.format("a")), (margins[margins < 0], shown.format("b"))]


def reply_bars(scores: Mapping[str, pd.Series], names: Mapping[str, str], name: str = "validation") -> Bars:
    """What the histograms of the policies' scores lead to.

    Args:
        scores: Name of a policy in figures -> scores of its replies of the first training, as drawn.
        names: Policy -> its name in figures (`experiments.replies.NAMES`).
        name: Of the set of prompts.
    """
    policy_of = {shown: policy for policy, shown in names.items()}
    bars = []
    for shown, values in scores.items():
        policy = policy_of[shown]
        address = f"set={name}&a={policy}&b={OPPONENTS[policy]}&h=a.score&r.a.score="
        bars.append((values, address))
    return bars
