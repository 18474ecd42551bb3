"""Muon with AdamW: which weights are whose, equal to torch's own two optimizers, and restored as saved."""

import copy

import torch

from rlhf_hw.models.loading import load_policy
from rlhf_hw.training.muon import MuonWithAdamW


def give_gradients(model, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def test_matrices_are_muons_and_the_rest_is_adamws(policy_folder):
    model = load_policy(policy_folder)
    names = {id(p): name for name, p in model.named_parameters()}
    muon, adamw = MuonWithAdamW(model, 1e-3, 0.95, 0.01).parts
    theirs = [names[id(p)] for group in muon.param_groups for p in group["params"]]
    assert all(name.endswith("proj.weight") for name in theirs) and len(theirs) == 2 * 7
    tables, vectors = ([names[id(p)] for p in group["params"]] for group in adamw.param_groups)
    assert tables == ["model.embed_tokens.weight"]
    assert sorted([*theirs, *tables, *vectors]) == sorted(names.values())
    assert [group["weight_decay"] for group in adamw.param_groups] == [0.01, 0.0]


def test_a_step_is_that_of_both_and_follows_the_schedule(policy_folder):
    ours = load_policy(policy_folder)
    theirs = copy.deepcopy(ours)
    optimizer = MuonWithAdamW(ours, 1e-3, 0.95, 0.0)
    for group in optimizer.param_groups:  # what a schedule does
        group["lr"] *= 0.5
    matrices = [p for name, p in theirs.named_parameters() if name.endswith("proj.weight")]
    others = [p for name, p in theirs.named_parameters() if not name.endswith("proj.weight")]
    apart = [
        torch.optim.Muon(matrices, lr=5e-4, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=2.5e-4, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    for seed in (1, 2):
        give_gradients(ours, seed)
        give_gradients(theirs, seed)
        for one in (optimizer, *apart):
            one.step()
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b), name
    optimizer.zero_grad()
    assert all(p.grad is None for p in ours.parameters())


def test_its_state_is_restored(policy_folder):
    model = load_policy(policy_folder)
    optimizer = MuonWithAdamW(model, 1e-3, 0.95, 0.01)
    give_gradients(model, 1)
    optimizer.step()
    twin = copy.deepcopy(model)
    restored = MuonWithAdamW(twin, 5e-2, 0.95, 0.01)
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert [g["lr"] for g in restored.param_groups] == [g["lr"] for g in optimizer.param_groups]
    for one, its in ((model, optimizer), (twin, restored)):
        give_gradients(one, 2)
        its.step()
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(a, b)
