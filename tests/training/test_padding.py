"""Checkpoints whose padding token ends a reply: saved ones read alike everywhere, foreign ones are known."""

import json

import numpy as np
import pytest
import torch
from chat_families import DEEPSEEK2, FAMILIES, byte_level
from other_systems import CLOSE, QUIET, conversations, our_scores, trl_columns, trl_scores
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)
from trl import RewardConfig, RewardTrainer

from rlhf_hw.errors import InputError
from rlhf_hw.models.rendering import END_OF_TURN, FILE, Renderer
from rlhf_hw.training.base_model import copy_checkpoint
from rlhf_hw.training.config import DPOTraining, RewardTraining
from rlhf_hw.training.run import train_dpo, train_reward_model

ARCHITECTURES = {"llama": (LlamaConfig, LlamaForCausalLM), "qwen2": (Qwen2Config, Qwen2ForCausalLM)}
# SmolLM2's and DeepSeek's pad with their end token, Llama 2 and Mistral come without a padding token
CASES = [("llama", "smollm2"), ("qwen2", "smollm2"), ("llama", "llama2"), ("llama", "deepseek2")]


def make_policy(folder, tokenizer, architecture="llama", pad=True):
    """A random language model whose configuration pads with the end token, or with none."""
    kind, model = ARCHITECTURES[architecture]
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    ends = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": tokenizer.bos_token_id}
    ends["pad_token_id"] = tokenizer.pad_token_id if pad else None
    made = model(kind(vocab_size=len(tokenizer) + 8, num_key_value_heads=2, **shape, **ends))
    for name, parameter in made.named_parameters():  # so that outputs depend on the input
        if "norm" not in name:
            torch.nn.init.normal_(parameter, std=0.2)
    made.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def plain_scores(folder, preferences, size: int, side: str) -> np.ndarray:
    """Rewards of chosen replies as whoever knows nothing of us computes them, shape (pairs,)."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    end = tokenizer.convert_ids_to_tokens(Renderer.load(folder).end_id)
    texts = tokenizer.apply_chat_template(conversations(preferences, "chosen"), tokenize=False)
    texts = [text[: text.rindex(end) + len(end)] for text in texts]
    options = {"add_special_tokens": False, "padding": True, "padding_side": side, "return_tensors": "pt"}
    scores = []
    for start in range(0, len(texts), size):
        batch = tokenizer(texts[start : start + size], **options)
        with torch.no_grad():
            scores.append(model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, 0])
    return torch.cat(scores).numpy()


@pytest.fixture(scope="module", params=CASES, ids=["-".join(case) for case in CASES])
def trained(request, pairs_file, tmp_path_factory):
    """A language model, and a reward model trained from it."""
    architecture, family = request.param
    folder = tmp_path_factory.mktemp("padding")
    base = make_policy(folder / "base", FAMILIES[family].make(), architecture)
    settings = {"model": str(base), "train_dataset": str(pairs_file), "dtype": "fp32", "report_to": "none"}
    train_reward_model(
        RewardTraining(**settings, output_dir=folder / "rm", max_steps=2, learning_rate=1e-2, warmup_ratio=0)
    )
    return base, folder / "rm"


@pytest.mark.parametrize(("size", "side"), [(1, "right"), (5, "right"), (24, "left")])
def test_scores_are_those_of_plain_transformers(trained, preferences, size, side) -> None:
    ours = our_scores(trained[1], preferences)[:, 0]
    np.testing.assert_allclose(plain_scores(trained[1], preferences, size, side), ours, **CLOSE)


@pytest.mark.parametrize("trained", CASES[:1], indirect=True, ids=["llama-smollm2"])
def test_scores_are_those_of_trl(trained, preferences, tmp_path) -> None:
    folder = trained[1]
    data = trl_columns(preferences, "text", Renderer.load(folder))
    trainer = RewardTrainer(
        model=str(folder),
        args=RewardConfig(output_dir=str(tmp_path), per_device_eval_batch_size=5, **QUIET),
        processing_class=AutoTokenizer.from_pretrained(folder),
        train_dataset=data,
        eval_dataset=data,
    )
    np.testing.assert_allclose(trl_scores(trainer), our_scores(folder, preferences), **CLOSE)


def test_the_padding_is_another_token_and_the_same_in_all_files(trained, preferences) -> None:
    base, folder = trained
    tokenizer, config = AutoTokenizer.from_pretrained(folder), AutoConfig.from_pretrained(folder)
    renderer = Renderer.load(folder)
    assert tokenizer.pad_token_id == config.pad_token_id == renderer.pad_id != renderer.end_id
    before, after = (
        AutoModelForSequenceClassification.from_pretrained(path, num_labels=1).get_input_embeddings()
        for path in (base, folder)
    )
    # the end token's embedding was held still by the model's own settings for padding
    assert not torch.equal(before.weight[renderer.end_id], after.weight[renderer.end_id])


def test_policies_are_saved_with_it_too(pairs_file, cache, tmp_path) -> None:
    base = make_policy(tmp_path / "base", FAMILIES["smollm2"].make())
    settings = {"train_dataset": str(pairs_file), "dtype": "fp32", "report_to": "none", "max_steps": 1}
    train_dpo(DPOTraining(model=str(base), output_dir=tmp_path / "dpo", **settings))
    copy_checkpoint(str(base), tmp_path / "copy")
    for name in ("dpo", "copy"):
        model = AutoModelForCausalLM.from_pretrained(tmp_path / name)
        pad = AutoTokenizer.from_pretrained(tmp_path / name).pad_token_id
        assert pad == model.config.pad_token_id == model.generation_config.pad_token_id
        assert pad != Renderer.load(tmp_path / name).end_id


def test_a_tokenizer_without_another_token_is_refused_for_reward_models(pairs_file, tmp_path) -> None:
    bos, eos = "<begin>", "<end>"
    tokenizer = byte_level([bos, eos], bos_token=bos, eos_token=eos, pad_token=eos, chat_template=DEEPSEEK2)
    base = make_policy(tmp_path / "base", tokenizer)
    settings = {"model": str(base), "train_dataset": str(pairs_file), "report_to": "none"}
    with pytest.raises(InputError, match="no other control token to pad with.*add_special_tokens"):
        train_reward_model(RewardTraining(**settings, output_dir=tmp_path / "rm"))
    # the remedy that the message names
    model = AutoModelForCausalLM.from_pretrained(base)
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(base)
    tokenizer.save_pretrained(base)
    train_reward_model(RewardTraining(**settings, output_dir=tmp_path / "rm", max_steps=1))


@pytest.mark.parametrize("trained", CASES[:1], indirect=True, ids=["llama-smollm2"])
def test_foreign_reward_models_that_pool_before_the_end_token_are_known(
    trained, preferences, tmp_path
) -> None:
    """What plain transformers or TRL save with `pad_token = eos_token`."""
    folder = trained[1]
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    model.config.pad_token_id = Renderer.load(folder).end_id
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    assert not (tmp_path / FILE).exists()
    with pytest.raises(InputError, match="pads with the token that ends a reply.*--reads-at"):
        our_scores(tmp_path, preferences)
    # what is refused: other scores there
    ends = Renderer.load(tmp_path, reads_at=END_OF_TURN)
    assert ends.reads_at == END_OF_TURN
    ours = our_scores(tmp_path, preferences, reads_at=END_OF_TURN)
    np.testing.assert_allclose(ours, our_scores(folder, preferences), **CLOSE)
    settings = json.loads((tmp_path / "config.json").read_text()) | {"pad_token_id": ends.pad_id}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    np.testing.assert_allclose(our_scores(tmp_path, preferences), ours, **CLOSE)
