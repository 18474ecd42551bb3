"""Templates: from a data set's own row to one `Preference(prompt, chosen, rejected)`.

A template is a function `row -> Preference` registered under the name a profile or `--template` uses. It
raises `KeyError` for a missing key, `ValueError` for a value it cannot read and a `Dropped` (see `labels`)
for a row that gives its replies no order; `reading.load_preferences` turns these into counts and messages
that name the row, and says which keys of the rows the template did not ask for.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rlhf_hw.errors import InputError, UnknownName
from rlhf_hw.preferences.labels import (
    Label0,
    MoreConversation,
    OtherPrompt,
    Tie,
    UnknownLabel,
    check_scores,
    edition_of,
    read_label,
)
from rlhf_hw.preferences.rows import Place

Row = Mapping[str, Any]
# Keys of a message, or of a row, whose content a text model does not see
BEYOND_TEXT = ("images", "image", "audio", "video", "videos", "tools", "tool_calls", "function_call")


class Message(NamedTuple):
    """One turn of a conversation: `role` is system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True)
class Preference:
    """One comparison: the conversation so far and the two replies to its last turn.

    `row` numbers the rows of a whole data set, from 0; `place` is where it stands in its file.
    """

    prompt: tuple[Message, ...]
    chosen: str
    rejected: str
    row: int = -1
    meta: Mapping[str, Any] = field(default_factory=dict)
    place: Place | None = field(default=None, compare=False)

    @property
    def question(self) -> str:
        """The last user turn, for tables and figures."""
        return next((m.content for m in reversed(self.prompt) if m.role == "user"), "")


@dataclass(frozen=True)
class Conversation:
    """What a language model learns from: a prompt, its reply, and the remarks that the reply drew, if any.

    Of one that is not `spoken` the model learns only the remarks, lest it comes to write like that.
    """

    prompt: tuple[Message, ...]
    reply: str
    remarks: tuple[str, ...] = ()
    spoken: bool = True

    @property
    def texts(self) -> tuple[str, ...]:
        """Everything that is said in it."""
        return (*(message.content for message in self.prompt), self.reply, *self.remarks)


Template = Callable[[Row], Preference]
TEMPLATES: dict[str, Template] = {}


def template(name: str) -> Callable[[Template], Template]:
    """Register a function as the template called `name`."""

    def register(function: Template) -> Template:
        TEMPLATES[name] = function
        return function

    return register


def get_template(name: str) -> Template:
    """Return the template called `name`; an unknown name lists the known ones."""
    if name not in TEMPLATES:
        raise UnknownName(f"template {name!r} is not known; choose one of {', '.join(sorted(TEMPLATES))}")
    return TEMPLATES[name]


def as_prompt(value: Any, key: str) -> tuple[Message, ...]:
    """Read a prompt given as a string or as a list of `{"role", "content"}` messages."""
    if isinstance(value, str):
        return (Message("user", value),)
    if isinstance(value, list | tuple) and value:
        return tuple(_message(item, key) for item in value)
    raise InputError(f"key {key!r}: expected a string or a list of messages, found {type(value).__name__}")


def as_reply(value: Any, key: str) -> str:
    """Read a reply given as a string or as a list with one assistant message."""
    if isinstance(value, list | tuple) and len(value) == 1:
        role, value = _message(value[0], key)
        if role != "assistant":
            raise InputError(f"key {key!r}: a reply is the assistant's, found role {role!r}; write assistant")
    if not isinstance(value, str):
        raise InputError(f"key {key!r}: expected a string or one message, found {type(value).__name__}")
    return value


def _message(item: Any, key: str) -> Message:
    if not isinstance(item, Mapping) or not {"role", "content"} <= set(item):
        raise InputError(f"key {key!r}: expected a message with 'role' and 'content', found {item!r:.60}")
    if item["role"] not in ("system", "user", "assistant"):
        raise InputError(f"key {key!r}: role {item['role']!r:.40}: expected system, user or assistant")
    if beyond := next((name for name in BEYOND_TEXT if item.get(name)), None):
        raise InputError(f"key {key!r}: a message has {beyond!r}, and only text is read; take it out")
    if not isinstance(item["content"], str):
        raise InputError(f"key {key!r}: content must be text, found {type(item['content']).__name__}")
    return Message(item["role"], item["content"])


def _choose(row: Row, key: str, first: Any, second: Any, replies: tuple[str, str]) -> Preference:
    """Order two reply columns by the label in `key`, whose value is `first` or `second`."""
    label = read_label(row, key)
    if label not in (first, second):
        if label in ("tie", -1, 3):
            raise Tie
        kind = Label0 if label == 0 else UnknownLabel
        raise kind(f"key {key!r}: expected {first} or {second}, found {label!r:.60}")
    chosen, rejected = replies if label == first else replies[::-1]
    prompt_key = "question" if "question" in row else "prompt"
    meta = row.get("metadata")
    meta = _without_nan(meta) if isinstance(meta, Mapping) else {}
    chosen_index = 1 if label == first else 2
    return Preference(
        as_prompt(row[prompt_key], prompt_key),
        as_reply(row[chosen], chosen),
        as_reply(row[rejected], rejected),
        meta={**meta, "chosen_index": chosen_index},
    )


def _without_nan(meta: Mapping[str, Any]) -> dict[str, Any]:
    """The same without NaN, as tables write nothing, which a score file could not hold."""
    return {k: v for k, v in meta.items() if not (isinstance(v, float) and math.isnan(v))}


@template("HOMEWORK")
def homework(row: Row) -> Preference:
    """The homework's schema: `question`, `response_1`, `response_2`, `overall_response` (1 or 2 won).

    In the edition of 2024 that of PKU-SafeRLHF by helpfulness.
    """
    if edition_of(row) == "2024":
        return _pku(row, "better_response_id")
    row["question"]  # a missing question is a KeyError that names it
    return _choose(row, "overall_response", 1, 2, ("response_1", "response_2"))


@template("PKUSafeRLHF")
def pku_better(row: Row) -> Preference:
    """PKU-SafeRLHF by helpfulness: `better_response_id` (0 or 1) among `response_0`, `response_1`."""
    return _pku(row, "better_response_id")


@template("PKUSafeRLHF_safer")
def pku_safer(row: Row) -> Preference:
    """PKU-SafeRLHF by safety: `safer_response_id` (0 or 1) among `response_0`, `response_1`."""
    return _pku(row, "safer_response_id")


def _pku(row: Row, key: str) -> Preference:
    # a file may hold the number as a flag or as 1.0
    label = row[key] if isinstance(row[key], bool) else read_label(row, key)
    if label not in (0, 1):
        if label == -1:
            raise Tie
        raise UnknownLabel(f"key {key!r}: expected 0 or 1, found {label!r:.60}")
    better = int(label)
    chosen, rejected = f"response_{better}", f"response_{1 - better}"
    flags = {k: row[k] for k in ("is_response_0_safe", "is_response_1_safe") if k in row}
    return Preference(
        as_prompt(row["prompt"], "prompt"),
        as_reply(row[chosen], chosen),
        as_reply(row[rejected], rejected),
        meta=flags,
    )


@template("HH")
def hh(row: Row) -> Preference:
    r"""Anthropic HH-RLHF: two transcripts of `\n\nHuman:`, `\n\nAssistant:` turns, alike up to the last."""
    chosen, rejected = (parse_transcript(row[key], key) for key in ("chosen", "rejected"))
    if chosen[:-1] != rejected[:-1]:
        raise InputError("key 'rejected': its turns before the last reply differ from those of 'chosen'")
    return Preference(chosen[:-1], chosen[-1].content, rejected[-1].content)


def parse_transcript(text: Any, key: str) -> tuple[Message, ...]:
    r"""Split an HH transcript into messages; it must start with a human turn and end with the assistant's.

    The marker counts only at the start of a paragraph, so that "Human:" inside a sentence stays text.
    """
    if not isinstance(text, str):
        raise InputError(f"key {key!r}: expected a transcript, found {type(text).__name__}")
    before, *parts = re.split(r"\n\n(Human|Assistant):", "\n\n" + text.lstrip("\n"))
    if before.strip():
        raise InputError(f"key {key!r}: the transcript does not start with 'Human:'")
    names = {"Human": "user", "Assistant": "assistant"}
    messages = [Message(names[n], t.strip()) for n, t in zip(parts[::2], parts[1::2], strict=True)]
    roles = [m.role for m in messages]
    if len(messages) < 2 or roles[0] != "user" or roles[-1] != "assistant":
        raise InputError(f"key {key!r}: expected turns from 'Human:' to a last 'Assistant:', found {roles}")
    return tuple(messages)


@template("TRL")
def trl(row: Row) -> Preference:
    """TRL's preference format, plain or conversational, with an explicit or an implicit prompt.

    `chosen` and `rejected` may be replies, or whole conversations whose common beginning is the prompt.
    """
    chosen, rejected = row["chosen"], row["rejected"]
    numbers = {k: row.get(k) for k in ("score_chosen", "score_rejected", "margin")}
    meta = _without_nan({k: v for k, v in numbers.items() if v is not None})
    check_scores(*(row.get(key) for key in ("score_chosen", "score_rejected")))
    if isinstance(chosen, str) != isinstance(rejected, str):
        raise InputError("key 'rejected': 'chosen' and 'rejected' must both be text or both be messages")
    if isinstance(chosen, str) or (isinstance(chosen, list | tuple) and len(chosen) == 1):
        prompt = _trl_prompt(row["prompt"])
        return Preference(prompt, as_reply(chosen, "chosen"), as_reply(rejected, "rejected"), meta=meta)
    first, second = as_prompt(chosen, "chosen"), as_prompt(rejected, "rejected")
    if first[0].role == "assistant":  # replies of several turns that go on from an explicit prompt
        prompt = _trl_prompt(row["prompt"])
        first, second = prompt + first, prompt + second
    if first[:-1] != second[:-1] or first[-1].role != "assistant" or second[-1].role != "assistant":
        raise InputError("key 'rejected': the conversations must share all turns but a last assistant turn")
    _same_prompt(row.get("prompt"), first[:-1])
    return Preference(first[:-1], first[-1].content, second[-1].content, meta=meta)


def _trl_prompt(value: Any) -> tuple[Message, ...]:
    """TRL's explicit prompt; a transcript in it is several turns, which the model must not see as one."""
    if isinstance(value, str) and re.match(r"\s*Human:(?s:.*)\n\nAssistant:", value):
        raise MoreConversation(
            "key 'prompt': a transcript of 'Human:' and 'Assistant:' turns in one text; give it as messages,"
            " or put it before both replies for template HH"
        )
    return as_prompt(value, "prompt")


def _same_prompt(prompt: Any, begun: tuple[Message, ...]) -> None:
    """Raise where an explicit prompt, if there is one, is not what whole conversations begin with.

    A text is one of the user's turns, as in UltraFeedback-binarized; messages are the first ones.
    """
    if not prompt:
        return
    said = as_prompt(prompt, "prompt")
    if isinstance(prompt, str):
        same = any(m.role == "user" and m.content.strip() == prompt.strip() for m in begun)
    else:
        same = begun[: len(said)] == said
    if not same:
        raise OtherPrompt(
            "key 'prompt': is not what 'chosen' and 'rejected' begin with; leave out the wrong one"
        )


@template("HELPSTEER")
def helpsteer(row: Row) -> Preference:
    """Two replies and a preference from -3 to 3: negative prefers reply 1, positive reply 2, 0 is a tie.

    HelpSteer2's columns are `prompt`, `response_1`, `response_2`, `preference_strength`; HelpSteer3's are
    `context`, `response1`, `response2`, `overall_preference`.
    """
    label = "overall_preference" if "overall_preference" in row else "preference_strength"
    strength = read_label(row, label)
    if strength not in range(-3, 4):
        raise UnknownLabel(f"key {label!r}: expected a whole number from -3 to 3, found {strength!r:.60}")
    if strength == 0:
        raise Tie
    key = "context" if "context" in row else "prompt"
    names = ("response1", "response2") if "response1" in row else ("response_1", "response_2")
    chosen, rejected = names if strength < 0 else names[::-1]
    return Preference(
        as_prompt(row[key], key),
        as_reply(row[chosen], chosen),
        as_reply(row[rejected], rejected),
        meta={"strength": abs(float(strength))},
    )
