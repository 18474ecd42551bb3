"""Next-token training: the loss falls, every weight moves, what teaches nothing is refused."""

from dataclasses import replace

import pytest
import torch

from rlhf_hw.models.loading import load_policy
from rlhf_hw.models.log_probs import log_probs_groups
from rlhf_hw.models.rendering import Renderer
from rlhf_hw.preferences.templates import Conversation
from rlhf_hw.training import run
from rlhf_hw.training.config import LanguageModelTraining, SupervisedTraining


@pytest.mark.parametrize(
    ("train_on_prompt", "optimizer"), [(True, "adamw"), (False, "adamw"), (True, "muon")]
)
def test_language_model_training(
    settings, preferences, policy_folder, renderer, groups, train_on_prompt, optimizer
) -> None:
    examples = [Conversation(p.prompt, p.chosen) for p in preferences]
    config = settings(
        LanguageModelTraining,
        train_dataset=None,
        train_on_prompt=train_on_prompt,
        optimizer=optimizer,
        batch_size=24,
        epochs=4,
        evaluations=1,
    )
    before = load_policy(policy_folder)
    model = load_policy(policy_folder)
    result = run.train_language_model(config, model, renderer, examples[:20], examples)
    if not train_on_prompt:  # the loss is a mean over the replies' tokens
        chosen = log_probs_groups(before, groups, renderer.pad_id, "fp32")[:, 0]
        assert result.curve("eval_loss")[0]["value"] == pytest.approx(
            -chosen.sum() / groups.reply_lengths[:, 0].sum(), rel=1e-4
        )
    assert result.curve("eval_loss")[-1]["value"] < result.curve("eval_loss")[0]["value"] - 0.05
    after = dict(load_policy(config.output_dir).named_parameters())
    assert not [n for n, p in before.named_parameters() if torch.equal(p, after[n])]
    assert Renderer.load(config.output_dir).fingerprint() == renderer.fingerprint()


def test_conversations_of_which_nothing_would_be_learned_are_refused(settings, preferences, renderer) -> None:
    plain = Conversation(preferences[0].prompt, "Tea.")
    config = settings(LanguageModelTraining, train_dataset=None, train_on_prompt=False)
    for wrong, reason in (
        (replace(plain, spoken=False), "not spoken needs remarks"),
        (replace(plain, remarks=("Why?",)), "train_on_prompt"),
    ):
        with pytest.raises(ValueError, match=reason):
            run.train_language_model(config, None, renderer, [plain], [wrong])


def test_muon_is_not_for_split_matrices() -> None:
    with pytest.raises(ValueError, match="muon needs whole"):
        LanguageModelTraining(model="new", output_dir="x", optimizer="muon", deepspeed="zero2")


def test_sft_learns_the_chosen_replies_alone(
    settings, pairs_file, preferences, policy_folder, renderer, groups
) -> None:
    config = settings(
        SupervisedTraining,
        eval_dataset=str(pairs_file),
        eval_split="train",
        batch_size=8,
        epochs=6,
        learning_rate=1e-3,
        evaluations=1,
    )
    result = run.train_sft(config)
    before, after = load_policy(policy_folder), load_policy(config.output_dir)
    gained = [log_probs_groups(m, groups, renderer.pad_id, "fp32") for m in (before, after)]
    change = (gained[1] - gained[0]).mean(axis=0)
    assert change[0] > 1 and change[0] > change[1]  # chosen replies gain, and more than rejected ones
    loss = -gained[0][:, 0].sum() / groups.reply_lengths[:, 0].sum()
    assert result.curve("eval_loss")[0]["value"] == pytest.approx(loss, rel=5e-3)
    assert result.reports["train"].used == len(preferences)


def test_sft_without_data_says_which_are_missing(settings) -> None:
    with pytest.raises(ValueError, match="eval_dataset is empty: SFT needs one"):
        run.train_sft(settings(SupervisedTraining, eval_dataset=None))
