"""Damage in a file of generated replies that no score shows: what is found, how often, and where.

A damaged generation (the wrong padding side, another template, a limit too short) still gets scores, and a
win against it says nothing. `find_damage` looks for eight signs in one file, beside those of other files: the
other model's replies first, then perhaps reference replies to the same prompts.

    opening     the same first words (or first letters of the first word), far more often than in the others
    language    another script than the prompt's, or hardly any of the words that are common here
    prompt      the prompt, repeated at the start
    template    control tokens, names of roles, token pieces
    cut         stops in mid-sentence, among the longest or at a length that many share
    empty       nothing that is seen
    same        the same reply to three or more prompts
    loop        most 3-grams or sentences are repetitions (`text.reply_table`)

A sign is *named* if its share matters (`LEAST`), is at least `MORE` times that of the other file, and lies
above it at a level corrected for how many signs were looked for (Bonferroni; many openings are tested). An
opening has to pass against every other file and to be `FAR` times as frequent; the other signs against one of
them, as both models may be damaged. Without another file a sign is held against `USUAL`, and openings are
not judged. What two healthy models do differently shows too: an opening that the others know as well is a
*habit*, named but no damage; one that they hardly know (`STRANGE` times as frequent) is damage. Intervals are
over prompts.

    found = find_damage(Replies(texts, prompts), Replies(theirs, prompts))
    [(finding.kind, finding.what, finding.count) for finding in found if finding.named]
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from rlhf_hw.errors import InputError
from rlhf_hw.stats.intervals import (
    Estimate,
    cluster_codes,
    cluster_error,
    design_effect,
    rate_interval,
    rate_lead,
)
from rlhf_hw.stats.openings import begin_so, first_words, frequent_openings, opening_text
from rlhf_hw.stats.reply_signs import (
    common_words,
    cut_off,
    echoes,
    foreign,
    plain_text,
    same_reply,
    script,
    template_marks,
)
from rlhf_hw.stats.text import reply_table, seen_part

LEAST = {"opening": 0.05}  # share of the replies that matters
LEAST |= dict.fromkeys(("language", "prompt", "template", "cut", "empty", "same", "loop"), 0.02)
# shares that healthy files have, for a file that stands alone: refusals repeat, and limits cut
USUAL = dict.fromkeys(("language", "prompt", "template", "empty"), 0.01)
USUAL |= {"cut": 0.1, "same": 0.05, "loop": 0.05}
MORE, FAR, STRANGE = 2, 4, 20  # times the other file's share: any sign; an opening; one that is no habit
ERROR = 0.005  # chance that anything is named by chance, of all openings, and of all other signs
SIGNS = 10  # tests of a file: seven kinds, of which cuts show in three ways and equal replies in two
EXAMPLES = 3


@dataclass(frozen=True)
class Replies:
    """The replies of one file: texts, the prompt of each (any hashable; texts for the signs that read them).

    `finished` says whether each ended by itself; None where that is not known.
    """

    texts: Sequence[str]
    prompts: Sequence[str] | None = None
    finished: Sequence[bool] | None = None

    def __post_init__(self) -> None:
        for name in ("prompts", "finished"):
            given = getattr(self, name)
            if given is not None and len(given) != len(self.texts):
                raise InputError(f"{len(given)} {name} for {len(self.texts)} replies: one for each is needed")

    @property
    def clusters(self) -> list:
        """The prompt of each reply, numbered; each its own where prompts are unknown."""
        return list(self.prompts) if self.prompts is not None else list(range(len(self.texts)))


@dataclass(frozen=True)
class Finding:
    """One sign in one file.

    Attributes:
        kind: One of the module's list.
        what: The opening; where replies are cut; the script of most replies in another language.
        rows: Whether each reply has it, shape (replies,).
        share: Of the replies, with its interval.
        other: The same in the file beside it (the model where it is named against, else the first), or None.
        lead: By how much `share` is above `other`, or None.
        named: Whether it is beyond chance, and matters.
        damage: Named, and no habit that others share.
        forms: Of an opening by first letters: its most frequent first words, with their counts.
    """

    kind: str
    what: str
    rows: np.ndarray
    share: Estimate
    other: Estimate | None
    lead: Estimate | None
    named: bool
    damage: bool
    forms: tuple[tuple[str, int], ...] = ()

    @property
    def count(self) -> int:
        """How many replies have it."""
        return int(self.rows.sum())

    @property
    def examples(self) -> list[int]:
        """Numbers of the first replies that have it, from 1 as in messages about files."""
        return [int(row) + 1 for row in np.flatnonzero(self.rows)[:EXAMPLES]]


def find_damage(mine: Replies, *others: Replies) -> list[Finding]:
    """All signs of a file of replies: of each kind one finding, and of openings those that are named.

    Args:
        mine: The file in question.
        others: The other model's replies, and further ones to compare with (references); may be none.
    """
    if not len(mine.texts):
        raise InputError("no replies to check")
    others = [other for other in others if len(other.texts)]
    prompts = [prompt for one in (mine, *others) for prompt in one.prompts or ()]
    known = common_words([*prompts, *(text for other in others for text in other.texts)] or mine.texts)
    often = _most_frequent(mine)
    signs = [_signs(one, known, often) for one in (mine, *others)]
    found = _openings(mine, others)
    for kind, ways in signs[0].items():
        if not all(kind in theirs for theirs in signs):
            continue
        judged = [
            _judge(kind, [rows, *(_most(theirs[kind], way) for theirs in signs[1:])], [mine, *others], way)
            for way, rows in ways.items()
        ]
        found.append(max(judged, key=lambda one: (one.named, one.count)))
    return found


def damaged_rows(findings: Sequence[Finding], count: int) -> np.ndarray:
    """Whether each of so many replies has a sign that is damage."""
    return np.any([np.zeros(count, dtype=bool), *(f.rows for f in findings if f.damage)], axis=0)


def _signs(one: Replies, known: frozenset[str], often: str) -> dict[str, dict[str, np.ndarray]]:
    """Kind -> way it shows ("" for the plain one) -> whether each reply has it; echoes only with prompts."""
    table = reply_table(one.texts)
    same = same_reply(one.texts, one.clusters)
    found = {
        "template": template_marks(one.texts),
        "empty": table["empty"].to_numpy(),
        "loop": table["looping"].to_numpy(),
        "language": foreign(one.texts, one.prompts or [""] * len(one.texts), known),
        "same": same,
    }
    found |= {"prompt": echoes(one.texts, one.prompts)} if one.prompts is not None else {}
    ways = {"cut": cut_off(one.texts, one.finished), **{kind: {"": rows} for kind, rows in found.items()}}
    ways["same"]["one reply"] = same & [plain_text(text) == often for text in one.texts]
    return ways


def _most_frequent(mine: Replies) -> str:
    """The reply that most prompts got."""
    (text, _), *_ = Counter(plain_text(text) for text in mine.texts if seen_part(text)).most_common(1) or [
        ("", 0)
    ]
    return text


def _most(ways: dict[str, np.ndarray], way: str) -> np.ndarray:
    """How a sign shows in another file: in the same way, or in any where ends are known of one file only."""
    return ways[way] if way in ways else np.any(list(ways.values()), axis=0)


def _judge(
    kind: str, rows: list[np.ndarray], files: list[Replies], what: str = "", tests: int = SIGNS
) -> Finding:
    """One sign, held against each other file, or against what is usual."""
    clusters = [one.clusters for one in files]
    shares = [rate_interval(r, c) for r, c in zip(rows, clusters, strict=True)]
    opening = kind == "opening"
    matters = shares[0].value >= LEAST[kind]
    if len(files) == 1:
        passed = [matters and _alone(rows[0], clusters[0], USUAL[kind]) < ERROR / tests]
    else:
        times = FAR if opening else MORE
        passed = [
            matters
            and shares[0].value >= times * r.mean()
            and _chance(rows[0], clusters[0], r, c) < ERROR / tests
            for r, c in zip(rows[1:], clusters[1:], strict=True)
        ]
    named = all(passed) if opening else any(passed)
    place = 1 + passed.index(True) if named else 1
    other = shares[place] if len(files) > 1 else None
    habit = opening and any(shares[0].value < STRANGE * (r.sum() + 0.5) / (r.size + 1) for r in rows[1:])
    return Finding(
        kind=kind,
        what=what or (_scripts(files[0], rows[0]) if kind == "language" else ""),
        rows=rows[0],
        share=shares[0],
        other=other,
        lead=rate_lead(shares[0], other) if other else None,
        named=bool(named),
        damage=bool(named and not habit),
    )


def _chance(mine: np.ndarray, prompts: Sequence, other: np.ndarray, theirs: Sequence) -> float:
    """Probability that so much more of the sign in one file than in the other is chance (Fisher's test).

    Replies to one prompt are alike: both files count as so many replies as their prompts make independent.
    """
    rows = np.concatenate([mine, other]).astype(float)
    effect = _effect(rows, [*((0, prompt) for prompt in prompts), *((1, prompt) for prompt in theirs)])
    table = [[round(hits.sum() / effect), round((~hits).sum() / effect)] for hits in (mine, other)]
    return float(stats.fisher_exact(table, alternative="greater").pvalue)


def _alone(rows: np.ndarray, prompts: Sequence, usual: float) -> float:
    """Probability of so many replies with the sign where a share of `usual` has it."""
    effect = _effect(rows.astype(float), prompts)
    return float(stats.binom.sf(round(rows.sum() / effect) - 1, round(rows.size / effect), usual))


def _effect(rows: np.ndarray, prompts: Sequence) -> float:
    """How many rows are worth one independent row (`intervals.design_effect`)."""
    codes = cluster_codes(prompts, rows.size)
    error, _ = cluster_error(rows, codes)
    binomial = rows.mean() * (1 - rows.mean()) / rows.size
    if np.isinf(error) or binomial == 0:
        return float(rows.size) if np.isinf(error) else 1.0
    return design_effect(rows, codes, error**2 / binomial)


def _scripts(mine: Replies, rows: np.ndarray) -> str:
    """The script of most of the replies in another language."""
    found = Counter(script(mine.texts[row]) for row in np.flatnonzero(rows))
    return found.most_common(1)[0][0] if found else ""


def _openings(mine: Replies, others: Sequence[Replies]) -> list[Finding]:
    """The openings that are named, the most frequent first; a reply counts for one of them."""
    if not others:
        return []
    starts = [first_words(one.texts) for one in (mine, *others)]
    least = max(EXAMPLES, LEAST["opening"] * len(mine.texts))
    begun = {key: [begin_so(key, file) for file in starts] for key in frequent_openings(starts[0], least)}
    free = [np.ones(len(file), dtype=bool) for file in starts]
    found: list[Finding] = []
    while True:
        left = {key: [rows & open_ for rows, open_ in zip(begun[key], free, strict=True)] for key in begun}
        judged = {
            key: _judge("opening", rows, [mine, *others], opening_text(key), len(begun))
            for key, rows in left.items()
            if rows[0].sum() >= least and _excess(rows) > (1 - 1 / FAR) * rows[0].mean()
        }
        excess = {key: _excess(left[key]) for key, finding in judged.items() if finding.named}
        if not excess:
            return found
        most = max(excess.values())
        # the longest that says nearly as much: "as an ai" rather than "as"
        key = max(excess, key=lambda key: (excess[key] > 0.9 * most, len(key), excess[key]))
        firsts = Counter(start[0] for start, row in zip(starts[0], left[key][0], strict=True) if row)
        found.append(replace(judged[key], forms=tuple(firsts.most_common(3)) if len(firsts) > 1 else ()))
        free = [open_ & ~rows for rows, open_ in zip(begun[key], free, strict=True)]


def _excess(rows: Sequence[np.ndarray]) -> float:
    """The share in the first file above the largest in the others."""
    return float(rows[0].mean() - max(theirs.mean() for theirs in rows[1:]))
