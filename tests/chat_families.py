"""Small tokenizers of the families of chat models, each with its chat template in its own form.

Byte-level BPE as Qwen, Llama 3, SmolLM2 and DeepSeek have it; BPE over words that begin with a mark, as
Llama 2, Mistral, Phi-3 (a mark at each text's beginning) and Gemma (none) have it. The templates write what
the models' own write where no tools are called.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

TEXTS = [
    "Hello there, warm the kettle. How are you today? I am fine, thank you.",
    "User: a cup of tea, please. Assistant: then wait ten minutes. [INST] [/INST] system user model",
    "You are a helpful assistant. Cutting Knowledge Date: December 2023 Today Date: 26 Jul 2024",
] * 4
QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


def byte_level(special: list[str], **named) -> PreTrainedTokenizerFast:
    """Byte-level BPE with Qwen2's and Llama 3's way of splitting."""
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(QWEN_SPLIT), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    _train(tokenizer, special, 460, pre_tokenizers.ByteLevel.alphabet())
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named)


def marked_words(special: list[str | AddedToken], begin: str, **named) -> PreTrainedTokenizerFast:
    """SentencePiece's BPE: spaces become a mark.

    Args:
        special: Control tokens.
        begin: Which texts begin with a mark of their own: "prepend" and "always" each stretch between control
            tokens (by a normalizer, by the splitting), "first" the first one only, "never" none.
        named: Special tokens by name, and the chat template.
    """
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="always")
    strip = [] if begin == "never" else [decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    fallback = [f"<0x{number:02X}>" for number in range(256)]
    _train(tokenizer, ["<unk>", *special, *fallback], 480, [])
    # trained on words, used on whole texts: no token goes on beyond a word's end
    if begin in ("prepend", "never"):
        tokenizer.pre_tokenizer = None
        steps = [normalizers.Prepend("▁")] if begin == "prepend" else []
        tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", "▁")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme=begin, split=False)
    described = json.loads(tokenizer.to_str())
    described["added_tokens"] = [t for t in described["added_tokens"] if t["content"] not in fallback]
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(described)), unk_token="<unk>", **named
    )


def _train(tokenizer: Tokenizer, special: list, size: int, alphabet: list[str]) -> None:
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)


CHATML = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' -}}"
    "{%- endfor -%}{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"
)


def with_system(text: str) -> str:
    """ChatML that adds a system message of its own."""
    return (
        "{%- if messages[0]['role'] != 'system' -%}{{- '<|im_start|>system\n"
        + text
        + "<|im_end|>\n' -}}{%- endif -%}"
        + CHATML
    )


# The last reply gets an empty think block, earlier ones lose theirs, and line breaks before a reply go.
QWEN3 = (
    "{%- set ns = namespace(last=0) -%}"
    "{%- for m in messages -%}{%- if m.role == 'user' -%}{%- set ns.last = loop.index0 -%}{%- endif -%}"
    "{%- endfor -%}"
    "{%- for m in messages -%}{{- '<|im_start|>' + m.role + '\n' -}}"
    "{%- if m.role == 'assistant' -%}"
    "{%- set content = m.content.split('</think>')[-1].lstrip('\n') -%}"
    "{%- if loop.index0 > ns.last -%}{{- '<think>\n\n</think>\n\n' -}}{%- endif -%}{{- content -}}"
    "{%- else -%}{{- m.content -}}{%- endif -%}{{- '<|im_end|>\n' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}"
    "{%- if enable_thinking is defined and enable_thinking is false -%}"
    "{{- '<think>\n\n</think>\n\n' -}}{%- endif -%}{%- endif -%}"
)
LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set turns = messages[1:] %}"
    "{% set told = '<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n' %}"
    "{% else %}{% set turns = messages %}{% set told = '' %}{% endif %}"
    "{% for m in turns %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% set content = told + m['content'] if loop.first else m['content'] %}"
    "{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{{ REPLY }}{% endif %}{% endfor %}"
)
LLAMA3 = (
    "{{- bos_token }}\n{%- if not date_string is defined %}\n{%- if strftime_now is defined %}\n"
    '{%- set date_string = strftime_now("%d %b %Y") %}\n{%- else %}\n'
    '{%- set date_string = "26 Jul 2024" %}\n{%- endif %}\n{%- endif %}\n'
    "{%- if messages[0]['role'] == 'system' %}\n{%- set told = messages[0]['content']|trim %}\n"
    "{%- set messages = messages[1:] %}\n{%- else %}\n{%- set told = '' %}\n{%- endif %}\n"
    "{{- '<|start_header_id|>system<|end_header_id|>\n\n' }}\n"
    "{{- 'Cutting Knowledge Date: December 2023\n' }}\n"
    "{{- 'Today Date: ' + date_string + '\n\n' }}\n{{- told }}\n{{- '<|eot_id|>' }}\n"
    "{%- for m in messages %}\n"
    "{{- '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' }}{{- m['content'] | trim }}\n"
    "{{- '<|eot_id|>' }}\n"
    "{%- endfor %}\n{%- if add_generation_prompt %}\n"
    "{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}\n{%- endif %}\n"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
GEMMA3 = (
    "{{ bos_token }}{%- if messages[0]['role'] == 'system' -%}"
    "{%- set told = messages[0]['content'] + '\n\n' -%}"
    "{%- set turns = messages[1:] -%}{%- else -%}{%- set told = '' -%}{%- set turns = messages -%}"
    "{%- endif -%}{%- for m in turns -%}{%- set role = 'model' if m['role'] == 'assistant' else m['role'] -%}"
    "{{ '<start_of_turn>' + role + '\n' + (told if loop.first else '') }}{{ m['content'] | trim }}"
    "{{ '<end_of_turn>\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}"
)
DEEPSEEK2 = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ 'User: ' + m['content'] + '\n\n' }}"
    "{% elif m['role'] == 'assistant' %}{{ 'Assistant: ' + m['content'] + eos_token }}"
    "{% else %}{{ m['content'] + '\n\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
# R1's: the generation prompt opens a think block, which a message without thoughts lacks.
DEEPSEEK3 = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '<｜User｜>' + m['content'] }}"
    "{% elif m['role'] == 'assistant' %}{% set content = m['content'].split('</think>')[-1] %}"
    "{{ '<｜Assistant｜>' + content + eos_token }}{% else %}{{ m['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<｜Assistant｜>GENERATION' }}{% endif %}"
)
PHI3 = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
TURNS, BOS, EOS = (
    ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    "<｜begin▁of▁sentence｜>",
    "<｜end▁of▁sentence｜>",
)
HEADERS = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
PHI3_TOKENS = [
    AddedToken(f"<|{name}|>", rstrip=True, special=True) for name in ("system", "user", "assistant", "end")
]


@dataclass(frozen=True)
class Family:
    """A family of chat models: how its tokenizer is made, and what its template does.

    Attributes:
        make: Makes the tokenizer.
        end: The token that ends a reply.
        system: Whether the template takes a system message.
        asked: Options with which `apply_chat_template` writes the prompt of a reply without thoughts.
        trims: White space that goes at a reply's beginning and end.
    """

    make: Callable[[], PreTrainedTokenizerFast]
    end: str
    system: bool = True
    asked: dict = field(default_factory=dict)
    trims: tuple[str, str] = ("", "")


def _llama2(begin):
    return lambda: marked_words(
        ["<s>", "</s>"], begin, bos_token="<s>", eos_token="</s>", chat_template=LLAMA2
    )


def _mistral(begin, reply, special=()):
    template = MISTRAL.replace("REPLY", reply)
    return lambda: marked_words(
        ["<s>", "</s>", *special], begin, bos_token="<s>", eos_token="</s>", chat_template=template
    )


def _chatml(template, special=(), pad="<|endoftext|>"):
    return lambda: byte_level(
        [*TURNS, *special], eos_token="<|im_end|>", pad_token=pad, unk_token=TURNS[0], chat_template=template
    )


def _gemma(template):
    special = ["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"]
    named = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "chat_template": template}
    return lambda: marked_words(special, "never", **named)


def _deepseek(template):
    def make():
        named = {"bos_token": BOS, "eos_token": EOS, "pad_token": EOS, "chat_template": template}
        made = byte_level([BOS, EOS, "<｜▁pad▁｜>"], **named)
        # not counted as special there
        made.add_tokens([AddedToken(name, normalized=False) for name in ("<｜User｜>", "<｜Assistant｜>")])
        return made

    return make


BOTH = ("\n ", "\n ")
FAMILIES = {
    "qwen2.5": Family(_chatml(with_system("You are Qwen. You are a helpful assistant.")), "<|im_end|>"),
    "qwen3": Family(_chatml(QWEN3), "<|im_end|>", asked={"enable_thinking": False}, trims=("\n", "")),
    # from its GGUF file: padding and end of turn are one token
    "smollm2": Family(
        _chatml(with_system("You are a helpful AI assistant."), (), "<|im_end|>"), "<|im_end|>"
    ),
    "llama2": Family(_llama2("prepend"), "</s>", trims=BOTH),
    "llama2 always": Family(_llama2("always"), "</s>", trims=BOTH),
    "llama2 first": Family(_llama2("first"), "</s>", trims=BOTH),
    "llama3": Family(
        lambda: byte_level(
            [*HEADERS, "<|finetune_right_pad_id|>"],
            bos_token=HEADERS[0],
            eos_token="<|eot_id|>",
            chat_template=LLAMA3,
        ),
        "<|eot_id|>",
        trims=BOTH,
    ),
    "mistral 1": Family(_mistral("prepend", "m['content'] + eos_token + ' '"), "</s>", system=False),
    "mistral 2": Family(_mistral("prepend", "' ' + m['content'] + eos_token"), "</s>", system=False),
    "mistral 3": Family(
        _mistral("first", "' ' + m['content'] + eos_token", ["[INST]", "[/INST]"]), "</s>", system=False
    ),
    "gemma2": Family(_gemma(GEMMA), "<end_of_turn>", system=False, trims=BOTH),
    "gemma3": Family(_gemma(GEMMA3), "<end_of_turn>", trims=BOTH),
    "deepseek2": Family(_deepseek(DEEPSEEK2), EOS),
    "deepseek3": Family(_deepseek(DEEPSEEK3.replace("GENERATION", "")), EOS),
    "phi3": Family(
        lambda: marked_words(
            ["<s>", "<|endoftext|>", *PHI3_TOKENS],
            "prepend",
            bos_token="<s>",
            eos_token="<|endoftext|>",
            pad_token="<|endoftext|>",
            chat_template=PHI3,
        ),
        "<|end|>",
    ),
}
