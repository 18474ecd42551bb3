"""All pairs of a prompt in one step, or shuffled: whole reward models, one pass over the data.

Ouyang et al. 2022 (equation 1) rank K replies and train on all K (K - 1) / 2 pairs of a prompt as one element
of a batch: shuffled, "a single pass over the dataset caused the reward model to overfit", since each reply
then takes part in K - 1 gradient steps; and each is encoded once in place of K - 1 times. Three ways:

    together    a step takes some prompts, each with all of its pairs: their mean is the loss of the prompt
    shuffled    the same pairs in random order, as many a step
    apart       as many pairs in as many steps, each pair from a prompt of its own (control)

What is asked is what one pass of gradient steps does to a model that can remember texts. So the models are
trained whole; a head on frozen states is fitted until it moves no more, and then knows no order of its pairs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from rlhf_hw.experiments.selection.ranked_replies import (
    RankedReplies,
    all_pairs,
    first_prompts,
    pair_places,
    pairs_apart,
    rank_replies,
)
from rlhf_hw.models.batches import TokenizedGroups, group_tokens
from rlhf_hw.models.forward import score_batch, use_pair_forward
from rlhf_hw.models.loading import load_reward_model, use_padding
from rlhf_hw.models.rendering import Renderer
from rlhf_hw.models.scoring import score_groups
from rlhf_hw.preferences.templates import Preference
from rlhf_hw.training.arguments import training_arguments
from rlhf_hw.training.config import RewardTraining
from rlhf_hw.training.trainers import PairTrainer
from rlhf_hw.workers import in_workers

TOGETHER, SHUFFLED, APART = "together", "shuffled", "apart"
WAYS = (TOGETHER, SHUFFLED, APART)


@dataclass(frozen=True)
class OrderStudy:
    """What is trained on which pairs.

    Attributes:
        sets: Comparisons whose prompts are answered, for each training; as many as its pairs.
        asked: Comparisons whose prompts are held out.
        replies: K, to each prompt.
        settings: Of training; `batch_size` counts prompts a step, with all of their pairs.
        seed: Of the first training; the next have the next.
    """

    sets: Sequence[Sequence[Preference]]
    asked: Sequence[Preference]
    replies: int
    settings: RewardTraining
    seed: int = 0

    @property
    def pairs(self) -> int:
        """Of a prompt."""
        return len(pair_places(self.replies))


@dataclass(frozen=True)
class OrderTrained:
    """One training.

    Attributes:
        margins: Of the reply that the annotator ranks higher over the other, for all pairs of the held-out
            prompts, prompt by prompt, shape (pairs,).
        learned: The same of the pairs that it was trained on, after the pass.
    """

    margins: np.ndarray
    learned: np.ndarray


class RankedTrainer(PairTrainer):
    """Training on groups of K replies, the best first, in random order.

    The loss of a group is the mean over its pairs of -log sigmoid(r_better - r_worse): for K = 2 that of
    Bradley and Terry.
    """

    def group_loss(self, outputs: Tensor, batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        margins = ranked_margins(outputs)
        losses = -torch.nn.functional.logsigmoid(margins)
        return losses.mean(dim=1), {"accuracy": (margins > 0).float().mean(dim=1)}

    def _get_train_sampler(self, train_dataset=None):
        # not by length, which would bring the pairs of a prompt together again
        return np.random.default_rng(self.args.seed).permutation(len(self.train_dataset)).tolist()


def ranked_margins(rewards: Tensor | np.ndarray) -> Tensor | np.ndarray:
    """Differences of rewards for all pairs of ranked replies, shape (G, K) -> (G, K (K - 1) / 2)."""
    better, worse = pair_places(rewards.shape[1]).T
    return rewards[:, better] - rewards[:, worse]


def order_trainings(study: OrderStudy) -> dict[str, list[OrderTrained]]:
    """Train every way on every set, side by side; a list of trainings for each of `WAYS`."""
    calls = [(way, study, k) for k in range(len(study.sets)) for way in WAYS]
    done = iter(in_workers(trained_in_order, calls, "orders of pairs"))
    each = [{way: next(done) for way in WAYS} for _ in study.sets]
    return {way: [one[way] for one in each] for way in WAYS}


def trained_in_order(way: str, study: OrderStudy, k: int) -> OrderTrained:
    """Train one reward model in one of `WAYS` on set k, and let it score."""
    seed = study.seed + k
    learned = learned_by(way, study, k)
    held_out = rank_replies(study.asked, study.replies, study.seed)
    limits = {name: getattr(study.settings, name) for name in ("max_prompt_tokens", "max_reply_tokens")}
    renderer = Renderer.load(study.settings.model, **limits)
    groups, asked = (tokenized(ranked, renderer) for ranked in (learned, held_out))
    size = study.settings.batch_size * (1 if way == TOGETHER else study.pairs)
    config = study.settings.model_copy(update={"batch_size": size, "seed": seed})
    model = use_padding(load_reward_model(config.model, seed=seed), renderer.pad_id)
    use_pair_forward(model, score_batch)
    arguments = training_arguments(config, len(groups), evaluate=False)
    RankedTrainer(config, model, arguments, groups, None, renderer.pad_id, way).train()
    scores = partial(score_groups, model, pad_id=renderer.pad_id, dtype=config.dtype)
    if way == SHUFFLED:  # the same margins, and each reply is read once
        groups = tokenized(learned_by(TOGETHER, study, k), renderer)
    return OrderTrained(*(ranked_margins(scores(part)).ravel() for part in (asked, groups)))


def learned_by(way: str, study: OrderStudy, k: int) -> RankedReplies:
    """What a training of one of `WAYS` learns from: groups of K replies or pairs, equally many labels."""
    # all ways take their replies from the same draw: writers, lengths and noise are alike
    ranked = rank_replies(study.sets[k], study.replies, study.seed + k + 1)
    if way == APART:
        return pairs_apart(ranked, study.seed + k)
    few = first_prompts(ranked, len(study.sets[k]) // study.pairs)
    return few if way == TOGETHER else all_pairs(few)


def tokenized(ranked: RankedReplies, renderer: Renderer) -> TokenizedGroups:
    """As groups of K replies behind one copy of their prompt."""
    ids = iter(renderer.reply_ids([text for row in ranked.texts for text in row]))
    return group_tokens(renderer.prompt_ids(ranked.prompts), [[next(ids) for _ in r] for r in ranked.texts])
