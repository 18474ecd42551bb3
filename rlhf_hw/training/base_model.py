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

from rlhf_hw.errors import InputError
from rlhf_hw.models.generation import generate
from rlhf_hw.models.loading import load_policy
from rlhf_hw.models.rendering import Renderer, load_tokenizer
from rlhf_hw.paths import DATA, resolve
from rlhf_hw.preferences.reading import find_files, read_rows
from rlhf_hw.preferences.templates import Conversation, Preference, as_prompt
from rlhf_hw.training.config import LanguageModelTraining
from rlhf_hw.training.run import train_language_model
from rlhf_hw.world.gold import mean_quality

log = logging.getLogger(__name__)

# Shape and training of the model in data/base-model
EMBEDDED = {
    "vocabulary": 3072,
    "hidden_size": 192,
    "layers": 6,
    "heads": 6,
    "intermediate_size": 512,
    "optimizer": "muon",
    "learning_rate": 4.0e-3,
    "epochs": 2.0,
    "batch_size": 32,
    "seed": 0,
}
# Last passes over the sft split alone, so that the medley does not take the room of talking well
FINISH = {"optimizer": "muon", "learning_rate": 2.5e-3, "epochs": 2.5, "batch_size": 32, "seed": 1}
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


def train_tokenizer(texts: Iterable[str], vocabulary: int = 4096) -> PreTrainedTokenizerFast:
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
    tokenizer: PreTrainedTokenizerFast,
    hidden_size: int = 256,
    layers: int = 4,
    heads: int = 4,
    intermediate_size: int = 704,
    seed: int = 0,
) -> PreTrainedModel:
    """A Qwen2-architecture language model with random weights.

    Args:
        tokenizer: Decides vocabulary size and control tokens.
        hidden_size, layers, heads, intermediate_size: Its shape; key and value heads are half the heads.
        seed: Seed of the weights.
    """
    if heads % 2 or hidden_size % heads:
        raise InputError(f"heads: expected an even divisor of hidden_size {hidden_size}, found {heads}")
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
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
    folder: Path,
    preferences: Sequence[Preference],
    *,
    corpus: str = "",
    vocabulary: int = 4096,
    hidden_size: int = 256,
    layers: int = 4,
    heads: int = 4,
    intermediate_size: int = 704,
    optimizer: str = "adamw",
    learning_rate: float = 2.0e-3,
    epochs: float = 2.0,
    max_steps: int = -1,
    batch_size: int = 64,
    seed: int = 0,
    log_dir: Path | None = None,
    max_prompt_tokens: int = 512,
    max_reply_tokens: int = 512,
) -> Path:
    """Write the base model of a run: a given checkpoint as it is, or one trained from scratch.

    Args:
        checkpoint: Folder or hub id of a causal language model; empty: train one.
        folder: Where the base model is written, with its tokenizer and rendering.
        preferences: Their prompts and chosen replies are the corpus of a new model where none is named.
        corpus: Data source for `read_conversations`.
        vocabulary, hidden_size, layers, heads, intermediate_size: Shape of a new model.
        optimizer, learning_rate, epochs, max_steps, batch_size, seed, log_dir: Settings of its training.
        max_prompt_tokens, max_reply_tokens: Longer texts are cut.

    Returns:
        `folder`.
    """
    if checkpoint:
        return _copy_checkpoint(checkpoint, folder)
    if corpus:
        examples = read_conversations(corpus)
    else:
        examples = [Conversation(p.prompt, p.chosen) for p in preferences]
    tokenizer = train_tokenizer((text for example in examples for text in example.texts), vocabulary)
    renderer = Renderer(tokenizer, max_prompt_tokens=max_prompt_tokens, max_reply_tokens=max_reply_tokens)
    config = LanguageModelTraining(
        model="new",
        output_dir=folder,
        log_dir=log_dir,
        optimizer=optimizer,
        learning_rate=learning_rate,
        epochs=epochs,
        max_steps=max_steps,
        batch_size=batch_size,
        seed=seed,
        max_prompt_tokens=max_prompt_tokens,
        max_reply_tokens=max_reply_tokens,
    )
    model = new_language_model(tokenizer, hidden_size, layers, heads, intermediate_size, seed)
    return _train(config, model, renderer, examples)


def read_conversations(corpus: str) -> list[Conversation]:
    """The conversations of a data source: rows with `prompt`, `response` and perhaps `remarks` (a list).

    Those of its split "sft" come first; of a split "medley", where there is one, only remarks are learned.

    Raises:
        ValueError: `remarks` is no list of texts, or not as long as in the first row.
    """
    found: list[Conversation] = []
    for split in ("sft", "medley") if _has_split(corpus, "medley") else ("sft",):
        for number, row in enumerate(read_rows(corpus, split), start=1):
            remarks, prompt = row.get("remarks") or [], as_prompt(row["prompt"], "prompt")
            expected = len(found[0].remarks if found else remarks)
            if not isinstance(remarks, list) or len(remarks) != expected:
                raise InputError(
                    f"{corpus}, split {split}, row {number}, key 'remarks': expected a list of {expected}"
                    f" texts, as in the first row, found {remarks!r:.60}"
                )
            found.append(Conversation(prompt, row["response"], tuple(remarks), spoken=split == "sft"))
    return found


def _has_split(source: str, split: str) -> bool:
    """Whether a local source has files of this split; a hub id is taken to have none."""
    try:
        return bool(find_files(source, split))
    except FileNotFoundError:
        return False


def _copy_checkpoint(checkpoint: str, folder: Path) -> Path:
    """Write a given causal language model and its renderer into a folder."""
    local = resolve(checkpoint)
    source = local if local.is_dir() else checkpoint
    load_policy(source, dtype="auto").save_pretrained(folder)
    Renderer(load_tokenizer(source)).save(folder)
    return folder


def finish(folder: Path, output: Path, corpus: str, **settings) -> Path:
    """Train a base model of `obtain_base_model` further, on the spoken conversations of its corpus.

    Args:
        folder: The model, with its renderer.
        output: Where the finished one is written.
        corpus: Data source for `read_conversations`; the same part of it stays held out.
        settings: Of `LanguageModelTraining`.

    Returns:
        `output`.
    """
    examples = [conversation for conversation in read_conversations(corpus) if conversation.spoken]
    config = LanguageModelTraining(model=str(folder), output_dir=output, **settings)
    return _train(config, load_policy(folder), Renderer.load(folder), examples)


def _train(
    config: LanguageModelTraining,
    model: PreTrainedModel,
    renderer: Renderer,
    examples: Sequence[Conversation],
) -> Path:
    """Train on all but the first conversations, which judge the model, and return the checkpoint's folder."""
    held_out = max(1, min(HELD_OUT, len(examples) // 20))
    train_language_model(config, model, renderer, examples[held_out:], examples[:held_out])
    return config.output_dir


def embedded_quality(folder: Path, prompts: int = 256, each: int = 4) -> dict[str, float]:
    """Quality of the model's replies to validation prompts, as notebook 00 shows it."""
    asked = [row["question"] for row in read_rows("data/nano", "validation")][:prompts]
    messages = [as_prompt(question, "question") for question in asked]
    replies = generate(load_policy(folder), Renderer.load(folder), messages, max_new_tokens=120, samples=each)
    return mean_quality([q for q in asked for _ in range(each)], [reply.text for reply in replies])


def main() -> None:
    """Rebuild the embedded base model: `python -m rlhf_hw.training.base_model [--out data/base-model]`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, default=DATA / "base-model")
    parser.add_argument("--max-steps", type=int, default=-1, help="stop early, to try the command")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with tempfile.TemporaryDirectory() as scratch:
        folder = obtain_base_model(
            "", Path(scratch) / "base", [], corpus="data/nano", max_steps=arguments.max_steps, **EMBEDDED
        )
        folder = finish(
            folder, Path(scratch) / "finished", "data/nano", max_steps=arguments.max_steps, **FINISH
        )
        # bf16 weights halve the download; the model card stays
        load_policy(folder).to(torch.bfloat16).save_pretrained(arguments.out)
        Renderer.load(folder).save(arguments.out)
    for name, value in embedded_quality(arguments.out).items():
        log.info("%s: %.3f", name, value)


if __name__ == "__main__":
    main()
