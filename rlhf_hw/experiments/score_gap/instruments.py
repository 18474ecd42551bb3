"""What a gap is measured with: one reward model, and what is known beside it of familiar and of good replies.

The gaps of policies (`policy_gap`) and the trials of planted faults (`planted_trials`) are measured with the
same instruments, so that the trials test all that is said of the policies: switches, quality, unfamiliarity.

    instruments = instruments_for(reward_model, training_preferences, gold, price)
    parts = instruments.measure(pairs, questions).parts(price)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from rlhf_hw.experiments.score_gap.decompose import ORDER, Compute, gap_cells, of_replies, once, prompt_parts
from rlhf_hw.experiments.score_gap.edits import FACTORS, Ids, Pair, corrected, sentence_end_ids
from rlhf_hw.experiments.score_gap.unfamiliarity import FamiliarStates, states_of, training_states
from rlhf_hw.models.scoring import RewardModel
from rlhf_hw.preferences.templates import Preference


@dataclass(frozen=True)
class Measured:
    """The gaps of some pairs, and what may explain what corrections leave; arrays have one entry a pair.

    Attributes:
        cells: Corrected factors -> r(generated) - r(reference).
        gold: Gold of the corrected generated reply minus that of the corrected reference, or None.
        unfamiliar: Signs of unfamiliar text, corrected generated minus corrected reference, shape (pairs, 2):
            hidden-state distance, disagreement of heads; or None.
    """

    cells: dict[frozenset[str], np.ndarray]
    gold: np.ndarray | None
    unfamiliar: np.ndarray | None

    def parts(self, price: float | None) -> dict[str, np.ndarray]:
        """The gap of each pair and its parts, from `decompose.prompt_parts`."""
        gold = self.gold if price is not None else None
        options = {"gold_gap": gold, "gold_price": price, "ood": self.unfamiliar}
        return prompt_parts(self.cells, FACTORS, stages=ORDER, **options)


@dataclass(frozen=True)
class Instruments:
    """How replies, given as ids, are read.

    Attributes:
        score: (prompts, replies) -> scores, as `decompose.gap_cells` takes it.
        ends: Ids that end a sentence.
        signs: (prompts, replies) -> signs of unfamiliarity, shape (replies, 2); None: they are not read.
        gold: (question, content of a reply) -> true reward; None where it is unknown.
        price: Points that the reward model pays for a unit of gold, or None.
    """

    score: Compute
    ends: frozenset[int]
    signs: Compute | None = None
    gold: Callable[[str, Ids], float] | None = None
    price: float | None = None

    def measure(self, pairs: Sequence[Pair], questions: Sequence[str]) -> Measured:
        """Measure the gaps of pairs in every cell that `ORDER` passes through, and what may explain the rest.

        Args:
            pairs: From `edits.make_pairs`.
            questions: What each pair answers.
        """
        fixed, gold, signs = corrected(pairs, self.ends), None, None
        if self.gold is not None:
            gold = np.array(
                [
                    self.gold(question, pair.generated.content) - self.gold(question, pair.reference.content)
                    for question, pair in zip(questions, fixed, strict=True)
                ]
            )
        if self.signs is not None:
            sides = [side for pair in fixed for side in (pair.generated, pair.reference)]
            both = of_replies(self.signs, sides).reshape(len(fixed), 2, -1)
            signs = both[:, 0] - both[:, 1]
        return Measured(gap_cells(pairs, self.score, self.ends, ORDER), gold, signs)


def instruments_for(
    reward_model: RewardModel,
    training: Sequence[Preference],
    gold: Callable[[str, str], float] | None = None,
    price: float | None = None,
) -> Instruments:
    """Instruments with a reward model; equal texts are scored once, whoever asks.

    Args:
        reward_model: Its renderer is the one that rendered what it was trained on.
        training: Some hundreds of its training pairs: they say what is familiar.
        gold: (question, reply) -> true reward, for instance `world.gold.gold`; None where it is unknown.
        price: From `policy_gap.price_from_pairs`.
    """
    familiar, decode = FamiliarStates(training_states(reward_model, training)), reward_model.renderer.decode
    known: dict[tuple[str, Ids], float] = {}

    def gold_of(question: str, content: Ids) -> float:
        if (question, content) not in known:
            known[question, content] = gold(question, decode(content))
        return known[question, content]

    def readings(prompts: Sequence[list[int]], replies: Sequence[list[int]]) -> np.ndarray:
        states = states_of(reward_model, prompts, replies)
        return np.column_stack([head_scores(reward_model, states), familiar.signs(states)])

    read = once(readings)  # one pass through the model gives all three
    return Instruments(
        lambda prompts, replies: read(prompts, replies)[:, 0],
        sentence_end_ids(reward_model.renderer.tokenizer),
        lambda prompts, replies: read(prompts, replies)[:, 1:],
        None if gold is None else gold_of,
        price,
    )


def head_scores(reward_model: RewardModel, states: np.ndarray) -> np.ndarray:
    """Scores of replies whose last hidden states are known, shape (replies,); the head works in fp32."""
    head = reward_model.model.score
    with torch.inference_mode():
        return head(torch.from_numpy(states).to(head.weight)).squeeze(-1).cpu().numpy()
