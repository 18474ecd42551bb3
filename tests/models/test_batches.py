import numpy as np
import pytest
import torch

from rlhf_hw.models.attention import pair_mask
from rlhf_hw.models.batches import (
    IGNORED,
    PAD_TO,
    LengthGroupedSampler,
    TokenizedGroups,
    build_batch,
    group_tokens,
    sorted_batches,
    tokenize_preferences,
)
from rlhf_hw.models.forward import log_prob_batch, score_batch
from rlhf_hw.models.loading import load_policy, load_reward_model
from rlhf_hw.models.rendering import Renderer
from rlhf_hw.preferences.templates import Message, Preference


@pytest.fixture
def worked() -> TokenizedGroups:
    """Two prompts: (5 6) with replies (7 8 2) and (9 2); (4) with (3 2) and (2)."""
    return group_tokens([[5, 6], [4]], [[[7, 8, 2], [9, 2]], [[3, 2], [2]]])


def test_layout_of_a_worked_example(worked) -> None:
    batch = build_batch(worked, [0, 1], pad_id=0, targets="replies", pad_to=8)
    expected = {
        "input_ids": [[5, 6, 7, 8, 2, 9, 2, 0], [4, 3, 2, 2, 0, 0, 0, 0]],
        "position_ids": [[0, 1, 2, 3, 4, 2, 3, 0], [0, 1, 2, 1, 0, 0, 0, 0]],
        "segment_ids": [[0, 0, 1, 1, 1, 2, 2, -1], [0, 1, 1, 2, -1, -1, -1, -1]],
        "ends": [[4, 6], [2, 3]],
    }
    for name, value in expected.items():
        assert batch[name].tolist() == value, name
    # (where the prediction is made, the token, the reply): a reply's first token comes from the prompt's last
    names = ("predict_from", "target_ids", "reply_of")
    triples = list(zip(*(batch[n].tolist() for n in names), strict=True))
    real = [t for t in triples if t[2] != IGNORED]
    first = [(1, 7, 0), (2, 8, 0), (3, 2, 0), (1, 9, 1), (5, 2, 1)]
    second = [(8, 3, 2), (9, 2, 2), (8, 2, 3)]
    assert real == first + second
    assert {where for where, _, reply in triples if reply != IGNORED} <= set(batch["used"].tolist())
    assert len(set(batch["used"].tolist())) == len(batch["used"]) == 16  # all of two rows of 8


def test_targets_of_prompts_for_language_models() -> None:
    groups = group_tokens([[5, 6, 4]], [[[7, 2]]])
    batch = build_batch(groups, [0], pad_id=0, targets="all", pad_to=8)
    real = batch["reply_of"] != IGNORED
    assert batch["predict_from"][real].tolist() == [0, 1, 2, 3]
    assert batch["target_ids"][real].tolist() == [6, 4, 7, 2]
    assert batch["reply_of"][real].tolist() == [0, 0, 0, 0]
    assert len(batch["reply_of"]) % PAD_TO == 0


def test_lengths_and_selection(worked) -> None:
    assert worked.lengths.tolist() == [7, 4]
    assert worked.prompt_lengths.tolist() == [2, 1]
    assert worked.reply_lengths.tolist() == [[3, 2], [2, 1]]
    assert worked.replies == 2 and len(worked) == 2
    part = worked.select([1])
    assert part.lengths.tolist() == [4]
    for groups, index in ((part, 0), (worked, 1)):
        assert build_batch(groups, [index], 0)["input_ids"][0, :4].tolist() == [4, 3, 2, 2]


@pytest.mark.parametrize(
    ("prompts", "replies", "message"),
    [
        ([[]], [[[1]]], "at least one token"),
        ([[1]], [[[]]], "at least one token"),
        ([[1], [1]], [[[1], [2]], [[1]]], "same number of replies"),
        ([], [], "no prompt"),
    ],
)
def test_groups_that_cannot_be(prompts, replies, message) -> None:
    with pytest.raises(ValueError, match=message):
        group_tokens(prompts, replies)


def test_mask_shows_each_reply_the_prompt_and_itself_only() -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        count, lengths = generator.integers(1, 4), generator.integers(1, 9, size=(3, 4))
        groups = group_tokens(
            [[1] * int(n) for n in lengths[:, 0]],
            [[[2] * int(n) for n in row[1 : 1 + count]] for row in lengths],
        )
        segments = build_batch(groups, [2, 0, 1], pad_id=0, pad_to=5)["segment_ids"]
        mask = pair_mask(segments)
        for row, line in enumerate(segments.tolist()):
            for i, own in enumerate(line):
                if own == IGNORED:
                    assert mask[row, 0, i].any()  # a row without any place to look gives NaN in some kernels
                    continue
                sees = {j for j in range(len(line)) if mask[row, 0, i, j]}
                assert sees == {j for j in range(i + 1) if line[j] == 0 or line[j] == own}


def outcomes(groups, indices, policy, reward, pad_id, pad_to) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        rewards = score_batch(reward, **build_batch(groups, indices, pad_id, pad_to=pad_to))
        return rewards, log_prob_batch(policy, **build_batch(groups, indices, pad_id, "replies", pad_to))


def test_padding_and_company_change_nothing(groups, policy_folder, reward_folder, renderer) -> None:
    policy, reward = load_policy(policy_folder), load_reward_model(reward_folder)
    everything = outcomes(groups, range(len(groups)), policy, reward, renderer.pad_id, 32)
    order = np.random.default_rng(0).permutation(len(groups))
    others = [
        (order, renderer.pad_id, 1),
        (order[:5], renderer.pad_id, 64),
        (order[:1], 7, 128),
        (order, renderer.end_id, 32),  # the end token as padding, as in many tokenizers
    ]
    for indices, pad_id, pad_to in others:
        found = outcomes(groups, indices, policy, reward, pad_id, pad_to)
        for ours, expected in zip(found, everything, strict=True):
            torch.testing.assert_close(ours, expected[indices.copy()], atol=1e-5, rtol=1e-5)


def test_tokenize_preferences_drops_what_truncation_made_equal(tokenizer) -> None:
    prompt = (Message("user", "tea?"),)
    pairs = [
        Preference(prompt, "warm rain in a cup", "warm rain in a kettle"),
        Preference(prompt, "a", "b"),
        Preference((Message("user", "tea " * 50),), "c", "d"),
    ]
    whole, kept, counts = tokenize_preferences(pairs, Renderer(tokenizer))
    assert kept.tolist() == [0, 1, 2] and set(counts.values()) == {0}
    short = Renderer(tokenizer, max_prompt_tokens=40, max_reply_tokens=4)
    groups, kept, counts = tokenize_preferences(pairs, short, chunk=2)
    assert kept.tolist() == [1, 2]
    assert counts == {"truncated_prompts": 1, "truncated_replies": 1, "equal_after_truncation": 1}
    ends = build_batch(groups, [0, 1], short.pad_id)
    assert (ends["input_ids"].gather(1, ends["ends"]) == short.end_id).all()
    with pytest.raises(ValueError, match="raise max_reply_tokens"):
        tokenize_preferences(pairs[:1], short)


def test_sampler_visits_everything_in_an_order_of_its_epoch() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, size=400)
    sampler = LengthGroupedSampler(lengths, batch_size=8, seed=1)
    orders = []
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
        assert sorted(orders[-1]) == list(range(400))
    assert orders[0] != orders[1]
    again = LengthGroupedSampler(lengths, batch_size=8, seed=1)
    assert list(again) == orders[0]
    assert list(LengthGroupedSampler(lengths, batch_size=8, seed=2)) != orders[0]
    batches = lengths[orders[0]].reshape(-1, 8)
    assert np.ptp(batches, axis=1).mean() < 0.3 * np.ptp(lengths.reshape(-1, 8), axis=1).mean()
    assert abs(np.corrcoef(np.arange(len(batches)), batches.mean(axis=1))[0, 1]) < 0.4  # no order by length


@pytest.mark.parametrize("count", [61, 64, 1003])
def test_sampler_wastes_little_with_few_groups_too(count) -> None:
    lengths = np.random.default_rng(0).integers(50, 500, size=count)
    order = list(LengthGroupedSampler(lengths, batch_size=8, seed=0))
    assert sorted(order) == list(range(count))
    batches = [lengths[order[start : start + 8]] for start in range(0, count, 8)]
    computed = sum(len(batch) * batch.max() for batch in batches)
    assert lengths.max() in batches[0]
    assert computed < 1.2 * lengths.sum()


def test_sampler_with_fewer_groups_than_a_batch() -> None:
    assert sorted(LengthGroupedSampler(np.array([5, 9, 7]), batch_size=8, seed=0)) == [0, 1, 2]


def test_sorted_batches() -> None:
    lengths = np.array([3, 9, 1, 9, 5])
    assert [b.tolist() for b in sorted_batches(lengths, 2)] == [[1, 3], [4, 0], [2]]
