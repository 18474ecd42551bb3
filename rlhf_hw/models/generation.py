"""Sample replies from a policy; each prompt has its own random numbers, so batch size changes no reply.

A token is drawn by inverting the cumulative distribution at one uniform number for each prompt and step. Two
policies given the same seed use the same numbers, which makes their comparison a paired one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm
from transformers import DynamicCache, PreTrainedModel

from rlhf_hw.errors import InputError
from rlhf_hw.models.forward import inference
from rlhf_hw.models.rendering import Renderer
from rlhf_hw.preferences.templates import Message

LEAVE = 0.1  # share of a batch's rows that have to have ended before they leave it


@dataclass(frozen=True)
class Reply:
    """A sampled reply: its text, its token ids (with the end token if it came) and whether it finished."""

    text: str
    ids: list[int]
    finished: bool


@dataclass(frozen=True)
class Vocabulary:
    """Which tokens a model may write, and which of them end a reply.

    Args:
        model: A causal language model.
        renderer: Its renderer.
    """

    model: PreTrainedModel
    renderer: Renderer

    @cached_property
    def ends(self) -> list[int]:
        """The template's end token and those of the model's generation settings (Llama 3: three)."""
        named = getattr(self.model.generation_config, "eos_token_id", None)
        named = named if isinstance(named, list) else [named]
        return sorted({self.renderer.end_id, *named} - {None})

    @cached_property
    def unknown(self) -> Tensor | None:
        """True for the embeddings that no token has, shape (V,); None if each has one."""
        head = self.model.get_output_embeddings().weight
        known = torch.zeros(len(head), dtype=torch.bool)
        known[[i for i in self.renderer.tokenizer.get_vocab().values() if i < len(head)]] = True
        return None if known.all() else ~known.to(head.device)


def generate(
    model: PreTrainedModel,
    renderer: Renderer,
    prompts: Sequence[Sequence[Message]],
    max_new_tokens: int = 256,
    temperature: float = 1.0,
    top_p: float = 1.0,
    samples: int = 1,
    seed: int = 0,
    batch_size: int = 128,
    dtype: str = "fp32",
    title: str = "generating",
) -> list[Reply]:
    """Sample `samples` replies for each prompt.

    Args:
        model: A causal language model.
        renderer: Its renderer.
        prompts: P conversations.
        max_new_tokens: A reply that has not ended by then is cut and marked as not finished.
        temperature: Divides the logits; 0 takes the likeliest token.
        top_p: Keeps the likeliest tokens that together reach this probability.
        samples: Replies a prompt; the prompt is computed once for all of them.
        seed: Together with the prompt's place and the sample's number it fixes the random numbers.
        batch_size: Replies sampled at a time.
        dtype: fp32 by default, so that rounding, which depends on the batch, decides no token.
        title: Shown in front of the progress bar.

    Returns:
        P * samples replies, those of one prompt next to each other.
    """
    if temperature < 0 or not 0 < top_p <= 1:
        raise InputError(f"expected temperature >= 0 and 0 < top_p <= 1, found {temperature} and {top_p}")
    prompt_ids = renderer.prompt_ids(prompts)
    order = sorted(range(len(prompts)), key=lambda i: -len(prompt_ids[i]))
    replies: list[Reply | None] = [None] * (len(prompts) * samples)
    vocabulary = Vocabulary(model, renderer)
    per_batch = max(1, batch_size // samples)
    starts = range(0, len(order), per_batch)
    with inference(model, dtype):
        for start in tqdm(starts, desc=title, leave=False, mininterval=1):
            chosen = order[start : start + per_batch]
            uniforms = np.stack(
                [
                    np.random.default_rng([seed, i, s]).random(max_new_tokens)
                    for i in chosen
                    for s in range(samples)
                ]
            )
            rows = _sample(vocabulary, [prompt_ids[i] for i in chosen], uniforms, samples, temperature, top_p)
            for number, ids in enumerate(rows):
                finished = bool(ids) and ids[-1] in vocabulary.ends
                text = renderer.decode(ids[:-1] if finished else ids)
                replies[chosen[number // samples] * samples + number % samples] = Reply(text, ids, finished)
    return replies


def _sample(
    vocabulary: Vocabulary,
    prompts: list[list[int]],
    uniforms: np.ndarray,
    samples: int,
    temperature: float,
    top_p: float,
) -> list[list[int]]:
    """Sample one batch; rows that have ended leave it, some at a time: each leaving copies the cache."""
    model, renderer = vocabulary.model, vocabulary.renderer
    device = next(model.parameters()).device
    ends = torch.tensor(vocabulary.ends, device=device)
    width = max(map(len, prompts))
    ids = torch.full((len(prompts), width), renderer.pad_id, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    ids, mask, draws = ids.to(device), mask.to(device), torch.from_numpy(uniforms).to(device)
    cache = DynamicCache(config=model.config)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    logits = _next_logits(model, ids, mask, positions, cache)
    if samples > 1:
        cache.batch_repeat_interleave(samples)
        mask, positions = mask.repeat_interleave(samples, 0), positions.repeat_interleave(samples, 0)
        logits = logits.repeat_interleave(samples, 0)
    position = positions[:, -1:]
    rows = torch.arange(len(draws), device=device)
    ended = torch.zeros_like(rows, dtype=torch.bool)
    tokens = torch.full(uniforms.shape, -1, dtype=torch.long, device=device)
    for step in range(uniforms.shape[1]):
        if vocabulary.unknown is not None:
            logits = logits.masked_fill(vocabulary.unknown, -torch.inf)
        token = choose_tokens(logits, draws[rows, step], temperature, top_p)
        tokens[rows, step] = token.masked_fill(ended, -1)
        ended |= torch.isin(token, ends)
        going = (~ended).nonzero().squeeze(1)
        if len(going) == 0 or step + 1 == uniforms.shape[1]:
            break
        if len(going) <= (1 - LEAVE) * len(rows):
            cache.batch_select_indices(going)
            rows, mask, position, token, ended = (t[going] for t in (rows, mask, position, token, ended))
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
        position = position + 1
        logits = _next_logits(model, token[:, None], mask, position, cache)
    return [[t for t in row if t >= 0] for row in tokens.tolist()]


def _next_logits(
    model: PreTrainedModel, ids: Tensor, mask: Tensor, positions: Tensor, cache: DynamicCache
) -> Tensor:
    output = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return output.logits[:, -1].float()


def choose_tokens(logits: Tensor, uniforms: Tensor, temperature: float, top_p: float = 1.0) -> Tensor:
    """Draw a token for each row by inverting the cumulative distribution.

    Args:
        logits: Shape (B, V).
        uniforms: Numbers in [0, 1), shape (B,).
        temperature: Divides the logits; 0 takes the likeliest token.
        top_p: Keeps the likeliest tokens that together reach this probability.

    Returns:
        Token ids, shape (B,).
    """
    if temperature == 0:
        return logits.argmax(dim=-1)
    probabilities = (logits / temperature).softmax(dim=-1, dtype=torch.float64)
    if top_p < 1:
        ordered, indices = probabilities.sort(dim=-1, descending=True)
        beyond = ordered.cumsum(-1) - ordered >= top_p
        probabilities = probabilities.scatter(1, indices, ordered.masked_fill(beyond, 0))
    cumulative = probabilities.cumsum(dim=-1)
    threshold = uniforms[:, None] * cumulative[:, -1:]
    tokens = torch.searchsorted(cumulative, threshold, right=True).squeeze(1)
    return tokens.clamp(max=logits.shape[1] - 1)
