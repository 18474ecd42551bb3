"""Score replies and read their log-probabilities, batched by length, each prompt computed once."""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedModel

from rlhf_hw.attention import refuse_beyond_window
from rlhf_hw.batches import TokenizedGroups, build_batch, group_tokens, sorted_batches, tokenize_preferences
from rlhf_hw.memory import keep_freed_memory
from rlhf_hw.models import (
    end_hidden,
    hidden_states,
    load_policy,
    load_reward_model,
    log_prob_batch,
    pick_dtype,
    score_batch,
    sum_by_reply,
    tokens_per_chunk,
)
from rlhf_hw.paths import RUNS
from rlhf_hw.processes import all_agree, is_main, rank, total, world_size
from rlhf_hw.products import LinearByOneDNN
from rlhf_hw.rendering import Renderer
from rlhf_hw.templates import Message, Preference

log = logging.getLogger(__name__)

TOKENS_PER_BATCH = 16384


def pick_device() -> torch.device:
    """The GPU if there is one, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def inference(model: PreTrainedModel, dtype: str = "auto"):
    """Evaluation mode, no gradients, matrix products in `dtype`; restores the model's mode."""
    keep_freed_memory()
    was_training = model.training
    model.eval()
    device, wanted = next(model.parameters()).device.type, pick_dtype(dtype)
    try:
        autocast = torch.autocast(device, wanted, enabled=wanted != torch.float32)
        with torch.inference_mode(), autocast, LinearByOneDNN():
            yield
    finally:
        model.train(was_training)


def _over_groups(
    model: PreTrainedModel, groups: TokenizedGroups, pad_id: int, function: Callable, targets: str, title: str
) -> np.ndarray:
    """Apply a function of a batch, which gives (B, K, ...), to all groups; results in their order."""
    refuse_beyond_window(model, groups.longest)
    results = None
    size = max(1, TOKENS_PER_BATCH // int(groups.lengths.max()))
    device = next(model.parameters()).device
    for indices in tqdm(sorted_batches(groups.lengths, size), desc=title, leave=False, mininterval=1):
        batch = {k: v.to(device) for k, v in build_batch(groups, indices, pad_id, targets=targets).items()}
        values = function(model, **batch).float().cpu().numpy()
        if results is None:
            results = np.zeros((len(groups), *values.shape[1:]), dtype=np.float32)
        results[indices] = values
    return results


def score_groups(
    model: PreTrainedModel, groups: TokenizedGroups, pad_id: int, dtype: str = "auto"
) -> np.ndarray:
    """Rewards of tokenized replies.

    Args:
        model: A reward model.
        groups: G prompts with K replies each.
        pad_id: The tokenizer's padding id.
        dtype: "auto", "bf16" or "fp32".

    Returns:
        Rewards, shape (G, K).
    """
    with inference(model, dtype):
        return _over_groups(model, groups, pad_id, score_batch, "none", "scoring")


def log_probs_groups(
    model: PreTrainedModel, groups: TokenizedGroups, pad_id: int, dtype: str = "auto"
) -> np.ndarray:
    """Summed log-probabilities of tokenized replies under a policy, shape (G, K)."""
    with inference(model, dtype):
        return _over_groups(model, groups, pad_id, log_prob_batch, "replies", "log-probabilities")


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

    def kl(model, input_ids, position_ids, segment_ids, ends, predict_from, target_ids, reply_of, used):
        hidden = [
            hidden_states(network, input_ids, position_ids, segment_ids, used)[predict_from]
            for network in (policy, reference)
        ]
        pieces = zip(*(states.split(tokens_per_chunk(heads[0])) for states in hidden), strict=True)
        token_kl = [_divergence(heads[0](ours), heads[1](theirs)) for ours, theirs in pieces]
        return sum_by_reply(torch.cat(token_kl), reply_of, ends)

    with inference(reference, dtype), inference(policy, dtype):
        return _over_groups(policy, groups, pad_id, kl, "replies", "exact KL")


def _divergence(logits: Tensor, reference_logits: Tensor) -> Tensor:
    """KL divergence of next-token distributions, (T, V) each to (T,)."""
    ours, theirs = logits.float().log_softmax(dim=-1), reference_logits.float().log_softmax(dim=-1)
    return (ours.exp() * (ours - theirs)).sum(-1)


def end_states(
    model: PreTrainedModel, groups: TokenizedGroups, pad_id: int, dtype: str = "auto"
) -> np.ndarray:
    """Last hidden states at each reply's last token, shape (G, K, D), to tell familiar texts from others."""
    with inference(model, dtype):
        return _over_groups(model, groups, pad_id, end_hidden, "none", "end states")


class RewardModel:
    """A reward model with its renderer: scores conversations and replies given as text.

    Args:
        path: Checkpoint folder or hub id; a plain language model gets a random head (an untrained model).
        dtype: "auto", "bf16" or "fp32".
        seed: Seed of a random head.
        reads_at: For another system's model, where it reads its score, see `foreign`.
        limits: `max_prompt_tokens`, `max_reply_tokens` of the renderer.
    """

    def __init__(
        self,
        path: str | Path,
        dtype: str = "auto",
        seed: int = 0,
        reads_at: str | None = None,
        **limits: int,
    ):
        self.path, self.dtype = str(path), dtype
        self.renderer = Renderer.load(path, reads_at=reads_at, **limits)
        self.model = load_reward_model(path, seed=seed).to(pick_device())

    def tokenize(
        self, prompts: Sequence[Sequence[Message]], replies: Sequence[Sequence[str]]
    ) -> TokenizedGroups:
        """Render G prompts with K replies each."""
        flat = iter(self.renderer.reply_ids([text for group in replies for text in group]))
        return group_tokens(self.renderer.prompt_ids(prompts), [[next(flat) for _ in g] for g in replies])

    def score(self, prompts: Sequence[Sequence[Message]], replies: Sequence[Sequence[str]]) -> np.ndarray:
        """Rewards of G prompts with K replies each, shape (G, K)."""
        return score_groups(self.model, self.tokenize(prompts, replies), self.renderer.pad_id, self.dtype)

    def score_ids(self, prompts: Sequence[list[int]], replies: Sequence[list[int]]) -> np.ndarray:
        """Rewards of replies given as ids, one a prompt, shape (G,); read at each reply's last token."""
        groups = group_tokens(prompts, [[r] for r in replies])
        return score_groups(self.model, groups, self.renderer.pad_id, self.dtype)[:, 0]

    def score_preferences(self, preferences: Sequence[Preference]) -> list[dict]:
        """Score pairs; returns one record each in the layout of pair score files (see `score_files`)."""
        groups, kept, _ = tokenize_preferences(preferences, self.renderer)
        scores = score_groups(self.model, groups, self.renderer.pad_id, self.dtype)
        lengths = groups.reply_lengths
        return [
            {
                "id": preferences[k].row,
                "prompt": preferences[k].question,
                "chosen": preferences[k].chosen,
                "rejected": preferences[k].rejected,
                "chosen_score": float(scores[i, 0]),
                "rejected_score": float(scores[i, 1]),
                "chosen_tokens": int(lengths[i, 0]),
                "rejected_tokens": int(lengths[i, 1]),
                "meta": dict(preferences[k].meta),
            }
            for i, k in enumerate(kept)
        ]


def content_hash(*parts: bytes | str | Path) -> str:
    """Hash of strings, arrays' bytes and the files of checkpoint folders (weights and configuration)."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            for file in sorted(
                f for kind in ("*.safetensors", "*.bin", "config.json") for f in part.glob(kind)
            ):
                digest.update(file.name.encode())
                with file.open("rb") as stream:
                    digest.update(hashlib.file_digest(stream, "sha256").digest())
        else:
            digest.update(part.encode() if isinstance(part, str) else part)
    return digest.hexdigest()[:24]


def reference_log_probs(
    reference: str | Path,
    groups: TokenizedGroups,
    pad_id: int,
    dtype: str = "auto",
    cache: Path | None = None,
) -> np.ndarray:
    """Log-probabilities under the reference model, computed once and kept on disk by content.

    The key covers the weights, the token ids and the dtype, so that no changed model, template or truncation
    meets stale numbers; every later run on the same content reads the file. Several processes share the work.

    Returns:
        Shape (G, K).
    """
    folder = cache or RUNS / "cache"
    weights = Path(reference) if Path(reference).is_dir() else str(reference)
    offsets = np.ascontiguousarray(groups.offsets - groups.offsets[:, :1])
    ids = np.concatenate([groups.ids[a:b] for a, b in groups.offsets[:, [0, -1]]])
    key = content_hash(weights, ids.tobytes(), offsets.tobytes(), str(pick_dtype(dtype)))
    path = folder / f"reference-{key}.npy"
    if all_agree(path.exists()):
        return np.load(path)
    result = np.zeros((len(groups), groups.replies), dtype=np.float32)
    mine = np.argsort(groups.lengths, kind="stable")[rank() :: world_size()]
    if len(mine):
        model = load_policy(reference).to(pick_device())
        result[mine] = log_probs_groups(model, groups.select(mine), pad_id, dtype)
    result = total(result)
    if is_main():
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.npy")  # several runs may get here at once
        np.save(partial, result)
        partial.replace(path)
    return result


def score_file(
    files: Sequence[str | Path],
    model: str,
    output: str | Path,
    template: str | None = None,
    split: str = "validation",
    limit: int | None = None,
    dtype: str = "auto",
    reads_at: str | None = None,
) -> int:
    """Score pairs (with a template) or single replies (JSON lines with `prompt` and `response`) from files.

    Returns:
        The number of records written to `output` as JSON lines.
    """
    from rlhf_hw.data import load_preferences, read_rows
    from rlhf_hw.templates import as_prompt, as_reply

    reward_model = RewardModel(model, dtype=dtype, reads_at=reads_at)
    if template:
        preferences, _ = load_preferences(",".join(map(str, files)), template, split, limit)
        records = reward_model.score_preferences(preferences)
    else:
        rows = [row for file in files for row in read_rows(str(file), split)][:limit]
        for number, row in enumerate(rows):
            missing = {"prompt", "response"} - set(row)
            if missing:
                raise KeyError(
                    f"{files}, row {number}: key {sorted(missing)[0]!r} is missing; give --template for pairs"
                )
        prompts = [as_prompt(row["prompt"], "prompt") for row in rows]
        replies = [[as_reply(row["response"], "response")] for row in rows]
        groups = reward_model.tokenize(prompts, replies)
        scores = score_groups(reward_model.model, groups, reward_model.renderer.pad_id, dtype)[:, 0]
        records = [
            {**row, "id": row.get("id", number), "score": float(score), "tokens": int(tokens)}
            for number, (row, score, tokens) in enumerate(
                zip(rows, scores, groups.reply_lengths[:, 0], strict=True)
            )
        ]
    path = Path(output)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as stream:
        for record in records:
            stream.write(json.dumps(record, ensure_ascii=False) + "\n")
    return len(records)
