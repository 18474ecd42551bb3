"""From text to token ids: whole texts with their control tokens, and texts that must not be read as any.

A rendered prompt is tokenized as a whole, as everyone else does it: tokenizers that write a mark before each
word (SentencePiece: Llama 2, Mistral) would begin every piece anew with one. Only a prompt in which someone
spells out a control token is cut, at the template's own control tokens, where tokenizers cut by themselves.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

from transformers import PreTrainedTokenizerBase

# Around control tokens that stand in someone's text; private-use characters, which no template trims.
OPEN, CLOSE = "\ue002", "\ue003"
BREAK = "\n"  # nothing merges across it, and no mark of a word's beginning is written after it


class Tokenizing:
    """Tokenizes texts and rendered conversations.

    Args:
        tokenizer: Of `transformers`.
        written: Text of a chat template. Tokens in it are control tokens also where the tokenizer does not
            count them as special ones, such as DeepSeek's `<｜User｜>`.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, written: str = ""):
        self.tokenizer = tokenizer
        added = tokenizer.added_tokens_decoder
        self.control = {i: token for i, token in added.items() if token.special}
        loose = {
            i: token
            for i, token in added.items()
            if not token.special and token.content in written and token.content.strip(" \n\t▁")
        }
        self._tokens = self.control | loose
        self._ids = {token.content: i for i, token in self._tokens.items()}
        self._loose = [token.content for token in loose.values()]
        self._any = re.compile(names := _either(self._ids))
        self._cut = re.compile(f"{OPEN}({names}){CLOSE}|({names})")
        self._after_control = ""
        if self.control:
            i, token = next(iter(self.control.items()))
            begun, alone = self.whole([token.content + "tea"])[0], self.plain(["tea"])[0]
            self._after_control = "" if begun == [i, *alone] else BREAK

    def whole(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokenize texts in which control tokens are meant."""
        return self._encode(texts)

    def plain(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokenize texts; control tokens spelled out in them become ordinary tokens."""
        rows = self._encode(texts, split_special_tokens=True)
        if self._loose:
            for number, text in enumerate(texts):
                if any(name in text for name in self._loose):
                    rows[number] = self._broken(text)
        return rows

    def following(self, texts: Sequence[str], anchor: str) -> list[list[int]]:
        """Tokenize texts that follow another one, without control tokens.

        Args:
            texts: What follows.
            anchor: The end of what stands before; empty where a text's beginning makes no difference.
        """
        if not anchor:
            return self.plain(texts)
        (before,) = self.plain([anchor])
        rows = self.plain([anchor + text for text in texts])
        for number, ids in enumerate(rows):
            if ids[: len(before)] == before:
                rows[number] = ids[len(before) :]
            else:  # they would share a token
                rows[number] = self.following([texts[number]], BREAK if anchor != BREAK else "")[0]
        return rows

    def _broken(self, text: str) -> list[int]:
        """Tokenize a text with control tokens that the tokenizer takes everywhere: each is cut in two."""
        cuts = [match.start() + 1 for match in re.finditer(_either(self._loose), text)]
        parts = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        first, *rest = [*self.plain(parts[:1]), *self.following(parts[1:], BREAK)]
        return sum(rest, first)

    def named(self, texts: Iterable[str]) -> bool:
        """Whether any of the texts spells out a control token."""
        joined = "\0".join(texts)
        return any(name in joined for name in self._ids)

    def find(self, text: str) -> Iterator[re.Match]:
        """The control tokens in a text."""
        return self._any.finditer(text)

    def mark(self, text: str) -> str:
        """Mark the control tokens that a text spells out, for `cut`."""
        return self._any.sub(rf"{OPEN}\g<0>{CLOSE}", text)

    def cut(self, text: str) -> list[int]:
        """Tokenize a rendered conversation; control tokens that were marked in its contents stay text."""
        sections, tokens, start = [""], [], 0
        for match in self._cut.finditer(text):
            sections[-1] += text[start : match.start()] + (match[1] or "")
            start = match.end()
            if match[2]:
                tokens.append(self._ids[match[2]])
                sections.append("")
        sections[-1] += text[start:]
        for number, token in enumerate(self._tokens[i] for i in tokens):
            if token.lstrip:
                sections[number] = sections[number].rstrip()
            if token.rstrip:
                sections[number + 1] = sections[number + 1].lstrip()
        ids = self.plain([sections[0]])[0] if sections[0] else []
        for token, section in zip(tokens, sections[1:], strict=True):
            ids += [token, *(self.following([section], self._after_control)[0] if section else [])]
        return ids

    def _encode(self, texts: Sequence[str], **options: bool) -> list[list[int]]:
        if not texts:
            return []
        options |= {"add_special_tokens": False, "return_attention_mask": False}
        return self.tokenizer(list(texts), return_token_type_ids=False, **options)["input_ids"]


def _either(names: Iterable[str]) -> str:
    """A pattern that matches any of these texts, the longest first."""
    return "|".join(map(re.escape, sorted(names, key=len, reverse=True))) or "(?!)"
