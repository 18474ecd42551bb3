"""Settings of one training run, validated; notebooks and the command line build the same objects."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import (
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from rlhf_hw.errors import InputError
from rlhf_hw.files import usable_path
from rlhf_hw.training.folders import check_places
from rlhf_hw.training.loss_table import POLICY_LOSSES, REWARD_LOSSES, Loss
from rlhf_hw.training.settings import MANY, Settings
from rlhf_hw.training.trackers import check_trackers

# those of transformers' schedules that need no settings of their own
SCHEDULES = ("cosine", "linear", "constant", "constant_with_warmup")
SCHEDULES += ("cosine_with_restarts", "polynomial", "inverse_sqrt")
# settings that name files, folders or hub ids to read
SOURCES = {"model", "reference_model", "train_dataset", "eval_dataset"}


class NewModel(Settings):
    """Shape of a language model that is trained from scratch, of the Qwen2 architecture."""

    vocabulary: int = Field(3072, ge=300, le=10**6, description="tokens of its tokenizer, control ones too")
    hidden_size: int = Field(256, ge=1, description="width")
    layers: int = Field(4, ge=1, description="depth")
    heads: int = Field(4, ge=2, description="attention heads; key and value heads are half of them")
    intermediate_size: int = Field(704, ge=1, description="width of the feed-forward part")

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        if self.heads % 2 or self.hidden_size % self.heads:
            raise InputError(
                f"heads: expected an even divisor of hidden_size {self.hidden_size}, found {self.heads}"
            )
        return self

    @model_validator(mode="after")
    def _fits_into_memory(self) -> Self:
        """By weights, gradients and one moment of the optimizer in fp32, for the layers alone."""
        width = self.hidden_size
        weights = self.layers * (3 * width**2 + 3 * width * self.intermediate_size)
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else None
        if there is not None and 12 * weights > there:
            raise InputError(
                f"hidden_size: {self.layers} layers of {width} and {self.intermediate_size} take more than "
                f"this machine's {there / 2**30:.0f} GiB; take a smaller one, or a smaller intermediate_size"
            )
        return self


class Training(Settings):
    """Settings that reward-model, DPO and language-model training share."""

    model: str = Field(min_length=1, description="checkpoint folder or hub id to start from")
    output_dir: Path = Field(description="folder for the finished checkpoint; not -")
    log_dir: Path | None = Field(None, description="TensorBoard logs; default: <output_dir>/logs")
    train_dataset: str | None = Field(None, description="file, folder or hub id; empty or null: no training")
    train_template: str = Field("HOMEWORK", description="template of the training set")
    train_split: str = Field("train", description="split used for training")
    eval_dataset: str | None = Field(None, description="file, folder or hub id; empty or null: no evaluation")
    eval_template: str = Field("HOMEWORK", description="template of the evaluation set")
    eval_split: str = Field("validation", description="split used for evaluation")
    max_train: int | None = Field(None, ge=1, description="use at most this many training examples")
    skip_train: int = Field(
        0, ge=0, description="begin after so many training examples; past the end the set begins anew"
    )
    max_eval: int | None = Field(None, ge=1, description="use at most this many evaluation examples")
    max_prompt_tokens: int = Field(512, ge=2, description="longer prompts lose their oldest turns")
    max_reply_tokens: int = Field(512, ge=2, description="longer replies lose tokens before their end token")

    learning_rate: float = Field(2.0e-5, gt=0, description="peak learning rate of AdamW")
    epochs: float = Field(1.0, gt=0, le=MANY, description="passes over the training set")
    max_steps: int = Field(
        -1, ge=-1, le=MANY, description="stop after this many optimizer steps; -1: go by epochs"
    )
    batch_size: int = Field(16, ge=1, le=MANY, description="examples a process and step")
    gradient_accumulation_steps: int = Field(1, ge=1, le=MANY, description="batches added up before a step")
    lr_scheduler_type: Literal[SCHEDULES] = Field("cosine", description="learning-rate schedule")
    warmup_ratio: float = Field(0.03, ge=0, lt=1, description="share of the steps that warm up")
    weight_decay: float = Field(0.0, ge=0, description="AdamW weight decay")
    adam_beta2: float = Field(0.95, gt=0, lt=1, description="AdamW beta 2")
    max_grad_norm: float = Field(1.0, gt=0, le=1e30, description="gradient clipping")
    dtype: Literal["auto", "bf16", "fp32"] = Field("auto", description="dtype of matrix products")
    gradient_checkpointing: bool = Field(False, description="recompute activations to save memory")
    compile_layers: bool = Field(False, description="compile the layers: it pays in long runs on a GPU")
    lora_rank: int = Field(0, ge=0, le=2**16, description="rank of adapters to train (LoRA); 0: all weights")
    seed: int = Field(0, ge=0, lt=2**32, description="seed of data order and of a new score head")

    logging_steps: int = Field(10, ge=1, description="steps between log entries")
    evaluations: int = Field(4, ge=1, description="evaluations spread over the run, besides one at its start")
    save_steps: int = Field(0, ge=0, description="steps between resumable checkpoints; 0: none")
    resume: bool = Field(False, description="go on from the last resumable checkpoint in output_dir")
    report_to: str = Field(
        "tensorboard", description="trackers of transformers: tensorboard, wandb, mlflow, none"
    )
    deepspeed: str | None = Field(
        None, description="DeepSpeed JSON file, or zero0, zero2, zero3, zero3_offload"
    )

    @field_validator("max_steps")
    @classmethod
    def _steps_are_taken(cls, steps: int) -> int:
        if steps == 0:
            raise InputError("max_steps: expected 1 or more, or -1 to go by epochs, found 0")
        return steps

    @model_validator(mode="after")
    def _resuming_needs_data(self) -> Self:
        """Without them the model is written as it is, in place of what a run has made there."""
        if self.resume and not self.train_dataset:
            raise InputError("resume: train_dataset is empty; name what the run to go on with began with")
        return self

    @model_validator(mode="after")
    def _lora_needs_whole_weights(self) -> Self:
        if self.lora_rank and "zero3" in str(self.deepspeed):
            raise InputError(
                "lora_rank: adapters cannot be merged into weights that ZeRO 3 has split; take zero2"
            )
        return self

    @field_validator("report_to")
    @classmethod
    def _trackers_are_there(cls, trackers: str) -> str:
        check_trackers(trackers)
        return trackers

    @field_validator("output_dir", "log_dir")
    @classmethod
    def _home_is_a_folder(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        return usable_path(path, info.field_name) if path else path

    @model_validator(mode="after")
    def _output_has_a_folder_of_its_own(self) -> Self:
        """What a run reads must not lie where it writes, nor what it writes in the folder of a checkpoint."""
        named = {name: getattr(self, name) or "" for name in SOURCES & type(self).model_fields.keys()}
        check_places(self.output_dir, self.log_dir, named)
        return self

    @model_validator(mode="before")
    @classmethod
    def _empty_is_none(cls, values: dict) -> dict:
        """An empty shell or notebook variable means "none", as `null` does in a file."""
        names = {name for name, field in cls.model_fields.items() if field.default is None}
        return {
            k: None if k in names and str(v).strip() in ("", "None", "null", "0") else v
            for k, v in values.items()
        }


class PairTraining(Training):
    """Settings of training on preference pairs, with a loss from the table of such losses."""

    dropout: bool = Field(False, description="keep the model's dropout in training, where it has any")

    LOSSES: ClassVar[Mapping[str, Loss]]
    LOSS_SETTING: ClassVar[str]  # the setting that names the loss

    @property
    def loss_entry(self) -> Loss:
        """The chosen loss's entry in the table."""
        return self.LOSSES[getattr(self, self.LOSS_SETTING)]

    @classmethod
    def losses_with(cls, name: str) -> list[str]:
        """The losses of which a setting is their own; empty for one that goes with every loss."""
        return [loss.name for loss in cls.LOSSES.values() if name in loss.settings]

    @classmethod
    def describe(cls, name: str) -> str:
        """What a setting means, and to which losses it belongs where others do not have it."""
        owners, text = cls.losses_with(name), super().describe(name)
        if name == cls.LOSS_SETTING:
            text += ": " + ", ".join(f"{loss.name} ({loss.summary})" for loss in cls.LOSSES.values())
        elif 0 < len(owners) < len(cls.LOSSES):
            text += f" (of {cls.LOSS_SETTING} {', '.join(owners)})"
        return text

    @model_validator(mode="after")
    def _settings_belong_to_the_loss(self) -> Self:
        """A notebook passes every parameter it declares, so what differs from its default was meant."""
        for name, field in type(self).model_fields.items():
            owners = self.losses_with(name)
            if owners and self.loss_entry.name not in owners and getattr(self, name) != field.default:
                raise InputError(
                    f"{name}: the loss {self.loss_entry.name!r} has no such setting; choose "
                    f"{self.LOSS_SETTING} {' or '.join(owners)}, or leave {name} at {field.default}"
                )
        return self


class RewardTraining(PairTraining):
    """Reward model on preference pairs (Bradley-Terry)."""

    LOSSES, LOSS_SETTING = REWARD_LOSSES, "reward_loss"

    reads_at: Literal["end_of_turn", "template_end"] | None = Field(
        None, description="where `model` reads its score; default: as recorded, or found for other systems"
    )
    reward_loss: Literal[tuple(REWARD_LOSSES)] = Field("bradley_terry", description="loss of a pair")
    reward_regularization: float = Field(0.001, ge=0, description="weight of the mean squared reward")
    label_smoothing: float = Field(0.0, ge=0, lt=0.5, description="assumed share of flipped labels")
    margin: float = Field(1.0, description="reward difference asked for; with margin_key, of one unit")
    margin_key: str | None = Field(
        None, description="number in each pair's data that margin is multiplied with; default: none"
    )


class DPOTraining(PairTraining):
    """Direct preference optimization."""

    LOSSES, LOSS_SETTING = POLICY_LOSSES, "loss"

    learning_rate: float = Field(1.0e-6, gt=0, description="peak learning rate of AdamW")
    loss: Literal[tuple(POLICY_LOSSES)] = Field("sigmoid", description="loss of a pair")
    beta: float = Field(
        0.1, gt=0, description="tie to the reference model; simpo: scale of its rewards; orpo: its weight"
    )
    label_smoothing: float = Field(0.0, ge=0, lt=0.5, description="assumed share of flipped labels")
    average_log_probs: bool = Field(False, description="mean instead of sum over a reply's tokens")
    gamma: float = Field(0.5, ge=0, description="margin by which the chosen reply's reward should be larger")
    length_alpha: float = Field(0.01, ge=0, description="what a token costs, in units of reward")
    ld_alpha: float = Field(0.5, ge=0, le=1, description="weight of tokens beyond the pair's common length")
    dpop_lambda: float = Field(5.0, ge=0, description="weight of each nat that the chosen reply has lost")
    nll_weight: float = Field(0.0, ge=0, description="weight of the chosen replies' loss per token")
    reference_model: str | None = Field(None, description="reference model; default: the start checkpoint")


class LanguageModelTraining(Training):
    """Next-token training on prompts with replies, from scratch or from a checkpoint."""

    learning_rate: float = Field(
        1.0e-3, gt=0, description="peak learning rate; of muon, that of the matrices"
    )
    weight_decay: float = Field(0.01, ge=0, description="weight decay of matrices and embeddings")
    optimizer: Literal["adamw", "muon"] = Field(
        "adamw", description="muon: for the matrices; the rest is AdamW's"
    )
    train_on_prompt: bool = Field(True, description="count the prompt's tokens in the loss too")

    @model_validator(mode="after")
    def _muon_needs_whole_matrices(self) -> Self:
        if self.optimizer == "muon" and self.deepspeed:
            raise InputError("optimizer: DeepSpeed splits the matrices that muon needs whole; take adamw")
        return self


class SupervisedTraining(LanguageModelTraining):
    """Supervised fine-tuning (SFT): the likelihood of the chosen replies of preference pairs."""

    learning_rate: float = Field(
        2.0e-5, gt=0, description="peak learning rate; of muon, that of the matrices"
    )
    weight_decay: float = Field(0.0, ge=0, description="weight decay of matrices and embeddings")
    train_on_prompt: bool = Field(False, description="count the prompt's tokens in the loss too")


# what `rlhf-hw train` and `launch` call the trainings on preference pairs
SETTINGS: Mapping[str, type[Training]] = {"rm": RewardTraining, "sft": SupervisedTraining, "dpo": DPOTraining}
