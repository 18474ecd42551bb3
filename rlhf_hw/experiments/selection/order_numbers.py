"""What the order of pairs changed: numbers, what was expected of them, and what they allow to say.

Expected before any number was seen, from Ouyang et al. 2022; the control from what labels that share no reply
should teach. The expectations stay as they were; each names the claim that bears it out.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.special import log_expit

from rlhf_hw.experiments.result import Result, prefixed
from rlhf_hw.experiments.selection.batch_order import (
    APART,
    SHUFFLED,
    TOGETHER,
    WAYS,
    OrderStudy,
    OrderTrained,
    ranked_margins,
)
from rlhf_hw.experiments.selection.ranked_replies import TEMPERATURE, rank_replies
from rlhf_hw.stats.calibration import outcomes
from rlhf_hw.stats.replicates import beyond, replicated_mean, replicated_rate, trainings_interval

ORDER_EXPECTATIONS = {
    "over_order_gap": "after one pass over shuffled pairs the loss on held-out pairs exceeds that on the "
    "pairs learned by more than after a pass with all pairs of a prompt in one step: they overfit",
    "over_order_loss": "the shuffled pass ends with the higher loss on held-out pairs",
    "over_order_accuracy": "and orders fewer of them as gold does",
    "over_order_apart": "as many pairs, each from a prompt of its own, teach more than shuffled pairs that "
    "share replies (control)",
    "over_order_apart_gap": "and overfit less (control)",
}


def order_numbers(
    trained: Mapping[str, Sequence[OrderTrained]], gold: np.ndarray, prompts: Sequence[int], *, seed: int = 0
) -> dict[str, float]:
    """Accuracy and loss of every way, and their differences.

    Args:
        trained: One of `WAYS` -> its trainings.
        gold: Of the reply ranked higher minus that of the other, for each held-out pair, shape (pairs,).
        prompts: Of each held-out pair.
        seed: Of resampling.

    Returns:
        For each way `<way>.gold` and `<way>.labels`, the share of held-out pairs in the order of gold and of
        the annotator; `<way>.loss` on held-out labels, `<way>.learned` on those it was trained on, and
        `<way>.gap`, the first minus the second. `gap`, `loss`: shuffled minus together. `accuracy`, `labels`:
        together minus shuffled, by gold and by labels. `apart_lead`: apart minus shuffled, by gold.
        `apart_gap`: shuffled minus apart. All with intervals over held-out prompts and over trainings, but
        `learned` over trainings alone.
    """
    differ = gold != 0
    kept = [prompt for prompt, keep in zip(prompts, differ, strict=True) if keep]
    margins = {way: np.array([one.margins for one in trained[way]]) for way in WAYS}
    right = {
        way: np.array([outcomes(r) for r in m[:, differ] * np.sign(gold[differ])])
        for way, m in margins.items()
    }
    said = {way: np.array([outcomes(row) for row in m]) for way, m in margins.items()}
    loss = {way: -log_expit(m.astype(float)) for way, m in margins.items()}
    learned = {
        way: np.array([-log_expit(one.learned.astype(float)).mean() for one in trained[way]]) for way in WAYS
    }
    gap = {way: loss[way] - learned[way][:, None] for way in WAYS}
    found: dict[str, float] = {}
    for way in WAYS:
        numbers = replicated_rate(right[way], kept, seed=seed).named("gold")
        numbers |= replicated_rate(said[way], prompts, seed=seed).named("labels")
        numbers |= replicated_mean(loss[way], prompts, seed=seed).named("loss")
        numbers |= replicated_mean(gap[way], prompts, seed=seed).named("gap")
        ends = trainings_interval(learned[way])
        numbers |= ends.named("learned") if ends else {"learned": float(learned[way].mean())}
        found |= prefixed(way, numbers)
    differences = {
        "gap": (gap[SHUFFLED] - gap[TOGETHER], prompts),
        "loss": (loss[SHUFFLED] - loss[TOGETHER], prompts),
        "accuracy": (right[TOGETHER] - right[SHUFFLED], kept),
        "labels": (said[TOGETHER] - said[SHUFFLED], prompts),
        "apart_lead": (right[APART] - right[SHUFFLED], kept),
        "apart_gap": (gap[SHUFFLED] - gap[APART], prompts),
    }
    for name, (values, rows) in differences.items():
        found |= replicated_mean(values, rows, seed=seed).named(name)
    return found


def order_claims(numbers: Mapping[str, float]) -> dict[str, bool]:
    """What may be said, beyond the intervals over prompts and over trainings; keys of `order_numbers`."""
    side = {name: beyond(numbers, name) for name in ("gap", "loss", "accuracy", "apart_lead", "apart_gap")}
    return {
        "over_order_gap": side["gap"] > 0,
        "over_order_gap_less": side["gap"] < 0,
        "over_order_loss": side["loss"] > 0,
        "over_order_loss_less": side["loss"] < 0,
        "over_order_accuracy": side["accuracy"] > 0,
        "over_order_accuracy_less": side["accuracy"] < 0,
        "over_order_apart": side["apart_lead"] > 0,
        "over_order_apart_gap": side["apart_gap"] > 0,
    }


def pair_order(trained: Mapping[str, Sequence[OrderTrained]], study: OrderStudy) -> Result:
    """The numbers under `over.order.`, with the sizes of the study, and the claims."""
    held_out = rank_replies(study.asked, study.replies, study.seed)
    gold = ranked_margins(held_out.gold)
    prompts = np.repeat(np.arange(len(gold)), gold.shape[1])
    numbers = order_numbers(trained, gold.ravel(), prompts.tolist(), seed=study.seed)
    count = len(study.sets[0]) // study.pairs
    known = gold[gold != 0]
    sizes = {
        "trainings": len(study.sets),
        "prompts": count,
        "replies": study.replies,
        "pairs_each": study.pairs,
        "pairs": count * study.pairs,
        "read_together": count * study.replies,
        "read_pairs": 2 * count * study.pairs,
        "steps": -(-count // study.settings.batch_size),
        "step_prompts": study.settings.batch_size,
        "held_out": len(gold),
        "temperature": TEMPERATURE,
        "agreement": float((known > 0).mean()),
    }
    return Result(metrics=prefixed("over.order", numbers | sizes), claims=order_claims(numbers))
