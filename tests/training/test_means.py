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


def mean_of_means(self, model, inputs, num_items_in_batch=None):
    """A step whose parts count alike, however many pairs or tokens each holds."""
    parts = inputs["parts"]
    units = [part["units"].sum(0) * len(parts) for part in parts]
    return sum(Trainer.training_step(self, model, *both) for both in zip(parts, units, strict=True))


def test_a_mean_of_the_parts_means_is_far_from_it(losses, monkeypatch) -> None:
    whole, _ = losses("rm", "whole", 8, 1)
    monkeypatch.setattr(activations, "TOKENS_AT_ONCE", 100)
    monkeypatch.setattr(GroupTrainer, "training_step", mean_of_means)
    (found, _), _ = losses("rm", "parts", 8, 1)
    assert found != pytest.approx(whole[0], rel=1e-3)


@pytest.fixture
def first_gradients(settings, pairs_file, cache, monkeypatch):
    """Gradients of the loss of one step of 7 pairs, by parameter: the batch whole, in parts, and wrong."""

    def gradients(kind: str):
        found, sizes = {}, []
        real = GroupTrainer.training_step

        def watched(self, model, inputs, items):
            sizes.extend(len(part["ends"]) for part in inputs["parts"])
            order = [i for part in inputs["parts"] for i in part["groups"].tolist()]
            monkeypatch.setattr(activations, "TOKENS_AT_ONCE", 10**6)
            whole = self.collate_parts(self.train_dataset.groups, order)
            assert len(whole["ends"]) == 7
            ways = {"whole": (real, whole), "parts": (real, inputs), "means": (mean_of_means, inputs)}
            for name, (step, batch) in ways.items():
                model.zero_grad()
                step(self, model, batch, items)
                found[name] = {n: p.grad.clone() for n, p in model.named_parameters()}
            raise KeyboardInterrupt

        monkeypatch.setattr(activations, "TOKENS_AT_ONCE", 300)
        monkeypatch.setattr(GroupTrainer, "training_step", watched)
        own = {"eval_dataset": str(pairs_file), "eval_split": "train", "max_eval": 1} if kind == "sft" else {}
        with pytest.raises(KeyboardInterrupt):
            TRAIN[kind](settings(KINDS[kind][0], batch_size=7, max_train=7, **own))
        assert len(sizes) > 1 and len(set(sizes)) > 1, "parts of one size: a mean of means is the mean"
        return found

    return gradients


def farthest(found: dict, wanted: dict) -> float:
    """The largest relative distance of one parameter's gradient."""
    assert found.keys() == wanted.keys()
    return max(((found[name] - g).norm() / g.norm()).item() for name, g in wanted.items())


@pytest.mark.parametrize("kind", ["rm", "dpo", "sft"])
def test_parts_have_the_gradients_of_the_whole_and_not_a_mean_of_their_means(first_gradients, kind) -> None:
    found = first_gradients(kind)
    assert farthest(found["parts"], found["whole"]) < 1e-5
    assert farthest(found["means"], found["whole"]) > 0.1


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
