"""A chat template's text: conversations as it writes them, and what stands before and after a reply.

Contents go through the template itself, which may trim them or take parts out (Llama 3 and Gemma trim, Qwen3
drops earlier thoughts). What it writes before an assistant's message is the prompt of training and of
generation alike: Qwen3's empty think block, which its generation prompt leaves out, belongs to it. Templates
that write today's date get a fixed one, in the template itself, so that it is saved with every checkpoint.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import _cached_compile_jinja_template

from rlhf_hw.errors import InputError
from rlhf_hw.preferences.templates import Message

# What Llama 3's template itself writes where it finds no clock.
TODAY = datetime(2024, 7, 26)
CLOCK = "strftime_now"
# A private-use pair around a number: no template and hardly a text writes it.
MARK = "\ue000{}\ue001"
WHITE = " \n"  # what templates trim
MEND = "mend chat_template.jinja in that folder, or take another model's"


def with_fixed_date(template: str, today: datetime = TODAY) -> str:
    """The template with a clock that stands still, if it asks for the date; else unchanged.

    A macro takes the clock's place and returns the date in each format that the template asks for (others:
    as year-month-day). It is part of the template, so other systems write the same date.
    """
    if CLOCK not in template or f"macro {CLOCK}(" in template:
        return template
    formats = {f: today.strftime(f) for _, f in re.findall(rf"{CLOCK}\(\s*(['\"])(.*?)\1\s*\)", template)}
    fallback = today.strftime("%Y-%m-%d")
    macro = (
        f"{{%- macro {CLOCK}(format) -%}}{{{{- {formats!r}.get(format, {fallback!r}) -}}}}{{%- endmacro %}}"
    )
    return f"{macro}\n{template}"  # jinja takes the line break out, so the template still begins a line


@dataclass(frozen=True)
class Frame:
    """What a template writes around a reply.

    Attributes:
        extra: Whether more stands before a reply than the generation prompt, such as a think block.
        lead: White space between prompt and reply, which tokenizers merge into the reply's first token.
        after: All that follows a reply.
        left, right: White space that the template trims at either end of a reply.
        anchor: The template's own text at the end of a prompt.
    """

    extra: bool
    lead: str
    after: str
    left: str
    right: str
    anchor: str

    def trim(self, text: str) -> str:
        """A reply as the template writes it."""
        left, right = (None if chars == WHITE else chars for chars in (self.left, self.right))
        text = text if left == "" else text.lstrip(left)
        return text if right == "" else text.rstrip(right)


class ChatTemplate:
    """Renders conversations with a tokenizer's chat template.

    Args:
        tokenizer: With a chat template; where that asks for the date, it gets one with a fixed date.

    Raises:
        ValueError: The template cannot be rendered, or leaves out or moves a message.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self.name = str(getattr(tokenizer, "name_or_path", "") or "tokenizer")
        template = tokenizer.chat_template
        if isinstance(template, dict):  # several by name
            tokenizer.chat_template = {name: with_fixed_date(text) for name, text in template.items()}
        else:
            tokenizer.chat_template = with_fixed_date(template)
        self._special = tokenizer.special_tokens_map
        try:
            self._compiled = _cached_compile_jinja_template(tokenizer.get_chat_template())
        except Exception as error:
            raise self._unusable(error) from error
        self.frame = self._read_frame()
        # what it writes around messages; not before a last reply: models write think blocks themselves
        self.turns = "".join(self.pieces(("user", "assistant", "user"), False))

    def render(self, messages: Sequence[Message], generation_prompt: bool = False) -> str:
        """Text of a conversation."""
        try:
            return self._compiled.render(
                messages=[message._asdict() for message in messages],
                tools=None,
                documents=None,
                add_generation_prompt=generation_prompt,
                **self._special,
            )
        except MemoryError:
            raise
        except Exception as error:  # a template is a program of its own: anything may be raised
            raise self._unusable(error, f" for a conversation of {[m.role for m in messages]}") from error

    def prompt(self, messages: Sequence[Message]) -> str:
        """Text of a conversation up to where the assistant's next message begins."""
        if not self.frame.extra:
            return self.render(messages, True)
        return self._around(MARK.format(0), messages)[0]

    def pieces(self, roles: Sequence[str], generation_prompt: bool) -> list[str]:
        """The template's own text before, between and after messages of these roles."""
        marks = [MARK.format(number) for number in range(len(roles))]
        text = self.render([Message(*turn) for turn in zip(roles, marks, strict=True)], generation_prompt)
        pieces = []
        for mark in marks:
            piece, found, text = text.partition(mark)
            if not found:
                raise InputError(
                    f"{self.name}: the chat template leaves out or moves a message of {roles}; {MEND}"
                )
            pieces.append(piece)
        return [*pieces, text]

    def _read_frame(self) -> Frame:
        """Find out, from a conversation of marks, what the template writes around a reply."""
        _, before, after = self.pieces(("user", "assistant"), False)
        given = self.pieces(("user",), True)[-1]
        lead = before.removeprefix(given)
        if not before.startswith(given) or lead.strip():  # a header or think block that the other lacks
            extra, lead, anchor = True, "", before
        else:
            extra, anchor = False, given
        left, right = "", ""
        for space in WHITE:
            begun = self._around(space + MARK.format(1))
            ended = self._around(MARK.format(1) + space)
            left += space if begun[0].endswith(before) else ""
            right += space if ended[1] == after else ""
        return Frame(extra, lead, after, left, right, anchor)

    def _around(self, reply: str, prompt: Sequence[Message] = (Message("user", MARK.format(0)),)) -> tuple:
        """Text before and after the mark in a reply."""
        text = self.render([*prompt, Message("assistant", reply)])
        before, found, after = text.rpartition(reply.strip())
        if not found:
            raise InputError(f"{self.name}: the chat template leaves out or moves a reply; {MEND}")
        return before, after

    def _unusable(self, error: Exception, where: str = "") -> InputError:
        said = next(iter(str(error).strip().splitlines()), "")
        return InputError(
            f"{self.name}: the chat template cannot be rendered{where} "
            f"({type(error).__name__}: {said:.200}). "
            "If it takes no such conversation, leave those rows out or write the system text into the user's "
            f"first message; else {MEND}"
        )
