"""Checkpoints of other systems are read, with the scores they have there; run with their own code."""

import json
import shutil

import numpy as np
import pytest
import torch
from datasets import Dataset
from other_systems import CLOSE, QUIET, conversations, our_scores, prompt_texts, trl_columns, trl_scores
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


def test_another_place_than_the_recorded_one_is_refused(reward_folder) -> None:
    with pytest.raises(ValueError, match="reads_at is 'end_of_turn' by its rendering.json"):
        RewardModel(reward_folder, reads_at=TEMPLATE_END)


def test_a_model_out_of_reach_says_what_to_fetch(monkeypatch) -> None:
    with pytest.raises(FileNotFoundError, match="hf download nobody/nothing --local-dir nothing"):
        Renderer.load("nobody/nothing")
