"""Log-probabilities of replies under a policy, and how far one policy has moved from another (exact KL)."""

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from rlhf_hw.models.batches import TokenizedGroups
from rlhf_hw.models.forward import (
    hidden_states,
    inference,
    log_prob_batch,
    over_groups,
    sum_by_reply,
    tokens_per_chunk,
)


def log_probs_groups(
    model: PreTrainedModel, groups: TokenizedGroups, pad_id: int, dtype: str = "auto"
) -> np.ndarray:
    """Summed log-probabilities of tokenized replies under a policy, shape (G, K).

    Where the groups weigh tokens (G, K, 2): the plain sums, and those of weighted tokens.
    """
    with inference(model, dtype):
        return over_groups(model, groups, pad_id, log_prob_batch, "replies", "log-probabilities")


def exact_kl(
    policy: PreTrainedModel,
    reference: PreTrainedModel,
    groups: TokenizedGroups,
    pad_id: int,
    dtype: str = "auto",
) -> np.ndarray:
    r"""KL divergence of the policy from the reference along the policy's own replies.

    At each prefix the divergence of the two next-token distributions is summed over the whole vocabulary, so
    only the prefixes are sampled; this has less variance than the log-ratio of the sampled tokens.
    :math:`\sum_t KL(\pi(\cdot|x, y_{<t}) \| \pi_{ref}(\cdot|x, y_{<t}))`

    Args:
        policy, reference: Causal language models with one vocabulary.
        groups: Prompts with replies that the policy sampled.
        pad_id: The tokenizer's padding id.
        dtype: "auto", "bf16" or "fp32".

    Returns:
        Divergence of each reply in nats, shape (G, K).
    """
    heads = [network.get_output_embeddings() for network in (policy, reference)]

    def kl(model, input_ids, position_ids, segment_ids, ends, predict_from, reply_of, used, bounds, **_):
        hidden = [
            hidden_states(network, input_ids, position_ids, segment_ids, used, bounds)[predict_from]
            for network in (policy, reference)
        ]
        pieces = zip(*(states.split(tokens_per_chunk(heads[0])) for states in hidden), strict=True)
        token_kl = [_divergence(heads[0](ours), heads[1](theirs)) for ours, theirs in pieces]
        return sum_by_reply(torch.cat(token_kl), reply_of, ends)

    with inference(reference, dtype), inference(policy, dtype):
        return over_groups(policy, groups, pad_id, kl, "replies", "exact KL")


def _divergence(logits: Tensor, reference_logits: Tensor) -> Tensor:
    """KL divergence of next-token distributions, (T, V) each to (T,)."""
    ours, theirs = logits.float().log_softmax(dim=-1), reference_logits.float().log_softmax(dim=-1)
    return (ours.exp() * (ours - theirs)).sum(-1)
