"""What a forward pass keeps for the backward pass, and how many rows a processor works through at a time.

Counted are the tensors that autograd keeps, layer by layer, as measured for models of the Llama family with
bf16 products beside fp32 weights: norms and residuals in fp32 with their bf16 copies, projections, the
feed-forward part. Attention weights are not kept (see `models.attention`), and the one mask of all layers is
small beside the rest: long rows have none (`models.long_rows`). Other architectures keep about as much for
the same sizes.
"""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

import torch
from transformers import PretrainedConfig

from rlhf_hw.models.forward import MAX_LOGITS
from rlhf_hw.models.loading import pick_dtype
from rlhf_hw.training.config import DPOTraining, LanguageModelTraining, Training

TOKENS_AT_ONCE = 6144
BYTES_AT_ONCE = 4 * 2**30
# The backward pass has gradients of activations beside these, and freed memory comes in pieces of other sizes
OVERHEAD = 1.25


@dataclass(frozen=True)
class Sizes:
    """Sizes of a transformer, whatever its configuration calls them."""

    width: int
    layers: int
    heads: int
    head_width: int
    inner: int
    vocabulary: int

    @classmethod
    def of(cls, shape: PretrainedConfig) -> Self | None:
        """Read a configuration; None where it does not even say its width and depth.

        What else it does not say is taken to be what most models have.
        """
        with suppress(ValueError):  # one with several parts for text
            shape = shape.get_text_config()

        def size(*names: str, default: Any = None) -> Any:
            found = (getattr(shape, name, None) for name in names)
            return next((value for value in found if isinstance(value, int) and value > 0), default)

        width = size("hidden_size", "n_embd", "d_model", "dim")
        layers = size("num_hidden_layers", "n_layer", "num_layers", "n_layers")
        if width is None or layers is None:
            return None
        heads = size("num_attention_heads", "n_head", "n_heads", default=max(1, width // 64))
        return cls(
            width=width,
            layers=layers,
            heads=heads,
            head_width=size("head_dim", default=width // heads),
            inner=size("intermediate_size", "ffn_dim", "n_inner", "d_ff", default=4 * width),
            vocabulary=size("vocab_size", default=0),
        )


def kept_bytes(config: Training, sizes: Sizes, rows: int, length: int, read: int) -> float:
    """Bytes at the peak of a forward and backward pass, weights and their gradients apart.

    Args:
        config: Of the run.
        sizes: Of the model.
        rows, length: Of the batch.
        read: Tokens whose logits are computed.
    """
    item = 2 if pick_dtype(config.dtype) == torch.bfloat16 else 4
    width, projected = sizes.width, sizes.heads * sizes.head_width
    # norms and residuals, and what products read of them; queries, keys, values and what attention makes of
    # them; the feed-forward part
    token = width * (5 * 4 + 3 * item) + item * (4 * projected + 4 * sizes.inner)
    layer = rows * length * token
    kept = sizes.layers * (rows * length * width * 4 if config.gradient_checkpointing else layer)
    last = layer if config.gradient_checkpointing else 0
    logits = 0
    if isinstance(config, DPOTraining | LanguageModelTraining):
        logits = (2 * 4 + item) * min(MAX_LOGITS, read * sizes.vocabulary)
    return OVERHEAD * (kept + last) + logits


def parts_of_batch(config: Training, sizes: Sizes | None, rows: int, length: int) -> int:
    """In how many parts a step works through a batch, so that it does not take too much memory at a time.

    On a processor a few long rows would otherwise decide how much memory a whole run takes. On a GPU the
    batch size is chosen to fill it, and DeepSpeed's engine steps after each backward pass: whole batches.

    Args:
        config: Of the run.
        sizes: Of the model; None where they are not known.
        rows, length: Of the batch.
    """
    if torch.cuda.is_available() or config.deepspeed:
        return 1
    count = min(rows, -(-rows * length // TOKENS_AT_ONCE))
    while sizes and count < rows and kept_bytes(config, sizes, -(-rows // count), length, 0) > BYTES_AT_ONCE:
        count += 1
    return count
