"""Load and save reward models and policies, and run them on shared-prompt batches.

A reward model is `AutoModelForSequenceClassification` with one label, a policy `AutoModelForCausalLM`: what
TRL, RewardBench and plain transformers load too. For training, the model's own `forward` is replaced by the
pair forward below. It stays one module's `forward`, since DDP and DeepSpeed see gradients only there, and the
saved checkpoint stays a standard one.
"""

import os
from collections.abc import Iterable
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import MethodType

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedModel

from rlhf_hw.attention import ATTENTION, refuse_other_attention
from rlhf_hw.hub import hub_files

# DeepSpeed, which the Trainer imports, would say in every notebook that it found no accelerator.
if not torch.accelerator.is_available():
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
# Weights load in a moment; the bar would only fill notebooks.
transformers.utils.logging.disable_progress_bar()

# The language-model head works on chunks of at most this many logits; 2^25 floats are 128 MiB in fp32.
MAX_LOGITS = 2**25
# The pair mask is one of True and False; of the other attention kernels only sdpa reads it as such.
LOADING = {"attn_implementation": ATTENTION, "output_loading_info": True, "trust_remote_code": False}


def pick_dtype(dtype: str = "auto") -> torch.dtype:
    """Return the dtype for matrix products: bf16 where the hardware multiplies it natively, else fp32.

    Args:
        dtype: "auto", "bf16" or "fp32".
    """
    names = {"bf16": torch.bfloat16, "fp32": torch.float32}
    if dtype in names:
        return names[dtype]
    if dtype != "auto":
        raise ValueError(f"dtype: expected auto, bf16 or fp32, found {dtype!r}")
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    # oneDNN also takes bf16 on processors that have to emulate it, and can be told to act as an older one
    native = any(torch.cpu.get_capabilities().get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    usable = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if native and usable else torch.float32


def load_policy(path: str | Path, dtype: torch.dtype | str = torch.float32) -> PreTrainedModel:
    """Load a causal language model, by default with fp32 weights (bf16 ones would lose small updates).

    Raises:
        ValueError: Weights are missing, the model changes its logits after the head, or its layers do not all
            attend by a mask (Mamba, RWKV, ALiBi).
    """
    with hub_files(path):
        model, info = AutoModelForCausalLM.from_pretrained(str(path), dtype=dtype, **LOADING)
    _refuse_missing(path, info["missing_keys"])
    refuse_other_attention(path, model)
    for name in ("final_logit_softcapping", "logit_scale", "logits_scaling"):
        if getattr(model.config, name, None) not in (None, 1):
            raise ValueError(f"{path}: logits changed by {name} after the head are not supported")
    return model


def load_reward_model(path: str | Path, seed: int = 0) -> PreTrainedModel:
    """Load a reward model, or put a new scalar head on a language model.

    A new head is `random_head(hidden size, seed)`: different seeds give different, equally meaningless
    rankings. align-anything's checkpoints, which call the head `score_head`, load too.

    Raises:
        ValueError: The checkpoint has several labels, weights are missing, or the model's layers do not all
            attend by a mask.
    """
    with hub_files(path):
        config = AutoConfig.from_pretrained(str(path))
    trained = "SequenceClassification" in "".join(config.architectures or [])
    if trained and config.num_labels != 1:
        raise ValueError(f"{path}: a reward model has one label, this checkpoint has {config.num_labels}")
    with _quiet():  # transformers warns of a new head at length; what matters is checked below
        model, info = AutoModelForSequenceClassification.from_pretrained(
            str(path), num_labels=1, dtype=torch.float32, key_mapping={r"^score_head\.": "score."}, **LOADING
        )
    refuse_other_attention(path, model)
    new_head = "score.weight" in info["missing_keys"] and not trained
    _refuse_missing(path, set(info["missing_keys"]) - ({"score.weight"} if new_head else set()))
    if new_head:
        with torch.no_grad():
            model.score.weight.copy_(random_head(model.config.hidden_size, seed))
    model.score.forward = MethodType(_linear_in_fp32, model.score)
    return model


def random_head(width: int, seed: int) -> Tensor:
    """A random score head, shape (1, width), whose scores have about unit variance before training."""
    return torch.randn(1, width, generator=torch.Generator().manual_seed(seed)) * width**-0.5


@contextmanager
def _quiet():
    """Only errors from transformers' log."""
    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(before)


def _linear_in_fp32(head: nn.Linear, hidden: Tensor) -> Tensor:
    """The score head in fp32 also where DeepSpeed holds its weight in bf16."""
    return F.linear(hidden.float(), head.weight.float())


def _refuse_missing(path: str | Path, missing: Iterable[str]) -> None:
    """transformers would fill missing weights with random numbers and only warn."""
    if missing:
        raise ValueError(f"{path}: the checkpoint lacks weights, for example {sorted(missing)[0]}")


def backbone(model: PreTrainedModel) -> nn.Module:
    """The transformer without its head."""
    return getattr(model, model.base_model_prefix)


def pair_mask(segment_ids: Tensor) -> Tensor:
    """Attention mask of a shared-prompt batch.

    Args:
        segment_ids: Shape (B, L); 0 prompt, 1..K replies, -1 padding.

    Returns:
        Shape (B, 1, L, L), True where position i may look at position j: j is not later than i, and j belongs
        to the prompt or to i's own reply.
    """
    length = segment_ids.shape[1]
    query, key = segment_ids[:, :, None], segment_ids[:, None, :]
    causal = torch.ones(length, length, dtype=torch.bool, device=segment_ids.device).tril()
    return (causal & ((key == 0) | (key == query)))[:, None]


def hidden_states(
    model: PreTrainedModel, input_ids: Tensor, position_ids: Tensor, segment_ids: Tensor, used: Tensor
) -> Tensor:
    """Last hidden states of a shared-prompt batch at the positions that are read.

    Args:
        model: Any model with a head.
        input_ids, position_ids, segment_ids: Shape (B, L), see `batches.build_batch`.
        used: Flat positions, shape (U,), each at most once.

    Returns:
        Shape (B * L, D); other rows than those in `used` hold numbers without a meaning.
    """
    transformer = backbone(model)
    with last_mlp_at(transformer, used):
        output = transformer(
            input_ids=input_ids,
            position_ids=position_ids,
            attention_mask=pair_mask(segment_ids),
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
    if not type(mlp).__name__.endswith("MLP") or transformer.is_activation_checkpointing:
        yield
        return
    whole = mlp.forward

    def forward(hidden: Tensor) -> Tensor:
        flat = hidden.flatten(0, -2)
        some = whole(flat[used])
        return some.new_zeros(len(flat), some.shape[-1]).index_copy(0, used, some).view_as(hidden)

    mlp.forward = forward
    try:
        yield
    finally:
        mlp.forward = whole


def end_hidden(
    model: PreTrainedModel, input_ids: Tensor, position_ids: Tensor, segment_ids: Tensor, ends: Tensor
) -> Tensor:
    """Last hidden states at each reply's last token, shape (B, K, D)."""
    rows = torch.arange(len(ends), device=ends.device)[:, None]
    places = (rows * input_ids.shape[1] + ends).flatten()
    hidden = hidden_states(model, input_ids, position_ids, segment_ids, places)
    return hidden[places].view(*ends.shape, -1)


def score_batch(
    model: PreTrainedModel, input_ids: Tensor, position_ids: Tensor, segment_ids: Tensor, ends: Tensor
) -> Tensor:
    """Rewards of a shared-prompt batch, read at each reply's last token.

    The head works in fp32 and on those tokens only: in bf16 near-equal replies would tie.

    Args:
        model: A reward model.
        input_ids, position_ids, segment_ids: Shape (B, L), see `batches.build_batch`.
        ends: Shape (B, K).

    Returns:
        Rewards, shape (B, K), fp32.
    """
    at_end = end_hidden(model, input_ids, position_ids, segment_ids, ends)
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
) -> Tensor:
    """Summed log-probabilities of the replies of a shared-prompt batch.

    The head runs on the positions that predict a reply token, not on prompts and padding.

    Args:
        model: A causal language model.
        input_ids, position_ids, segment_ids, ends: See `score_batch`.
        predict_from, target_ids, reply_of, used: See `batches.build_batch`.

    Returns:
        Shape (B, K), fp32.
    """
    hidden = hidden_states(model, input_ids, position_ids, segment_ids, used)
    log_probs = token_log_probs(model.get_output_embeddings(), hidden[predict_from], target_ids)
    return sum_by_reply(log_probs, reply_of, ends)


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
    model.set_attn_implementation(ATTENTION)
    model.forward = MethodType(forward, model)
    return model
