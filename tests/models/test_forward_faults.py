"""Planted faults of the ways `forward` saves work: the head in chunks, the last MLP, compiled layers.

Each comparison that holds for the true code is far off with a fault planted in it.
"""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from rlhf_hw.models import forward
from rlhf_hw.models.batches import build_batch
from rlhf_hw.models.forward import compile_layers, log_prob_batch, score_batch, token_log_probs
from rlhf_hw.models.loading import load_policy, load_reward_model
from tests.models.test_forward import INDICES, gradients

SAME, FAR = 5e-6, 1e-4  # relative: rounding of fp32, and what a fault must be beyond
KINDS = ("rewards", "log-probabilities")


@pytest.fixture(params=KINDS)
def kind(request, groups, reward_folder, policy_folder, renderer):
    """Load a model in training mode, run it on a batch, and that batch."""
    rewards = request.param == "rewards"
    load, folder = (load_reward_model, reward_folder) if rewards else (load_policy, policy_folder)
    batch = build_batch(groups, INDICES, renderer.pad_id, targets="none" if rewards else "replies")
    return lambda: load(folder).train(), score_batch if rewards else log_prob_batch, batch


def found_by(model, run, batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """What a model gives, and the gradients of its parameters: of a sum with other weights for each."""
    found = run(model, **batch)
    weighted = found * torch.linspace(-1, 2, found.numel()).view_as(found)
    return found.detach(), gradients(model, weighted.sum())


def between(ours, theirs) -> tuple[float, float]:
    """Relative distance of the outputs, and the largest of the gradients of one parameter."""
    far = [((ours[1][n] - g).norm() / g.norm()).item() for n, g in theirs[1].items()]
    assert ours[1].keys() == theirs[1].keys() and len(far) > 0
    return ((ours[0] - theirs[0]).norm() / theirs[0].norm()).item(), max(far)


def head_in_chunks(limit: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Log-probabilities of 20 tokens of 11, and the gradients of a head and of its input."""
    generator = torch.Generator().manual_seed(0)
    head = nn.Linear(8, 11)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    hidden = torch.randn(20, 8, generator=generator).requires_grad_()
    targets = torch.randint(11, (20,), generator=generator)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(forward, "MAX_LOGITS", limit)
        found = token_log_probs(head, hidden, targets)
    (found * torch.linspace(-1, 2, 20)).sum().backward()
    return found.detach(), {"hidden": hidden.grad} | {n: p.grad for n, p in head.named_parameters()}


@pytest.mark.parametrize("tokens", [1, 3, 7, 10])
def test_the_head_in_chunks_is_the_whole_head(tokens) -> None:
    assert max(between(head_in_chunks(11 * tokens), head_in_chunks(2**25))) < SAME


def targets_shifted_by_one(real):
    return lambda head, hidden, targets: real(head, hidden, targets.roll(1))


def targets_of_another_chunk(real):
    return lambda head, hidden, targets: real(head, hidden, targets.flip(0))


@pytest.mark.parametrize("fault", [targets_shifted_by_one, targets_of_another_chunk])
def test_chunks_with_other_targets_are_found(monkeypatch, fault) -> None:
    whole = head_in_chunks(2**25)
    monkeypatch.setattr(forward, "_chunk_log_probs", fault(forward._chunk_log_probs))
    assert min(between(head_in_chunks(33), whole)) > 1000 * FAR


def test_chunks_whose_gradients_alone_are_wrong_are_found(monkeypatch) -> None:
    def twice(function, hidden, targets, use_reentrant):
        return function(2 * hidden - hidden.detach(), targets)

    whole = head_in_chunks(2**25)
    monkeypatch.setattr(forward, "checkpoint", twice)
    values, grads = between(head_in_chunks(33), whole)
    assert values < SAME
    assert grads > 1000 * FAR


def test_the_last_mlp_at_other_positions_is_found(kind, monkeypatch) -> None:
    load, run, batch = kind
    real = forward.last_mlp_at
    monkeypatch.setattr(forward, "last_mlp_at", lambda *_: nullcontext())
    everywhere = found_by(load(), run, batch)
    monkeypatch.setattr(forward, "last_mlp_at", real)
    assert max(between(found_by(load(), run, batch), everywhere)) < SAME
    count = batch["input_ids"].numel()
    shifted = lambda transformer, used: real(transformer, (used + 1) % count)  # noqa: E731
    monkeypatch.setattr(forward, "last_mlp_at", shifted)
    values, grads = between(found_by(load(), run, batch), everywhere)
    assert values > 10 * FAR  # sums of log-probabilities are large beside what one layer adds to them
    assert grads > 1000 * FAR


def test_wrong_compiled_layers_are_found(kind) -> None:
    """A few in a hundred too much in what a layer gives, or in its gradients alone."""
    planted = {"outputs": 0.0, "gradients": 0.0}

    def backend(graph, inputs):
        def run_graph(*given):
            first, *rest = graph(*given)
            moved = planted["gradients"] * first
            return (first + planted["outputs"] * first + moved - moved.detach(), *rest)

        return run_graph

    load, run, batch = kind
    compiled = load()
    compile_layers(compiled, backend=backend)  # once: the fault is planted in what is traced
    wanted = found_by(load(), run, batch)
    assert max(between(found_by(compiled, run, batch), wanted)) < SAME
    planted["outputs"] = 0.03
    assert min(between(found_by(compiled, run, batch), wanted)) > FAR
    planted |= {"outputs": 0.0, "gradients": 0.03}
    values, grads = between(found_by(compiled, run, batch), wanted)
    assert values < SAME
    assert grads > 100 * FAR
