"""Which judges of the earlier run's replies are wanted, what of each is there, and the time for the rest.

    plan = JudgePlan(data, out, "smollm2-135m", settings)
    judge = PlannedJudge(plan, "chat", "harmless", 0)
    judge.files, judge.is_complete

Module `judges` makes them.
"""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlhf_hw.errors import InputError
from rlhf_hw.experiments.earlier_run.judged_replies import CUT, GENERATED, KINDS_OF_PAIRS, file_of, has
from rlhf_hw.files import read_json
from rlhf_hw.training.folders import RECORD

HH = "hh-rlhf"
SOURCES_OF_KIND = {
    "helpful": ("helpful-base", "helpful-rejection-sampled", "helpful-online"),
    "harmless": ("harmless-base",),
}
SPARE = 1.1  # a step is begun if so many times what such steps have taken is left
# settings that all judges below a folder share
ALIKE = ("max_train", "epochs", "learning_rate", "max_prompt_tokens", "max_reply_tokens", "seed")

# How the earlier run rendered all its texts, as a chat template
PLAIN_TEMPLATE = """\
{{- 'BEGINNING OF CONVERSATION: ' -}}
{%- for message in messages -%}
{%- if message['role'] == 'assistant' -%}{{- 'ASSISTANT:' + message['content'] + eos_token -}}
{%- elif message['role'] == 'user' -%}{{- 'USER: ' + message['content'] + ' ' -}}
{%- else -%}{{- message['content'] + ' ' -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- 'ASSISTANT:' -}}{%- endif -%}
"""

log = logging.getLogger(__name__)


class TimeIsUp(Exception):
    """The next step would not end in time."""


@dataclass
class StepClock:
    """Times steps, and begins none that would not end before a budget does.

    Attributes:
        seconds: The budget, from now on; None for none.
        taken: Name of a step -> the longest that one has taken.
    """

    seconds: float | None = None
    taken: dict[str, float] = field(default_factory=dict)
    begun: float = field(default_factory=lambda: time.monotonic())

    @contextmanager
    def step(self, judge: str, name: str) -> Iterator[list]:
        """Time one step and tell it; the `with` adds to the list what was worked on, for its speed.

        Raises:
            TimeIsUp: it would not end in time. The first of a name, whose time is unknown, is begun while any
                is left.
        """
        left = None if self.seconds is None else self.seconds - (time.monotonic() - self.begun)
        if left is not None and left <= SPARE * self.taken.get(name, 0.0):
            raise TimeIsUp(f"{judge} {name}")
        started, done = time.monotonic(), []
        yield done
        seconds = time.monotonic() - started
        self.taken[name] = max(seconds, self.taken.get(name, 0.0))
        log.info("%s %s: %d in %.1f s, %.1f a second", judge, name, len(done), seconds, len(done) / seconds)


@dataclass(frozen=True)
class JudgePlan:
    """Where judges are made of what, and how.

    Attributes:
        data: The folder of real data.
        out: Everything is written below it.
        model: The pretrained model: a folder, or a name of `models.pretrained`.
        settings: Of training, besides what tells the judges apart.
        scores_only: Whether a judge's weights go once it has scored everything.
        trained: Reward models that are there already: name of the judge -> checkpoint. They are asked, not
            trained, and stay; only limits and dtype of the settings hold for them.
    """

    data: Path
    out: Path
    model: str
    settings: dict[str, Any]
    scores_only: bool = False
    trained: Mapping[str, Path] = field(default_factory=dict)

    def sources(self, names: Sequence[str]) -> str:
        """The data sets of one or two kinds of pairs."""
        wanted = [folder for name in SOURCES_OF_KIND if name in names for folder in SOURCES_OF_KIND[name]]
        return ",".join(str(self.data / HH / folder) for folder in wanted)


@dataclass(frozen=True)
class PlannedJudge:
    """One judge of a plan."""

    plan: JudgePlan
    rendering: str
    kind: str
    seed: int

    def __str__(self) -> str:
        return f"{self.rendering}/{self.kind}-{self.seed}"

    @property
    def model(self) -> Path:
        """Its checkpoint."""
        return self.plan.trained.get(str(self), self.plan.out / "judges" / str(self))

    @property
    def is_given(self) -> bool:
        """Whether it was there before the plan."""
        return str(self) in self.plan.trained

    @property
    def limits(self) -> dict[str, int]:
        """How many tokens it reads when it scores; one that is given may have learned from shorter texts."""
        return {name: self.plan.settings[name] for name in ("max_prompt_tokens", "max_reply_tokens")}

    @property
    def scores(self) -> Path:
        """Its score files."""
        return self.plan.out / "scores" / str(self)

    @property
    def files(self) -> list[str]:
        """The names of the score files that it has to write."""
        own = [f"validation_{name}" for name in KINDS_OF_PAIRS[self.kind]]
        return [*GENERATED.values(), file_of("chosen"), *own, *CUT.values()]

    @property
    def is_complete(self) -> bool:
        """Whether it has scored everything."""
        return (self.scores / RECORD).exists() and all(has(self.scores, name) for name in self.files)

    def check(self) -> None:
        """Hold what is there of it to the plan.

        Raises:
            InputError: it was trained with other settings, or, if it was given, on pairs of another kind.
            FileNotFoundError: it was given, and its folder has no record of a training.
        """
        if self.is_given:
            self._check_given()
            return
        for record in (self.model / RECORD, self.scores / RECORD):
            if not record.exists():
                continue
            found, wanted = read_json(record)["config"], self.plan.settings | {"seed": self.seed}
            other = [name for name in ALIKE if found[name] != wanted[name]]
            steps = [one["batch_size"] * one["gradient_accumulation_steps"] for one in (found, wanted)]
            other += ["batch_size * accumulation"] * (steps[0] != steps[1])
            if other:
                raise InputError(
                    f"{record}: this judge was trained with another {', '.join(other)}; name another --out, "
                    "or remove its folders in judges/ and scores/"
                )

    def _check_given(self) -> None:
        record = self.model / RECORD
        if not record.exists():
            raise FileNotFoundError(
                f"--trained {self}: no {RECORD} in {self.model}; name a folder that `rlhf-hw "
                "train rm` or notebook 01 wrote"
            )
        pairs = str(read_json(record)["config"]["train_dataset"])
        learned = {name.strip().rpartition("/")[2] for name in pairs.split(",")}
        wanted = {source for name in KINDS_OF_PAIRS[self.kind] for source in SOURCES_OF_KIND[name]}
        if learned != wanted:
            raise InputError(
                f"--trained {self}: {self.model} learned from {pairs}; a judge of this kind from "
                f"{', '.join(sorted(wanted))}"
            )
        scored = self.scores / RECORD
        begun = any(has(self.scores, name) for name in self.files)
        if begun and (not scored.exists() or read_json(scored) != self.given_record):
            raise InputError(
                f"{self.scores}: scores of another model, or with other limits; name another --out, or "
                "remove that folder"
            )
        said = (self.model / "chat_template.jinja").read_text(encoding="utf-8")
        if (said == PLAIN_TEMPLATE) != (self.rendering == "plain"):
            raise InputError(f"--trained {self}: {self.model} was trained in another rendering")

    @property
    def given_record(self) -> dict[str, Any]:
        """The record of a given judge's training, with the limits that it scores with."""
        wanted = self.limits | {"dtype": self.plan.settings["dtype"]}
        return read_json(self.model / RECORD) | {"scored_with": wanted}
