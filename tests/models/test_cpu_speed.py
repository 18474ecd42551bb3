import platform
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from rlhf_hw.models import cpu_speed, forward
from rlhf_hw.models.cpu_speed import FreedMemory, LinearByOneDNN, keep_freed_memory
from rlhf_hw.models.loading import load_policy
from rlhf_hw.models.log_probs import log_probs_groups


def test_freed_memory_is_kept_where_the_system_can() -> None:
    assert keep_freed_memory() in (True, False)


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or torch.cuda.is_available(),
    reason="malloc of another system, or a GPU",
)
def test_between_jobs_what_was_freed_goes_back_to_the_system() -> None:
    """In a process of its own, because malloc is told for good; half of 256 MiB lies in holes."""
    code = (
        "import torch\nfrom rlhf_hw.models import cpu_speed as module\nmodule.keep_freed_memory()\n"
        "held = [torch.ones(2**20) for _ in range(64)]\ndel held[::2]\nbefore = module.resident()\n"
        "module.keep_freed_memory()\nlittle = module.resident()\nmodule.MUCH = 0\n"
        "module.keep_freed_memory()\nprint(before - little, before - module.resident())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    little, much = map(int, done.stdout.split())
    assert little < 2**22 and much > 100 * 2**20  # a process that holds little keeps all


def test_freed_memory_goes_back_where_it_piles_up(monkeypatch) -> None:
    held = [1000, 1050, 1200, 1100, 1180, 1250, 900, 1209, 1211]  # at the end of each step
    steps, back = iter(held), []
    monkeypatch.setattr(cpu_speed, "resident", lambda: next(steps))
    monkeypatch.setattr(cpu_speed, "hand_back_freed_memory", lambda: not back.append(len(told)))
    memory, told = FreedMemory(), []
    for size in held:
        told.append(size)
        memory.after_step()
    # 1200 > 1.1 * 1000; then a step alone takes 1100, and 1250 > 1.1 * 1100; a small step changes nothing
    assert back == [3, 6, 9]


def test_a_process_that_hands_nothing_back_keeps_its_measure(monkeypatch) -> None:
    steps = iter([1000, 1200, 1300])
    monkeypatch.setattr(cpu_speed, "resident", lambda: next(steps))
    monkeypatch.setattr(cpu_speed, "hand_back_freed_memory", lambda: False)
    memory = FreedMemory()
    for _ in range(3):
        memory.after_step()
    assert memory.taken == 1000


def test_scoring_looks_after_each_batch(monkeypatch, groups, policy_folder, renderer) -> None:
    looks = []
    monkeypatch.setattr(FreedMemory, "after_step", lambda self: looks.append(1))
    monkeypatch.setattr(forward, "TOKENS_PER_BATCH", 1)
    log_probs_groups(load_policy(policy_folder), groups, renderer.pad_id)
    assert len(looks) == len(groups) > 1


@pytest.mark.parametrize("shape", [(7, 32), (2, 5, 32), (1, 32), (0, 32)])
@pytest.mark.parametrize("bias", [True, False])
def test_products_are_those_of_torch(shape, bias) -> None:
    layer, inputs = torch.nn.Linear(32, 24, bias=bias), torch.randn(shape)
    with torch.no_grad():
        expected = layer(inputs)
        with LinearByOneDNN():
            found = layer(inputs)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_what_it_does_not_touch() -> None:
    layer, inputs = torch.nn.Linear(32, 24), torch.randn(3, 32)
    with LinearByOneDNN():
        layer(inputs).sum().backward()  # with gradients: torch's own
        assert layer.weight.grad is not None
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            assert layer(inputs).dtype == torch.bfloat16
        with torch.no_grad():
            assert torch.equal(F.linear(inputs, weight=layer.weight), inputs @ layer.weight.T)


def test_a_row_has_the_same_result_in_any_batch() -> None:
    layer, inputs = torch.nn.Linear(320, 200), torch.randn(70, 320)
    with torch.no_grad(), LinearByOneDNN():
        everything = layer(inputs)
        for count in (1, 2, 3, 17, 64):
            assert torch.equal(layer(inputs[:count]), everything[:count]), count
