"""A campaign of hostile input: what the library makes of each, counted.

    python -m tests.faults.campaign --cases 1200 --seed 0

Each case is drawn from a seed, by the generators in the modules `*_kinds` beside this one, and goes
through the command line or another entry point in one process (`watched`), which a second one looks after: if
it dies, that counts as a crash, and the next goes on behind it. What can come of a case:

    right           the result is what the input says
    clear error     one message that names file, row or key, and what to do
    unclear error   a message that lacks one of these, or a good input refused; or what was refused left
                    folders or notes behind
    traceback       an error that nobody foresaw
    silently wrong  it ended well, and what it made is not what the input says, or foreign code ran
    lost            a file that was there before is gone or changed
    crash           the process died, or did not end
"""

import argparse
import contextlib
import io
import json
import multiprocessing
import random
import re
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from rlhf_hw.paths import NOTES
from rlhf_hw.training.folders import LOCK
from tests.faults.workshop import Case, Workshop, snapshot

OUTCOMES = ("right", "clear error", "unclear error", "traceback", "silently wrong", "lost", "crash")
GOOD = ("right", "clear error")
OWN_NOTES = (NOTES, LOCK)  # a run that began to work leaves more: logs, what was not finite
SECONDS = 60  # a case that takes longer counts as a crash
# a message says what to do: at least one of these words stands in it
REMEDIES = (
    r"\b(expected|choose|take|give|mend|write|copy|try|remove|move|rename|name|set|add|start|wait|run|pass|"
    r"save|let|leave|unpack|fetch|put|there are|did you mean|should|use|one of|look|free|restore|delete)\b"
)


@dataclass(frozen=True)
class Outcome:
    """What came of a case."""

    number: int
    kind: str
    about: str
    outcome: str
    said: str
    seconds: float


class TooLong(Exception):
    """A case does not end."""


def kinds() -> dict:
    """Every generator, by name: (random numbers, workshop) -> Case."""
    from tests.faults import input_kinds, model_kinds, run_kinds, score_kinds, setting_kinds

    modules = (input_kinds, score_kinds, model_kinds, setting_kinds, run_kinds)
    return {kind: make for module in modules for kind, make in module.KINDS.items()}


def plan(cases: int) -> Iterator[tuple[int, str]]:
    """Numbers and kinds of the cases: kinds take turns, those that train or load less often."""
    from tests.faults.run_kinds import WEIGHTS

    turns = [kind for kind in kinds() for _ in range(WEIGHTS.get(kind, 3))]
    order = random.Random(1).sample(turns, len(turns))
    return ((number, order[number % len(order)]) for number in range(cases))


def try_case(workshop: Workshop, number: int, kind: str, seed: int) -> Outcome:
    """Make one case and see what comes of it."""
    draw = random.Random(f"{seed}-{number}-{kind}")
    case = kinds()[kind](draw, workshop)
    before, there = snapshot(workshop.folder), set(workshop.folder.rglob("*"))
    started, printed, said = time.perf_counter(), io.StringIO(), io.StringIO()
    status, raised = 0, ""
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(SECONDS)
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(said):
            status = case.call() or 0
    except SystemExit as error:  # of argparse
        status = error.code or 0
    except TooLong:
        raised = "crash"
    except BaseException:
        raised = "traceback"
        said.write(traceback.format_exc())
    finally:
        signal.alarm(0)
    message = said.getvalue()
    outcome = raised or _judge(case, status, message, printed.getvalue())
    left = {path for path in workshop.folder.rglob("*") if path not in there} - set(case.writes)
    if outcome == "clear error" and left and all(path.is_dir() or path.name in OWN_NOTES for path in left):
        outcome, message = "unclear error", f"it left {sorted(map(str, left))[0]}\n{message}"
    after = snapshot(workshop.folder)
    gone = [path for path, content in before.items() if after.get(path) != content]
    if lost := [path for path in gone if not any(path.is_relative_to(place) for place in case.writes)]:
        outcome, message = "lost", f"{lost[0]} changed\n{message}"
    if workshop.marker.exists():
        workshop.marker.rmdir()
        outcome, message = "silently wrong", f"foreign code ran\n{message}"
    return Outcome(number, kind, case.about, outcome, message[-1500:], time.perf_counter() - started)


def _too_long(*_) -> None:
    raise TooLong


def _judge(case: Case, status: int, message: str, printed: str) -> str:
    if status == 0:
        try:
            fine = case.right is not None and case.right(printed)
        except Exception:
            return "silently wrong"
        return "right" if fine else "silently wrong"
    error = message[message.find("error: ") :] if "error: " in message else ""
    wanted = [name if isinstance(name, tuple) else (name,) for name in case.names]
    named = all(any(text in error for text in texts) for texts in wanted)
    helps = re.search(REMEDIES, error.lower())
    clear = error and named and helps and len(error) < 4000 and not case.works
    return "clear error" if clear else "unclear error"


def watched(folder: str, seed: int, cases: list[tuple[int, str]], done: str) -> None:
    """Try cases one after the other, with a line in a file for each before and after."""
    from tests.faults.run_kinds import shielded

    workshop = Workshop(Path(folder))
    with open(done, "a", encoding="utf-8") as log, shielded(workshop):
        for number, kind in cases:
            print(json.dumps({"begun": number, "kind": kind}), file=log, flush=True)
            found = try_case(workshop, number, kind, seed)
            print(json.dumps(asdict(found)), file=log, flush=True)


def campaign(cases: list[tuple[int, str]], seed: int, folder: Path) -> list[Outcome]:
    """Try cases in a process of their own, and in another behind each that died."""
    (folder / "workshop").mkdir(parents=True)
    Workshop(folder / "workshop").build()
    done, left, found = folder / "done.jsonl", list(cases), {}
    context = multiprocessing.get_context("fork")
    while left:
        process = context.Process(target=watched, args=(str(folder / "workshop"), seed, left, str(done)))
        process.start()
        process.join()
        lines = [json.loads(line) for line in done.read_text(encoding="utf-8").splitlines()]
        found = {line["number"]: Outcome(**line) for line in lines if "outcome" in line}
        if process.exitcode == 0:
            break
        number, kind = lines[-1].get("begun", -1), lines[-1].get("kind", "")
        if number >= 0:
            dead = Outcome(number, kind, "", "crash", f"exit {process.exitcode}", 0)
            with done.open("a", encoding="utf-8") as log:
                print(json.dumps(asdict(dead)), file=log)
            found[number] = dead
        left = [case for case in left if case[0] not in found]
    return [found[number] for number, _ in cases]


def table(found: list[Outcome]) -> str:
    """The counts by kind and in all."""
    counts: Mapping[str, Counter] = {}
    for one in found:
        counts.setdefault(one.kind, Counter())[one.outcome] += 1
    head = ["kind", "cases", *OUTCOMES]
    rows = [[kind, c.total(), *(c[o] for o in OUTCOMES)] for kind, c in sorted(counts.items())]
    total = Counter(one.outcome for one in found)
    rows.append(["all", total.total(), *(total[o] for o in OUTCOMES)])
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def main() -> int:
    """The campaign as a program; its exit status is 1 where something went wrong."""
    parser = argparse.ArgumentParser(description="hostile input, and what comes of it")
    parser.add_argument("--cases", type=int, default=1200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="kinds, separated by commas")
    options = parser.parse_args()
    chosen = options.only.split(",") if options.only else None
    cases = [case for case in plan(options.cases) if chosen is None or case[1] in chosen]
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        found = campaign(cases, options.seed, Path(folder) / "campaign")
    bad = [one for one in found if one.outcome not in GOOD]
    for one in bad:
        print(f"{one.number} {one.kind}: {one.about}\n  {one.outcome}: {one.said.strip()[-700:]}\n")
    print(table(found))
    print(f"seed {options.seed}, {time.perf_counter() - started:.0f} s")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
