"""Load reward models and policies; choose the device and the number format they work in.

A reward model is `AutoModelForSequenceClassification` with one label, a policy `AutoModelForCausalLM`: what
TRL, RewardBench and plain transformers load too.
"""

import os
import re
from collections.abc import Iterable
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
)

from rlhf_hw.errors import InputError
from rlhf_hw.models.attention import CHOOSE, refuse_other_attention, use_attention
from rlhf_hw.models.foreign import OWN_HEAD, SCORE_HEAD, score_heads, whole_numbers
from rlhf_hw.models.hub import read_pretrained

# DeepSpeed, which the Trainer imports, would say in every notebook that it found no accelerator.
if not torch.accelerator.is_available():
    os.environ.setdefault("DS_ACCELERATOR", "cpu")

# Weights load in a moment; the bar would only fill notebooks.
transformers.utils.logging.disable_progress_bar()


def pick_device() -> torch.device:
    """The GPU if there is one, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def pick_dtype(dtype: str = "auto") -> torch.dtype:
    """Return the dtype for matrix products: bf16 where the hardware multiplies it natively, else fp32.

    Args:
        dtype: "auto", "bf16" or "fp32".
    """
    names = {"bf16": torch.bfloat16, "fp32": torch.float32}
    if dtype in names:
        return names[dtype]
    if dtype != "auto":
        raise InputError(f"dtype: expected auto, bf16 or fp32, found {dtype!r}")
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    # oneDNN also takes bf16 on processors that have to emulate it, and can be told to act as an older one
    native = any(torch.cpu.get_capabilities().get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    usable = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if native and usable else torch.float32


def load_policy(path: str | Path, dtype: torch.dtype | str = torch.float32) -> PreTrainedModel:
    """Load a causal language model, by default with fp32 weights (bf16 ones would lose small updates).

    Raises:
        ValueError: It is a reward model, weights are missing, the model changes its logits after the head, or
            its layers do not all attend by a mask (Mamba, RWKV, ALiBi).
    """
    config = read_pretrained(AutoConfig, path)
    kinds = ("SequenceClassification", "RewardModel")  # whose tied embeddings would pass for a policy's head
    if any(kind in name for kind in kinds for name in config.architectures or []):
        raise InputError(
            f"{path}: a reward model, whose hidden states foretell no tokens; give the language model that "
            "it was trained from, or another policy"
        )
    for name in ("final_logit_softcapping", "logit_scale", "logits_scaling"):
        if getattr(config.get_text_config(), name, None) not in (None, 1):
            raise InputError(f"{path}: logits changed by {name} after the head are not supported; {CHOOSE}")
    model, missing = _load(AutoModelForCausalLM, path, config, dtype=dtype)
    _refuse_missing(path, missing)
    return model


def load_reward_model(path: str | Path, seed: int = 0, untrained: bool = True) -> PreTrainedModel:
    """Load a reward model, or put a new scalar head on a language model, unless `untrained` is false.

    A new head is `random_head(hidden size, seed)`: different seeds give different, equally meaningless
    rankings. align-anything's checkpoints, which call the head `score_head`, load too.

    Raises:
        ValueError: The checkpoint has several labels, no head or more than one, weights are missing, or the
            model's layers do not all attend by a mask.
    """
    config = read_pretrained(AutoConfig, path)
    trained = "SequenceClassification" in "".join(config.architectures or [])
    if trained and config.num_labels != 1:
        raise InputError(
            f"{path}: expected a reward model, which has one label; by its config.json this checkpoint has "
            f"{config.num_labels}: restore it, or take a checkpoint that gives one score"
        )
    with _quiet():  # transformers warns of a new head at length; what matters is checked below
        options = {"num_labels": 1, "dtype": torch.float32, "key_mapping": {r"^score_head\.": "score."}}
        model, missing = _load(AutoModelForSequenceClassification, path, config, **options)
    new_head = OWN_HEAD in missing and not trained
    _refuse_missing(path, missing - ({OWN_HEAD} if new_head else set()))
    if new_head and not untrained:
        raise InputError(
            f"{path} has no score head (score.weight), so it is no reward model; train one from it (rlhf-hw "
            "train rm), or rename its head's weight. Scores of a random head: --untrained (untrained=True)"
        )
    if new_head:
        with torch.no_grad():
            model.score.weight.copy_(random_head(model.score.in_features, seed))
    else:
        _refuse_two_heads(path, model)
    model.score.__class__ = _HeadInFp32
    return model


def start_reward_model(path: str | Path, seed: int = 0) -> PreTrainedModel:
    """Load what a reward model is trained from: another one, or a language model, which gets a new head.

    Raises:
        ValueError: As `load_reward_model`; or a head stands in the weights under a name that is not read, so
            that training would begin anew without a word.
    """
    model = load_reward_model(path, seed)
    heads = _heads(path, model)
    if heads and not {OWN_HEAD, SCORE_HEAD} & set(heads):
        raise InputError(
            f"{path}: {' and '.join(heads)} may be a score head, which is not read under that name; call it "
            f"{OWN_HEAD} to go on with it, or take it out of the weights to begin with a new one"
        )
    return model


def _load(
    kind: type, path: str | Path, config: PretrainedConfig, **options
) -> tuple[PreTrainedModel, set[str]]:
    """A model that attends by a mask in all of its layers, and the names of weights its checkpoint lacks.

    Args:
        kind: One of transformers' Auto classes.
        path: Folder or hub id.
        config: What it holds as configuration.
        options: Further arguments of `from_pretrained`.
    """
    known = kind._model_mapping
    if type(config) not in known:
        raise InputError(
            f"{path}: transformers has no model of type {config.model_type!r} for {kind.__name__}; {CHOOSE}"
        )
    kernel = refuse_other_attention(path, known[type(config)], config)
    model, info = read_pretrained(kind, path, attn_implementation=kernel, output_loading_info=True, **options)
    _refuse_more_weights(path, model, info["unexpected_keys"])
    _refuse_unusable(path, model, whole_numbers(path))
    return use_attention(model), set(info["missing_keys"])


def random_head(width: int, seed: int) -> Tensor:
    """A random score head, shape (1, width), whose scores have about unit variance before training."""
    return torch.randn(1, width, generator=torch.Generator().manual_seed(seed)) * width**-0.5


def use_padding(model: PreTrainedModel, pad_id: int) -> PreTrainedModel:
    """Make a model pad with a token, and what is saved of it say so.

    transformers reads a reward model's score at the last token that is not padding. The embedding that pads
    learns nothing; where that was the end token's, it learns now.

    Raises:
        ValueError: The model has no embedding for it.
    """
    embeddings = model.get_input_embeddings()
    if pad_id >= model.config.get_text_config().vocab_size:
        raise InputError(
            f"{model.config.name_or_path}: the tokenizer pads with token {pad_id}, for which the model has "
            "no embedding; set pad_token in tokenizer_config.json to another"
        )
    generation = getattr(model, "generation_config", None)
    for settings in (model.config, model.config.get_text_config(), generation):
        if settings is not None:
            settings.pad_token_id = pad_id
    if getattr(embeddings, "padding_idx", None) is not None:
        embeddings.padding_idx = pad_id
    return model


@contextmanager
def _quiet():
    """Only errors from transformers' log."""
    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(before)


class _HeadInFp32(nn.Linear):
    """The score head in fp32 also where DeepSpeed holds its weight in bf16."""

    def forward(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden.float(), self.weight.float())


def _refuse_more_weights(path: str | Path, model: PreTrainedModel, unexpected: Iterable[str]) -> None:
    """Refuse weights that belong to the model's layers and that it does not have; they would be left out.

    Those of further layers, and of a layer itself: a bias, or the scales of quantized weights.
    """
    known = {re.sub(r"\d+", "#", name) for name, _ in model.named_parameters()}
    owners = {name.rpartition(".")[0] for name in known}
    shapes = {name: re.sub(r"\d+", "#", name) for name in sorted(unexpected)}
    layers = [name for name, shape in shapes.items() if shape in known]
    if more := layers or [name for name, shape in shapes.items() if shape.rpartition(".")[0] in owners]:
        what = "fewer layers than the weights have" if layers else "layers without weights that are there"
        raise InputError(
            f"{path}: config.json describes {what}, such as {more[0]}; restore config.json, or take the "
            "checkpoint anew"
        )


def _refuse_two_heads(path: str | Path, model: PreTrainedModel) -> None:
    """Refuse a checkpoint with another weight that can be the score head: which one was meant is a guess."""
    heads = _heads(path, model)
    if len(heads) > 1:
        raise InputError(
            f"{path}: {' and '.join(heads)} can each be the score head, and which one is meant is not said; "
            f"leave one of them in the weights, under the name {OWN_HEAD}, and take out the others"
        )


def _heads(path: str | Path, model: PreTrainedModel) -> list[str]:
    layers = {name for name, _ in model.named_parameters()} - {OWN_HEAD}
    return score_heads(path, model.score.in_features, layers)


def _refuse_unusable(path: str | Path, model: PreTrainedModel, rounded: set[str]) -> None:
    """Refuse weights with which nothing can be computed, and those that are kept as whole numbers."""
    for name, weight in model.named_parameters():
        if name in rounded and not hasattr(model.config, "quantization_config"):
            raise InputError(f"{path}: the weights {name} are whole numbers; take a checkpoint of floats")
        if weight.device.type != "meta" and not bool(weight.detach().isfinite().all()):
            raise InputError(
                f"{path}: the weights {name} are not all finite; that training has failed, or the file is "
                "damaged: take another checkpoint"
            )


def _refuse_missing(path: str | Path, missing: Iterable[str]) -> None:
    """transformers would fill missing weights with random numbers and only warn."""
    if missing:
        raise InputError(
            f"{path}: the checkpoint lacks weights, for example {sorted(missing)[0]}; copy or fetch it anew"
        )
