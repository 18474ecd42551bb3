"""Our checkpoints are read by other systems, with the scores they have here; run with their own code."""

import json
import os
import subprocess

import numpy as np
import pytest
import torch
from other_systems import CLOSE, QUIET, conversations, our_scores, trl_columns, trl_scores
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
)
from trl import RewardConfig, RewardTrainer

from rlhf_hw.training.config import RewardTraining
from rlhf_hw.training.run import train_reward_model


@pytest.mark.parametrize("batch_size", [1, 5, 24])
def test_ours_give_the_same_rewards_in_trl(
    reward_folder, preferences, renderer, tmp_path, batch_size
) -> None:
    data = trl_columns(preferences, "text", renderer)
    trainer = RewardTrainer(
        model=str(reward_folder),
        args=RewardConfig(output_dir=str(tmp_path), per_device_eval_batch_size=batch_size, **QUIET),
        processing_class=AutoTokenizer.from_pretrained(reward_folder),
        train_dataset=data,
        eval_dataset=data,
    )
    scores = our_scores(reward_folder, preferences)
    np.testing.assert_allclose(trl_scores(trainer), scores, **CLOSE)
    if batch_size == 24:
        metrics = trainer.evaluate()
        assert metrics["eval_margin"] == pytest.approx((scores[:, 0] - scores[:, 1]).mean(), rel=1e-4)
        assert metrics["eval_accuracy"] == pytest.approx((scores[:, 0] > scores[:, 1]).mean())


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("batch_size", [1, 5, 24])
def test_ours_give_the_same_rewards_in_plain_transformers(
    reward_folder, preferences, side, batch_size
) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(reward_folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(reward_folder)
    texts = tokenizer.apply_chat_template(conversations(preferences, "chosen"), tokenize=False)
    texts = [text.removesuffix("\n") for text in texts]  # ours are read at the end-of-turn token
    scores = []
    for start in range(0, len(texts), batch_size):
        batch = tokenizer(
            texts[start : start + batch_size],
            add_special_tokens=False,
            padding=True,
            padding_side=side,
            return_tensors="pt",
        )
        with torch.no_grad():
            scores.append(model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, 0])
    np.testing.assert_allclose(
        torch.cat(scores).numpy(), our_scores(reward_folder, preferences)[:, 0], **CLOSE
    )


def trained_reward_model(policy_folder, pairs_file, folder):
    """A checkpoint as training leaves it."""
    settings = {"model": str(policy_folder), "train_dataset": str(pairs_file), "dtype": "fp32"}
    train_reward_model(RewardTraining(**settings, output_dir=folder, max_steps=1, report_to="none"))
    return folder


def test_our_files_carry_the_names_of_transformers_4_too(policy_folder, pairs_file, tmp_path) -> None:
    folder = trained_reward_model(policy_folder, pairs_file, tmp_path / "rm")
    config, tokens = (
        json.loads((folder / f"{name}.json").read_text()) for name in ("config", "tokenizer_config")
    )
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"]
    assert config["torch_dtype"] == "float32"
    assert not isinstance(tokens.get("extra_special_tokens"), list)
    assert "<|im_start|>" in AutoTokenizer.from_pretrained(folder).all_special_tokens


REWARDBENCH = """
import json, sys
import transformers.tokenization_utils_base as base
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from rewardbench.models.pipeline import RewardBenchPipeline
base.BatchEncoding.to = lambda self, *a, **k: self  # the pipeline asks for a GPU by name
folder, texts = sys.argv[1], json.loads(sys.stdin.read())
model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1)
tokenizer, scores = AutoTokenizer.from_pretrained(folder), []
for side in ("left", "right"):
    tokenizer.padding_side = side
    pipe = RewardBenchPipeline("text-classification", model=model, tokenizer=tokenizer)
    for size in (1, 5, 24):
        parts = [texts[i : i + size] for i in range(0, len(texts), size)]
        options = {"padding": True, "truncation": True, "max_length": 2048}
        scores.append([x for part in parts for x in pipe(part, **options).flatten().tolist()])
print("SCORES", json.dumps(scores))
"""


@pytest.mark.skipif(
    not os.environ.get("RLHF_HW_REWARDBENCH"), reason="see docs/your-data-and-model.md: RewardBench"
)
def test_ours_give_the_same_rewards_in_rewardbench(
    policy_folder, pairs_file, preferences, renderer, tmp_path
) -> None:
    folder = trained_reward_model(policy_folder, pairs_file, tmp_path / "rm")
    ends = [renderer.reply_ids([p.chosen])[0] for p in preferences]
    prompts = renderer.prompt_ids([p.prompt for p in preferences])
    texts = [renderer.tokenizer.decode(p + e) for p, e in zip(prompts, ends, strict=True)]
    done = subprocess.run(
        [os.environ["RLHF_HW_REWARDBENCH"], "-c", REWARDBENCH, str(folder)],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for scores in json.loads(done.stdout.rpartition("SCORES")[2]):
        np.testing.assert_allclose(scores, our_scores(folder, preferences)[:, 0], **CLOSE)
