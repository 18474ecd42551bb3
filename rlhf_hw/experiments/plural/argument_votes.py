"""Real people's votes on which of two arguments convinces more: how they disagree, and what foretells it.

The corpus is UKPConvArg1 (Habernal and Gurevych 2016): pairs of arguments for one side of a debate, about
five votes each (first, second, or equally convincing), with a code for each annotator and, for about half of
the votes, the annotator's own stance. It is read from `convarg1/votes.jsonl.gz` in the folder that
RLHF_HW_REAL_DATA names; no text and no row of it leaves this module, only rates.

Every model is judged on debates it has not seen: both sides of a debate are held out together, which is
stricter than holding out one side, and intervals are over debates.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from rlhf_hw.errors import InputError
from rlhf_hw.paths import real_data, resolve
from rlhf_hw.preferences.rows import RowFile
from rlhf_hw.stats.choice_models import FIRST, SECOND, TIED
from rlhf_hw.stats.text import sentences, words

PLACE = Path("convarg1") / "votes.jsonl.gz"
SAID_OF = {1: FIRST, 2: SECOND, 0: TIED}
STANCES = {
    "same": 1,
    "opposite": -1,
}  # of the annotator, beside that of the arguments; 0: neither, or unknown
TOPICS = 40  # directions of the words that are kept
REASONS = re.compile(r"\b(because|therefore|thus|hence|since|so that|however|although|example|if)\b", re.I)
LINK = re.compile(r"https?://|www\.", re.I)


def find_votes(path: str = "") -> Path | None:
    """Where the votes are: `path`, else their place in the folder that RLHF_HW_REAL_DATA names.

    Returns:
        None where neither names a file that exists.

    Raises:
        FileNotFoundError: `path` is given and does not exist.
    """
    if path:
        found = resolve(path)
        if not found.exists():
            raise FileNotFoundError(
                f"votes: {found} is missing; it should be UKPConvArg1's votes as JSON lines"
            )
        return found
    folder = real_data()
    return folder / PLACE if folder is not None and (folder / PLACE).exists() else None


@dataclass(frozen=True)
class ArgumentVotes:
    """Pairs of arguments with their votes.

    Attributes:
        texts: Every argument once.
        first, second: Which of them a pair holds, shape (pairs,).
        debates: The debate of each pair, numbered from 0, shape (pairs,).
        gold: `FIRST`, `SECOND` or `TIED` as the corpus has settled it, -1 where it has not, shape (pairs,).
        rows, users, said, stances: Pair, annotator, vote and stance of each vote, shape (votes,).
    """

    texts: Sequence[str]
    first: np.ndarray
    second: np.ndarray
    debates: np.ndarray
    gold: np.ndarray
    rows: np.ndarray
    users: np.ndarray
    said: np.ndarray
    stances: np.ndarray

    @cached_property
    def counts(self) -> np.ndarray:
        """Votes for the first, for the second, for neither, shape (pairs, 3)."""
        found = np.zeros((len(self.gold), 3), dtype=int)
        np.add.at(found, (self.rows, self.said), 1)
        return found

    @property
    def share(self) -> np.ndarray:
        """Share of the first among votes that are no ties, shape (pairs,); 1/2 where all are."""
        wins = self.counts[:, [FIRST, SECOND]]
        return np.where(wins.sum(axis=1) > 0, wins[:, 0] / np.maximum(wins.sum(axis=1), 1), 0.5)

    @property
    def disagreement(self) -> np.ndarray:
        """Probability that two of a pair's voters who see a difference see opposite ones, shape (pairs,).

        2 n_1 n_2 / (n (n - 1)), which is unbiased; NaN where fewer than two see one.
        """
        one, two = self.counts[:, FIRST], self.counts[:, SECOND]
        both = one + two
        return np.where(both > 1, 2 * one * two / np.maximum(both * (both - 1), 1), np.nan)


def read_votes(path: Path, limit: int | None = None) -> ArgumentVotes:
    """Read the corpus.

    Args:
        path: JSON lines with `topic`, `response_1`, `response_2`, `gold`, `votes`.
        limit: So many pairs of each topic at most.

    Raises:
        InputError: a row lacks something, or holds an unknown vote; names the row.
    """
    numbers: dict[str, dict] = {"texts": {}, "debates": {}, "users": {}}
    taken: dict[str, int] = {}
    pairs, votes = [], []

    def number(kind: str, name) -> int:
        return numbers[kind].setdefault(name, len(numbers[kind]))

    for place, row in RowFile(path):
        try:
            taken[row["topic"]] = taken.get(row["topic"], 0) + 1
            if limit and taken[row["topic"]] > limit:
                continue
            debate = row["topic"].partition("_")[0]
            replies = [number("texts", row[f"response_{side}"]) for side in (1, 2)]
            gold = SAID_OF[row["gold"]] if row["gold"] is not None else -1
            for vote in row["votes"]:
                who = number("users", vote["annotator"])
                stance = STANCES.get(vote["stance"], 0)
                votes.append((len(pairs), who, SAID_OF[vote["choice"]], stance))
            pairs.append((*replies, number("debates", debate), gold))
        except (KeyError, TypeError, AttributeError) as fault:
            raise InputError(f"{place}: not a row of votes on two arguments: {fault!r}") from fault
    if not pairs:
        raise InputError(f"{path}: no rows")
    return ArgumentVotes(list(numbers["texts"]), *np.array(pairs).T, *np.array(votes).T)


def surface_features(text: str) -> list[float]:
    """What can be counted in a text: length, its sentences and words, marks, capitals, reasons, links."""
    said, letters = words(text), max(len(text), 1)
    count = max(len(said), 1)
    return [
        np.log1p(len(said)),
        np.sqrt(len(said)),
        np.log1p(len(sentences(text))),
        np.mean([len(word) for word in said]) if said else 0.0,
        len({word.lower() for word in said}) / count,
        np.log1p(text.count(",")),
        float(text.count("!") > 0),
        np.log1p(text.count("?")),
        sum(c.isupper() for c in text) / letters,
        np.log1p(sum(c.isdigit() for c in text)),
        np.log1p(len(REASONS.findall(text))),
        float(bool(LINK.search(text))),
        float(text[:1].islower()),
        float(text.rstrip()[-1:] in ".!?"),
        sum(len(word) > 6 for word in said) / count,
    ]


def argument_features(texts: Sequence[str], learned_from: np.ndarray, seed: int = 0) -> np.ndarray:
    """Surface and the leading directions of the words, with mean 0 and deviation 1 over what is learned from.

    Args:
        texts: Arguments.
        learned_from: Which of them may be looked at for vocabulary, directions and scale, as numbers.
        seed: Of the decomposition.

    Returns:
        Shape (texts, D).
    """
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=3, sublinear_tf=True, max_features=8000)
    vectorizer.fit([texts[i] for i in learned_from])
    bags = vectorizer.transform(texts)
    size = min(TOPICS, bags.shape[1] - 1, learned_from.size - 1)
    directions = TruncatedSVD(size, random_state=seed).fit(bags[learned_from])
    table = np.hstack([np.array([surface_features(text) for text in texts]), directions.transform(bags)])
    known = table[learned_from]
    deviation = known.std(axis=0)
    return (table - known.mean(axis=0)) / np.where(deviation > 0, deviation, np.inf)


def folds(votes: ArgumentVotes, count: int, seed: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs to learn from and pairs held out, `count` times; no debate is on both sides.

    Raises:
        InputError: fewer debates than folds, or fewer than two folds.
    """
    debates = np.unique(votes.debates)
    if not 2 <= count <= len(debates):
        raise InputError(f"folds must be from 2 to {len(debates)}, the number of debates, not {count}")
    mixed = np.random.default_rng(seed).permutation(debates)
    for part in np.array_split(mixed, count):
        held_out = np.isin(votes.debates, part)
        yield np.flatnonzero(~held_out), np.flatnonzero(held_out)
