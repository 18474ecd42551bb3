"""What training does to a model beside its steps: no dropout unless asked, and nothing broken is saved."""

import gc
import json
import re
import shutil
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import GPT2Config, GPT2LMHeadModel, Qwen2Config, Qwen2ForCausalLM

from rlhf_hw.errors import RunFailed
from rlhf_hw.files import read_json
from rlhf_hw.models import forward, long_rows
from rlhf_hw.models.batches import on_device
from rlhf_hw.models.cpu_speed import FreedMemory
from rlhf_hw.training import run
from rlhf_hw.training.config import DPOTraining, RewardTraining, SupervisedTraining
from rlhf_hw.training.finite import FiniteValues, extremes_of
from rlhf_hw.training.group_trainer import GroupTrainer
from rlhf_hw.training.launch import TRAIN, run_training
from rlhf_hw.training.reference import reference_log_probs
from rlhf_hw.training.trainers import (
    DPOTrainer,
    LanguageModelTrainer,
    RewardTrainer,
    reward_measures,
    without_dropout,
)

SMALL = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
QWEN2 = Qwen2Config(**SMALL, num_key_value_heads=2, intermediate_size=8, attention_dropout=0.5)


@pytest.mark.parametrize(
    ("kind", "shape"), [(GPT2LMHeadModel, GPT2Config(**SMALL)), (Qwen2ForCausalLM, QWEN2)]
)
def test_dropout_is_switched_off_wherever_a_model_has_it(kind, shape) -> None:
    model, ids = kind(shape).train(), torch.arange(12)[None]
    assert not torch.equal(model(ids).logits, model(ids).logits)
    without_dropout(model)
    assert torch.equal(model(ids).logits, model(ids).logits)
    assert max(getattr(shape, "attention_dropout", 0), getattr(shape, "attn_pdrop", 0)) > 0


def test_a_policy_with_dropout_starts_at_its_reference(settings, policy_folder, tmp_path, cache) -> None:
    folder = tmp_path / "with-dropout"
    folder.mkdir()
    for path in policy_folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "config.json").read_text()) | {"attention_dropout": 0.5}
    (folder / "config.json").write_text(json.dumps(config))
    run = {"model": str(folder), "max_steps": 1}
    result = TRAIN["dpo"](settings(DPOTraining, **run))
    assert result.metrics["loss_first"] == pytest.approx(np.log(2), rel=1e-6)
    assert json.loads((result.checkpoint / "config.json").read_text())["attention_dropout"] == 0.5
    kept = TRAIN["dpo"](settings(DPOTraining, "kept", dropout=True, **run))
    assert abs(kept.metrics["loss_first"] - np.log(2)) > 1e-4


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", [RewardTraining, DPOTraining])
def test_nothing_of_a_training_stays_in_memory(settings, monkeypatch, cache, kind, dtype) -> None:
    """In bf16 accelerate keeps the model's own `forward` in it, too."""
    fit, kept = run._fit, []

    def watched(trainer, *arguments, **named):
        result = fit(trainer, *arguments, **named)
        kept.extend(weakref.ref(p) for p in (trainer.model.get_input_embeddings().weight, trainer.optimizer))
        return result

    monkeypatch.setattr(run, "_fit", watched)
    gc.collect()
    gc.disable()
    try:
        run_training("rm" if kind is RewardTraining else "dpo", settings(kind, max_steps=1, dtype=dtype))
        assert [part() for part in kept] == [None, None]
    finally:
        gc.enable()


def test_a_training_looks_after_its_freed_memory_at_each_step(settings, monkeypatch, cache) -> None:
    looks = []
    monkeypatch.setattr(FreedMemory, "after_step", lambda self: looks.append(self))
    monkeypatch.setattr(forward, "over_groups", None)  # not the looks of a scoring pass
    run_training("rm", settings(RewardTraining, max_steps=3))
    assert len(looks) == 3 and len(set(map(id, looks))) == 1


@pytest.mark.parametrize("kind", [RewardTrainer, DPOTrainer])
def test_a_step_reads_nothing_back_from_its_device(kind, groups, renderer, settings) -> None:
    """On a GPU each number that is read waits for all that was queued; on "meta" reading one is an error."""
    trainer = kind.__new__(kind)  # its loss alone: no training arguments, no data
    trainer.config = settings({RewardTrainer: RewardTraining, DPOTrainer: DPOTraining}[kind])
    trainer.pad_id, trainer.references, trainer.seen = renderer.pad_id, {}, None
    trainer.finite = FiniteValues()
    trainer.args, trainer.state = SimpleNamespace(world_size=1), SimpleNamespace(global_step=0)
    trainer.model = torch.nn.Identity()
    batch = on_device(trainer.collate_counted(groups, "train", [0, 1, ~0]), "meta")
    if kind is DPOTrainer:
        batch["reference"] = torch.zeros(3, 2, device="meta")
    loss = trainer.compute_loss(
        lambda **inputs: torch.zeros(3, 2, device="meta"), batch, num_items_in_batch=batch["units"].sum(0)
    )
    trainer.finite.must_be_finite(1, "loss", loss)
    assert loss.device.type == trainer.seen.device.type == "meta"
    assert [(step, name) for step, name, *_ in trainer.finite.unread] == [(1, "loss")]


def test_a_number_of_the_host_is_read_without_those_on_the_device() -> None:
    """DeepSpeed gives the gradient's norm as a number, while the loss lies on a GPU, here on "meta"."""
    values = FiniteValues()
    values.must_be_finite(1, "loss", torch.zeros((), device="meta"))
    values.must_be_finite(1, "gradient's norm", torch.as_tensor(0.5))
    assert [name for _, name, *_ in values.unread] == ["loss"]
    with pytest.raises(RunFailed, match="^step 2: the gradient's norm is inf"):
        values.must_be_finite(2, "gradient's norm", torch.as_tensor(float("inf")))


def test_weights_on_several_devices_are_looked_at_together() -> None:
    with FakeTensorMode():  # knows the rules of devices without having them
        shares = [torch.ones(3, device=device) for device in ("cpu", "cuda")]
        found = extremes_of([*shares, torch.ones(0)])
        assert (found.device.type, found.shape) == ("cpu", (2, 2))
    assert extremes_of([torch.tensor([1.0, -2.0, 3.0])]).tolist() == [[-2.0, 3.0]]


@pytest.mark.parametrize("kind", ["rm", "dpo", "sft"])
def test_long_rows_train_as_short_ones_do(settings, pairs_file, monkeypatch, cache, kind) -> None:
    curves, attended, pieces = [], [], long_rows._pieces
    monkeypatch.setattr(long_rows, "_pieces", lambda ends: attended.append(ends) or pieces(ends))
    fields = {"rm": RewardTraining, "dpo": DPOTraining, "sft": SupervisedTraining}[kind]
    for limit in (10**6, 60, 1):
        monkeypatch.setattr(long_rows, "LONG_ROW", limit)
        attended.clear()
        evaluation = {"eval_dataset": str(pairs_file), "eval_split": "train", "evaluations": 1}
        result = TRAIN[kind](settings(fields, str(limit), max_steps=3, dtype="fp32", **evaluation))
        assert bool(attended) == (limit < 10**6)
        curves.append([x["value"] for name in ("loss", "eval_loss") for x in result.curve(name)])
    assert len(curves[0]) >= 2
    np.testing.assert_allclose(curves[1:], [curves[0]] * 2, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("evaluate", [False, True])
def test_every_pair_is_a_tie_before_the_first_step(settings, pairs_file, monkeypatch, evaluate) -> None:
    """Also where the reference was computed in other batches, which round in another way."""

    def other_rounding(*arguments):
        values = reference_log_probs(*arguments)
        return np.nextafter(
            values, values * np.random.default_rng(0).choice([0, 2], values.shape), dtype="f4"
        )

    monkeypatch.setattr("rlhf_hw.training.run.reference_log_probs", other_rounding)
    batches = {"batch_size": 3, "max_steps": 1, "max_train": 9 if evaluate else 24, "evaluations": 1}
    config = settings(DPOTraining, eval_dataset=str(pairs_file), eval_split="train", **batches)
    result = TRAIN["dpo"](config)
    name = "eval_accuracy" if evaluate else "accuracy"
    assert result.curve(name)[0]["value"] == 0.5


def test_ties_within_rounding_count_one_half() -> None:
    log_probs = torch.tensor([[-300.0, -250.0]] * 4)
    size, tie = 0.1 * 2 * log_probs.abs(), torch.tensor([[0.0, 1e-5], [1e-5, 0.0], [0.1, 0.0], [0.0, 0.1]])
    assert reward_measures(tie, size, "reward")["accuracy"].tolist() == [0.5, 0.5, 1.0, 0.0]
    assert reward_measures(tie, tie.abs(), "score")["accuracy"].tolist() == [0.0, 1.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("rm", {"learning_rate": 1e30}, "^step 2: the loss is (nan|inf)"),
        ("rm", {"learning_rate": 1e30, "max_steps": 1}, "^after step 1 the weights are not finite"),
        ("rm", {"learning_rate": 1e30, "save_steps": 1}, "^after step 1 the weights"),
        ("dpo", {"beta": 1e30, "loss": "ipo", "learning_rate": 1e30}, "^step [12]: the "),
    ],
)
def test_what_is_not_finite_stops_a_run_and_is_not_saved(settings, cache, kind, changes, message) -> None:
    plain = settings({"rm": RewardTraining, "dpo": DPOTraining}[kind])
    config = plain.model_copy(update=changes)  # which checks no bounds
    with pytest.raises(RunFailed, match=message):
        TRAIN[kind](config)
    assert not list(config.output_dir.rglob("*.safetensors"))


def test_a_broken_gradient_stops_before_the_weights_change(settings, monkeypatch) -> None:
    clip = GroupTrainer._clip_grad_norm

    def broken(self, model):
        if self.state.global_step == 2:
            next(model.parameters()).grad[0, 0] = float("nan")
        return clip(self, model)

    monkeypatch.setattr(GroupTrainer, "_clip_grad_norm", broken)
    config = settings(RewardTraining, save_steps=2)
    with pytest.raises(RunFailed, match="^step 3: the gradient's norm is nan.*; that step held: .*, line "):
        TRAIN["rm"](config)
    found = read_json(config.output_dir / "not_finite.json")
    assert (found["step"], found["own_loss"], len(found["rows"])) == (3, False, config.batch_size)
    assert not list(config.output_dir.glob("*.safetensors"))
    (saved,) = config.output_dir.glob("checkpoint-*/model.safetensors")
    assert all(tensor.isfinite().all() for tensor in load_file(saved).values())


def test_a_model_with_which_nothing_is_finite_is_named_before_the_learning_rate(
    settings, policy_folder, tmp_path
) -> None:
    model = shutil.copytree(policy_folder, tmp_path / "model")
    values = json.loads((model / "config.json").read_text()) | {"rms_norm_eps": -1e9}
    (model / "config.json").write_text(json.dumps(values))
    told = f"^step 1: the loss is nan, .* Take another model, or look at the data .it began with {model}.; "
    with pytest.raises(RunFailed, match=told):
        TRAIN["rm"](settings(RewardTraining, model=str(model)))


SPOILABLE = {"rm": (RewardTrainer, RewardTraining), "sft": (LanguageModelTrainer, SupervisedTraining)}


@pytest.mark.parametrize("kind", SPOILABLE)
@pytest.mark.parametrize("spoilt", [[9], [2, 11]])
def test_the_pairs_whose_loss_is_not_finite_are_named(
    settings, rows, tokenizer, tmp_path, monkeypatch, kind, spoilt
) -> None:
    """By the lines of their file, though steps shuffle them and truncation drops a pair."""
    trainer, fields = SPOILABLE[kind]
    cut = {f"response_{side}": "word " * 100 + str(side) for side in (1, 2)}
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in [rows[0], rows[1] | cut, *rows[2:]]))
    loss = trainer.group_loss

    def broken(self, outputs, batch):
        each, measured = loss(self, outputs, batch)
        prompts = [
            ids[parts == 0] for ids, parts in zip(batch["input_ids"], batch["segment_ids"], strict=True)
        ]
        questions = [int(re.search(r"(\d+): ", tokenizer.decode(ids)).group(1)) for ids in prompts]
        bad = torch.tensor([question in spoilt for question in questions])
        return each.masked_fill(bad.view(-1, *[1] * (each.dim() - 1)), float("inf")), measured

    data = {"train_dataset": str(file), "max_reply_tokens": 64, "batch_size": 24}
    if kind == "sft":
        data |= {"eval_dataset": str(file), "eval_split": "train"}
    config = settings(fields, **data)
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "group_loss", broken)
        with pytest.raises(
            RunFailed, match="^step 1: the loss is (inf|nan).*; its own loss is not finite in: "
        ):
            TRAIN[kind](config)
    found = read_json(config.output_dir / "not_finite.json")
    assert found["own_loss"] and found["rows"] == [f"{file}, line {number + 1}" for number in spoilt]
    TRAIN[kind](config)
    assert not (config.output_dir / "not_finite.json").exists()
