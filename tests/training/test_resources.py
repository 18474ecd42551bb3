"""What a run cannot have is said before anything is loaded: memory, disk, ranks beyond the model."""

from collections import namedtuple

import pytest
import torch

from rlhf_hw.errors import InputError
from rlhf_hw.training import resources
from rlhf_hw.training.config import DPOTraining, RewardTraining
from rlhf_hw.training.estimate import GIB
from rlhf_hw.training.launch import TRAIN
from rlhf_hw.training.resources import check_resources, free_memory

Usage = namedtuple("Usage", "total used free")


def test_a_rank_beyond_the_model_is_refused_before_its_memory_is_taken(settings, monkeypatch) -> None:
    monkeypatch.setattr("rlhf_hw.training.run.Renderer", None)  # nothing is loaded
    with pytest.raises(InputError, match="lora_rank: expected at most 32, .* found 1000"):
        TRAIN["rm"](settings(RewardTraining, lora_rank=1000))
    check_resources(settings(RewardTraining, lora_rank=32))


@pytest.mark.parametrize("processes", [1, 2])
def test_more_than_the_free_memory_is_refused(settings, monkeypatch, processes) -> None:
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    config = settings(DPOTraining)
    shape = resources.read_pretrained(resources.AutoConfig, config.model)
    needed = processes * resources.held(config, shape).memory
    monkeypatch.setattr(resources, "free_memory", lambda: needed - 1)
    with pytest.raises(InputError, match=r"optimizer take 0.0 GiB, and 0.0 GiB of memory are free; take a"):
        check_resources(config)
    for enough in (needed, None):
        monkeypatch.setattr(resources, "free_memory", lambda free=enough: free)
        check_resources(config)


def test_more_than_the_free_disk_is_refused(settings, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: Usage(0, 0, 300_000) if folder == tmp_path else 0)
    check_resources(settings(RewardTraining))
    with pytest.raises(InputError, match=f"output_dir: .* are free at {tmp_path}; free some"):
        check_resources(settings(RewardTraining, save_steps=1))


def test_a_containers_share_counts(tmp_path, monkeypatch) -> None:
    assert 0.1 * GIB < free_memory() < 10_000 * GIB
    for name, text in (("max", "5000"), ("now", "3000"), ("memory.stat", "anon 1\ninactive_file 500\n")):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(resources, "CGROUPS", [(str(tmp_path / "max"), str(tmp_path / "now"))])
    assert free_memory() == 2500
    (tmp_path / "max").write_text("max\n")  # no limit
    assert free_memory() > 0.1 * GIB


def test_what_torch_keeps_on_a_gpu_is_free_for_the_next_training(monkeypatch) -> None:
    """Of 80 GiB another program holds 5; an earlier training here left 60, of which a model still takes 2."""
    known = {"is_available": True, "mem_get_info": (15 * GIB, 80 * GIB)}
    known |= {"memory_reserved": 60 * GIB, "memory_allocated": 2 * GIB}
    for name, value in known.items():
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
    assert free_memory() == (15 + 58) * GIB
