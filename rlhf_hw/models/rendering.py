"""One renderer turns conversations into token ids, for training, scoring and generation alike.

A scored text is `prompt ids + reply ids`: the chat template up to the assistant's header, then the reply's
own tokens and the end-of-turn token, where the reward model reads its score. Prompt and reply are tokenized
apart, so no token merges across their border. The template's own text is tokenized with control tokens, the
text of users and models without: a message that spells out `<|im_end|>` stays ordinary text.
"""

import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from rlhf_hw.errors import InputError
from rlhf_hw.files import write_json
from rlhf_hw.models.foreign import is_align_anything
from rlhf_hw.models.hub import read_pretrained
from rlhf_hw.preferences.templates import Message

FILE = "rendering.json"
END_OF_TURN, TEMPLATE_END = "end_of_turn", "template_end"


def load_tokenizer(path: str | Path) -> PreTrainedTokenizerBase:
    """Load a tokenizer and check that it has a chat template and a padding token."""
    tokenizer = read_pretrained(AutoTokenizer, path)
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise InputError(
            f"{path}: tokenizer_config.json names {type(tokenizer).__name__}, which is no tokenizer"
        )
    if not tokenizer.chat_template:
        raise InputError(f"{path}: the tokenizer has no chat template; use an instruct model or add one")
    if tokenizer.pad_token_id is None:
        raise InputError(
            f"{path}: the tokenizer has no padding token; set pad_token in tokenizer_config.json"
        )
    return tokenizer


class Renderer:
    """Turns prompts and replies into token ids.

    Args:
        tokenizer: Tokenizer with a chat template.
        reads_at: Where a reward model reads its score: "end_of_turn" (our default) or "template_end", the
            last token the chat template writes after a reply (align-anything trains its models on that one).
        max_prompt_tokens: A longer prompt loses tokens at its start.
        max_reply_tokens: A longer reply loses tokens before its end-of-turn token, never that token.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        reads_at: str = END_OF_TURN,
        max_prompt_tokens: int = 1024,
        max_reply_tokens: int = 1024,
    ):
        if reads_at not in (END_OF_TURN, TEMPLATE_END):
            raise InputError(f"reads_at: expected {END_OF_TURN!r} or {TEMPLATE_END!r}, found {reads_at!r}")
        if min(max_prompt_tokens, max_reply_tokens) < 2:
            raise InputError("max_prompt_tokens and max_reply_tokens must be at least 2")
        self.tokenizer = tokenizer
        self.reads_at = reads_at
        self.max_prompt_tokens = max_prompt_tokens
        self.max_reply_tokens = max_reply_tokens
        after_reply = self._skeleton(("user", "assistant"), False)[-1]
        control = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
        end = next((n for n, token in enumerate(after_reply) if token in control), None)
        if end is None:
            raise InputError("the chat template writes no control token after a reply: no end of turn to see")
        self.end_id = after_reply[end]
        self.suffix = after_reply if reads_at == TEMPLATE_END else after_reply[: end + 1]
        self._skeleton = lru_cache(maxsize=256)(self._skeleton)

    @property
    def pad_id(self) -> int:
        return self.tokenizer.pad_token_id

    def text_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokenize plain texts; control tokens spelled out in them become ordinary tokens."""
        if not texts:
            return []
        return self.tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True)["input_ids"]

    def prompt_ids(self, prompts: Sequence[Sequence[Message]]) -> list[list[int]]:
        """Render conversations up to the assistant's header; the oldest tokens go when one is too long."""
        contents = iter(self.text_ids([m.content for prompt in prompts for m in prompt]))
        rendered = []
        for prompt in prompts:
            first, *rest = self._skeleton(tuple(m.role for m in prompt), True)
            ids = list(first)
            for piece in rest:
                ids += next(contents)
                ids += piece
            rendered.append(ids[-self.max_prompt_tokens :])
        return rendered

    def reply_ids(self, replies: Sequence[str]) -> list[list[int]]:
        """Tokenize replies; close each with the end-of-turn token (and what follows it, if scored there)."""
        room = self.max_reply_tokens - len(self.suffix)
        return [ids[:room] + self.suffix for ids in self.text_ids(replies)]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of a reply's ids, without control tokens."""
        return self.tokenizer.decode(ids, skip_special_tokens=True)

    def _skeleton(self, roles: tuple[str, ...], generation_prompt: bool) -> list[list[int]]:
        """Token ids of the template's own text before, between and after the messages' contents.

        Private-use characters stand in for the contents while the template is rendered: what a message says
        can then neither change the template's text nor be read as part of it.
        """
        marks = [f"\ue000{number}\ue001" for number in range(len(roles))]
        messages = [{"role": role, "content": mark} for role, mark in zip(roles, marks, strict=True)]
        text = self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=generation_prompt
        )
        pieces = []
        for mark in marks:
            piece, found, text = text.partition(mark)
            if not found:
                raise InputError(f"the chat template leaves out or moves a message of the roles {roles}")
            pieces.append(piece)
        pieces.append(text)
        return [
            self.tokenizer(piece, add_special_tokens=False)["input_ids"] if piece else [] for piece in pieces
        ]

    def fingerprint(self) -> str:
        """Hash of everything that decides which ids a text gets; stored with each checkpoint."""
        parts = [
            self.tokenizer.chat_template,
            hashlib.sha256(json.dumps(self.tokenizer.get_vocab(), sort_keys=True).encode()).hexdigest(),
            json.dumps(self._skeleton(("user", "assistant", "user"), True)),
            self.reads_at,
        ]
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
        record = saved_rendering(folder)
        if reads_at and record and reads_at != record["reads_at"]:
            raise InputError(f"{folder}: reads_at is {record['reads_at']!r} by its {FILE}, not {reads_at!r}")
        found = reads_at or record.get("reads_at")
        if found is None:
            found = TEMPLATE_END if is_align_anything(folder) else END_OF_TURN
        renderer = cls(load_tokenizer(folder), reads_at=found, **limits)
        if record and renderer.fingerprint() != record["fingerprint"]:
            raise InputError(
                f"{folder}: the tokenizer or chat template is not the one this checkpoint was trained with "
                f"(rendering {renderer.fingerprint()}, recorded {record['fingerprint']}); restore its "
                f"tokenizer files, or delete {FILE} there if the change is wanted"
            )
        return renderer


def saved_rendering(folder: str | Path) -> dict:
    """The rendering recorded beside a checkpoint, or an empty dict for checkpoints of other systems."""
    path = Path(folder) / FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
