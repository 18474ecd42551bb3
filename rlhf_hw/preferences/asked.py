"""Which keys of a row were asked for: one that holds more of a conversation is not read."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rlhf_hw.preferences.labels import MoreConversation
from rlhf_hw.preferences.templates import BEYOND_TEXT

# Keys, in small letters, that are part of what the replies answer: rows with more than is read are not used
CONVERSATION = ("system", "system_prompt", "history", *BEYOND_TEXT)


class AskedRow(Mapping):
    """A row that remembers which of its keys were asked for."""

    def __init__(self, row: Mapping[str, Any]):
        self._row, self._asked = row, set()

    def __getitem__(self, key: str) -> Any:
        self._asked.add(key)
        return self._row[key]

    def __contains__(self, key: object) -> bool:
        return key in self._row

    def __iter__(self) -> Iterator[str]:
        return iter(self._row)

    def __len__(self) -> int:
        return len(self._row)

    def unread(self) -> list[str]:
        """The keys that nobody asked for and that hold something."""
        return [k for k, v in self._row.items() if k not in self._asked and not _is_nothing(v)]


def _is_nothing(value: Any) -> bool:
    """Whether a value is how tables, forms or other rows' keys write that there is none."""
    if isinstance(value, float):
        return math.isnan(value)
    return value is None or (isinstance(value, str | list | tuple | dict) and not value)


def refuse_more_conversation(unread: Iterable[str], why: str) -> None:
    """Refuse a row where a key that nobody reads, of those that hold something, is part of the conversation.

    Raises:
        MoreConversation: naming the key.
    """
    if more := [key for key in unread if key.lower() in CONVERSATION]:
        raise MoreConversation(
            f"key {more[0]!r}: part of what the replies answer, and {why}; write it into the prompt as "
            "messages, or leave the key out where it does not matter"
        )
