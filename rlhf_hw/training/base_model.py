"""Make a small base model: a tokenizer trained on the corpus and a Qwen2-architecture language model.

Tokenizer and chat format follow Qwen2.5's: byte-level BPE, `<|im_start|>role\\n...<|im_end|>\\n`, the
end-of-turn token `<|im_end|>`, padding with `<|endoftext|>`. Qwen2.5's default system message is left out, so
that short prompts stay short.
"""

import argparse
import logging
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedModel, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from rlhf_hw.errors import InputError, UnknownName
from rlhf_hw.models.loading import load_policy, use_padding
from rlhf_hw.models.pretrained import locate
from rlhf_hw.models.rendering import Renderer, load_tokenizer
from rlhf_hw.paths import DATA, resolve
from rlhf_hw.preferences.sources import find_files, read_rows
from rlhf_hw.preferences.templates import Conversation, Preference, as_prompt, as_reply
from rlhf_hw.training.config import LanguageModelTraining, NewModel
from rlhf_hw.training.folders import publish, take_folder, unfinished
from rlhf_hw.training.run import train_language_model

log = logging.getLogger(__name__)

# The model in data/base-model: its shape, and two trainings. The last passes are over the sft split alone, so
# that the medley does not take the room of talking well.
EMBEDDED_CORPUS = "data/nano"
EMBEDDED_SHAPE = NewModel(vocabulary=3072, hidden_size=192, layers=6, heads=6, intermediate_size=512)
EMBEDDED_TRAINING = {"optimizer": "muon", "learning_rate": 4.0e-3, "epochs": 2.0, "batch_size": 32, "seed": 0}
EMBEDDED_FINISH = {"optimizer": "muon", "learning_rate": 2.5e-3, "epochs": 2.5, "batch_size": 32, "seed": 1}
HELD_OUT = 500  # conversations that training leaves out, at most
END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)
# Qwen2's rule for splitting text before merges: words with their leading space, digits, punctuation, newlines
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer with Qwen2.5's chat format.

    Args:
        texts: The corpus.
        vocabulary: Number of tokens, control tokens included.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT, TURN_START, TURN_END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*texts, "system user assistant"], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=TURN_END,
        pad_token=END_OF_TEXT,
        additional_special_tokens=[TURN_START],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def new_language_model(
    tokenizer: PreTrainedTokenizerFast, shape: NewModel | None = None, seed: int = 0
) -> PreTrainedModel:
    """A Qwen2-architecture language model with random weights.

    Args:
        tokenizer: Decides vocabulary size and control tokens.
        shape: Its shape otherwise; default: that of `NewModel`.
        seed: Seed of the weights.
    """
    shape = shape or NewModel()
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads // 2,
        max_position_embeddings=2048,
        rope_theta=10000.0,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(seed)
    return Qwen2ForCausalLM(config)


def obtain_base_model(
    checkpoint: str,
    preferences: Sequence[Preference],
    corpus: str,
    shape: NewModel,
    training: LanguageModelTraining,
) -> Path:
    """Write the base model of a run: a given checkpoint as it is, or one trained from scratch.

    Args:
        checkpoint: Folder, hub id or name in `PACKAGED` of a causal language model; empty: train one.
        preferences: Their prompts and chosen replies are what a new model learns where no corpus is named.
        corpus: Data source for `read_conversations`, or empty.
        shape: Of a new model.
        training: Settings of its training; the base model is written to their `output_dir`, with its
            tokenizer and rendering.

    Returns:
        That folder.
    """
    if checkpoint:
        return copy_checkpoint(checkpoint, training.output_dir)
    if corpus:
        examples = read_conversations(corpus)
    else:
        examples = [Conversation(p.prompt, p.chosen) for p in preferences]
    texts = (text for example in examples for text in example.texts)
    renderer = Renderer(
        train_tokenizer(texts, shape.vocabulary),
        max_prompt_tokens=training.max_prompt_tokens,
        max_reply_tokens=training.max_reply_tokens,
    )
    model = new_language_model(renderer.tokenizer, shape, training.seed)
    return train_and_hold_out(training, model, renderer, examples)


def finish_base_model(training: LanguageModelTraining, corpus: str) -> Path:
    """Train the base model that `training.model` names further, on the spoken conversations of its corpus.

    Args:
        training: The settings.
        corpus: Data source for `read_conversations`; the same part of it stays held out.

    Returns:
        `training.output_dir`.
    """
    examples = [conversation for conversation in read_conversations(corpus) if conversation.spoken]
    folder = training.model
    return train_and_hold_out(training, load_policy(folder), Renderer.load(folder), examples)


def train_and_hold_out(
    training: LanguageModelTraining,
    model: PreTrainedModel,
    renderer: Renderer,
    examples: Sequence[Conversation],
) -> Path:
    """Train on all but the first conversations, which judge the model, and return the checkpoint's folder."""
    held_out = max(1, min(HELD_OUT, len(examples) // 20))
    train_language_model(training, model, renderer, examples[held_out:], examples[:held_out])
    return training.output_dir


def copy_checkpoint(checkpoint: str, folder: Path) -> Path:
    """Write a given causal language model and its renderer into a folder."""
    local = resolve(checkpoint)
    source = local if local.is_dir() else locate(checkpoint)
    take_folder(folder)
    prepared = unfinished(folder)
    renderer = Renderer(load_tokenizer(source))
    use_padding(load_policy(source, dtype="auto"), renderer.pad_id).save_pretrained(prepared)
    renderer.save(prepared)
    publish(folder)
    return folder


def read_conversations(corpus: str) -> list[Conversation]:
    """The conversations of a data source: rows with `prompt`, `response` and perhaps `remarks` (a list).

    Those of its split "sft" come first; of a split "medley", where there is one, only remarks are learned.

    Raises:
        KeyError: a row lacks `prompt` or `response`.
        ValueError: one of these is no text, or `remarks` is no list of texts, or not as long as in the first
            row.
    """
    found: list[Conversation] = []
    for split in ("sft", "medley") if _has_split(corpus, "medley") else ("sft",):
        for place, row in read_rows(corpus, split):
            try:
                prompt, reply = as_prompt(row["prompt"], "prompt"), as_reply(row["response"], "response")
            except KeyError as error:
                raise UnknownName(f"{place}: key {error} is missing among {sorted(row)}") from error
            except InputError as error:
                raise InputError(f"{place}: {error}") from error
            remarks = row.get("remarks") or []
            expected = len(found[0].remarks if found else remarks)
            texts = isinstance(remarks, list) and all(isinstance(remark, str) for remark in remarks)
            if not texts or len(remarks) != expected:
                raise InputError(
                    f"{place}, key 'remarks': expected a list of {expected} texts, as in the first row, "
                    f"found {remarks!r:.60}"
                )
            found.append(Conversation(prompt, reply, tuple(remarks), spoken=split == "sft"))
    return found


def _has_split(source: str, split: str) -> bool:
    """Whether a local source has files of this split; a hub id is taken to have none."""
    try:
        return bool(find_files(source, split))
    except (FileNotFoundError, UnknownName):
        return False


def main() -> None:
    """Rebuild the embedded base model: `python -m rlhf_hw.training.base_model [--out data/base-model]`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, default=DATA / "base-model")
    parser.add_argument("--max-steps", type=int, default=-1, help="stop early, to try the command")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with tempfile.TemporaryDirectory() as scratch:
        first, last = (
            LanguageModelTraining(
                model=f"{scratch}/first", output_dir=folder, max_steps=arguments.max_steps, **settings
            )
            for folder, settings in (
                (f"{scratch}/first", EMBEDDED_TRAINING),
                (f"{scratch}/finished", EMBEDDED_FINISH),
            )
        )
        obtain_base_model("", [], EMBEDDED_CORPUS, EMBEDDED_SHAPE, first)
        folder = finish_base_model(last, EMBEDDED_CORPUS)
        # bf16 weights halve the download; the model card stays
        load_policy(folder).to(torch.bfloat16).save_pretrained(arguments.out)
        Renderer.load(folder).save(arguments.out)
    log.info("%s is written; `rlhf-hw run --only 00` shows what it can do", arguments.out)


if __name__ == "__main__":
    main()
