"""Run models on shared-prompt batches: scores and log-probabilities of several replies to one prompt.

For training, the model's own `forward` is replaced by `score_batch` or `log_prob_batch` (`use_pair_forward`).
It stays one module's `forward`, since DDP and DeepSpeed see gradients only there, and the saved checkpoint
stays a standard one. Without gradients (`inference`), `over_groups` takes such a function through a whole
data set, in batches of similar length; `scoring` and `log_probs` are built on it.
"""

from collections.abc import Callable
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from tqdm import tqdm
from transformers import PreTrainedModel

from rlhf_hw.models.attention import mask_of_batch, refuse_beyond_window, use_attention
from rlhf_hw.models.batches import TokenizedGroups, build_batch, on_device, sorted_batches
from rlhf_hw.models.cpu_speed import FreedMemory, LinearByOneDNN, keep_freed_memory
from rlhf_hw.models.fused import fused, use_fused, with_forward
from rlhf_hw.models.loading import pick_dtype

# The language-model head works on chunks of at most this many logits; 2^25 floats are 128 MiB in fp32.
MAX_LOGITS = 2**25
# Without gradients; padding counts. On a processor, few enough that a layer's results stay in its cache.
TOKENS_PER_BATCH = 16384 if torch.cuda.is_available() else 4096


def backbone(model: PreTrainedModel) -> nn.Module:
    """The transformer without its head; of a model that also sees or hears, the part for text."""
    whole = getattr(model, model.base_model_prefix)
    return getattr(whole, "language_model", whole)


def hidden_states(
    model: PreTrainedModel,
    input_ids: Tensor,
    position_ids: Tensor,
    segment_ids: Tensor,
    used: Tensor,
    bounds: np.ndarray | None = None,
) -> Tensor:
    """Last hidden states of a shared-prompt batch at the positions that are read.

    Args:
        model: Any model with a head.
        input_ids, position_ids, segment_ids: Shape (B, L), see `batches.build_batch`.
        used: Flat positions, shape (U,), each at most once.
        bounds: See `attention.mask_of_batch`.

    Returns:
        Shape (B * L, D); other rows than those in `used` hold numbers without a meaning.
    """
    transformer = backbone(model)
    kind, dtype = input_ids.device.type, model.dtype
    if torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
    with last_mlp_at(transformer, used):
        output = transformer(
            input_ids=input_ids,
            position_ids=position_ids,
            attention_mask=mask_of_batch(transformer, segment_ids, bounds, dtype),
            use_cache=False,
        )
    return output.last_hidden_state.flatten(0, 1)


@contextmanager
def last_mlp_at(transformer: nn.Module, used: Tensor):
    """Within it, the last layer's MLP works on the positions that are read later, not on prompts and padding.

    Nothing looks at the last layer's other outputs, and an MLP treats each position alone: no result changes.
    Models whose layers or MLPs are built otherwise compute all positions, and so does activation
    checkpointing, which would recompute the layer outside this context.
    """
    layers = getattr(transformer, "layers", None)
    mlp = getattr(layers[-1], "mlp", None) if layers else None
    plain = type(mlp).__name__.endswith("MLP") and not hasattr(mlp, "experts")
    if not plain or transformer.is_activation_checkpointing:
        yield
        return
    whole, replaced = mlp.forward, "forward" in vars(mlp)

    def forward(hidden: Tensor) -> Tensor:
        flat = hidden.flatten(0, -2)
        some = whole(flat[used])
        return some.new_zeros(len(flat), some.shape[-1]).index_copy(0, used, some).view_as(hidden)

    mlp.forward = forward
    try:
        yield
    finally:
        if replaced:
            mlp.forward = whole
        else:  # the class's own; a bound method left in the module would be a cycle
            del mlp.forward


def end_hidden(
    model: PreTrainedModel,
    input_ids: Tensor,
    position_ids: Tensor,
    segment_ids: Tensor,
    ends: Tensor,
    bounds: np.ndarray | None = None,
) -> Tensor:
    """Last hidden states at each reply's last token, shape (B, K, D)."""
    rows = torch.arange(len(ends), device=ends.device)[:, None]
    places = (rows * input_ids.shape[1] + ends).flatten()
    hidden = hidden_states(model, input_ids, position_ids, segment_ids, places, bounds)
    return hidden[places].view(*ends.shape, -1)


def score_batch(
    model: PreTrainedModel,
    input_ids: Tensor,
    position_ids: Tensor,
    segment_ids: Tensor,
    ends: Tensor,
    bounds: np.ndarray | None = None,
) -> Tensor:
    """Rewards of a shared-prompt batch, read at each reply's last token.

    The head works in fp32 and on those tokens only: in bf16 near-equal replies would tie.

    Args:
        model: A reward model.
        input_ids, position_ids, segment_ids: Shape (B, L), see `batches.build_batch`.
        ends: Shape (B, K).
        bounds: See `attention.mask_of_batch`.

    Returns:
        Rewards, shape (B, K), fp32.
    """
    at_end = end_hidden(model, input_ids, position_ids, segment_ids, ends, bounds)
    with torch.autocast(at_end.device.type, enabled=False):
        return model.score(at_end.float()).squeeze(-1)


def log_prob_batch(
    model: PreTrainedModel,
    input_ids: Tensor,
    position_ids: Tensor,
    segment_ids: Tensor,
    ends: Tensor,
    predict_from: Tensor,
    target_ids: Tensor,
    reply_of: Tensor,
    used: Tensor,
    weights: Tensor | None = None,
    bounds: np.ndarray | None = None,
) -> Tensor:
    """Summed log-probabilities of the replies of a shared-prompt batch.

    The head runs on the positions that predict a reply token, not on prompts and padding.

    Args:
        model: A causal language model.
        input_ids, position_ids, segment_ids, ends, bounds: See `score_batch`.
        predict_from, target_ids, reply_of, used, weights: See `batches.build_batch`.

    Returns:
        Shape (B, K), fp32; with weights (B, K, 2): the plain sums, and those of weighted tokens.
    """
    hidden = hidden_states(model, input_ids, position_ids, segment_ids, used, bounds)
    log_probs = token_log_probs(model.get_output_embeddings(), hidden[predict_from], target_ids)
    sums = sum_by_reply(log_probs, reply_of, ends)
    if weights is None:
        return sums
    return torch.stack([sums, sum_by_reply(weights * log_probs, reply_of, ends)], dim=-1)


def sum_by_reply(values: Tensor, reply_of: Tensor, ends: Tensor) -> Tensor:
    """Sum values of tokens, shape (T,), over each reply, shape (B, K) as `ends`."""
    sums = values.new_zeros(ends.numel() + 1)  # the last place takes the filling, whose reply is -1
    return sums.index_add(0, reply_of.remainder(ends.numel() + 1), values)[:-1].view_as(ends)


def token_log_probs(head: nn.Module, hidden: Tensor, target_ids: Tensor) -> Tensor:
    """Log-probability of each target token, with log-sum-exp in fp32.

    Works through the tokens in chunks; with more than one, logits are recomputed in the backward pass instead
    of kept, so that memory does not grow with the vocabulary times the number of tokens.

    Args:
        head: The language-model head, D -> V.
        hidden: Shape (T, D).
        target_ids: Shape (T,).

    Returns:
        Shape (T,), fp32.
    """
    chunk = tokens_per_chunk(head)
    pieces = list(zip(hidden.split(chunk), target_ids.split(chunk), strict=True))
    function = partial(_chunk_log_probs, head)
    if len(pieces) > 1 and torch.is_grad_enabled():
        function = partial(checkpoint, function, use_reentrant=False)
    return torch.cat([function(h, t) for h, t in pieces])


def tokens_per_chunk(head: nn.Module) -> int:
    """How many tokens' logits the head may compute at a time."""
    return max(1, MAX_LOGITS // head.out_features)


def _chunk_log_probs(head: nn.Module, hidden: Tensor, target_ids: Tensor) -> Tensor:
    logits = head(hidden).float()
    return logits.gather(1, target_ids[:, None]).squeeze(1) - logits.logsumexp(dim=1)


def use_pair_forward(model: PreTrainedModel, forward) -> PreTrainedModel:
    """Make `score_batch` or `log_prob_batch` the model's own `forward`."""
    model.__class__ = with_forward(type(model), forward)
    use_attention(model)
    use_fused(model)
    return model


def compile_layers(model: PreTrainedModel, backend: str = "inductor") -> None:
    """Let torch compile the layers, once for rows of all lengths; checkpoints stay as they are.

    On a GPU the small operations between products are then few (docs/benchmarks.md); on a processor nothing
    is gained. The last layer is left out: its MLP is another for each batch (`last_mlp_at`).

    Args:
        model: Any model with a head, whose backbone has `layers`.
        backend: Of `torch.compile`.
    """
    for layer in backbone(model).layers[:-1]:
        layer.compile(dynamic=True, backend=backend)


@contextmanager
def inference(model: PreTrainedModel, dtype: str = "auto"):
    """Evaluation mode, no gradients, matrix products in `dtype`; restores the model's mode."""
    keep_freed_memory()
    was_training = model.training
    model.eval()
    device, wanted = next(model.parameters()).device.type, pick_dtype(dtype)
    try:
        autocast = torch.autocast(device, wanted, enabled=wanted != torch.float32)
        with torch.inference_mode(), autocast, LinearByOneDNN(), fused(model):
            yield
    finally:
        model.train(was_training)


def over_groups(
    model: PreTrainedModel, groups: TokenizedGroups, pad_id: int, function: Callable, targets: str, title: str
) -> np.ndarray:
    """Apply a function of a batch, which gives (B, K, ...), to all groups; results in their order.

    They are read back once, at the end: a GPU then works while the next batch is laid out.
    """
    refuse_beyond_window(model, groups.longest)
    order, values, freed = [], [], FreedMemory()
    size = max(1, TOKENS_PER_BATCH // int(groups.lengths.max()))
    device = next(model.parameters()).device
    for indices in tqdm(sorted_batches(groups.lengths, size), desc=title, leave=False, mininterval=1):
        batch = on_device(build_batch(groups, indices, pad_id, targets=targets), device)
        order.append(indices)
        values.append(function(model, **batch).float())
        freed.after_step()
    found = torch.cat(values).cpu().numpy()
    results = np.empty_like(found)
    results[np.concatenate(order)] = found
    return results


def end_states(
    model: PreTrainedModel, groups: TokenizedGroups, pad_id: int, dtype: str = "auto"
) -> np.ndarray:
    """Last hidden states at each reply's last token, shape (G, K, D), to tell familiar texts from others."""
    with inference(model, dtype):
        return over_groups(model, groups, pad_id, end_hidden, "none", "end states")
