"""Shared-prompt batches: each prompt is computed once for all of its replies.

A row holds `prompt + reply 1 + ... + reply K`. An attention mask lets each reply see the prompt and itself,
never the other replies, and its position ids go on where the prompt ended; so every reply gets exactly the
hidden states it would get in a row of its own. The prompt's share of the work is done once instead of K
times (Wang et al. 2024, "Accelerating direct preference optimization with prefix sharing", arXiv 2410.20305).

Tokenized data is two flat arrays, so that building a batch needs no Python loop over tokens or rows.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from rlhf_hw.errors import InputError
from rlhf_hw.models.rendering import Renderer
from rlhf_hw.preferences.templates import Conversation, Preference

# Row lengths are rounded up to this: fewer distinct shapes, whose kernels are prepared once each.
PAD_TO = 16
IGNORED = -1


@dataclass(frozen=True)
class TokenizedGroups:
    """G prompts with K replies each, tokenized once.

    Attributes:
        ids: Token ids of all groups, one after the other: prompt, reply 1, ..., reply K. Shape (N,).
        offsets: Where each part starts in `ids`, and where the last one ends. Shape (G, K + 2).
        columns: Further numbers that a loss reads, one a group, by name; shape (G,) each.
        weights: How much each token counts in its reply's log-probability, shape (N,); None: all alike.
        rows: Which of the pairs that were tokenized each group is, shape (G,); None: in their order.
    """

    ids: np.ndarray
    offsets: np.ndarray
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    rows: np.ndarray | None = None
    weights: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.offsets)

    @property
    def replies(self) -> int:
        """K, the number of replies of each prompt."""
        return self.offsets.shape[1] - 2

    @property
    def lengths(self) -> np.ndarray:
        """Tokens in each group's row, shape (G,)."""
        return self.offsets[:, -1] - self.offsets[:, 0]

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt with one of its replies; 0 without groups."""
        return int((self.prompt_lengths + self.reply_lengths.max(axis=1)).max()) if len(self) else 0

    @property
    def reply_lengths(self) -> np.ndarray:
        """Tokens in each reply, its end token included, shape (G, K)."""
        return np.diff(self.offsets[:, 1:], axis=1)

    @property
    def prompt_lengths(self) -> np.ndarray:
        """Tokens in each prompt, shape (G,)."""
        return self.offsets[:, 1] - self.offsets[:, 0]

    def select(self, indices: Sequence[int]) -> "TokenizedGroups":
        """A view of some groups; the ids and their weights are shared, not copied."""
        taken = np.asarray(indices, dtype=np.int64)
        columns = {name: values[taken] for name, values in self.columns.items()}
        rows = taken if self.rows is None else self.rows[taken]
        return TokenizedGroups(self.ids, self.offsets[taken], columns, rows, self.weights)


def group_tokens(prompts: Sequence[list[int]], replies: Sequence[Sequence[list[int]]]) -> TokenizedGroups:
    """Lay out token lists as `TokenizedGroups`.

    Args:
        prompts: G lists of ids; none may be empty, since a reply's first token is predicted from the prompt.
        replies: G lists of K lists of ids each.
    """
    if not len(prompts):
        raise InputError("there is no prompt to group")
    counts = {len(group) for group in replies}
    if len(counts) > 1:
        raise InputError(f"every prompt needs the same number of replies, found {sorted(counts)}")
    parts = zip(prompts, replies, strict=True)
    lengths = np.array([[len(prompt), *map(len, group)] for prompt, group in parts], dtype=np.int64)
    if lengths.min() < 1:
        raise InputError("every prompt and every reply needs at least one token")
    ends = lengths.ravel().cumsum().reshape(lengths.shape)
    offsets = np.concatenate([ends[:, :1] - lengths[:, :1], ends], axis=1)
    ids = np.empty(ends[-1, -1], dtype=np.int32)
    for start, prompt, group in zip(offsets[:, 0], prompts, replies, strict=True):
        for part in (prompt, *group):
            ids[start : start + len(part)] = part
            start += len(part)
    return TokenizedGroups(ids, offsets)


def tokenize_preferences(
    preferences: Sequence[Preference], renderer: Renderer, chunk: int = 4096
) -> tuple[TokenizedGroups, np.ndarray, dict[str, int]]:
    """Render preferences as groups of two replies, chosen first.

    Returns:
        The groups; the index into `preferences` of each group, shape (G,), since pairs that truncation made
        equal are dropped; and counts of what truncation did: `truncated_prompts`, `truncated_replies` (those
        that fill their limit) and `equal_after_truncation`.
    """
    prompts, pairs, kept = [], [], []
    counts = {"truncated_prompts": 0, "truncated_replies": 0, "equal_after_truncation": 0}
    for start in range(0, len(preferences), chunk):
        part = preferences[start : start + chunk]
        prompt_ids, too_long = renderer.fitted([p.prompt for p in part])
        counts["truncated_prompts"] += sum(too_long)
        replies = [renderer.reply_ids([getattr(p, side) for p in part]) for side in ("chosen", "rejected")]
        for number, (prompt, chosen, rejected) in enumerate(zip(prompt_ids, *replies, strict=True)):
            counts["truncated_replies"] += max(len(chosen), len(rejected)) == renderer.max_reply_tokens
            if chosen == rejected:
                counts["equal_after_truncation"] += 1
                continue
            kept.append(start + number)
            prompts.append(np.asarray(prompt, dtype=np.int32))
            pairs.append([np.asarray(chosen, dtype=np.int32), np.asarray(rejected, dtype=np.int32)])
    if not kept:
        raise InputError("truncation made every pair equal; raise max_reply_tokens")
    return group_tokens(prompts, pairs), np.array(kept), counts


def conversation_groups(conversations: Sequence[Conversation], renderer: Renderer) -> TokenizedGroups:
    """Conversations as groups of one reply, or of their remarks.

    Remarks take the place of a group's replies, and all before them stands in its prompt. Each follows the
    reply's end token at once, without the header of a turn, which would be the same each time: so it is
    predicted from that token, where a reward model reads its score.

    Args:
        conversations: All with the same number of remarks; with none, the replies are replies.
        renderer: Turns them into ids.
    """
    prompts = renderer.prompt_ids([c.prompt for c in conversations])
    replies = renderer.reply_ids([c.reply for c in conversations])
    remarks = iter(renderer.reply_ids([remark for c in conversations for remark in c.remarks]))
    before, after = [], []
    for conversation, prompt, reply in zip(conversations, prompts, replies, strict=True):
        heard = [next(remarks) for _ in conversation.remarks]
        before.append(np.asarray(prompt + reply if heard else prompt, dtype=np.int32))
        after.append([np.asarray(ids, dtype=np.int32) for ids in heard or [reply]])
    return group_tokens(before, after)


def build_batch(
    groups: TokenizedGroups,
    indices: Sequence[int],
    pad_id: int,
    targets: str = "none",
    pad_to: int = PAD_TO,
    with_prompt: np.ndarray | None = None,
) -> dict[str, torch.Tensor | np.ndarray]:
    """Build the shared-prompt batch of some groups.

    Args:
        groups: Tokenized data with K replies a prompt.
        indices: Which groups, B of them.
        pad_id: Id written into padding; no result depends on it.
        targets: "none" for rewards, "replies" to add what reply log-probabilities need, "all" to count the
            prompt's tokens too (language-model training).
        pad_to: Row length is a multiple of this.
        with_prompt: For each group of `groups` whether "all" counts its prompt, shape (G,); default: it does.

    Returns:
        `input_ids`, `position_ids`, `segment_ids` (B, L): segment 0 is the prompt, 1..K the replies, -1 is
        padding; `ends` (B, K): position of each reply's last token. With targets, for each of T predicted
        tokens: `predict_from` (T,) flat position whose hidden state predicts it, `target_ids` (T,), and
        `reply_of` (T,) the flat number b * K + k of its reply (-1: filling, counts nowhere); and `used` (U,),
        the flat positions in `predict_from`, each once. Where the groups weigh tokens, `weights` (T,), too.
        And `bounds` (B, K + 2), an array that stays on the host (`on_device`): where each part of a row
        starts, and where the last one ends.
    """
    offsets = groups.offsets[np.asarray(indices, dtype=np.int64)]
    parts = offsets - offsets[:, :1]  # (B, K + 2), relative to the row's start
    length = int(-(-parts[:, -1].max() // pad_to) * pad_to)
    position = np.arange(length)[None, :]
    valid = position < parts[:, -1:]
    flat = np.minimum(offsets[:, :1] + position, len(groups.ids) - 1)
    input_ids = np.where(valid, groups.ids[flat], pad_id)
    segment = (position[:, :, None] >= parts[:, None, 1:-1]).sum(-1)
    start_of_segment = np.take_along_axis(parts, segment, axis=1)
    position_ids = np.where(segment > 0, position - start_of_segment + parts[:, 1:2], position)
    segment = np.where(valid, segment, IGNORED)
    batch = {
        "input_ids": input_ids.astype(np.int64),
        "position_ids": np.where(valid, position_ids, 0).astype(np.int64),
        "segment_ids": segment.astype(np.int64),
        "ends": (parts[:, 2:] - 1).astype(np.int64),
    }
    if targets != "none":
        counted = np.full(len(offsets), targets == "all")
        if with_prompt is not None:
            counted &= with_prompt[np.asarray(indices, dtype=np.int64)]
        weights = None if groups.weights is None else groups.weights[flat]
        batch |= _targets(batch, parts, counted, weights)
    return {name: torch.from_numpy(array) for name, array in batch.items()} | {"bounds": parts}


def on_device(batch: dict[str, torch.Tensor | np.ndarray], device: torch.device) -> dict:
    """A batch with its tensors on a device; arrays stay where they are."""
    return {name: x.to(device) if isinstance(x, torch.Tensor) else x for name, x in batch.items()}


def _targets(
    batch: dict[str, np.ndarray], parts: np.ndarray, with_prompt: np.ndarray, weights: np.ndarray | None
) -> dict[str, np.ndarray]:
    """Which hidden state predicts which token; a reply's first token is predicted by the prompt's last."""
    segment, replies = batch["segment_ids"], parts.shape[1] - 2
    length = segment.shape[1]
    row, column = np.nonzero(segment >= np.where(with_prompt, 0, 1)[:, None])
    keep = column > 0  # nothing predicts a row's first token
    row, column = row[keep], column[keep]
    part = segment[row, column]
    first = (part > 0) & (column == parts[row, part])
    source = np.where(first, parts[row, 1] - 1, column - 1)
    # prompt tokens count with the first reply; only language-model training asks for them
    reply_of = row * replies + np.maximum(part - 1, 0)
    filling = -len(row) % PAD_TO
    predict_from = np.pad(row * length + source, (0, filling))
    own = {} if weights is None else {"weights": np.pad(weights[row, column], (0, filling))}
    return own | {
        "predict_from": predict_from,
        "used": _rounded_up(np.unique(predict_from), segment.size),
        "target_ids": np.pad(batch["input_ids"][row, column], (0, filling)),
        "reply_of": np.pad(reply_of, (0, filling), constant_values=IGNORED),
    }


def _rounded_up(positions: np.ndarray, count: int) -> np.ndarray:
    """Add other positions of `count` until their number is a multiple of PAD_TO, as far as there are any."""
    others = np.setdiff1d(np.arange(count), positions, assume_unique=True)
    return np.concatenate([positions, others[: -len(positions) % PAD_TO]])


class GroupDataset(Dataset):
    """Hands out indices of groups; the collator turns a list of them into a batch at once."""

    def __init__(self, groups: TokenizedGroups):
        self.groups = groups

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, index: int) -> int:
        return int(index)


class LengthGroupedSampler(Sampler[int]):
    """Batches of similar lengths, which hold little padding, in random order.

    The order depends on seed and epoch only, so a resumed run goes on with the batches it would have had.
    """

    # Groups are drawn at random for this many batches and sorted there; the batches are then shuffled.
    POOL = 50

    def __init__(self, lengths: np.ndarray, batch_size: int, seed: int):
        self.lengths, self.batch_size, self.seed, self.epoch = lengths, batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng([self.seed, self.epoch])
        # blurred lengths: with few groups each would meet the same neighbours in every epoch
        blurred = self.lengths * rng.uniform(0.97, 1.03, len(self.lengths))
        order, pool = rng.permutation(len(blurred)), self.POOL * self.batch_size
        pools = [order[start : start + pool] for start in range(0, len(order), pool)]
        order = np.concatenate([part[np.argsort(-blurred[part])] for part in pools])
        whole = len(order) // self.batch_size * self.batch_size
        batches = rng.permutation(order[:whole].reshape(-1, self.batch_size))
        if len(batches):  # the longest comes first: what memory it takes shows at once
            longest = self.lengths[batches].max(axis=1).argmax()
            batches[[0, longest]] = batches[[longest, 0]]
        return iter(np.concatenate([batches.ravel(), order[whole:]]).tolist())  # an unfilled batch comes last


def sorted_batches(lengths: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Cut indices into batches by length, longest first (so that memory peaks at once), for scoring."""
    order = np.argsort(-lengths, kind="stable")
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
