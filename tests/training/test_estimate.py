"""What a run will need: counted for any architecture, near what it takes, and never in its way."""

import json
import os
import random
import re
import subprocess
import sys

import pytest
from conftest import sentence
from transformers import (
    GPT2Config,
    GPTBigCodeConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    OPTConfig,
    PretrainedConfig,
)

from rlhf_hw.models.batches import group_tokens
from rlhf_hw.models.loading import load_policy
from rlhf_hw.paths import ROOT
from rlhf_hw.training import activations
from rlhf_hw.training.activations import Sizes, kept_bytes, parts_of_batch
from rlhf_hw.training.config import SETTINGS, DPOTraining, RewardTraining
from rlhf_hw.training.estimate import announced, duration, estimate, lora_parameters
from rlhf_hw.training.launch import TRAIN

GIB = 2**30
SLOW = pytest.mark.skipif(not os.environ.get("RLHF_HW_SLOW"), reason="the true size: set RLHF_HW_SLOW=1")
SMOLLM2 = LlamaConfig(
    vocab_size=49152,
    hidden_size=576,
    intermediate_size=1536,
    num_hidden_layers=30,
    num_attention_heads=9,
    num_key_value_heads=3,
    tie_word_embeddings=True,
)


def test_what_is_counted(settings, groups) -> None:
    whole = estimate(settings(DPOTraining, epochs=2), groups)
    assert whole.steps == 12 and whole.trained == whole.parameters
    assert whole.tokens == pytest.approx(2 * groups.lengths.sum())
    assert whole.weights + whole.gradients + whole.optimizer == 16 * whole.parameters
    assert whole.seconds > 0 and "M parameters" in str(whole)
    assert estimate(settings(DPOTraining, dtype="bf16"), groups).weights == 6 * whole.parameters
    lean = estimate(settings(DPOTraining, lora_rank=1, gradient_checkpointing=True), groups)
    assert lean.trained < 0.3 * whole.trained and lean.memory < whole.memory
    wide = estimate(settings(DPOTraining, batch_size=8), groups)
    assert wide.activations > whole.activations


def test_a_stage_splits_the_estimate(settings, groups, monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    none, two, three = (
        estimate(settings(RewardTraining, deepspeed=name), groups) for name in (None, "zero2", "zero3")
    )
    assert two.weights == none.weights and two.optimizer == none.optimizer / 4
    assert three.weights == none.weights / 4 and three.gradients == none.gradients / 4


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [
        (GPT2Config(), (768, 12, 12, 64, 3072, 50257)),
        (GPTBigCodeConfig(n_embd=128, n_layer=3, n_head=4), (128, 3, 4, 32, 512, 50257)),
        (OPTConfig(), (768, 12, 12, 64, 3072, 50272)),
        (SMOLLM2, (576, 30, 9, 64, 1536, 49152)),
        (MambaConfig(), (768, 32, 12, 64, 1536, 50280)),
    ],
    ids=lambda value: getattr(value, "model_type", ""),
)
def test_sizes_are_read_whatever_they_are_called(shape, sizes) -> None:
    assert Sizes.of(shape) == Sizes(*sizes)


def test_an_estimate_never_stops_a_run(settings, policy_folder, groups, monkeypatch) -> None:
    config = settings(DPOTraining, lora_rank=2)
    monkeypatch.setattr(Sizes, "of", lambda shape: None)
    assert "+ unknown activations)" in announced(config, groups)
    monkeypatch.setattr("rlhf_hw.training.estimate.count_parameters", lambda shape: 1 / 0)
    assert announced(config, groups).startswith("what the run will need is unknown (ZeroDivisionError")
    assert parts_of_batch(config, None, 4, activations.TOKENS_AT_ONCE) == 4
    monkeypatch.undo()
    assert Sizes.of(PretrainedConfig()) is None
    small = GPT2Config(
        vocab_size=50, n_embd=16, n_layer=2, n_head=2
    )  # no nn.Linear, and no intermediate_size
    assert lora_parameters(small, rank=1) == 2 * (16 + 48 + 16 + 16 + 16 + 64 + 64 + 16)


def test_a_batch_is_worked_through_in_parts_before_it_takes_too_much(settings, monkeypatch) -> None:
    sizes, config = Sizes.of(SMOLLM2), settings(RewardTraining, dtype="bf16")
    assert parts_of_batch(config, sizes, 4, 640) == 1
    for rows, length in ((16, 640), (16, 1024), (64, 640)):
        count = parts_of_batch(config, sizes, rows, length)
        assert 1 < count < rows
        assert kept_bytes(config, sizes, -(-rows // count), length, 0) <= activations.BYTES_AT_ONCE
    embedded = Sizes.of(load_policy(ROOT / "data" / "base-model").config)  # cut as ever: at so many tokens
    assert parts_of_batch(config, embedded, 32, 384) == 2 and parts_of_batch(config, embedded, 16, 384) == 1
    assert parts_of_batch(settings(RewardTraining, deepspeed="zero2"), sizes, 16, 640) == 1
    monkeypatch.setattr("rlhf_hw.training.estimate.read_pretrained", lambda *_: SMOLLM2)
    long = group_tokens([[1] * 320] * 16, [[[1] * 160] * 2] * 16)
    for kind in (RewardTraining, DPOTraining):
        assert estimate(settings(kind, dtype="bf16", batch_size=16), long).memory < 10 * GIB


def test_a_run_says_before_it_starts_what_it_will_need(settings, policy_folder, caplog) -> None:
    with caplog.at_level("INFO", logger="rlhf_hw"):
        TRAIN["rm"](settings(RewardTraining, max_steps=1))
    (said,) = [message for message in caplog.messages if message.startswith(f"{policy_folder}: ")]
    assert re.search(r"M parameters, .* in 1 steps; about .* GiB a process .* seconds$", said)


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "5 seconds"), (600, "10 minutes"), (9000, "2 hours"), (4e5, "5 days")]
)
def test_durations(seconds, text) -> None:
    assert duration(seconds) == text


# In a process of its own: memory that earlier tests have freed stays in theirs. Its peak is read from /proc,
# since `getrusage` also counts what its parent had when it started it.
MEASURE = """
import re, sys
from rlhf_hw.training import estimate, run
from rlhf_hw.training.config import SETTINGS
from rlhf_hw.training.launch import TRAIN
needs = []
run.announced = lambda *given: needs.append(estimate.estimate(*given)) or str(needs)
TRAIN[sys.argv[1]](SETTINGS[sys.argv[1]].model_validate_json(sys.argv[2]))
print(needs[0].memory, 1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]))
"""


@pytest.fixture(scope="module")
def long_pairs(tmp_path_factory):
    """48 pairs that fill 320 tokens of a prompt and 160 of each reply."""
    draw = random.Random(0)
    rows = [
        {"question": f"{number} {sentence(draw, 400, 400)}", "overall_response": 1}
        | {f"response_{side}": sentence(draw, 220, 220) for side in (1, 2)}
        for number in range(48)
    ]
    path = tmp_path_factory.mktemp("long") / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def smollm2(renderer, tmp_path_factory):
    """SmolLM2-135M's shape with random weights."""
    folder = tmp_path_factory.mktemp("smollm2")
    SMOLLM2.pad_token_id, SMOLLM2.bos_token_id = renderer.pad_id, None
    SMOLLM2.eos_token_id = renderer.tokenizer.eos_token_id
    LlamaForCausalLM(SMOLLM2).save_pretrained(folder)
    renderer.save(folder)
    return folder


@pytest.mark.parametrize(
    ("kind", "model", "rows"),
    [
        ("dpo", "embedded", 8),
        pytest.param("rm", "embedded", 32, marks=[pytest.mark.slow, SLOW]),
        *(
            pytest.param(kind, "smollm2", rows, marks=[pytest.mark.slow, SLOW])
            for kind in ("rm", "dpo")
            for rows in (4, 16)
        ),
    ],
)
def test_estimated_memory_is_near_the_measured_one(long_pairs, tmp_path, request, kind, model, rows) -> None:
    """Within a quarter of what the process took at its peak, two steps in bf16."""
    folder = request.getfixturevalue("smollm2") if model == "smollm2" else ROOT / "data" / "base-model"
    config = SETTINGS[kind](
        model=str(folder),
        output_dir=tmp_path / "run",
        train_dataset=str(long_pairs),
        max_prompt_tokens=320,
        max_reply_tokens=160,
        max_train=2 * rows,
        batch_size=rows,
        dtype="bf16",
        report_to="none",
    )
    command = [sys.executable, "-c", MEASURE, kind, config.model_dump_json()]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    expected, peak = map(float, output.split())
    assert 0.75 * peak < expected < 1.25 * peak, (expected / GIB, peak / GIB)
