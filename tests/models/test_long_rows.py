"""Attention by parts against the same attention with a mask of L x L."""

import numpy as np
import pytest
import torch
from ragged_rows import ROWS, batch_of
from torch.nn.functional import scaled_dot_product_attention

from rlhf_hw.models import long_rows as module
from rlhf_hw.models.attention import ATTENTION, additive, attend, mask_of_batch, pair_mask
from rlhf_hw.models.long_rows import attend_long, long_rows

HEADS = {"alike": (3, 3), "grouped": (6, 2), "one key head": (4, 1)}


def inputs(batch: dict, heads: tuple[int, int], dtype=torch.float32) -> list[torch.Tensor]:
    generator, (rows, length) = torch.Generator().manual_seed(0), batch["input_ids"].shape
    shapes = [(rows, n, length, 16) for n in (heads[0], heads[1], heads[1])]
    return [torch.randn(s, generator=generator).to(dtype).requires_grad_() for s in shapes]


def both_ways(batch: dict, heads=(6, 2), dtype=torch.float32) -> float:
    """How far outputs and gradients by parts are from those with a mask, where tokens are, at most."""
    tokens, results = batch["segment_ids"] >= 0, []
    mask = pair_mask(batch["segment_ids"])
    for by_parts in (True, False):
        tensors = inputs(batch, heads, dtype)
        if by_parts:
            output = attend_long(*tensors, {n: b[1:].tolist() for n, b in enumerate(batch["bounds"])})
        else:
            query, *rest = tensors
            full = (x.repeat_interleave(heads[0] // heads[1], dim=1) for x in rest)
            output = scaled_dot_product_attention(query, *full, attn_mask=mask).transpose(1, 2)
        weigh = torch.linspace(-1, 1, output[0, 0].numel()).view(output.shape[2:])
        found = output[tokens]
        (found.float() * weigh + 0.1 * found.float().square()).sum().backward()
        assert all(x.grad.isfinite().all() for x in tensors)
        results.append([found.detach(), *(x.grad.transpose(1, 2)[tokens] for x in tensors)])
    return max(((a - b).abs().max() / b.abs().max()).item() for a, b in zip(*results, strict=True))


WAYS = ["kernel", "torch"]


@pytest.fixture
def way(request, monkeypatch) -> str:
    """Both implementations: that of processors, and what other devices use."""
    if request.param == "torch":
        by_torch = lambda q, k, v, rows, scale: module._by_torch(q, k, v, rows, scale, 0.0).transpose(1, 2)  # noqa: E731
        monkeypatch.setattr(module._Parts, "apply", by_torch)
    return request.param


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("way", WAYS, indirect=True)
def test_outputs_and_gradients_are_those_with_a_mask(way, rows, heads) -> None:
    assert both_ways(batch_of(ROWS[rows]), HEADS[heads]) < 1e-5


@pytest.mark.parametrize("way", WAYS, indirect=True)
def test_rows_of_several_blocks_of_the_kernel(way) -> None:
    assert both_ways(batch_of([(700, 300, 411), (1, 530, 801), (800, 2, 1)])) < 1e-5


def sees_the_other_reply(ends):
    *known, (reply, _) = list(PIECES(ends))
    yield from known
    yield reply, [(slice(0, ends[-2]), False), (reply, True)]


def one_too_many(ends):
    for place, seen in PIECES(ends):
        yield place, [(slice(0, keys.stop + 1) if not causal else keys, causal) for keys, causal in seen]


def one_too_few(ends):
    for place, seen in PIECES(ends):
        yield (
            place,
            [(slice(0, max(1, keys.stop - 1)) if not causal else keys, causal) for keys, causal in seen],
        )


def not_causal(ends):
    for place, seen in PIECES(ends):
        yield place, [(keys, False) for keys, _ in seen]


def sees_padding(ends):
    for place, seen in PIECES(ends):
        yield place, [(slice(keys.start, keys.stop + 1) if causal else keys, False) for keys, causal in seen]


def shifted(ends):
    """Each query of a further reply sees one token less of its reply: a causal offset of one."""
    for place, seen in PIECES(ends):
        yield (
            place,
            [(keys if not causal or keys.start == 0 else SHIFT(keys), causal) for keys, causal in seen],
        )


PIECES = module._pieces
SHIFT = lambda keys: slice(keys.start - 1, keys.stop - 1)  # noqa: E731
FAULTS = [("kernel", not_causal)]  # by torch's own kernels all is causal
FAULTS += [
    (way, fault)
    for way in WAYS
    for fault in (sees_the_other_reply, one_too_many, one_too_few, sees_padding, shifted)
]


@pytest.mark.parametrize(("way", "fault"), FAULTS, indirect=["way"])
def test_planted_faults_are_far_from_it(way, fault, monkeypatch) -> None:
    batch = batch_of([(20, 9, 14), (8, 12, 10)])
    assert both_ways(batch) < 1e-5
    monkeypatch.setattr(module, "_pieces", fault)
    assert both_ways(batch) > 0.05


def test_heads_need_not_lie_together() -> None:
    """The kernel would read the numbers of another head, or one number of a gradient for all."""
    batch, found = batch_of([(20, 9, 14), (8, 12, 10)]), []
    rows = {n: b[1:].tolist() for n, b in enumerate(batch["bounds"])}
    for apart in (False, True):
        tensors = inputs(batch, (6, 2))
        used = [x.mT.contiguous().mT for x in tensors] if apart else tensors
        output = attend_long(*used, rows)
        gradient = torch.ones(()) if apart else torch.ones_like(output)
        output.backward(gradient.expand(output.shape))
        found.append([output, *(x.grad for x in tensors)])
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-5)


def test_gradients_of_each_half_need_the_whole_log_sum(monkeypatch) -> None:
    joined = module._joined
    batch = batch_of([(20, 9, 14)])
    monkeypatch.setattr(module, "_joined", lambda *found: (joined(*found)[0], found[-1][1]))
    assert both_ways(batch) > 0.05


@pytest.mark.parametrize("scale", [1, 30])
def test_bf16_is_as_near_to_fp64_as_the_kernel_with_a_mask(scale) -> None:
    batch = batch_of([(60, 30, 41), (1, 53, 80)])
    tokens, mask, found = batch["segment_ids"] >= 0, pair_mask(batch["segment_ids"]), []
    rows = {n: b[1:].tolist() for n, b in enumerate(batch["bounds"])}
    for kind in ("exact", "parts", "mask"):
        tensors = inputs(batch, (4, 4), torch.bfloat16)
        used = [x.detach().double().requires_grad_() for x in tensors] if kind == "exact" else tensors
        query = used[0] * scale
        if kind == "parts":
            output = attend_long(query, *used[1:], rows)
        else:
            added = mask if kind == "exact" else additive(mask, torch.bfloat16)
            output = scaled_dot_product_attention(query, *used[1:], attn_mask=added).transpose(1, 2)
        output[tokens].double().square().sum().backward()
        found.append([output[tokens].detach().double(), *(x.grad.double() for x in used)])
    exact, parts, masked = found
    for mine, theirs, true in zip(parts, masked, exact, strict=True):
        assert (mine - true).norm() < 1.3 * (theirs - true).norm() + 1e-3 * true.norm()


def test_the_stand_in_for_the_mask_cannot_be_read_unseen() -> None:
    batch = batch_of([(30, 8, 9)])
    stand_in = module.in_place_of_mask(module.RowParts({0: [30, 38, 47]}), 1, 48, torch.float32, "cpu")
    assert stand_in.shape == (1, 1, 48, 48) and stand_in.untyped_storage().nbytes() == 4
    query, key, value = inputs(batch, (2, 2))
    assert scaled_dot_product_attention(query, key, value, attn_mask=stand_in[:, :, :, :48]).isnan().all()


def test_rows_from_long_row_on_are_long(monkeypatch) -> None:
    monkeypatch.setattr(module, "LONG_ROW", 48)
    batch = batch_of([(20, 9, 19), (20, 9, 18), (1, 50, 3)])
    assert long_rows(batch["bounds"]) == {0: [20, 29, 48], 2: [1, 51, 54]}


def test_models_with_code_of_their_own_keep_the_mask() -> None:
    batch, bounds = batch_of([(1000, 30, 30)]), np.array([[0, 1000, 1030, 1060]])
    for name, by_parts in ((ATTENTION, True), ("eager", False)):
        config = type("Config", (), {"_attn_implementation": name})
        transformer = type("Transformer", (), {"config": config})
        mask = mask_of_batch(transformer, batch["segment_ids"], bounds, torch.float32)
        assert hasattr(mask, "row_parts") == by_parts


def test_a_row_is_computed_alike_in_any_company(monkeypatch) -> None:
    """bf16, where another kernel's rounding would show: long beside short and short beside long."""
    monkeypatch.setattr(module, "LONG_ROW", 60)
    rows = [(30, 18, 20), (30, 10, 18), (22, 9, 9)]
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(3, n, 80, 16, generator=generator).bfloat16() for n in (4, 2, 2)]
    layer = torch.nn.Module()
    layer.num_key_value_groups = 2

    def run(some):
        batch = batch_of([rows[i] for i in some])
        config = type("Config", (), {"_attn_implementation": ATTENTION})
        transformer = type("Transformer", (), {"config": config})
        mask = mask_of_batch(transformer, batch["segment_ids"], batch["bounds"], torch.bfloat16)
        own = (x[some, :, : mask.shape[-1]] for x in tensors)
        return [x[: sum(rows[i])] for i, x in zip(some, attend(layer, *own, mask)[0], strict=True)]

    together = run([0, 1, 2])
    for row in range(3):
        assert torch.equal(run([row])[0], together[row])
