"""Prompts that are too long lose their oldest part, and stay what the template writes.

Cutting token ids on the left would take the system message or leave half a header: text that no chat model
was trained on. Here whole turns go first, the oldest before the others, then words of the oldest message that
is left. The system message and all headers stay.
"""

import re
from collections.abc import Callable, Sequence

from rlhf_hw.preferences.templates import Message

Rendered = Callable[[Sequence[Message]], list[int]]


def fit_prompt(prompt: Sequence[Message], limit: int, rendered: Rendered) -> list[int]:
    """Token ids of what of a conversation fits.

    Args:
        prompt: A conversation that ends with the user's message.
        limit: Most tokens.
        rendered: Token ids of a whole conversation, up to the reply that follows.

    Returns:
        At most `limit` ids. Of a system message that takes more than half of them, only the beginning is
        kept. Where the template's own text alone takes more, its last ids.
    """
    first = 1 if prompt and prompt[0].role == "system" else 0
    system, turns = list(prompt[:first]), list(prompt[first:])
    starts = [number for number, message in enumerate(turns) if message.role == "user"] or [0]
    for start in starts:
        ids = rendered([*system, *turns[start:]])
        if len(ids) <= limit:
            return ids
    asked, *after = turns[starts[-1] :]
    if system and len(rendered([*system, Message(asked.role, ""), *after])) > limit // 2:
        system = [_longest(system[0], lambda m: len(rendered([m, Message(asked.role, "")])) <= limit // 2)]
    asked = _longest(asked, lambda m: len(rendered([*system, m, *after])) <= limit, end=True)
    return rendered([*system, asked, *after])[-limit:]


def _longest(message: Message, fits: Callable[[Message], bool], end: bool = False) -> Message:
    """The message with as many of its words as fit, of its beginning or its end; at least the last letter.

    A single word that is too long is cut within.
    """
    text = message.content
    edges = [m.start() if end else m.end() for m in re.finditer(r"\S+", text)]
    edges = edges if end else edges[::-1]
    for places in (edges, range(len(text)) if end else range(len(text), 0, -1)):
        low, high = 0, len(places)  # places before `low` keep too much
        while low < high:
            middle = (low + high) // 2
            found = Message(message.role, text[places[middle] :] if end else text[: places[middle]])
            low, high = (low, middle) if fits(found) else (middle + 1, high)
        if low < len(places):
            return Message(message.role, text[places[low] :] if end else text[: places[low]])
    return Message(message.role, text[-1:] if end else text[:1])
