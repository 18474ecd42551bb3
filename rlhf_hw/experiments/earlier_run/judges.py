"""The judges of the earlier run's replies, trained and asked by one command (notebook 13).

    python -m rlhf_hw.experiments.earlier_run.judges --data DATA --out judges --seeds 0 1 2

`DATA` holds `hh-rlhf/` and `earlier-run/`, as the folder that RLHF_HW_REAL_DATA names. Seed by seed, for each
rendering and kind of pairs, a reward model is trained and scores what `judged_replies` reads. Below `--out`:

    scores/<rendering>/<kind>-<seed>/   score files and the training's record: all that notebook 13 needs
    judges/<rendering>/<kind>-<seed>/   the reward model; with --scores-only it goes once it has scored all;
                                        not of one that is there already (--trained)
    cut/, models/                       replies cut to equal length; the model with the run's own template

What is there already is not made again, so that the same command goes on where one was stopped.
"""

import argparse
import gc
import logging
import os
import shutil
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from pydantic import ValidationError

from rlhf_hw.errors import Explained, InputError, one_line
from rlhf_hw.experiments.earlier_run.judged_replies import (
    CUT,
    GENERATED,
    KINDS_OF_PAIRS,
    RENDERINGS,
    file_of,
    has,
    placed,
    read_earlier,
    write_cut,
)
from rlhf_hw.experiments.earlier_run.planned_judges import (
    PLAIN_TEMPLATE,
    JudgePlan,
    PlannedJudge,
    StepClock,
    TimeIsUp,
)
from rlhf_hw.experiments.earlier_run.telling import FOLDERS
from rlhf_hw.experiments.score_texts import asked_reply, score_pairs_of, score_replies
from rlhf_hw.files import write_json, write_text
from rlhf_hw.models.pretrained import locate
from rlhf_hw.models.scoring import RewardModel
from rlhf_hw.paths import from_here, real_data, resolve
from rlhf_hw.preferences.reading import load_preferences
from rlhf_hw.preferences.score_files import write_scores
from rlhf_hw.preferences.sources import read_rows
from rlhf_hw.training.config import RewardTraining
from rlhf_hw.training.folders import RECORD
from rlhf_hw.training.run import train_reward_model

TELLING = "rlhf_hw.experiments.earlier_run"  # what tells steps, also where this is the main module
log = logging.getLogger(f"{TELLING}.judges")


def make_judges(plan: JudgePlan, judges: Sequence[PlannedJudge], clock: StepClock) -> list[PlannedJudge]:
    """Train what is not trained and score what is not scored, judge by judge.

    Args:
        plan: What it is made of.
        judges: In this order.
        clock: Of the steps.

    Returns:
        The judges that are complete; fewer than asked for where the time is up.

    Raises:
        InputError, FileNotFoundError: data are missing or of another form, or a judge was trained otherwise.
    """
    for judge in judges:
        judge.check()
    try:
        if not all(judge.is_complete for judge in judges):
            texts = texts_to_score(plan, judges)
            for judge in (judge for judge in judges if not judge.is_complete):
                complete_judge(judge, texts, clock)
    except TimeIsUp as reached:
        log.info("stopped before %s: the time is up", reached)
    return [judge for judge in judges if judge.is_complete]


def texts_to_score(plan: JudgePlan, judges: Sequence[PlannedJudge]) -> dict[str, tuple[bool, list]]:
    """Everything that the judges score: name of the score file -> whether it is pairs, and what it is."""
    earlier = plan.data / FOLDERS[0]
    replies = {name: placed(earlier, name) for name in GENERATED.values()}
    cut = write_cut(read_earlier(earlier), plan.out / "cut")
    replies |= dict(zip(CUT.values(), cut, strict=True))
    found: dict[str, tuple[bool, list]] = {
        name: (False, [asked_reply(place, row) for place, row in read_rows(str(path))])
        for name, path in replies.items()
    }
    pairs, _ = load_preferences(str(placed(earlier, "train_pairs")), "PKUSafeRLHF")
    found[file_of("chosen")] = (True, pairs)
    for name in sorted({name for judge in judges for name in KINDS_OF_PAIRS[judge.kind]}):
        found[f"validation_{name}"] = (True, load_preferences(plan.sources([name]), "HH", "test")[0])
    return found


def complete_judge(judge: PlannedJudge, texts: dict[str, tuple[bool, list]], clock: StepClock) -> None:
    """Train one judge where it is not trained, and let it score what it has not scored.

    Raises:
        TimeIsUp: the next step would not end in time.
    """
    if not (judge.model / RECORD).exists():
        for name in (RECORD, *(f"{name}.jsonl" for name in judge.files)):  # of one that is gone
            (judge.scores / name).unlink(missing_ok=True)
        with clock.step(str(judge), "train") as done:
            done += range(train_judge(judge))
    if judge.is_given:  # first, so that no other model goes on with its scores
        write_json(judge.scores / RECORD, judge.given_record)
    model = None
    for name in (name for name in judge.files if not has(judge.scores, name)):
        with clock.step(str(judge), name) as done:
            model = model or RewardModel(judge.model, judge.plan.settings["dtype"], **judge.limits)
            paired, rows = texts[name]
            done += (score_pairs_of if paired else score_replies)(model, rows)
            write_scores(judge.scores / f"{name}.jsonl", done)
    if not judge.is_given:
        write_text(judge.scores / RECORD, (judge.model / RECORD).read_text(encoding="utf-8"))
    if judge.plan.scores_only and not judge.is_given:
        shutil.rmtree(judge.model)


def train_judge(judge: PlannedJudge) -> int:
    """Train a judge; return the number of its pairs."""
    plan = judge.plan
    config = RewardTraining(
        model=str(rendered_model(plan, judge.rendering)),
        output_dir=judge.model,
        train_dataset=plan.sources(KINDS_OF_PAIRS[judge.kind]),
        train_template="HH",
        seed=judge.seed,
        report_to="none",
        **plan.settings,
    )
    pairs = int(train_reward_model(config).metrics["pairs"])
    gc.collect()  # the trainer and its model hold each other
    return pairs


def rendered_model(plan: JudgePlan, rendering: str) -> Path:
    """The pretrained model: as it is for "chat", for "plain" a copy with the earlier run's template."""
    folder = resolve(locate(plan.model))
    if not folder.is_dir():
        raise FileNotFoundError(f"{plan.model}: no folder of a model; name one, or smollm2-135m")
    made = plan.out / "models" / rendering
    if rendering == "plain":
        if not (made / "chat_template.jinja").exists():  # written last
            left_out = shutil.ignore_patterns("chat_template.jinja", "rendering.json", RECORD, ".*")
            shutil.copytree(folder, made, copy_function=_link_or_copy, ignore=left_out, dirs_exist_ok=True)
            write_text(made / "chat_template.jinja", PLAIN_TEMPLATE)
        return made
    return folder


def _link_or_copy(source: str, target: str) -> None:
    """Weights take no room a second time where the disk allows it."""
    Path(target).unlink(missing_ok=True)
    try:
        os.link(os.path.realpath(source), target)
    except OSError:
        shutil.copy2(source, target)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command, see the module's docstring; return the exit status."""
    logging.basicConfig(format="%(message)s", stream=sys.stdout, level=logging.WARNING)
    logging.getLogger(TELLING).setLevel(logging.INFO)
    options = command_line().parse_args(arguments)
    named = ("max_train", "epochs", "learning_rate", "max_prompt_tokens", "max_reply_tokens")
    settings = {name: getattr(options, name) for name in (*named, "batch_size", "dtype")}
    settings["gradient_accumulation_steps"] = options.accumulation
    try:
        if options.data is None:
            raise InputError(
                "--data: name the folder with hh-rlhf/ and earlier-run/, or set RLHF_HW_REAL_DATA"
            )
        model = from_here(options.model)
        trained = given_models(options.trained)
        plan = JudgePlan(
            options.data.resolve(), options.out.resolve(), model, settings, options.scores_only, trained
        )
        order = product(options.seeds, options.renderings, options.kinds)
        judges = [PlannedJudge(plan, rendering, kind, seed) for seed, rendering, kind in order]
        if unasked := trained.keys() - {str(judge) for judge in judges}:
            raise InputError(
                f"--trained {min(unasked)}: --renderings, --kinds and --seeds ask for no such judge"
            )
        done = make_judges(plan, judges, StepClock(options.seconds))
    except (Explained, OSError, ValidationError) as error:
        sys.stderr.write(f"error: {one_line(error)}\n")
        return 1
    log.info("%d of %d judges are complete; their scores: %s", len(done), len(judges), plan.out / "scores")
    return 0


def given_models(named: Sequence[str]) -> dict[str, Path]:
    """Judges that are trained already, from `<rendering>/<kind>-<seed>=FOLDER`.

    Raises:
        InputError: a text has no "=", or a judge is named twice.
    """
    found: dict[str, Path] = {}
    for text in named:
        judge, sign, folder = text.partition("=")
        if not (judge and sign and folder) or judge in found:
            raise InputError(f"--trained {text}: write each judge once, as chat/helpful-0=FOLDER")
        found[judge] = Path(from_here(folder)).resolve()
    return found


def command_line() -> argparse.ArgumentParser:
    """The flags; defaults are those of the kept numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, default=real_data(), help="with hh-rlhf/ and earlier-run/; RLHF_HW_REAL_DATA"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder below which everything is written")
    parser.add_argument("--model", default="smollm2-135m", help="pretrained model: a folder or this name")
    several = {"nargs": "+", "metavar": "NAME"}
    parser.add_argument("--kinds", choices=[*KINDS_OF_PAIRS], default=[*KINDS_OF_PAIRS], **several)
    parser.add_argument("--renderings", choices=RENDERINGS, default=[*RENDERINGS], **several)
    parser.add_argument("--seeds", type=int, nargs="+", metavar="N", default=[0, 1, 2])
    parser.add_argument(
        "--trained",
        nargs="+",
        metavar="JUDGE=FOLDER",
        default=[],
        help="reward models that are there already, as chat/helpful-0=runs/smollm2/reward_model",
    )
    parser.add_argument("--seconds", type=float, metavar="N", help="begin no step that would end later")
    parser.add_argument("--scores-only", action="store_true", help="remove what has scored everything")
    numbers = {"batch_size": 16, "accumulation": 1, "max_train": 1865}
    numbers |= {"max_prompt_tokens": 320, "max_reply_tokens": 640}
    texts = {"batch_size": "pairs at a time", "accumulation": "batches added up before a step of training"}
    for name, value in numbers.items():
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(
            flag, type=int, metavar="N", default=value, help=texts.get(name, "default: %(default)s")
        )
    for name, number in {"epochs": 1.0, "learning_rate": 1e-4}.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, metavar="X", default=number)
    parser.add_argument("--dtype", choices=["auto", "bf16", "fp32"], default="auto")
    return parser


if __name__ == "__main__":
    sys.exit(main())
