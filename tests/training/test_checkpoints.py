"""Checkpoints of other systems are read, ours by them, with equal scores; run with their own code."""

import json
import os
import shutil
import subprocess

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    Qwen2Model,
    Qwen2PreTrainedModel,
)
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer

from rlhf_hw.models.loading import load_policy
from rlhf_hw.models.log_probs import log_probs_groups
from rlhf_hw.models.rendering import END_OF_TURN, FILE, TEMPLATE_END, Renderer
from rlhf_hw.models.scoring import RewardModel
from rlhf_hw.training.config import DPOTraining, RewardTraining
from rlhf_hw.training.run import train_dpo, train_reward_model

QUIET = {"report_to": "none", "use_cpu": True, "bf16": False, "disable_tqdm": True, "save_strategy": "no"}
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


class ScoreHeadModel(Qwen2PreTrainedModel):
    """align-anything's layout for Qwen2 reward models: backbone and `score_head`, read at the last token."""

    def __init__(self, config):
        super().__init__(config)
        self.model = Qwen2Model(config)
        self.score_head = nn.Linear(config.hidden_size, 1, bias=False)
        self.post_init()

    def forward(self, input_ids, attention_mask):
        hidden = self.model(input_ids, attention_mask=attention_mask).last_hidden_state
        last = attention_mask.shape[1] - 1 - attention_mask.flip(1).argmax(dim=1)
        return self.score_head(hidden)[torch.arange(len(last)), last, 0]


def conversations(preferences, side: str) -> list[list[dict]]:
    """Whole conversations as plain messages."""
    return [
        [m._asdict() for m in p.prompt] + [{"role": "assistant", "content": getattr(p, side)}]
        for p in preferences
    ]


def our_scores(folder, preferences, **options) -> np.ndarray:
    model = RewardModel(folder, dtype="fp32", **options)
    return model.score([p.prompt for p in preferences], [[p.chosen, p.rejected] for p in preferences])


@pytest.fixture(scope="module")
def align_anything_folder(policy_folder, tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("align-anything")
    policy = AutoModelForCausalLM.from_pretrained(policy_folder)
    torch.manual_seed(0)
    model = ScoreHeadModel(policy.config)
    model.model.load_state_dict(policy.model.state_dict())
    nn.init.normal_(model.score_head.weight)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["safetensors", "shards", "bin"])
def test_align_anything_reward_models_are_read(align_anything_folder, preferences, tmp_path, kind) -> None:
    folder = align_anything_folder
    model = ScoreHeadModel.from_pretrained(folder).eval()
    if kind != "safetensors":
        folder = tmp_path
        for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
            (folder / name).write_bytes((align_anything_folder / name).read_bytes())
    if kind == "shards":
        model.save_pretrained(folder, max_shard_size="40KB")
        assert len(list(folder.glob("*.safetensors"))) > 1
    if kind == "bin":  # what its DeepSpeed trainer writes
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    expected = []
    for side in ("chosen", "rejected"):
        texts = tokenizer.apply_chat_template(conversations(preferences, side), tokenize=False)
        assert all(text.endswith("<|im_end|>\n") for text in texts)
        batch = tokenizer(
            texts, add_special_tokens=False, padding=True, padding_side="right", return_tensors="pt"
        )
        with torch.no_grad():
            expected.append(model(batch["input_ids"], batch["attention_mask"]).numpy())
    assert Renderer.load(folder).reads_at == TEMPLATE_END
    np.testing.assert_allclose(our_scores(folder, preferences), np.stack(expected, axis=1), **CLOSE)


def test_training_goes_on_from_align_anything_where_it_reads(
    align_anything_folder, pairs_file, preferences, tmp_path
) -> None:
    shared = {"model": str(align_anything_folder), "dtype": "fp32", "report_to": "none"}
    train_reward_model(RewardTraining(**shared, output_dir=tmp_path / "converted"))
    assert json.loads((tmp_path / "converted" / FILE).read_text())["reads_at"] == TEMPLATE_END
    before = our_scores(align_anything_folder, preferences)
    np.testing.assert_allclose(our_scores(tmp_path / "converted", preferences), before, **CLOSE)
    further = RewardTraining(
        **shared, output_dir=tmp_path / "further", train_dataset=str(pairs_file), max_steps=2
    )
    train_reward_model(further)
    assert Renderer.load(tmp_path / "further").reads_at == TEMPLATE_END
    assert np.abs(our_scores(tmp_path / "further", preferences) - before).max() > 0


def prompt_texts(preferences, renderer: Renderer) -> list[str]:
    """Prompts with the chat format already written."""
    ids = renderer.prompt_ids([p.prompt for p in preferences])
    return [renderer.tokenizer.decode(i, skip_special_tokens=False) for i in ids]


def trl_columns(preferences, kind: str, renderer: Renderer) -> Dataset:
    """Pairs as TRL takes them: conversations, or texts in which the chat format is already written."""
    sides = {side: conversations(preferences, side) for side in ("chosen", "rejected")}
    if kind == "text":
        prompts = prompt_texts(preferences, renderer)
        sides = {
            side: [prompt + getattr(p, side) for prompt, p in zip(prompts, preferences, strict=True)]
            for side in sides
        }
    return Dataset.from_dict(sides)


def trl_scores(trainer: RewardTrainer) -> np.ndarray:
    """Rewards of TRL's own evaluation batches, shape (G, 2)."""
    trainer.model.eval()
    pairs = []
    for batch in trainer.get_eval_dataloader():
        with torch.no_grad():
            chosen, rejected = trainer.model(**batch).logits.squeeze(-1).chunk(2)
        pairs.append(torch.stack([chosen, rejected], dim=1))
    return torch.cat(pairs).float().numpy()


@pytest.mark.parametrize(("kind", "reads_at"), [("text", None), ("conversation", TEMPLATE_END)])
def test_trl_reward_models_are_read(policy_folder, preferences, renderer, tmp_path, kind, reads_at) -> None:
    data = trl_columns(preferences, kind, renderer)
    trainer = RewardTrainer(
        model=str(policy_folder),
        args=RewardConfig(
            output_dir=str(tmp_path), max_steps=2, learning_rate=1e-3, eval_strategy="no", **QUIET
        ),
        processing_class=AutoTokenizer.from_pretrained(policy_folder),
        train_dataset=data,
        eval_dataset=data,
    )
    trainer.train()
    trainer.save_model(str(tmp_path / "saved"))
    scores = our_scores(tmp_path / "saved", preferences, reads_at=reads_at)
    np.testing.assert_allclose(scores, trl_scores(trainer), **CLOSE)
    shared = {"model": str(tmp_path / "saved"), "reads_at": reads_at, "dtype": "fp32", "report_to": "none"}
    train_reward_model(RewardTraining(**shared, output_dir=tmp_path / "further"))  # nothing to train on yet
    assert Renderer.load(tmp_path / "further").reads_at == (reads_at or END_OF_TURN)
    np.testing.assert_allclose(our_scores(tmp_path / "further", preferences), scores, **CLOSE)


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


def test_plain_transformers_reward_models_are_read(reward_folder, tokenizer, preferences, tmp_path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(reward_folder)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert not (tmp_path / FILE).exists()
    np.testing.assert_allclose(
        our_scores(tmp_path, preferences), our_scores(reward_folder, preferences), **CLOSE
    )


def test_policies_pass_between_us_and_trl(
    policy_folder, preferences, groups, renderer, pairs_file, cache, tmp_path
) -> None:
    settings = {
        "model": str(policy_folder),
        "train_dataset": str(pairs_file),
        "dtype": "fp32",
        "max_steps": 2,
    }
    ours = tmp_path / "ours"
    train_dpo(DPOTraining(**settings, output_dir=ours, learning_rate=1e-3, report_to="none"))
    data = Dataset.from_dict(
        {
            "prompt": prompt_texts(preferences, renderer),
            "chosen": [p.chosen for p in preferences],
            "rejected": [p.rejected for p in preferences],
        }
    )
    trainer = DPOTrainer(
        model=str(ours),
        args=DPOConfig(
            output_dir=str(tmp_path),
            per_device_train_batch_size=24,
            per_device_eval_batch_size=24,
            max_steps=2,
            learning_rate=1e-3,
            max_length=None,
            **QUIET,
        ),
        processing_class=AutoTokenizer.from_pretrained(ours),
        train_dataset=data,
        eval_dataset=data,
    )
    batch = next(iter(trainer.get_eval_dataloader()))
    theirs = torch.stack(trainer.compute_ref_log_probs(trainer.model, batch), dim=1)
    expected = log_probs_groups(load_policy(ours), groups, renderer.pad_id, "fp32")
    np.testing.assert_allclose(theirs.numpy(), expected, **CLOSE)
    trainer.train()
    trainer.save_model(str(tmp_path / "theirs"))
    batch = {k: v for k, v in batch.items()}
    back = torch.stack(trainer.compute_ref_log_probs(trainer.model.eval(), batch), dim=1)
    read = log_probs_groups(load_policy(tmp_path / "theirs"), groups, renderer.pad_id, "fp32")
    np.testing.assert_allclose(read, back.numpy(), **CLOSE)
    assert np.abs(read - expected).max() > 0.01


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


def test_the_layout_of_transformers_4_is_read(reward_folder, preferences, tmp_path) -> None:
    new, old = (shutil.copytree(reward_folder, tmp_path / name) for name in ("new", "old"))
    config = json.loads((new / "config.json").read_text())
    config["rope_parameters"]["rope_theta"] = 50.0
    (new / "config.json").write_text(json.dumps(config))
    del config["rope_parameters"], config["dtype"]
    older = {"rope_theta": 50.0, "rope_scaling": None, "torch_dtype": "float32"}
    (old / "config.json").write_text(json.dumps(config | older))
    tokens = json.loads((old / "tokenizer_config.json").read_text())
    tokens["additional_special_tokens"] = tokens.pop("extra_special_tokens")
    (old / "tokenizer_config.json").write_text(json.dumps(tokens))
    expected = our_scores(new, preferences)
    assert np.abs(expected - our_scores(reward_folder, preferences)).max() > 0.01
    np.testing.assert_allclose(our_scores(old, preferences), expected, **CLOSE)


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


def test_another_place_than_the_recorded_one_is_refused(reward_folder) -> None:
    with pytest.raises(ValueError, match="reads_at is 'end_of_turn' by its rendering.json"):
        RewardModel(reward_folder, reads_at=TEMPLATE_END)


def test_a_model_out_of_reach_says_what_to_fetch(monkeypatch) -> None:
    with pytest.raises(FileNotFoundError, match="hf download nobody/nothing --local-dir nothing"):
        Renderer.load("nobody/nothing")
