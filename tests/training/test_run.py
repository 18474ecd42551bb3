"""Whole training runs on a tiny model: what they log, write, resume, and do in parts."""

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from rlhf_hw.errors import InputError
from rlhf_hw.models.loading import load_policy, load_reward_model
from rlhf_hw.models.scoring import RewardModel, score_groups
from rlhf_hw.training import activations, checkpoints, run
from rlhf_hw.training.config import DPOTraining, RewardTraining
from rlhf_hw.training.group_trainer import GroupTrainer, Progress
from rlhf_hw.training.groups import load_groups
from rlhf_hw.training.launch import is_small, run_trainings

PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl")


def weights(folder) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def train(config) -> checkpoints.TrainingResult:
    return (run.train_dpo if isinstance(config, DPOTraining) else run.train_reward_model)(config)


def assert_same_curves(
    whole: checkpoints.TrainingResult, parts: checkpoints.TrainingResult, steps: int
) -> None:
    for name in ("loss", "margin", "accuracy", "grad_norm"):
        first, second = ([p["value"] for p in r.curve(name)] for r in (whole, parts))
        assert len(first) == steps
        # the trainer rounds what it logs to four places or so
        assert second == pytest.approx(first, abs=2e-4, rel=1e-4), name


def test_reward_training_from_start_to_scores(settings, pairs_file, renderer, monkeypatch) -> None:
    kept = []
    load = run.start_reward_model
    monkeypatch.setattr(run, "start_reward_model", lambda *a, **k: kept.append(load(*a, **k)) or kept[-1])
    config = settings(
        RewardTraining, eval_dataset=str(pairs_file), eval_split="train", evaluations=2, epochs=2
    )
    result = train(config)
    assert result.metrics["pairs"] == 24 and result.metrics["steps"] == 12
    assert result.metrics["loss_first"] == result.curve("loss")[0]["value"]
    for name in (
        "loss",
        "accuracy",
        "margin",
        "chosen_score",
        "rejected_score",
        "learning_rate",
        "grad_norm",
    ):
        assert [p["step"] for p in result.curve(name)] == list(range(1, 13)), name
    for name in ("eval_loss", "eval_accuracy", "eval_margin"):
        assert [p["step"] for p in result.curve(name)] == [0, 6, 12], name
    assert result.curve("eval_loss")[-1]["value"] < result.curve("eval_loss")[0]["value"]

    groups, _ = load_groups(config, renderer, "eval")
    # the finished checkpoint: plain files only, and the same scores after loading as in memory
    assert not [f for kind in PICKLES for f in config.output_dir.rglob(kind)]
    in_memory = score_groups(kept[0].eval(), groups, renderer.pad_id, "fp32")
    loaded = RewardModel(config.output_dir, dtype="fp32")
    assert loaded.renderer.fingerprint() == renderer.fingerprint()
    np.testing.assert_array_equal(score_groups(loaded.model, groups, renderer.pad_id, "fp32"), in_memory)
    plain = AutoModelForSequenceClassification.from_pretrained(config.output_dir, dtype=torch.float32)
    ids = torch.from_numpy(groups.ids[groups.offsets[0, 0] : groups.offsets[0, 2]].astype(np.int64))
    with torch.no_grad():
        assert plain(input_ids=ids[None]).logits.item() == pytest.approx(in_memory[0, 0], abs=1e-5)

    # the last evaluation is that of these weights
    margin = in_memory[:, 0] - in_memory[:, 1]
    assert result.curve("eval_margin")[-1]["value"] == pytest.approx(margin.mean(), abs=1e-4)
    assert result.curve("eval_accuracy")[-1]["value"] == pytest.approx((margin > 0).mean())
    again = checkpoints.load_result(config.output_dir)
    assert (again.history, again.metrics) == (result.history, result.metrics)
    assert again.reports["train"].used == 24 and again.reports["eval"].split == "train"
    record = json.loads((config.output_dir / "training.json").read_text())
    assert RewardTraining(**record["config"]) == config


@pytest.mark.parametrize("loss", ["sigmoid", "robust", "ipo"])
def test_a_policy_starts_where_its_loss_says(settings, rows, tmp_path, cache, loss) -> None:
    held_out = tmp_path / "held_out.jsonl"  # in another order, so that mixed-up references would show
    held_out.write_text("".join(json.dumps(row) + "\n" for row in rows[20:3:-1]))
    config = settings(DPOTraining, eval_dataset=str(held_out), loss=loss, max_steps=3)
    start = config.loss_entry.at_start(config)
    result = train(config)
    assert result.curve("loss")[0]["value"] == pytest.approx(start, rel=1e-5)
    assert result.curve("eval_loss")[0] == {"step": 0, "value": pytest.approx(start, rel=1e-5)}
    for name in ("margin", "chosen_reward", "rejected_reward", "eval_margin"):
        assert result.curve(name)[0]["value"] == pytest.approx(0, abs=1e-5), name
    assert result.curve("chosen_logp")[0]["value"] < -1
    assert result.curve("eval_loss")[-1]["value"] < start - 1e-3
    assert result.metrics["reference_seconds"] > 0
    assert checkpoints.load_result(config.output_dir).metrics == result.metrics


def test_dpo_against_another_reference_does_not_start_at_ln_2(settings, other_folder, cache) -> None:
    config = settings(DPOTraining, reference_model=str(other_folder), max_steps=1)
    assert config.loss_entry.at_start(config) is None
    result = train(config)
    assert abs(result.curve("loss")[0]["value"] - math.log(2)) > 0.01


@pytest.mark.parametrize("kind", [RewardTraining, DPOTraining])
def test_one_step_moves_every_parameter(settings, policy_folder, cache, kind) -> None:
    config = settings(kind, max_steps=1)
    train(config)
    load = load_policy if kind is DPOTraining else load_reward_model
    before, after = (dict(load(folder).named_parameters()) for folder in (policy_folder, config.output_dir))
    assert before.keys() == after.keys()
    still = [name for name in before if torch.equal(before[name], after[name])]
    assert not still


@pytest.mark.parametrize("kind", [RewardTraining, DPOTraining])
def test_accumulated_batches_equal_one_batch(settings, cache, kind) -> None:
    steps = {"epochs": 1, "max_grad_norm": 0.5}
    whole = train(settings(kind, "whole", batch_size=4, **steps))
    parts = train(settings(kind, "parts", batch_size=1, gradient_accumulation_steps=4, **steps))
    assert_same_curves(whole, parts, steps=6)


@pytest.mark.parametrize("kind", [RewardTraining, DPOTraining])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_long_batch_in_parts_equals_the_whole(settings, cache, monkeypatch, kind, accumulation) -> None:
    steps = {
        "batch_size": 6 // accumulation,
        "gradient_accumulation_steps": accumulation,
        "max_grad_norm": 0.5,
    }
    whole = train(settings(kind, "whole", **steps))
    sizes = []
    step = GroupTrainer.compute_loss

    def watched(self, model, inputs, *args, **kwargs):
        sizes.append(len(inputs["ends"]))
        return step(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(GroupTrainer, "compute_loss", watched)
    monkeypatch.setattr(activations, "TOKENS_AT_ONCE", 100)
    parts = train(settings(kind, "parts", **steps))
    assert len(sizes) > 4 * accumulation and sum(sizes) == 24 and max(sizes) < 6 // accumulation
    assert_same_curves(whole, parts, steps=4)


@pytest.mark.parametrize("kind", [RewardTraining, DPOTraining])
def test_a_resumed_run_equals_an_uninterrupted_one(settings, cache, monkeypatch, kind) -> None:
    steps = {"epochs": 2, "save_steps": 3}
    whole = train(settings(kind, "whole", **steps))

    def stop(self, args, state, control, **kwargs):
        if state.global_step == 8:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Progress, "on_step_end", stop)
        train(settings(kind, "halves", **steps))
    config = settings(kind, "halves", resume=True, **steps)
    assert sorted(p.name for p in config.output_dir.glob("checkpoint-*")) == ["checkpoint-3", "checkpoint-6"]
    halves = train(config)
    assert halves.curve("loss") == whole.curve("loss") and halves.metrics["steps"] == 12
    assert halves.metrics["pairs_per_second"] * halves.metrics["seconds"] == pytest.approx(24)  # one epoch
    first, second = weights(whole.checkpoint), weights(halves.checkpoint)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not [f for kind in PICKLES for f in config.output_dir.glob(kind)]


def test_a_run_that_was_done_takes_no_step_more(settings) -> None:
    steps = {"max_steps": 5, "save_steps": 5, "lr_scheduler_type": "constant"}
    whole = train(settings(RewardTraining, **steps))
    before, again = weights(whole.checkpoint), train(settings(RewardTraining, resume=True, **steps))
    assert again.metrics["steps"] == 5 and again.metrics["pairs_per_second"] == 0
    assert again.curve("loss") == whole.curve("loss")
    assert all(torch.equal(before[name], tensor) for name, tensor in weights(again.checkpoint).items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 1e-2}, "learning_rate was another .*: 0.001, now 0.01; go on with what it began"),
        ({"seed": 7}, "seed was another"),
        ({"batch_size": 8}, "pairs of a step was another"),
        ({"max_train": 7}, "train_dataset was another .*; go on"),
        ({"epochs": 3}, "epochs was another"),
    ],
)
def test_a_run_goes_on_only_with_what_it_began_with(settings, changes, message) -> None:
    train(settings(RewardTraining, max_steps=2, save_steps=2))
    with pytest.raises(InputError, match=message):
        train(settings(RewardTraining, **{"max_steps": 2, "resume": True} | changes))


def test_resumed_steps_stand_once_in_tensorboard(settings, tmp_path, monkeypatch) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    steps = {"report_to": "tensorboard", "log_dir": tmp_path / "logs", "save_steps": 2, "max_steps": 4}

    def stop(self, args, state, control, **kwargs):
        if state.global_step == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Progress, "on_step_end", stop)
        train(settings(RewardTraining, **steps))
    train(settings(RewardTraining, resume=True, **steps))
    told = EventAccumulator(str(tmp_path / "logs")).Reload().Scalars("train/loss")
    assert [e.step for e in told] == [1, 2, 3, 4]


def test_a_new_run_does_not_mix_with_an_older_one_in_its_folder(settings, tmp_path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "notes.txt").write_text("mine")
    config = settings(RewardTraining, report_to="tensorboard", log_dir=logs, save_steps=2, max_steps=4)
    train(config)
    train(config.model_copy(update={"max_steps": 2}))
    assert [p.name for p in config.output_dir.glob("checkpoint-*")] == ["checkpoint-2"]
    assert (logs / "notes.txt").exists()
    events = EventAccumulator(str(logs)).Reload()
    told = {"train/loss", "train/accuracy", "train/margin", "train/learning_rate"}
    assert told <= set(events.Tags()["scalars"])
    assert [e.step for e in events.Scalars("train/loss")] == [1, 2]


def test_each_epoch_has_its_own_order(settings, monkeypatch) -> None:
    seen, collate = [], GroupTrainer.collate
    noted = lambda self, g, part, i: seen.extend(i) or collate(self, g, part, i)  # noqa: E731
    monkeypatch.setattr(GroupTrainer, "collate", noted)
    train(settings(RewardTraining, epochs=2))
    first, second = seen[:24], seen[24:]
    assert sorted(first) == sorted(second) == list(range(24))
    assert first != second


@pytest.mark.parametrize("empty", ["", None, "null", "None"])
def test_no_training_set_gives_the_untrained_model(
    settings, pairs_file, groups, renderer, policy_folder, empty
) -> None:
    config = settings(
        RewardTraining, train_dataset=empty, eval_dataset=str(pairs_file), eval_split="train", seed=5
    )
    result = train(config)
    assert (result.metrics["steps"], result.history) == (0, [])
    assert result.reports["eval"].used == 24 and "train" not in result.reports
    scores = RewardModel(config.output_dir, dtype="fp32").model
    untrained = load_reward_model(policy_folder, seed=5)
    np.testing.assert_array_equal(
        *(score_groups(model, groups, renderer.pad_id, "fp32") for model in (scores, untrained))
    )
    with pytest.raises(ValueError, match="DPO has nothing to train on"):
        train(settings(DPOTraining, train_dataset=empty))


def test_no_evaluation_set(settings) -> None:
    result = train(settings(RewardTraining, eval_dataset="", max_steps=1))
    assert result.curve("eval_loss") == [] and list(result.reports) == ["train"]


@pytest.mark.parametrize("kind", [RewardTraining, DPOTraining])
def test_bf16_learns(settings, cache, kind) -> None:
    result = train(settings(kind, dtype="bf16", learning_rate=5e-3, epochs=8, batch_size=8))
    first, last = result.curve("loss")[0]["value"], result.last("loss")
    if kind is DPOTraining:
        assert first == pytest.approx(math.log(2), abs=0.02)
    assert last < 0.5 * first and result.last("accuracy") > 0.85
    assert {weight.dtype for weight in weights(result.checkpoint).values()} == {torch.float32}


def test_recomputing_activations_changes_no_result(settings) -> None:
    plain, recomputed = (
        train(settings(RewardTraining, name, max_steps=3, gradient_checkpointing=name == "recomputed"))
        for name in ("plain", "recomputed")
    )
    values = [[p["value"] for p in r.curve("loss")] for r in (plain, recomputed)]
    assert values[1] == pytest.approx(values[0], abs=1e-5)


def test_trainings_side_by_side_are_those_one_after_the_other(settings, cache, monkeypatch) -> None:
    """Other pairs and seeds for each; the processes give what this process gives."""
    monkeypatch.setenv("RLHF_HW_WORKERS", "2")
    parts = [{"max_train": 8, "skip_train": 8 * k, "seed": k} for k in range(2)]
    configs = [settings(RewardTraining, f"rm-{k}", **part) for k, part in enumerate(parts)]
    assert is_small(configs[0].model) and not is_small("org/model-of-the-hub")
    beside = list(run_trainings("rm", configs))
    alone = [run.train_reward_model(settings(RewardTraining, f"one-{k}", **p)) for k, p in enumerate(parts)]
    losses = [[result.metrics["loss_last"] for result in side] for side in (beside, alone)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3) and losses[0][0] != losses[0][1]
