"""Replies and pairs side by side, case by case, in the compact form of the page that shows them.

A case is one prompt with a reply of each policy, or a pair. Texts stand once, however many cases have them;
beside each its words, its repetition and where it repeats itself (`stats.text`), and in the simulated world
gold sentence by sentence (`world.by_sentence`). Places in a text count UTF-16 units, as browsers do.

Whatever is found wrong with replies (`Findings`) stands with each reply as a list of names.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from rlhf_hw.errors import InputError
from rlhf_hw.experiments.answers import JUDGE
from rlhf_hw.experiments.data_parts import SHOW_ALL, metas_of, rows_shown
from rlhf_hw.stats.text import LOOP, repeated_spans, repetition, seen_part, sentence_repetition, words
from rlhf_hw.world.by_sentence import gold_by_sentence
from rlhf_hw.world.gold import PARTS, SCALE

Tables = dict[str, list[pd.DataFrame]]  # policy -> replies, one table a training; scores may be NaN
# Policy -> replies of one training, to the same prompts -> policy -> names of what is wrong with each reply
Findings = Callable[[Mapping[str, pd.DataFrame]], Mapping[str, Sequence[Sequence[str]]]]
SIDES = ("chosen", "rejected")
NO_LIMIT = 10**9


class Cases:
    """Collects sets of cases.

    Args:
        show_texts: Whose texts are in the data (`data_parts.rows_shown`).
        world: The prompts are of the simulated world.
        sources: Prompt -> names of the sources it comes from, for rows that do not name their own.
        findings: What is wrong with replies beyond `empty`, `loop` and `cut`; None for nothing.
    """

    def __init__(
        self,
        show_texts: str = SHOW_ALL,
        world: bool = False,
        sources: Mapping[str, set[str]] | None = None,
        findings: Findings | None = None,
    ):
        self.show_texts, self.world, self.sources, self.findings = show_texts, world, sources or {}, findings
        self.sets: list[dict[str, Any]] = []
        self.hidden = 0
        self._texts: dict[tuple, int] = {}
        self._prompts: dict[tuple, int] = {}
        self._text_rows: list[dict[str, Any]] = []
        self._prompt_rows: list[str | None] = []

    def add_replies(self, name: str, tables: Tables) -> None:
        """Add replies of several policies to the same prompts.

        Raises:
            InputError: one answered other prompts, or in another order.
        """
        policies, count = list(tables), max(map(len, tables.values()))
        cases, slopes = [], []
        for k in range(count):
            here = {policy: found[min(k, len(found) - 1)] for policy, found in tables.items()}
            first = here[policies[0]]
            for policy, table in here.items():
                if list(table["prompt_key"]) != list(first["prompt_key"]):
                    both = f"{policies[0]} and {policy}"
                    raise InputError(f"{name}: {both} replies must be to the same prompts in the same order")
            wrong = self.findings(here) if self.findings else {}
            sides = {
                policy: [
                    (row["response"], row["score"], meta.get(JUDGE), meta.get("gold"))
                    + (row.get("tokens"), row.get("finished"), list(wrong.get(policy, {}))[n : n + 1])
                    for n, (row, meta) in enumerate(zip(_rows(table), metas_of(table), strict=True))
                ]
                for policy, table in here.items()
            }
            cases += self._side_by_side(first, sides, k)
            slopes.append(length_slopes(here))
        self._add(name, "replies", policies, cases, slopes)

    def add_pairs(self, name: str, tables: Sequence[pd.DataFrame]) -> None:
        """Add pairs of the data; where the next training scored the same pairs, it is the judge."""
        cases, slopes = [], []
        for k, table in enumerate(tables):
            other = tables[(k + 1) % len(tables)]
            same = len(tables) > 1 and all(list(table[c]) == list(other[c]) for c in ("prompt_key", *SIDES))
            judged = other if same else None
            sides = {side: list(_pair_side(table, judged, side)) for side in SIDES}
            cases += self._side_by_side(table, sides, k)
            columns = {side: {"response": table[side], "score": table[f"{side}_score"]} for side in SIDES}
            slopes.append(length_slopes({side: pd.DataFrame(found) for side, found in columns.items()}))
        self._add(name, "pairs", list(SIDES), cases, slopes)

    def data(
        self, title: str, end_token: str | None = None, read_tokens: int | None = None
    ) -> dict[str, Any]:
        """Everything, as plain data.

        Args:
            title: Of the run or the files.
            end_token: Where the reward model reads its score, as text; None if that is unknown.
            read_tokens: How many tokens of a reply it reads, its end included; None if that is unknown.

        Returns:
            `sets`: each with `key`, `kind` ("replies", "pairs"), `policies`, `trainings`, `slopes` (for each
            training, "first|second" -> points a word) and `cases`: [id, training, prompt, source, replies], a
            reply [text, score, judge, gold, tokens, finished, findings] or None. Of texts and prompts they
            hold the numbers in `texts` and `prompts`; a text `{t, w, r, s, g, x}`: itself, words, repetition,
            repeated places, gold's sentences [start, end, kind, [[part, points], ...]], gold of the whole.
            Hidden texts are None.
        """
        return {
            "title": title,
            "world": self.world,
            "hidden": self.hidden,
            "end": end_token,
            "limit": read_tokens,
            "scale": SCALE,
            "parts": list(PARTS),
            "prompts": self._prompt_rows,
            "texts": self._text_rows,
            "sets": self.sets,
        }

    def _add(self, name: str, kind: str, policies: list[str], cases: list, slopes: list[dict]) -> None:
        one = {"key": name, "kind": kind, "policies": policies, "trainings": len(slopes), "slopes": slopes}
        self.sets.append(one | {"cases": cases})

    def _side_by_side(
        self, table: pd.DataFrame, sides: Mapping[str, list[tuple]], training: int
    ) -> list[list]:
        """The cases of one training; `table` has their prompts."""
        cases = []
        for n, (row, meta) in enumerate(zip(_rows(table), metas_of(table), strict=True)):
            sources = (
                {str(meta["source"])} if "source" in meta else self.sources.get(row["prompt_key"], set())
            )
            told = [{"source": source} for source in sources] or [{}]
            shown = bool(rows_shown(told, self.show_texts).all())
            self.hidden += not shown
            prompt = _conversation(row)
            replies = [
                self._reply(row["prompt"], side[n], shown) if isinstance(side[n][0], str) else None
                for side in sides.values()
            ]
            source = " + ".join(sorted(sources))
            cases.append(
                [row["id"], training, self._prompt(row["prompt_key"], prompt, shown), source, replies]
            )
        return cases

    def _prompt(self, key: str, prompt: str, shown: bool) -> int:
        number = self._prompts.setdefault((key, shown), len(self._prompt_rows))
        if number == len(self._prompt_rows):
            self._prompt_rows.append(prompt if shown else None)
        return number

    def _reply(self, prompt: str, reply: tuple, shown: bool) -> list:
        text, score, judge, gold, tokens, finished, wrong = reply
        number = self._texts.setdefault((prompt, text, shown), len(self._text_rows))
        if number == len(self._text_rows):
            self._text_rows.append(self._text(prompt, text, shown))
        known = self._text_rows[number]
        names = [name for name in ("empty", "loop") if known[name]] + (["cut"] if finished is False else [])
        names += [name for more in wrong for name in more if name not in names]
        return [number, _number(score), _number(judge), _number(gold), _number(tokens), finished, names]

    def _text(self, prompt: str, text: str, shown: bool) -> dict[str, Any]:
        again = repetition(text)
        row = {"t": text if shown else None, "w": len(words(text)), "r": round(again, 4)}
        row |= {"empty": not seen_part(text), "loop": again > LOOP or sentence_repetition(text) > LOOP}
        if not shown:
            return row
        place = _utf16(text)
        row["s"] = [[place(start), place(end)] for start, end in repeated_spans(text)]
        if self.world:
            found = gold_by_sentence(prompt, text)
            row["g"] = [[place(s.start), place(s.end), s.kind, _points(s.points)] for s in found.sentences]
            row["x"] = _points(found.whole)
        return row


def length_slopes(tables: Mapping[str, pd.DataFrame]) -> dict[str, float]:
    """Points that the score difference of two policies rises with each word of their length difference.

    Least squares over the prompts; what is left of a difference without it is what
    `stats.length_control.length_controlled_difference` averages.

    Returns:
        "first|second" -> slope, 0 where all differences of length are equal.
    """
    lengths = {n: np.array([_length(text) for text in table["response"]]) for n, table in tables.items()}
    scores = {name: table["score"].to_numpy(float) for name, table in tables.items()}
    found = {}
    for first, second in combinations(tables, 2):
        gap, difference = lengths[first] - lengths[second], scores[first] - scores[second]
        known = ~np.isnan(gap + difference)
        flat = known.sum() < 2 or gap[known].std() == 0
        found[f"{first}|{second}"] = 0.0 if flat else float(np.polyfit(gap[known], difference[known], 1)[0])
    return found


def _length(text: Any) -> float:
    return len(words(text)) if isinstance(text, str) else np.nan


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return table.to_dict("records")


def _pair_side(table: pd.DataFrame, judged: pd.DataFrame | None, side: str):
    """The replies of one side of the pairs as `Cases` takes them."""
    others = [None] * len(table) if judged is None else judged[f"{side}_score"]
    for row, meta, other in zip(_rows(table), metas_of(table), others, strict=True):
        index = meta.get("chosen_index")
        index = index if side == "chosen" or index is None else 3 - index
        gold = meta.get(f"gold_{index}")
        yield row[side], row[f"{side}_score"], other, gold, row.get(f"{side}_tokens"), None, ()


def _conversation(row: Mapping[str, Any]) -> str:
    """What was asked: the last turn where it is all there is, else all of them."""
    turns = row.get("conversation")
    if not isinstance(turns, list) or len(turns) < 2:
        return row["prompt"]
    return "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in turns)


def _number(value: Any) -> float | int | None:
    """A number as Python's own; None for none."""
    if value is None or value != value:
        return None
    return value.item() if hasattr(value, "item") else value


def _points(points: Mapping[str, float]) -> list[list]:
    return [[PARTS.index(part), round(value, 4)] for part, value in points.items()]


def _utf16(text: str) -> Callable[[int], int]:
    """A function from a place in characters to the place in UTF-16 units."""
    if text.isascii() or max(text) <= "\uffff":
        return lambda place: place
    places = np.cumsum([0, *(2 if character > "\uffff" else 1 for character in text)])
    return lambda place: int(places[place])
