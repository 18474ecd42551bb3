"""Qwen2.5-0.5B-Instruct's shape, chat format and vocabulary with random weights; LoRA; the estimate.

The true size takes minutes and gigabytes: RLHF_HW_SLOW=1 runs it. The same at reduced depth always runs.
"""

import os
import resource

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from rlhf_hw.models.generation import generate
from rlhf_hw.models.loading import load_policy, load_reward_model, random_head
from rlhf_hw.models.rendering import Renderer
from rlhf_hw.models.scoring import RewardModel
from rlhf_hw.training.config import DPOTraining, RewardTraining
from rlhf_hw.training.estimate import count_parameters
from rlhf_hw.training.run import train_dpo, train_reward_model

GIB = 2**30
# What Qwen2.5-Instruct's own template writes where no tools are called: a system message stands before the
# conversation if it has none.
CHAT_TEMPLATE = (
    "{%- if messages[0]['role'] != 'system' -%}"
    "{{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. '"
    " + 'You are a helpful assistant.<|im_end|>\\n' -}}"
    "{%- endif -%}"
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)
TRUE = {
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "vocab_size": 151936,
}
REDUCED = TRUE | {
    "hidden_size": 112,
    "intermediate_size": 304,
    "num_hidden_layers": 3,
    "vocab_size": 4096,
}
SLOW = pytest.mark.skipif(not os.environ.get("RLHF_HW_SLOW"), reason="the true size: set RLHF_HW_SLOW=1")


def shape_config(tokenizer, shape: dict[str, int]) -> Qwen2Config:
    return Qwen2Config(
        **shape,
        max_position_embeddings=32768,
        rope_theta=1000000.0,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def qwen_tokenizer(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """The tests' tokenizer with Qwen2.5's control tokens and chat format; smaller than the embedding."""
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
        chat_template=CHAT_TEMPLATE,
    )


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(REDUCED, id="reduced"),
        pytest.param(TRUE, id="true", marks=[pytest.mark.slow, SLOW]),
    ],
)
def checkpoint(request, tokenizer, tmp_path_factory):
    """Folder and shape of a random checkpoint."""
    folder = tmp_path_factory.mktemp("qwen")
    tokenizer = qwen_tokenizer(tokenizer)
    torch.manual_seed(0)
    Qwen2ForCausalLM(shape_config(tokenizer, request.param)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder, request.param


def test_reward_model_scores_dpo_and_generation(checkpoint, preferences, pairs_file, cache, tmp_path) -> None:
    folder, shape = checkpoint
    settings = {
        "model": str(folder),
        "train_dataset": str(pairs_file),
        "max_train": 8,
        "max_steps": 2,
        "batch_size": 2,
        "gradient_accumulation_steps": 2,
        "gradient_checkpointing": True,
        "warmup_ratio": 0.0,
        "report_to": "none",
    }
    # the homework's learning rates
    trained = train_reward_model(RewardTraining(**settings, output_dir=tmp_path / "rm", learning_rate=2e-5))
    assert trained.metrics["steps"] == 2 and np.isfinite(trained.metrics["loss_last"])
    scores = RewardModel(tmp_path / "rm").score_preferences(preferences[:4])
    assert len({r["chosen_score"] for r in scores}) == 4
    dpo = train_dpo(DPOTraining(**settings, output_dir=tmp_path / "dpo", learning_rate=1e-6, beta=0.1))
    assert dpo.metrics["loss_first"] == pytest.approx(np.log(2), abs=1e-3)
    renderer = Renderer.load(tmp_path / "dpo")
    policy = load_policy(tmp_path / "dpo")
    assert sum(p.numel() for p in policy.parameters()) == count_parameters(policy.config)
    assert policy.get_input_embeddings().weight.shape == (shape["vocab_size"], shape["hidden_size"])
    replies = generate(policy, renderer, [p.prompt for p in preferences[:2]], max_new_tokens=3, samples=2)
    assert all(len(reply.ids) == 3 or reply.finished for reply in replies)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 < 20 * GIB


def test_the_default_system_message_is_rendered(tokenizer) -> None:
    renderer = Renderer(qwen_tokenizer(tokenizer))
    from rlhf_hw.preferences.templates import Message

    plain, own = renderer.prompt_ids(
        [(Message("user", "Tea?"),), (Message("system", "Be brief."), Message("user", "Tea?"))]
    )
    text = renderer.tokenizer.decode(plain, skip_special_tokens=False)
    assert text.startswith("<|im_start|>system\nYou are Qwen, created by Alibaba Cloud.")
    assert "Qwen" not in renderer.tokenizer.decode(own, skip_special_tokens=False)
    assert (
        renderer.tokenizer.decode(renderer.reply_ids(["Yes."])[0], skip_special_tokens=False)
        == "Yes.<|im_end|>"
    )


def test_true_shape_has_the_true_number_of_parameters(tokenizer) -> None:
    assert count_parameters(shape_config(tokenizer, TRUE)) == 494_032_768  # the published 0.49 billion


@pytest.mark.parametrize(("kind", "train"), [(RewardTraining, train_reward_model), (DPOTraining, train_dpo)])
def test_lora_learns_and_leaves_a_standard_checkpoint(
    policy_folder, pairs_file, cache, tmp_path, kind, train
) -> None:
    settings = {
        "model": str(policy_folder),
        "train_dataset": str(pairs_file),
        "dtype": "fp32",
        "report_to": "none",
    }
    settings |= {"learning_rate": 1e-2, "warmup_ratio": 0.0, "batch_size": 8, "epochs": 4, "logging_steps": 1}
    result = train(kind(**settings, output_dir=tmp_path / "lora", lora_rank=4))
    assert result.metrics["loss_last"] < result.metrics["loss_first"] - 0.01
    start, end = (
        load_file(policy_folder / "model.safetensors"),
        load_file(tmp_path / "lora" / "model.safetensors"),
    )
    assert end.keys() - start.keys() <= {"score.weight"} and start.keys() <= end.keys()
    changed = {name for name in start if not torch.equal(start[name], end[name])}
    assert changed == {name for name in start if name.endswith("_proj.weight")}
    for name in changed:  # the change has the adapters' rank
        assert torch.linalg.matrix_rank((end[name] - start[name]).double(), rtol=1e-4) <= 4
    (load_reward_model if kind is RewardTraining else load_policy)(tmp_path / "lora")
    if kind is RewardTraining:  # the new head is trained whole
        assert (end["score.weight"] != random_head(end["score.weight"].shape[1], seed=0)).all()


def test_lora_and_zero3_do_not_go_together() -> None:
    with pytest.raises(ValidationError, match="take zero2"):
        RewardTraining(model="m", output_dir="o", lora_rank=4, deepspeed="zero3")
