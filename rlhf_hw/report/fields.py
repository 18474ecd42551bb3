"""The fields of a report's text: each becomes one number, text or interval of a run.

    {{rm.validation.accuracy:.3f}}            0.884: a number, by Python's format specification (also `:,`)
    {{estimate:rm.validation.accuracy:.3f}}   0.884 (0.863 to 0.902), from the keys NAME, NAME_low, NAME_high
    {{estimate:rm.validation.accuracy:.1%|95% interval}}    88.4% (95% interval 86.3% to 90.2%)
    {{interval:rm.validation.accuracy:.3f}}   0.863 to 0.902, where something stands between it and the value
    {{headline:rm.validation.accuracy:.3f}}   0.884 (prompts 0.863 to 0.902; trainings 0.851 to 0.917), where
                                              there are NAME_trainings_low and _high, too
    {{run.processor}}                         a text or a whole number, as it is
    {{threads:run.threads}}                   1 thread, 2 threads: so many, in words
    {{kept:plural_preferences}}               alone on its line: that the numbers and figures of notebook
                                              NN_plural_preferences were kept from an earlier run, of which
                                              commit and on which machine; nothing where the run made them;
                                              in few words where the text has said it before

Nothing is guessed: an unknown key or a float without a format is an error that names file and line. Text
values are data (model output, a processor's name): `escape` makes them inert in Markdown, so that pandoc's
writers, which see them as plain characters, also escape them for HTML, LaTeX and Typst. Inside backticks or a
formula they would show the escapes: keep text fields out of those.
"""

import decimal
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from rlhf_hw.errors import InputError, UnknownName, did_you_mean
from rlhf_hw.figures.numbers import powers_of_ten
from rlhf_hw.pipeline.kept_results import MACHINE, KeptResult
from rlhf_hw.report.glyphs import visible

Value = str | int | float
Row = Mapping[str, Value | None]

REMEDY = "a key that is new is there when its notebook has run again"
WORD_LIMIT = 18  # characters; a longer unbroken word may break anywhere, so that it fits the narrowest column
INTERVAL = {"en": "{low} to {high}", "zh": "{low} 至 {high}"}
ESTIMATE = {"en": "{value} ({words}{interval})", "zh": "{value}（{words}{interval}）"}
BOTH = {"en": "prompts {prompts}; trainings {trainings}", "zh": "提示 {prompts}；训练 {trainings}"}
BRIEF = {
    "en": "{prompts}; {trainings}",
    "zh": "{prompts}；{trainings}",
}  # in tables, whose heading says which
KEPT = {
    "en": "The numbers and figures of notebook {number} are kept from the full run of commit {commit} on "
    "{machine} ({threads}, {dtype}). The run of this report left it out.",
    "zh": "本报告所依据的运行未执行第 {number} 号笔记本；该笔记本的数字与图取自另一次完整规模的运行，"
    "代码提交为 {commit}（{machine}，{threads}，{dtype}）。",
}
KEPT_AGAIN = {
    "en": "These numbers and figures, too, are kept from that run of notebook {number}.",
    "zh": "数字与图同样取自第 {number} 号笔记本的上述运行。",
}
KEPT_OTHER = {
    "en": "The results of notebook {number} are kept likewise, of commit {commit} on {machine} "
    "({threads}, {dtype}).",
    "zh": "第 {number} 号笔记本也取自另一次运行，代码提交为 {commit}（{machine}，{threads}，{dtype}）。",
}
KEPT_ALIKE = {
    "en": "The results of notebook {number} are kept likewise, of the commit and machine of notebook {like}.",
    "zh": "第 {number} 号笔记本也取自另一次运行，提交与机器同第 {like} 号。",
}
REDUCED_ALIKE = {
    "en": "This run made the results of notebook {number}, too, itself, in default size.",
    "zh": "第 {number} 号笔记本也由本次运行以默认规模执行。",
}
REDUCED = {
    "en": "This run made the numbers and figures of notebook {number} itself, in default size: with less data"
    " and less training than in a full run (`EXPERIMENTS=full`), so intervals are wider and less is shown.",
    "zh": "第 {number} 号笔记本的数字与图由本次运行以默认规模得出：所用数据和训练少于完整规模"
    "（`EXPERIMENTS=full`），因此区间更宽，能下的结论更少。",
}
MAKER = ("commit", *MACHINE)
CHANGED = {"en": "{} with changes not committed", "zh": "{}，另有未提交的改动"}  # a commit with `+`
THREADS = {"en": ("{} thread", "{} threads"), "zh": ("{} 线程", "{} 线程")}  # one, several
_FIELD = re.compile(r"\{\{(.*?)\}\}")
_ZERO = re.compile(r"[-+]0(\.0*)?%?")
# Chinese, Japanese and emoji, which may break between any two, are none of these.
_LONG_WORD = re.compile(rf"[^\s\u2e80-\uffef\U00010000-\U0010ffff]{{{WORD_LIMIT + 1},}}")


class FieldError(UnknownName):
    """A name in a report that the run does not have."""


@dataclass(frozen=True)
class Facts:
    """What a report of one run may name, and the language it speaks.

    Attributes:
        values: flat metrics by dotted key.
        tables: rows by table name.
        figures: the figures that exist, by name.
        language: one of `rlhf_hw.report.LANGUAGES`.
        kept: experiments with results, by name: what was kept of an earlier run, None where this one has it.
        reduced: experiments that this run has in a smaller size than the full one, by name: their notebook.
        used: the keys asked for so far; also `table:NAME`, `figure:NAME`, and `kept:NAME` of a mark.
    """

    values: Mapping[str, Value]
    tables: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    figures: Mapping[str, Path] = field(default_factory=dict)
    language: str = "en"
    kept: Mapping[str, KeptResult | None] = field(default_factory=dict)
    reduced: Mapping[str, str] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    @cached_property
    def _names(self) -> set[str]:
        return {
            *self.values,
            *(f"figure:{name}" for name in self.figures),
            *(f"table:{t}" for t in self.tables),
        }

    def has(self, name: str) -> bool:
        """Tell whether `name` is a key or the start of one, or a `figure:NAME`, `table:NAME` that exists."""
        return any(known == name or known.startswith(name + ".") for known in self._names)

    def fill(self, line: str, place: str, both: Mapping[str, str] = BOTH) -> str:
        """Return a line of Markdown with its fields filled; `both` says how two intervals are written.

        Raises:
            FieldError: unknown key, with near matches.
            InputError: malformed field, or a value that its format does not fit.
        """
        filled = _FIELD.sub(lambda match: self._field(match[1], f"{place}: {match[0]}", both), line)
        if "{{" in _FIELD.sub("", line):
            raise InputError(f"{place}: a field opens with {{{{ and does not close on its line")
        return filled

    def mark(self, name: str, place: str) -> str:
        """Return the line that says who made an experiment's results; "" where this run did, in full size.

        It is long where a text says it first, and short or none from then on; short also where another's
        results were made by the same code and machine.

        Raises:
            FieldError: neither this run nor an earlier one has results of such an experiment.
        """
        if name not in self.kept:
            raise FieldError(f"{place}: no results of an experiment '{name}'{did_you_mean(name, self.kept)}")
        before = self.said(name)
        self.used.add(f"kept:{name}")
        if (result := self.kept[name]) is None:
            if before == "it" or name not in self.reduced:
                return ""
            words = REDUCED_ALIKE if before else REDUCED
            return words[self.language].format(number=self.reduced[name].split("_")[0])
        who = result.record
        words = {"it": KEPT_AGAIN, "others": KEPT_ALIKE, "kept": KEPT_OTHER, "": KEPT}[before]
        return words[self.language].format(
            number=result.stem.split("_")[0],
            like=next((one.stem.split("_")[0] for one in self._told_alike(name)), ""),
            commit=code_state(who["commit"], self.language),
            machine=escape(who["processor"]),
            threads=threads(who["threads"], self.language),
            dtype=who["dtype"],
        )

    def said(self, name: str) -> str:
        """Who made an experiment's results: has a text said "it", or that of "others" made alike?

        If neither: "kept" where it has said that others were kept, of another code or machine; else "".
        """
        told = {one for one in self.kept if f"kept:{one}" in self.used}
        if name in told:
            return "it"
        if self.kept.get(name) is None:
            return "others" if name in self.reduced and self.reduced.keys() & told else ""
        if self._told_alike(name):
            return "others"
        return "kept" if any(self.kept[one] for one in told) else ""

    def _told_alike(self, name: str) -> list[KeptResult]:
        """What was kept of other experiments by the same code and machine, and has been said already."""
        told = [one for key, one in self.kept.items() if key != name and f"kept:{key}" in self.used and one]
        return [one for one in told if all(self.kept[name].record[key] == one.record[key] for key in MAKER)]

    def check_marks(self, source: str) -> None:
        """Check that a text which used kept results says so.

        Raises:
            FieldError: it does not.
        """
        for name, result in self.kept.items():
            if result is None or f"kept:{name}" in self.used:
                continue
            own = {
                *result.metrics,
                *(f"table:{t}" for t in result.tables),
                *(f"figure:{f}" for f in result.figures),
            }
            if unmarked := sorted(own & self.used):
                raise FieldError(
                    f"{source}: {', '.join(unmarked[:3])} kept from an earlier run: "
                    f"a line {{{{kept:{name}}}}} is missing"
                )

    def _field(self, content: str, place: str, both: Mapping[str, str]) -> str:
        kind, _, rest = content.strip().partition(":")
        if kind in ("table", "kept"):
            raise InputError(f"{place} must stand alone on its line")
        if kind == "threads":
            self._number(rest.strip(), "", place)
            return threads(self.values[rest.strip()], self.language)
        if kind not in ("estimate", "interval", "headline"):
            return self._number(kind.strip(), rest.strip(), place)
        asked, _, words = (part.strip() for part in rest.partition("|"))
        key, _, spec = (part.strip() for part in asked.partition(":"))
        interval = self._interval(key, spec, place)
        if kind == "interval":
            return interval
        if kind == "headline" and f"{key}_trainings_low" in self.values:
            trainings = self._interval(f"{key}_trainings", spec, place)
            interval = both[self.language].format(prompts=interval, trainings=trainings)
        value = self._number(key, spec, place)
        return ESTIMATE[self.language].format(value=value, words=words and words + " ", interval=interval)

    def _interval(self, key: str, spec: str, place: str) -> str:
        low, high = (self._number(f"{key}_{end}", spec, place) for end in ("low", "high"))
        return INTERVAL[self.language].format(low=low, high=high)

    def _number(self, key: str, spec: str, place: str) -> str:
        if key not in self.values:
            raise FieldError(f"{place}: unknown key '{key}'{did_you_mean(key, self.values)}; {REMEDY}")
        self.used.add(key)
        return format_value(self.values[key], spec, place)


def code_state(commit: str, language: str) -> str:
    """Return a commit as a report names it; for `+` (`rlhf_hw.pipeline.machine.git_commit`) it has words."""
    named = escape(commit.removesuffix("+"))
    return CHANGED[language].format(named) if commit.endswith("+") else named


def threads(count: int, language: str) -> str:
    """One thread or several, in words."""
    return THREADS[language][count != 1].format(f"{count:.0f}")


def format_value(value: Value | None, spec: str, place: str) -> str:
    """Format one value: texts are escaped, numbers must be finite, and a float needs a format."""
    if isinstance(value, str):
        if spec:
            raise InputError(f"{place} has a number format, but its value is a text: {value!r}")
        return escape(value)
    if value is None or isinstance(value, bool) or not math.isfinite(value):
        raise InputError(f"{place} is {value}: not a number; leave it out with a conditional block")
    if isinstance(value, float) and not spec:
        raise InputError(f"{place} is the float {value!r}: say how to print it, for example with :.3f")
    try:
        text = _rounded(value, spec)
    except ValueError as error:
        raise InputError(f"{place}: {error}") from None
    return text.lstrip("+-") if _ZERO.fullmatch(text) else powers_of_ten(text, "markdown")  # no "-0.00"


def _rounded(value: float, spec: str) -> str:
    """`format`, with halves up in decimals: 0.7225 is 72.3% where it is 0.723, and not 72.2%."""
    if isinstance(value, int) or spec[-1:] not in ("f", "%"):
        return format(value, spec)
    with decimal.localcontext(rounding=decimal.ROUND_HALF_UP):
        return format(decimal.Decimal(repr(float(value))), spec)


def escape(text: str) -> str:
    """Return `text` as Markdown that shows exactly its characters and does nothing else.

    White space becomes single spaces, line breaks a pilcrow. Control and direction characters become a sign
    (`rlhf_hw.report.glyphs`, which also sees to it that no PDF loses a glyph silently).
    """
    text = " ¶ ".join(part for line in text.splitlines() if (part := " ".join(line.split())))
    shown = _LONG_WORD.sub(lambda word: _breakable(word[0]), visible(unicodedata.normalize("NFC", text)))
    # Zero-width spaces also before what pandoc's Typst writer leaves unescaped: list and heading marks at the
    # start, the soft hyphen `-?`.
    shown = re.sub(r"^(?=[-+=/]|\d+[.)])|(?<=-)(?=\?)", "\u200b", shown)
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", shown)


def _breakable(word: str) -> str:
    """Return a word with a space of no width before each character that does not belong to the one before."""
    together = [unicodedata.category(c)[0] == "M" or c in "\u200c\u200d" for c in word]
    return word[0] + "".join(
        c if together[i] or word[i - 1] in "\u200c\u200d" else "\u200b" + c for i, c in enumerate(word) if i
    )
