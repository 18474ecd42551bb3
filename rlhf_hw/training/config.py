"""Settings of one training run, validated; notebooks and the command line build the same objects."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rlhf_hw.errors import InputError


class Training(BaseModel):
    """Settings that reward-model, DPO and language-model training share."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(description="checkpoint folder or hub id to start from")
    output_dir: Path = Field(description="where the finished checkpoint is written")
    log_dir: Path | None = Field(None, description="TensorBoard logs; default: <output_dir>/logs")
    train_dataset: str | None = Field(None, description="file, folder or hub id; empty or null: no training")
    train_template: str = Field("HOMEWORK", description="template of the training set")
    train_split: str = Field("train", description="split used for training")
    eval_dataset: str | None = Field(None, description="file, folder or hub id; empty or null: no evaluation")
    eval_template: str = Field("HOMEWORK", description="template of the evaluation set")
    eval_split: str = Field("validation", description="split used for evaluation")
    max_train: int | None = Field(None, ge=1, description="use at most this many training examples")
    max_eval: int | None = Field(None, ge=1, description="use at most this many evaluation examples")
    max_prompt_tokens: int = Field(512, ge=2, description="longer prompts lose their start")
    max_reply_tokens: int = Field(512, ge=2, description="longer replies lose tokens before their end token")

    learning_rate: float = Field(2.0e-5, gt=0, description="peak learning rate of AdamW")
    epochs: float = Field(1.0, gt=0, description="passes over the training set")
    max_steps: int = Field(-1, description="stop after this many optimizer steps; -1: go by epochs")
    batch_size: int = Field(16, ge=1, description="examples a process and step")
    gradient_accumulation_steps: int = Field(1, ge=1, description="batches added up before a step")
    lr_scheduler_type: str = Field("cosine", description="learning-rate schedule of transformers")
    warmup_ratio: float = Field(0.03, ge=0, lt=1, description="share of the steps that warm up")
    weight_decay: float = Field(0.0, ge=0, description="AdamW weight decay")
    adam_beta2: float = Field(0.95, gt=0, lt=1, description="AdamW beta 2")
    max_grad_norm: float = Field(1.0, gt=0, description="gradient clipping")
    dtype: Literal["auto", "bf16", "fp32"] = Field("auto", description="dtype of matrix products")
    gradient_checkpointing: bool = Field(False, description="recompute activations to save memory")
    lora_rank: int = Field(0, ge=0, description="train adapters of this rank (LoRA); 0: all weights")
    seed: int = Field(0, description="seed of data order and of a new score head")

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

    @model_validator(mode="after")
    def _lora_needs_whole_weights(self) -> Self:
        if self.lora_rank and "zero3" in str(self.deepspeed):
            raise InputError(
                "lora_rank: adapters cannot be merged into weights that ZeRO 3 has split; take zero2"
            )
        return self

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any], **given: Any) -> Self:
        """Build settings from the fields that a notebook names among its parameters, and what is given."""
        return cls(**{name: parameters[name] for name in cls.model_fields if name in parameters} | given)

    @property
    def separable(self) -> bool:
        """Whether the loss of a pair is the same whatever other pairs are in its batch."""
        return True

    @model_validator(mode="before")
    @classmethod
    def _empty_is_none(cls, values: dict) -> dict:
        """An empty shell or notebook variable means "none", as `null` does in a file."""
        names = {name for name, field in cls.model_fields.items() if field.default is None}
        return {
            k: None if k in names and str(v).strip() in ("", "None", "null", "0") else v
            for k, v in values.items()
        }


class RewardTraining(Training):
    """Reward model on preference pairs (Bradley-Terry)."""

    reads_at: Literal["end_of_turn", "template_end"] | None = Field(
        None, description="where `model` reads its score; default: as recorded, or found for other systems"
    )
    reward_regularization: float = Field(0.001, ge=0, description="weight of the mean squared reward")
    label_smoothing: float = Field(0.0, ge=0, lt=0.5, description="assumed share of flipped labels")


class DPOTraining(Training):
    """Direct preference optimization."""

    learning_rate: float = Field(1.0e-6, gt=0, description="peak learning rate of AdamW")
    beta: float = Field(0.1, gt=0, description="strength of the tie to the reference model")
    loss: Literal["sigmoid", "ipo", "robust"] = Field("sigmoid", description="link from margin to loss")
    label_smoothing: float = Field(0.0, ge=0, lt=0.5, description="assumed share of flipped labels")
    average_log_probs: bool = Field(False, description="mean instead of sum over a reply's tokens")
    nll_weight: float = Field(0.0, ge=0, description="weight of the chosen replies' loss per token")
    reference_model: str | None = Field(None, description="reference model; default: the start checkpoint")

    @property
    def separable(self) -> bool:
        return not self.nll_weight  # a mean over the tokens of all chosen replies


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

    @property
    def separable(self) -> bool:
        return False  # a mean over all tokens
