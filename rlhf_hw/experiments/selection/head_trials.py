"""How good a reward model must be: small ones by number of pairs, by labels, and by how much they see.

Each kind is drawn several times with other pairs and flips, and judged by held-out pairs and by the gold of
what it chooses from many replies.
"""

from collections.abc import Mapping
from dataclasses import replace

from rlhf_hw.experiments.result import prefixed
from rlhf_hw.experiments.selection.gold_curves import doublings, proxy_numbers
from rlhf_hw.experiments.selection.over_inputs import ManyReplies, Variations
from rlhf_hw.experiments.selection.state_heads import JudgedHeads, Labels, draw_heads, judge_heads
from rlhf_hw.stats.replicates import replicated_mean, replicated_rate


def judge_labels(replies: ManyReplies, wanted: Variations, seed: int = 0) -> dict[Labels | int, JudgedHeads]:
    """Small reward models by who labelled their pairs, and by how many there are."""
    size, sizes = wanted.sizes[-1], doublings(replies.gold.shape[1])

    def judged(pairs: int, labels: Labels) -> JudgedHeads:
        heads = draw_heads(replies.train, pairs, labels, wanted.draws, seed)
        return judge_heads(heads, replies.held_out, replies.states, replies.gold, sizes)

    kinds = [*(Labels(rate) for rate in wanted.rates), Labels(favour_length=True)]
    found: dict[Labels | int, JudgedHeads] = {labels: judged(size, labels) for labels in kinds}
    return found | {pairs: judged(pairs, Labels()) for pairs in wanted.sizes[:-1]} | {size: found[kinds[0]]}


def label_numbers(
    found: Mapping[Labels | int, JudgedHeads], wanted: Variations
) -> tuple[dict[int, dict[str, float]], dict[float, dict[str, float]], dict[str, float]]:
    """Accuracy and gold of small reward models, and what pairs and flips change.

    Returns:
        Number of pairs -> numbers; share of flips -> numbers; and as metrics: `few.*`, `many.*` (pairs),
        `noisy.*` (flips that are to be found), `flipped.*` (the largest share below one half), `shuffled.*`,
        `favour_length.*`, each with `accuracy`, `gold_most`, `fall`; `pairs_gain`, `noise_cost`,
        `length_cost`: differences of `gold_most`.
    """
    by_pairs = {size: head_numbers(found[size]) for size in wanted.sizes}
    by_flips = {rate: head_numbers(found[Labels(rate)]) for rate in wanted.rates}
    kinds = {
        "few": wanted.sizes[0],
        "many": wanted.sizes[-1],
        "noisy": Labels(wanted.flip_rate),
        "flipped": Labels(wanted.rates[-2]),
        "shuffled": Labels(wanted.rates[-1]),
        "favour_length": Labels(favour_length=True),
    }
    numbers: dict[str, float] = {
        "few_pairs": wanted.sizes[0],
        "many_pairs": wanted.sizes[-1],
        "flipped_share": wanted.rates[-2],
        "noisy_share": wanted.flip_rate,
    }
    for name, kind in kinds.items():
        numbers |= prefixed(name, head_numbers(found[kind]))
    most = {name: found[kind].curve.gold[..., -1] for name, kind in kinds.items()}
    for name, other in (("pairs_gain", "few"), ("noise_cost", "flipped"), ("length_cost", "favour_length")):
        numbers |= replicated_mean(most["many"] - most[other]).named(name)
    return by_pairs, by_flips, numbers


def direction_numbers(
    replies: ManyReplies, whole: JudgedHeads, wanted: Variations, seed: int = 0
) -> tuple[dict[int, dict[str, float]], dict[str, float]]:
    """Small reward models by how much of the states they see, which is how large they are.

    Args:
        replies: The states.
        whole: Heads on all directions, of the largest number of pairs.
        wanted: What is varied.
        seed: Of draws.

    Returns:
        Number of directions -> numbers; and as metrics `narrow.*`, of the fewest, their number
        `narrow_directions`, that of all, `all_directions`, and `directions_gain`, what all bring beyond them.
    """
    every, sizes = replies.states.shape[-1], doublings(replies.gold.shape[1])
    judged = {every: whole}
    for count in sorted({min(count, every) for count in wanted.directions} - {every}):
        seen = replace(replies.train, differences=replies.train.differences[:, :count])
        heads = draw_heads(seen, wanted.sizes[-1], Labels(), wanted.draws, seed)
        asked = replace(replies.held_out, differences=replies.held_out.differences[:, :count])
        judged[count] = judge_heads(heads, asked, replies.states[..., :count], replies.gold, sizes)
    rows = {count: head_numbers(judged[count]) for count in sorted(judged)}
    narrow = min(judged)
    gain = whole.curve.gold[..., -1] - judged[narrow].curve.gold[..., -1]
    numbers = prefixed("narrow", rows[narrow]) | replicated_mean(gain).named("directions_gain")
    return rows, numbers | {"narrow_directions": narrow, "all_directions": every}


def head_numbers(heads: JudgedHeads) -> dict[str, float]:
    """`accuracy` on held-out pairs, `gold_most` and `fall` of best-of-n, with both intervals."""
    numbers = replicated_rate(heads.right).named("accuracy")
    curve = proxy_numbers(heads.curve)
    return numbers | {k: v for k, v in curve.items() if k.startswith(("gold_most", "fall"))}
