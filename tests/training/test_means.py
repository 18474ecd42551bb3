"""A loss is one mean over the pairs, or tokens, of a step or set, however they are cut into batches."""

import pytest
from transformers import Trainer

from rlhf_hw.training import activations
from rlhf_hw.training.config import DPOTraining, RewardTraining, SupervisedTraining
from rlhf_hw.training.distributed import ShareOfBatches
from rlhf_hw.training.group_trainer import GroupTrainer
from rlhf_hw.training.launch import TRAIN

KINDS = {
    "rm": (RewardTraining, {}),
    "dpo": (DPOTraining, {}),
    "dpo with likelihood": (DPOTraining, {"nll_weight": 0.7}),
    "dpo of drawn tokens": (DPOTraining, {"loss": "sampo", "nll_weight": 0.7}),
    "sft": (SupervisedTraining, {}),
}


@pytest.fixture
def losses(settings, pairs_file, cache):
    """Losses of all steps, then of all evaluations, of 19 pairs: 8, 8 and 3 a step."""

    def train(kind: str, name: str, batch_size: int, accumulation: int, **changes):
        settings_class, own = KINDS[kind]
        evaluation = {"eval_dataset": str(pairs_file), "eval_split": "train", "max_eval": 9, "evaluations": 1}
        cut = {"batch_size": batch_size, "gradient_accumulation_steps": accumulation, "max_train": 19}
        config = settings(settings_class, name, **own | evaluation | cut | changes)
        result = TRAIN[kind.partition(" ")[0]](config)
        return [[p["value"] for p in result.curve(curve)] for curve in ("loss", "eval_loss")], result

    return train


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_is_one_mean_however_it_is_cut(losses, monkeypatch, kind) -> None:
    whole, _ = losses(kind, "whole", 8, 1)
    assert (len(whole[0]), len(whole[1])) == (3, 2)
    for cut in ((2, 4), (1, 8)):  # of the last three pairs, two and one, or three
        assert losses(kind, f"{cut}", *cut)[0] == [pytest.approx(part, rel=1e-5) for part in whole], cut
    monkeypatch.setattr(activations, "TOKENS_AT_ONCE", 100)
    assert losses(kind, "parts", 8, 1)[0] == [pytest.approx(part, rel=1e-5) for part in whole]


def test_a_mean_of_the_parts_means_is_far_from_it(losses, monkeypatch) -> None:
    def of_each_part(self, model, inputs, num_items_in_batch=None):
        parts = inputs["parts"]
        units = [part["units"].sum(0) * len(parts) for part in parts]
        return sum(Trainer.training_step(self, model, *both) for both in zip(parts, units, strict=True))

    whole, _ = losses("rm", "whole", 8, 1)
    monkeypatch.setattr(activations, "TOKENS_AT_ONCE", 100)
    monkeypatch.setattr(GroupTrainer, "training_step", of_each_part)
    (found, _), _ = losses("rm", "parts", 8, 1)
    assert found != pytest.approx(whole[0], rel=1e-3)


def test_dpos_evaluation_loss_is_that_of_its_preference(losses) -> None:
    (_, found), result = losses("dpo", "uneven", 4, 1)
    assert found == pytest.approx([p["value"] for p in result.curve("eval_preference_loss")], rel=1e-6)


@pytest.mark.parametrize("pairs", [1, 7, 8, 9, 17])
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_processes_share_each_batch_and_count_every_pair_once(pairs, processes) -> None:
    order = list(range(pairs))[::-1]
    shares = [list(ShareOfBatches(order, 4, processes, process)) for process in range(processes)]
    assert (
        {len(share) for share in shares}
        == {-(-pairs // (4 * processes))}
        == {len(ShareOfBatches(order, 4, processes))}
    )
    for number, batches in enumerate(zip(*shares, strict=True)):
        assert len({len(batch) for batch in batches}) == 1  # gathering needs one size
        counted = [index for batch in batches for index in batch if index >= 0]
        assert counted == order[4 * processes * number : 4 * processes * (number + 1)]
        assert all(0 <= max(index, ~index) < pairs for batch in batches for index in batch)
