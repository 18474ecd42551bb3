"""What `decompose.decompose` needs of a run: pairs from its score files, gold, and signs of unfamiliar text.

Signs of unfamiliarity are read from the last hidden state at the token where the score is read. One is the
distance of that state from those of training replies (Lee et al. 2018). The other is the disagreement of an
ensemble of score heads, each fitted by the Bradley-Terry likelihood to another bootstrap sample of training
pairs on the frozen states: an ensemble of the last layer only, which costs seconds where one of whole models
(Coste et al. 2024) costs several trainings, and which therefore underestimates the disagreement.

    pairs = reply_pairs(reward_model, read_replies(...), preferences)
    cells = gap_cells(pairs.pairs, reward_model.score_ids, ends)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

from rlhf_hw.errors import UnknownName
from rlhf_hw.experiments.score_gap.decompose import Cells, decompose, hidden_distance
from rlhf_hw.experiments.score_gap.edits import FACTORS, Ids, Pair, ScoredReply, correct, make_pairs
from rlhf_hw.models.batches import group_tokens, tokenize_preferences
from rlhf_hw.models.forward import end_states
from rlhf_hw.models.scoring import RewardModel
from rlhf_hw.preferences.templates import Preference
from rlhf_hw.stats.intervals import Estimate

HEADS = 8
STRENGTH = 0.1  # sklearn's C; the states are standardized, and there are about as many of them as pairs


@dataclass(frozen=True)
class RunPairs:
    """Generated and reference replies to the same prompts, with the preferences they come from."""

    pairs: list[Pair]
    preferences: list[Preference]

    @property
    def prompts(self) -> list[tuple]:
        """Identifies prompts, for the bootstrap."""
        return [p.prompt for p in self.preferences]


def reply_pairs(
    reward_model: RewardModel, replies: pd.DataFrame, preferences: Sequence[Preference]
) -> RunPairs:
    """Pairs each generated reply with the chosen reply to its prompt, as ids, as both were scored.

    Args:
        reward_model: whose renderer scored both.
        replies: from `score_files.read_replies`, with `finished`, and `row` in `meta`, the preference's row.
        preferences: those that gave the prompts. Empty replies are left out.

    Raises:
        KeyError: a reply's row is not among the preferences.
    """
    known = {preference.row: preference for preference in preferences}
    rows = [meta["row"] for meta in replies["meta"]]
    missing = [row for row in rows if row not in known]
    if missing:
        raise UnknownName(
            f"replies to row {missing[0]} ({len(missing)} in all), which is not in the data set given"
        )
    chosen, renderer = [known[row] for row in rows], reward_model.renderer
    contents = [
        reply_contents(reward_model, texts) for texts in (replies["response"], [p.chosen for p in chosen])
    ]
    kept = [n for n in range(len(rows)) if contents[0][n] and contents[1][n]]
    pairs = make_pairs(
        renderer.prompt_ids([chosen[n].prompt for n in kept]),
        *([side[n] for n in kept] for side in contents),
        renderer.suffix,
        finished=[bool(replies["finished"].iloc[n]) for n in kept],
        closed=True,  # replies are scored as text, which the renderer ends with the end token
    )
    return RunPairs(pairs, [chosen[n] for n in kept])


def shared_places(first: RunPairs, second: RunPairs) -> tuple[list[int], list[int]]:
    """Where the preferences that both have stand in each; an empty reply of one policy has left one out.

    The gaps of two policies to the same references, subtracted, are the gain of one over the other, and so
    are their parts: with these places `decompose.decompose` takes the gain apart.
    """
    places = {preference.row: place for place, preference in enumerate(second.preferences)}
    shared = [n for n, preference in enumerate(first.preferences) if preference.row in places]
    return shared, [places[first.preferences[n].row] for n in shared]


def gain_parts(
    cells: Mapping[str, Cells],
    found: Mapping[str, RunPairs],
    gold_gap: Mapping[str, np.ndarray | None],
    signs: Mapping[str, np.ndarray],
    **options,
) -> dict[str, Estimate]:
    """DPO's gain in score over the base model, taken apart as the gaps of both to the same references are.

    Args:
        cells, found, gold_gap, signs: of "dpo" and "base", each as `decompose.decompose` takes them.
        options: further arguments of `decompose.decompose`.
    """
    here, there = shared_places(found["dpo"], found["base"])

    def gained(dpo, base):
        return None if dpo is None else dpo[here] - base[there]

    return decompose(
        {cell: gained(cells["dpo"][cell], cells["base"][cell]) for cell in cells["dpo"]},
        FACTORS,
        [found["dpo"].prompts[n] for n in here],
        gold_gap=gained(gold_gap["dpo"], gold_gap["base"]),
        ood=gained(signs["dpo"], signs["base"]),
        **options,
    )


def statements(parts: Mapping[str, Mapping[str, Estimate]], distance: Estimate) -> dict[str, bool]:
    """What the intervals allow to say of the gap of DPO's replies and of DPO's gain.

    Whether any of it deserves belief, the trials with planted faults say by their numbers: a few clean worlds
    without an alarm would not bear out a statement that alarms are rare.

    Args:
        parts: "dpo", the parts of the gap, and "gain", those of DPO's gain.
        distance: of DPO's replies from the training replies minus that of the references, the first column of
            `unfamiliarity`; where it is not above zero, the part `ood` is no harm from strange text.
    """
    gap, gain = parts["dpo"], {k: v for k, v in parts["gain"].items() if k != "gap"}
    found = {f"gain_from_{name}": part.low > 0 for name, part in gain.items()}
    found |= {f"loss_from_{name}": part.high < 0 for name, part in gain.items()}
    found |= {f"score_gap_{k}_in_gap": v.low > 0 or v.high < 0 for k, v in gap.items() if k != "gap"}
    found |= {"score_gap_positive": gap["gap"].low > 0, "score_gap_negative": gap["gap"].high < 0}
    return found | {"score_gap_less_familiar": distance.low > 0}


def reply_contents(reward_model: RewardModel, texts: Sequence[str]) -> list[list[int]]:
    """Ids of replies as scored, without the tail."""
    tail = len(reward_model.renderer.suffix)
    return [ids[:-tail] for ids in reward_model.renderer.reply_ids(list(texts))]


def corrected(pairs: Sequence[Pair], ends: frozenset[int]) -> list[Pair]:
    """The pairs with every factor corrected."""
    return [correct(pair, FACTORS, ends) for pair in pairs]


def gold_gap(
    run_pairs: RunPairs, reward_model: RewardModel, ends: frozenset[int], gold: Callable[[str, str], float]
) -> np.ndarray:
    """Gold of the corrected generated reply minus gold of the corrected reference, shape (prompts,).

    Args:
        gold: (question, reply) -> true reward, for instance `world.gold.gold`.
    """
    decode = reward_model.renderer.decode
    return np.array(
        [
            gold(preference.question, decode(pair.generated.content))
            - gold(preference.question, decode(pair.reference.content))
            for pair, preference in zip(corrected(run_pairs.pairs, ends), run_pairs.preferences, strict=True)
        ]
    )


def states_of(reward_model: RewardModel, replies: Sequence[ScoredReply]) -> np.ndarray:
    """Last hidden states where the scores are read, shape (replies, width); equal texts computed once."""
    keys: list[tuple[Ids, Ids]] = [(reply.prompt, reply.reply_ids) for reply in replies]
    unique = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    groups = group_tokens([list(prompt) for prompt, _ in unique], [[list(ids)] for _, ids in unique])
    states = end_states(reward_model.model, groups, reward_model.renderer.pad_id, reward_model.dtype)[:, 0]
    return states[[unique[key] for key in keys]].astype(float)


def training_states(reward_model: RewardModel, preferences: Sequence[Preference]) -> np.ndarray:
    """States of chosen and rejected replies, shape (pairs, 2, width)."""
    groups, _, _ = tokenize_preferences(preferences, reward_model.renderer)
    states = end_states(reward_model.model, groups, reward_model.renderer.pad_id, reward_model.dtype)
    return states.astype(float)


def head_spread(states: np.ndarray, training: np.ndarray, heads: int = HEADS, seed: int = 0) -> np.ndarray:
    """Standard deviation of the scores that an ensemble of heads gives.

    Args:
        states: shape (replies, width).
        training: shape (pairs, 2, width), chosen first.
        heads: number of bootstrap samples of the pairs.
        seed: of these.

    Returns:
        Shape (replies,), in standard deviations of the training replies' scores; the level that each head
        leaves open is set by the training replies.
    """
    flat = training.reshape(-1, training.shape[-1])
    scale = flat.std(axis=0) + 1e-9
    difference = (training[:, 0] - training[:, 1]) / scale
    generator, scores = np.random.default_rng(seed), []
    for _ in range(heads):
        drawn = difference[generator.integers(0, len(difference), len(difference))]
        sign = generator.choice([-1.0, 1.0], len(drawn))
        model = LogisticRegression(C=STRENGTH, fit_intercept=False, max_iter=500).fit(
            drawn * sign[:, None], sign
        )
        weight = model.coef_[0] / scale
        known = flat @ weight
        scores.append((states @ weight - known.mean()) / known.std())
    return np.std(scores, axis=0)


def unfamiliarity(
    reward_model: RewardModel, pairs: Sequence[Pair], preferences: Sequence[Preference], ends: frozenset[int]
) -> np.ndarray:
    """Signs of unfamiliar text, corrected generated reply minus corrected reference.

    Args:
        preferences: training pairs, some hundreds.

    Returns:
        Shape (prompts, 2): hidden-state distance, spread of the heads.
    """
    training = training_states(reward_model, preferences)
    sides = zip(*((pair.generated, pair.reference) for pair in corrected(pairs, ends)), strict=True)
    states = [states_of(reward_model, side) for side in sides]
    flat = training.reshape(-1, training.shape[-1])
    signs = [np.column_stack([hidden_distance(side, flat), head_spread(side, training)]) for side in states]
    return signs[0] - signs[1]
