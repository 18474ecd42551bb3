"""What both systems are given: checkpoints and preference pairs, made once and read by every job.

The pairs are written twice: as messages, which our renderer reads, and as text in which the chat template is
already rendered, which TRL reads. Kept are pairs for which both come to the same token ids. A training job
is short, and of so few pairs TRL's sampler would make batches of very different lengths; so the pairs are
batches that it makes of many, drawn at random.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase, Qwen2Config, Qwen2ForCausalLM
from transformers.trainer_pt_utils import get_length_grouped_indices

from rlhf_hw.models.loading import load_policy, load_reward_model
from rlhf_hw.models.pretrained import locate
from rlhf_hw.models.rendering import Renderer, load_tokenizer
from rlhf_hw.preferences.reading import load_preferences
from rlhf_hw.preferences.templates import Conversation, Message, Preference
from rlhf_hw.training.base_model import new_language_model, train_tokenizer
from rlhf_hw.training.config import LanguageModelTraining, NewModel
from rlhf_hw.training.run import train_language_model

HH = "Anthropic/hh-rlhf//harmless-base"
BATCHES_GROUPED = 200  # by length, where there are so many: transformers sorts a quarter, 50 batches at most
MAX_TOKENS = 1024  # TRL's default max_length: it would drop or cut longer ones
# width, layers, heads, width of the MLP
SHAPES = {"tiny": (64, 2, 4, 160), "7M": (320, 6, 4, 864), "0.5B": (896, 24, 14, 4864)}


@dataclass(frozen=True)
class Workload:
    """One model and what is done with it.

    Attributes:
        name: A key of `SHAPES`, or of a pretrained model.
        vocabulary: Size of the tokenizer.
        batch: Pairs in a step.
        steps: Steps of a training job; batch * steps pairs are read.
        score: Pairs to score; 0 leaves scoring and generation out.
        generate: Replies to sample, each of at most `new_tokens` tokens.
        base_steps: Steps of language-model training before everything else, so that replies come to an end.
        dtype: "bf16" or "fp32".
        model: A pretrained model with its tokenizer, in place of a new one of a shape in `SHAPES`.
    """

    name: str
    vocabulary: int
    batch: int
    steps: int
    score: int = 0
    generate: int = 0
    new_tokens: int = 128
    base_steps: int = 0
    dtype: str = "bf16"
    model: str = ""


def made_up_pairs(count: int, seed: int = 0) -> list[Preference]:
    """Pairs of random words, for a machine without the real data; prompts and replies of mixed length."""
    generator = random.Random(seed)
    words = "a the we you it is may not can good long short tea rain water boil cook read walk sleep".split()

    def say(low: int, high: int) -> str:
        return " ".join(generator.choices(words, k=generator.randint(low, high))).capitalize() + "."

    return [
        Preference((Message("user", f"{row}: {say(10, 120)}"),), say(5, 60), say(5, 60) + " No.", row=row)
        for row in range(count)
    ]


def read_pairs(source: str, count: int) -> list[Preference]:
    """Dialogues of HH-RLHF (harmless-base), or made-up pairs."""
    return made_up_pairs(count) if source == "made-up" else load_preferences(source, "HH", limit=count)[0]


def prepare(workload: Workload, source: str, folder: Path) -> None:
    """Write `pairs.jsonl`, `text.jsonl` and the checkpoints `policy` and `reward` into a folder."""
    needed = max(workload.batch * workload.steps, workload.score, workload.generate)
    grouped = BATCHES_GROUPED * workload.batch
    preferences = read_pairs(source, max(needed + needed // 2 + 50, grouped))
    texts = [m.content for p in preferences for m in p.prompt]
    texts += [reply for p in preferences for reply in (p.chosen, p.rejected)]
    pretrained = locate(workload.model) if workload.model else None
    tokenizer = (
        train_tokenizer(texts, workload.vocabulary) if pretrained is None else load_tokenizer(pretrained)
    )
    renderer = Renderer(tokenizer)
    measured = [(p, _common_length(p, tokenizer, renderer)) for p in preferences]
    usable = [(p, length) for p, length in measured if length]
    random.Random(0).shuffle(usable)
    kept = [p for p, _ in usable]
    if len(kept) < needed:
        raise ValueError(f"{source}: {len(kept)} of the {needed} pairs needed can be used")
    folder.mkdir(parents=True, exist_ok=True)
    lengths = [length for _, length in usable[:grouped]]
    order = batches_of_a_long_run(lengths, workload.batch, workload.steps)
    order = [*order, *sorted(set(range(len(kept))) - set(order))][:needed]
    _write(folder / "pairs.jsonl", [_as_messages(kept[n]) for n in order])
    _write(folder / "text.jsonl", [_as_text(kept[n], tokenizer) for n in order])
    model = load_policy(pretrained) if pretrained else _policy(workload, tokenizer)
    if workload.base_steps:
        examples = [Conversation(p.prompt, p.chosen) for p in kept]
        config = LanguageModelTraining(
            model="new",
            output_dir=folder / "base",
            max_steps=workload.base_steps,
            batch_size=8,
            learning_rate=3e-3,
            evaluations=1,
            report_to="none",
        )
        train_language_model(config, model, renderer, examples[16:], examples[:16])
        model = type(model).from_pretrained(folder / "base", dtype=torch.float32)
    model.save_pretrained(folder / "policy")
    renderer.save(folder / "policy")
    del model
    reward_model = load_reward_model(folder / "policy", seed=1)
    reward_model.config.pad_token_id = renderer.pad_id
    reward_model.save_pretrained(folder / "reward")
    renderer.save(folder / "reward")


def batches_of_a_long_run(lengths: Sequence[int], batch: int, steps: int) -> list[int]:
    """Some batches, drawn at random, of those that transformers makes of all by length.

    Args:
        lengths: Of all pairs, in tokens.
        batch: Pairs in a batch.
        steps: Batches to draw; all where there are fewer.
    """
    torch.manual_seed(0)
    order = get_length_grouped_indices(list(lengths), batch)
    batches = [order[start : start + batch] for start in range(0, len(order) - batch + 1, batch)]
    return [n for one in random.Random(0).sample(batches, min(steps, len(batches))) for n in one]


def _policy(workload: Workload, tokenizer: PreTrainedTokenizerBase) -> Qwen2ForCausalLM:
    """A new model; the large one has the shape of Qwen2.5-0.5B, vocabulary included."""
    width, layers, heads, inner = SHAPES[workload.name]
    if workload.name != "0.5B":
        shape = NewModel(hidden_size=width, layers=layers, heads=heads, intermediate_size=inner)
        return new_language_model(tokenizer, shape)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=151936,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Qwen2ForCausalLM(config)


def _common_length(preference: Preference, tokenizer: PreTrainedTokenizerBase, renderer: Renderer) -> int:
    """Tokens of the prompt and the longer reply; 0 where TRL, which tokenizes them together, comes to other
    ids than ours or to too many."""
    row = _as_text(preference, tokenizer)
    prompt = renderer.prompt_ids([preference.prompt])[0]
    replies = renderer.reply_ids([preference.chosen, preference.rejected])
    theirs = tokenizer([row["prompt"] + row["chosen"], row["prompt"] + row["rejected"]])["input_ids"]
    length = max(map(len, theirs))
    same = (
        tokenizer(row["prompt"])["input_ids"] == prompt
        and theirs == [prompt + reply for reply in replies]
        and length < MAX_TOKENS
        and replies[0] != replies[1]
    )
    return length if same else 0


def _as_messages(preference: Preference) -> dict:
    turns = [{"role": m.role, "content": m.content} for m in preference.prompt]
    return {"prompt": turns, "chosen": preference.chosen, "rejected": preference.rejected}


def _as_text(preference: Preference, tokenizer: PreTrainedTokenizerBase) -> dict:
    turns = _as_messages(preference)["prompt"]
    prompt = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    chosen, rejected = (reply + tokenizer.eos_token for reply in (preference.chosen, preference.rejected))
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def _write(path: Path, rows: Sequence[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
