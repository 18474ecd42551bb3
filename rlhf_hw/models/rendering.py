"""One renderer turns conversations into token ids, for training, scoring and generation alike.

A scored text is `prompt ids + reply ids`: the chat template up to where the assistant's message begins, then
the reply's own tokens and the end-of-turn token, where the reward model reads its score. Prompt and reply are
tokenized apart, so no token merges across their border. A prompt's ids are those of the tokenizer's own
`apply_chat_template`, but a message that spells out `<|im_end|>` stays ordinary text.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from rlhf_hw.errors import InputError
from rlhf_hw.files import read_json, usable_path, write_json
from rlhf_hw.models.chat_template import MEND, ChatTemplate
from rlhf_hw.models.fitting import fit_prompt
from rlhf_hw.models.foreign import is_align_anything, pooling_padding
from rlhf_hw.models.hub import read_pretrained
from rlhf_hw.models.tokenizing import BREAK, Tokenizing
from rlhf_hw.preferences.templates import Message

FILE = "rendering.json"
PLACES = END_OF_TURN, TEMPLATE_END = "end_of_turn", "template_end"
RESTORE = "restore it, or delete it for another system's model"
PROBE = "tea"  # stands for any text when tokenizer and template are looked at


def load_tokenizer(path: str | Path) -> PreTrainedTokenizerBase:
    """Load a tokenizer and check that it has a chat template."""
    tokenizer = read_pretrained(AutoTokenizer, path)
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise InputError(
            f"{path}: tokenizer_config.json names {type(tokenizer).__name__}, which is no tokenizer"
        )
    if not isinstance(tokenizer.model_max_length, int | float):
        raise InputError(f"{path}: model_max_length in tokenizer_config.json: expected a number; restore it")
    if not tokenizer.chat_template:
        raise InputError(f"{path}: the tokenizer has no chat template; use an instruct model or add one")
    return tokenizer


class Renderer:
    """Turns prompts and replies into token ids.

    Args:
        tokenizer: Tokenizer with a chat template. Where its padding token is missing or closes a reply, it
            gets another of its control tokens; where its template asks for the date, a fixed one.
        reads_at: Where a reward model reads its score: "end_of_turn" (our default) or "template_end", the
            last token the chat template writes after a reply (align-anything trains its models on that one).
        max_prompt_tokens: A longer prompt loses its oldest turns, then words of the oldest that is left.
        max_reply_tokens: A longer reply loses tokens before its end-of-turn token, never that token.

    Raises:
        ValueError: The template cannot be rendered or closes no reply, or the tokenizer has no token to pad
            with.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        reads_at: str = END_OF_TURN,
        max_prompt_tokens: int = 1024,
        max_reply_tokens: int = 1024,
    ):
        if reads_at not in PLACES:
            raise InputError(f"reads_at: expected {END_OF_TURN!r} or {TEMPLATE_END!r}, found {reads_at!r}")
        if min(max_prompt_tokens, max_reply_tokens) < 2:
            raise InputError("max_prompt_tokens and max_reply_tokens must be at least 2")
        self.tokenizer = tokenizer
        self.reads_at = reads_at
        self.max_prompt_tokens = max_prompt_tokens
        self.max_reply_tokens = max_reply_tokens
        self._template = ChatTemplate(tokenizer)
        self._tokens = Tokenizing(tokenizer, self._template.turns)
        self._before_reply, after_reply = self._reply_borders()
        end = next((n for n, token in enumerate(after_reply) if token in self._tokens.control), None)
        if end is None:
            raise InputError(
                f"{self._template.name}: the chat template writes no control token after a reply, so where a "
                f"reply ends cannot be seen; {MEND}"
            )
        self.end_id = after_reply[end]
        self.suffix = after_reply if reads_at == TEMPLATE_END else after_reply[: end + 1]
        self._hold_to_template()
        self._choose_padding(after_reply)

    @property
    def pad_id(self) -> int:
        return self.tokenizer.pad_token_id

    @property
    def pads_apart(self) -> bool:
        """Whether others, who look for the last token that is not padding, find where the score is read."""
        return self.pad_id not in (self.end_id, self.suffix[-1])

    def text_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokenize texts as parts of a reply; control tokens in them become ordinary tokens."""
        return self._tokens.following(texts, self._before_reply)

    def prompt_ids(self, prompts: Sequence[Sequence[Message]]) -> list[list[int]]:
        """Render conversations up to the reply that follows; one that is too long loses its oldest part."""
        return self.fitted(prompts)[0]

    def fitted(self, prompts: Sequence[Sequence[Message]]) -> tuple[list[list[int]], list[bool]]:
        """The ids of `prompt_ids`, and of each prompt whether something of it was left out."""
        rendered = self._tokens.whole([self._template.prompt(prompt) for prompt in prompts])
        if self._tokens.named(m.content for prompt in prompts for m in prompt):
            for number, prompt in enumerate(prompts):
                if self._tokens.named(m.content for m in prompt):
                    rendered[number] = self._one(prompt)
        long = [len(ids) > self.max_prompt_tokens for ids in rendered]
        for number in np.flatnonzero(long):
            rendered[number] = fit_prompt(prompts[number], self.max_prompt_tokens, self._one)
        return rendered, long

    def _one(self, prompt: Sequence[Message]) -> list[int]:
        if self._tokens.named(m.content for m in prompt):
            marked = [Message(m.role, self._tokens.mark(m.content)) for m in prompt]
            return self._tokens.cut(self._template.prompt(marked))
        return self._tokens.whole([self._template.prompt(prompt)])[0]

    def reply_ids(self, replies: Sequence[str]) -> list[list[int]]:
        """Tokenize replies; close each with the end-of-turn token (and what follows it, if scored there)."""
        room = self.max_reply_tokens - len(self.suffix)
        return [ids[:room] + self.suffix for ids in self.content_ids(replies)]

    def content_ids(self, replies: Sequence[str]) -> list[list[int]]:
        """Tokenize replies as the template writes them, whole and without what closes them."""
        frame = self._template.frame
        return self.text_ids([frame.lead + frame.trim(reply) for reply in replies])

    def decode(self, ids: Sequence[int]) -> str:
        """Text of a reply's ids, without control tokens and the white space before a reply."""
        return self.tokenizer.decode(ids, skip_special_tokens=True).removeprefix(self._template.frame.lead)

    def _reply_borders(self) -> tuple[str, list[int]]:
        """What replies are tokenized after (see `Tokenizing.following`), and the ids that the template adds.

        Taken is the first way that gives what the tokenizer makes of a whole conversation. None does where a
        prompt ends within a word; then the reply follows the prompt as if it began a line.
        """
        frame, tokens = self._template.frame, self._tokens
        prompt = self._template.prompt([Message("user", PROBE)])
        open_end, closed = tokens.whole(
            [prompt + frame.lead + PROBE, prompt + frame.lead + PROBE + frame.after]
        )
        (after,) = tokens.whole([frame.after]) if frame.after else [[]]
        if closed[: len(open_end)] == open_end:  # a space before an end token is no word of its own
            after = closed[len(open_end) :]
        (before,) = tokens.whole([prompt])
        text = frame.anchor[max((m.end() for m in tokens.find(frame.anchor)), default=0) :]
        for anchor in ("", BREAK, text):
            if before + tokens.following([frame.lead + PROBE], anchor)[0] + after == closed:
                return anchor, after
        (line,), (word,) = tokens.plain([BREAK]), tokens.plain([PROBE])
        return "" if tokens.plain([BREAK + PROBE])[0] == line + word else BREAK, after

    def _hold_to_template(self) -> None:
        """Refuse a prompt whose ids are not those of the tokenizer's own `apply_chat_template`."""
        for roles in (("user",), ("user", "assistant", "user"), ("system", "user")):
            messages = [Message(role, PROBE) for role in roles]
            try:
                (ours,) = self._tokens.whole([self._template.prompt(messages)])
            except InputError:
                if roles == ("user",):
                    raise
                continue  # not every template takes a system message, or earlier turns
            asked = [m._asdict() for m in messages]
            if self._template.frame.extra:
                asked.append({"role": "assistant", "content": PROBE})
            theirs = self.tokenizer.apply_chat_template(
                asked, add_generation_prompt=not self._template.frame.extra, return_dict=False
            )
            if ours != (theirs[: len(ours)] if self._template.frame.extra else theirs):
                raise InputError(
                    f"{self._template.name}: the ids of a conversation of {roles} are not those of its own "
                    "apply_chat_template; this tokenizer is not supported"
                )

    def _choose_padding(self, after_reply: list[int]) -> None:
        """Pad with another control token where the tokenizer's pads nothing or closes a reply.

        Everyone else reads a score at the last token that is not padding: that must not be the end token.
        """
        if self.pad_id is not None and self.pads_apart:
            return
        pieces = self._template.pieces(("user", "assistant", "user"), True)
        written = {i for piece in self._tokens.whole(pieces) for i in piece} | set(after_reply)
        written |= {self.tokenizer.bos_token_id, self.tokenizer.eos_token_id}
        names = {i: token.content for i, token in self._tokens.control.items() if i not in written}
        unknown = self.tokenizer.unk_token
        order = sorted(names, key=lambda i: ("pad" not in names[i], names[i] != unknown, i))
        if order:
            self.tokenizer.pad_token = names[order[0]]
        elif self.pad_id is None:
            raise InputError(
                f"{self._template.name}: the tokenizer has no padding token, and no other that could serve; "
                "set pad_token in tokenizer_config.json"
            )

    def _skeleton(self, roles: tuple[str, ...]) -> list[list[int]]:
        """Token ids of the template's own text before, between and after the messages, each apart."""
        pieces = self._template.pieces(roles, True)
        return [self._tokens.whole([piece])[0] if piece else [] for piece in pieces]

    def fingerprint(self) -> str:
        """Hash of everything that decides which ids a text gets; stored with each checkpoint."""
        parts = [
            self.tokenizer.get_chat_template(),
            hashlib.sha256(json.dumps(self.tokenizer.get_vocab(), sort_keys=True).encode()).hexdigest(),
            json.dumps(self._skeleton(("user", "assistant", "user"))),
            self.reads_at,
        ]
        # what the parts above do not tell; nothing for a template that only strings texts together
        frame = self._template.frame
        (prompt,) = self._tokens.whole([self._template.prompt([Message("user", PROBE)])])
        (reply,) = self.text_ids([frame.lead + PROBE])
        (content,), (before, after) = self._tokens.plain([PROBE]), self._skeleton(("user",))
        if (prompt, reply) != (before + content + after, content) or frame.left or frame.right:
            parts.append(json.dumps([prompt, reply, frame.left, frame.right]))
        return hashlib.sha256("\x00".join(parts).encode()).hexdigest()[:16]

    def save(self, folder: str | Path) -> None:
        """Write tokenizer and rendering beside a checkpoint."""
        folder = Path(folder)
        self.tokenizer.save_pretrained(folder)
        record = {"reads_at": self.reads_at, "fingerprint": self.fingerprint()}
        write_json(folder / FILE, record)

    @classmethod
    def load(cls, folder: str | Path, reads_at: str | None = None, **limits: int) -> "Renderer":
        """Load a checkpoint's renderer; refuses one whose rendering is not the one it was trained with.

        Args:
            folder: Checkpoint folder or hub id.
            reads_at: Where another system's reward model reads its score; None: what `foreign` finds.
            limits: `max_prompt_tokens`, `max_reply_tokens`.
        """
        usable_path(folder, "model")
        record = saved_rendering(folder)
        if reads_at and record and reads_at != record["reads_at"]:
            raise InputError(
                f"{folder}: reads_at is {record['reads_at']!r} by its {FILE}, not {reads_at!r}; leave it out"
            )
        found = reads_at or record.get("reads_at")
        if found is None:
            found = TEMPLATE_END if is_align_anything(folder) else END_OF_TURN
        renderer = cls(load_tokenizer(folder), reads_at=found, **limits)
        if not record and reads_at is None and pooling_padding(folder) == renderer.suffix[-1]:
            end = renderer.tokenizer.convert_ids_to_tokens(renderer.end_id)
            raise InputError(
                f"{folder}: this reward model's config.json pads with the token that ends a reply, {end}, so "
                "transformers and TRL have read its scores at whatever token came before, which is not done "
                f"here. If it was trained at {end} all the same, give --reads-at {END_OF_TURN} (reads_at), "
                f"or {TEMPLATE_END} if at the chat template's last token"
            )
        if record and renderer.fingerprint() != record["fingerprint"]:
            raise InputError(
                f"{folder}: the tokenizer or chat template is not the one this checkpoint was trained with "
                f"(rendering {renderer.fingerprint()}, recorded {record['fingerprint']}); restore its "
                f"tokenizer files, or delete {FILE} there if the change is wanted; where an older version of "
                "rlhf_hw trained it, which tokenized such templates in pieces, train it again"
            )
        return renderer


def saved_rendering(folder: str | Path) -> dict:
    """The rendering recorded beside a checkpoint, or an empty dict for checkpoints of other systems."""
    path = Path(folder) / FILE
    record = read_json(path, remedy=RESTORE) if path.exists() else {}
    if record and not (record.get("reads_at") in PLACES and isinstance(record.get("fingerprint"), str)):
        raise InputError(
            f"{path}: expected `reads_at`, one of {', '.join(PLACES)}, and `fingerprint`; {RESTORE}"
        )
    return record
