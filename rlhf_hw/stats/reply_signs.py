"""What can be wrong with single replies, seen from texts alone; module `damage` counts and judges it.

Each function takes the replies of one file, with their prompts where it needs them, and says of each reply
whether it has the sign. None knows a model or a tokenizer: "another language" means hardly any of the words
that are common in the prompts and in other replies, so that no list of languages is needed; "cut" means that
a reply stops in mid-sentence where replies end by force, among the longest or at a length that many share.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from rlhf_hw.stats.text import seen_part, words

# A Chinese character, a word with its apostrophes and hyphens, or any other sign
TOKEN = re.compile(r"[\u3400-\u9fff]|[^\W_\u3400-\u9fff]+(?:['\u2019-][^\W_\u3400-\u9fff]+)*|[^\w\s]")
TEMPLATE = re.compile(
    r"<\|[^|<>\n]{1,40}\|>|</?s>|<(?:bos|eos|pad|unk|start_of_turn|end_of_turn)>|\[/?INST\]|<</?SYS>>"
    r"|BEGINNING OF CONVERSATION:|\b(?:USER|ASSISTANT):|\u0120\w|\u010a|\u2581\w"
    r"|^\W{0,4}(?:Human|User|Assistant|System|Instruction|Response)\s?:|^(?:user|assistant|system)$",
    re.MULTILINE,
)
ECHO, LATER = 8, 4  # so many words of the prompt, begun within so many words of the reply, repeat it
ENDS = frozenset(".!?\u2026\u3002\uff01\uff1f:;\"'\u201d\u2019\u300d\u300f)]}>\uff09\u3011`*|~\u2014-")
NEAR_LONGEST = 0.6  # of the longest reply's words: one limit of tokens makes unlike numbers of words
SHORT, ENOUGH = (
    12,
    100,
)  # words: shorter replies are not judged by words and length; so many are read
COMMON, FOREIGN = 150, 0.12  # so many words are common; another language has less than this share of them
TEACHERS = 500  # texts are enough to learn which words are common
PROMPTS_ALIKE = 3  # with the same reply
KANA, HAN = "Kana", "Han"
SCRIPTS = {"CJK": HAN, "HIRAGANA": KANA, "KATAKANA": KANA}


def tokens(text: str, count: int | None = None) -> list[str]:
    """The words of a text (or the first of them) in small letters, and its other signs one by one."""
    start = text if count is None else text[: 60 * count]
    return TOKEN.findall(start.lower())[:count]


def echoes(replies: Sequence[str], prompts: Sequence[str]) -> np.ndarray:
    """Whether a reply repeats its prompt at its start: the prompt's first words, or all if it has no more."""
    return np.array([_echo(*pair) for pair in zip(replies, prompts, strict=True)], dtype=bool)


def _echo(reply: str, prompt: str) -> bool:
    asked = tokens(prompt, ECHO)
    said = tokens(reply, ECHO + LATER)
    # two or three words may begin an answer to themselves ("Hello there")
    return len(asked) > 3 and any(said[at : at + len(asked)] == asked for at in range(LATER + 1))


def template_marks(replies: Sequence[str]) -> np.ndarray:
    """Whether a reply holds what only templates write: control tokens, names of roles, bare token pieces."""
    return np.array([TEMPLATE.search(reply) is not None for reply in replies], dtype=bool)


@lru_cache(maxsize=1 << 16)
def _script_of(character: str) -> str:
    name = unicodedata.name(character, "").split(" ")[0] if character.isalpha() else ""
    return SCRIPTS.get(name, name.title())


def script(text: str) -> str:
    """The script of most letters, "" without letters; Chinese characters with a tenth of kana are Kana."""
    counts: Counter[str] = Counter()
    for character, count in Counter(text).items():
        counts[_script_of(character)] += count
    del counts[""]
    east = counts[HAN] + counts.pop(KANA, 0)
    if east and 10 * (east - counts[HAN]) > east:
        counts[KANA] = east
        del counts[HAN]
    return max(counts, key=counts.__getitem__) if counts else ""


def common_words(texts: Sequence[str]) -> frozenset[str]:
    """The words that stand in most of the texts; single Latin letters, which languages share, are none.

    Where they make up little of the texts themselves (lists, code), no language shows by them: empty.
    """
    some = [list(filter(_counts, tokens(text))) for text in texts[:: max(1, len(texts) // TEACHERS)]]
    counts = Counter(word for said in some for word in set(said))
    common = frozenset(word for word, _ in counts.most_common(COMMON))
    shares = [sum(word in common for word in said) / len(said) for said in some if len(said) >= SHORT]
    return common if not shares or np.median(shares) > 2 * FOREIGN else frozenset()


def _counts(word: str) -> bool:
    return word[0].isalpha() and (len(word) > 1 or word >= "\u3400")


def foreign(replies: Sequence[str], prompts: Sequence[str], known: frozenset[str]) -> np.ndarray:
    """Whether a reply is in another script than its prompt, or has hardly any of the common words."""
    found = []
    for reply, prompt in zip(replies, prompts, strict=True):
        said = [word for word in tokens(reply, ENOUGH) if _counts(word)]
        scripts = script(prompt), script(reply)
        other = all(scripts) and scripts[0] != scripts[1] and len(said) >= 2
        few = bool(known) and len(said) >= SHORT and sum(word in known for word in said) < FOREIGN * len(said)
        found.append(other or few)
    return np.array(found, dtype=bool)


def cut_off(replies: Sequence[str], finished: Sequence[bool] | None = None) -> dict[str, np.ndarray]:
    """Whether a reply was cut at a length: as generation says it, else as its end and its length do.

    Returns:
        Where it shows -> whether each reply has it. Known ends are all there is to see; without them
        mid-sentence ends are looked for among the longest replies (a limit of tokens), and at the one number
        of words or of characters that most of them share.
    """
    if finished is not None:
        return {"at the limit": ~np.asarray(finished, dtype=bool)}
    length = np.array([len(words(reply)) for reply in replies])
    last = [seen_part(reply)[-1:] for reply in replies]
    stopped = np.array([bool(end) and end not in ENDS for end in last], dtype=bool)
    stopped &= length >= SHORT
    found = {"among the longest": stopped & (length >= NEAR_LONGEST * length.max(initial=0))}
    for name, measure in (("words", length), ("characters", [len(reply.strip()) for reply in replies])):
        values, counts = np.unique(np.asarray(measure)[stopped], return_counts=True)
        at = values[counts.argmax()] if values.size else -1
        found[f"at one number of {name}"] = stopped & (np.asarray(measure) == at)
    return found


def plain_text(reply: str) -> str:
    """A reply up to letter case and white space."""
    return " ".join(reply.lower().split())


def same_reply(replies: Sequence[str], prompts: Sequence[str]) -> np.ndarray:
    """Whether several other prompts got the same reply (`plain_text`); an empty one is none."""
    plain = [plain_text(reply) for reply in replies]
    asked: dict[str, set] = {}
    for reply, prompt in zip(plain, prompts, strict=True):
        asked.setdefault(reply, set()).add(prompt)
    alike = [bool(seen_part(reply)) and len(asked[reply]) >= PROMPTS_ALIKE for reply in plain]
    return np.array(alike, dtype=bool)
