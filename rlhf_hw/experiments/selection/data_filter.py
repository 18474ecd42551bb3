"""A reward model as a filter of data: of labels that it is against, and of replies that it scores highest.

Labels: of pairs with flipped labels those that models of other prompts are most against are dropped, as many
as were flipped, and a reward model learns from the rest. Beside it stand as many dropped at random (control),
and those that were flipped (what could be won).

Replies: of a policy's replies to a prompt the share with the highest scores is kept, as one would choose what
to fine-tune on (Dong et al. 2023, RAFT). What is kept is as good as the score that kept it.
"""

from collections.abc import Mapping

import numpy as np

from rlhf_hw.experiments.result import prefixed
from rlhf_hw.experiments.selection.state_heads import ReadPairs, flipped
from rlhf_hw.experiments.selection.suspect_labels import fitted_head, folds_of, unseen_margins
from rlhf_hw.stats.calibration import outcomes
from rlhf_hw.stats.replicates import replicated_mean, replicated_rate

COMPARED = {
    "gain": ("suspects", "all"),
    "lead": ("suspects", "random"),
    "truth_lead": ("flipped", "suspects"),
}
KINDS = ("all", "random", "suspects", "flipped")  # what is dropped; "all" drops nothing


def label_filter_numbers(
    pairs: ReadPairs, held_out: ReadPairs, rate: float, draws: int, *, seed: int = 0
) -> dict[str, float]:
    """Accuracy on held-out pairs of models that learned from what a filter of labels left.

    Args:
        pairs: Of which a share is flipped.
        held_out: Pairs with honest labels.
        rate: That share; as many pairs are dropped.
        draws: Of flips.
        seed: Of flips, folds and what is dropped at random.

    Returns:
        `<kind>.accuracy` for each of `KINDS`; `gain`, suspects minus all, `lead`, suspects minus random, and
        `truth_lead`, flipped minus suspects, each with intervals over held-out prompts and over draws;
        `caught`, the share of flipped labels among the suspects.
    """
    fold = folds_of(pairs.prompts, seed)
    right: dict[str, list[np.ndarray]] = {kind: [] for kind in KINDS}
    caught = []
    for draw in range(draws):
        turned = flipped(len(fold), rate, 1000 * seed + draw)
        said = pairs.differences * np.where(turned, -1.0, 1.0)[:, None]
        suspects = np.argsort(unseen_margins(said, fold), kind="stable")[: turned.sum()]
        at_random = np.random.default_rng([seed, draw]).permutation(len(fold))[: turned.sum()]
        dropped = {"all": [], "random": at_random, "suspects": suspects, "flipped": np.flatnonzero(turned)}
        for kind, rows in dropped.items():
            head = fitted_head(np.delete(said, rows, axis=0))
            right[kind].append(outcomes(held_out.differences @ head))
        caught.append(turned[suspects].mean())
    told = {kind: np.array(each) for kind, each in right.items()}
    found: dict[str, float] = {"caught": float(np.mean(caught))}
    for kind, each in told.items():
        found |= replicated_rate(each, held_out.prompts, seed=seed).named(f"{kind}.accuracy")
    for name, (better, worse) in COMPARED.items():
        found |= replicated_mean(told[better] - told[worse], held_out.prompts, seed=seed).named(name)
    return found


def kept_gain(proxy: np.ndarray, values: np.ndarray, share: float) -> np.ndarray:
    """Mean value of the replies to each prompt that score highest, minus that of all.

    Args:
        proxy: Scores that keep, shape (trainings, prompts, samples).
        values: What is asked of the replies, shape (prompts, samples).
        share: Of each prompt's replies that is kept, at least one.

    Returns:
        Shape (trainings, prompts).
    """
    count = max(1, round(share * proxy.shape[-1]))
    best = np.argsort(-proxy, axis=-1, kind="stable")[..., :count]
    kept = np.take_along_axis(np.broadcast_to(values, proxy.shape), best, axis=-1)
    return kept.mean(axis=-1) - values.mean(axis=-1)


def reply_filter_numbers(
    proxies: Mapping[str, np.ndarray], gold: np.ndarray, words: np.ndarray, share: float, *, seed: int = 0
) -> dict[str, float]:
    """What is kept by each score, against all replies.

    Args:
        proxies: "model", "bonus" and "gold" -> scores, shape (trainings, prompts, samples).
        gold, words: Of the replies, shape (prompts, samples).
        share: That is kept.
        seed: Of resampling.

    Returns:
        `<proxy>.gain` in gold and `<proxy>.words` in length, with intervals over prompts and trainings;
        `bonus_longer` and `bonus_cost`: how much longer, and how much less gold, what the bonus keeps is than
        what the plain score keeps; `share`.
    """
    gains = {name: kept_gain(proxy, gold, share) for name, proxy in proxies.items()}
    longer = {name: kept_gain(proxy, words, share) for name, proxy in proxies.items()}
    found: dict[str, float] = {"share": share}
    for name in proxies:
        change = {"gain": gains[name], "words": longer[name]}
        for key, values in change.items():
            found |= prefixed(name, replicated_mean(values, seed=seed).named(key))
    found |= replicated_mean(longer["bonus"] - longer["model"], seed=seed).named("bonus_longer")
    return found | replicated_mean(gains["model"] - gains["bonus"], seed=seed).named("bonus_cost")
