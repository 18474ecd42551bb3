"""What a report of a run may show: its numbers, tables and figures, and those kept for it.

Numbers are `runs/<run>/metrics.json`, the keys `run.*` of `runs/<run>/run.json` and, unless the run has its
own, the keys `recorded.*` of `report/recorded.json`. Figures are those of the run; the diagrams, and with
those kept numbers `recorded_*`, are the repository's `fig/`. An experiment that the run left out, or has
from another state of code and data, gives what was kept of an earlier run of the same profile, and no other
(`rlhf_hw.pipeline.kept_results`).
"""

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from rlhf_hw.errors import InputError
from rlhf_hw.figures.diagrams import DIAGRAMS
from rlhf_hw.files import check_readable, read_json
from rlhf_hw.paths import FIG, REPORT
from rlhf_hw.pipeline.graph import RECORDED_RUN, STAGES
from rlhf_hw.pipeline.kept_results import (
    KeptResult,
    experiment_name,
    kept_results,
    left_out,
    own_experiments,
    reduced_experiments,
)
from rlhf_hw.report.fields import Facts, Value

log = logging.getLogger(__name__)


def run_facts(folder: Path, languages: Sequence[str]) -> list[Facts]:
    """What a report of the run in `folder` may name, once for each language.

    Raises:
        FileNotFoundError: the run has no record.
        InputError: it has numbers of an experiment that its record does not count, or a file is torn.
    """
    if (folder / "metrics.json").exists() and not (folder / "run.json").exists():
        raise FileNotFoundError(
            f"{folder / 'run.json'} is missing, which says how the run was made: run the profile again, it "
            "writes that anew and repeats only what is out of date"
        )
    for part in ("metrics", "tables", "fig"):
        check_readable(folder / part)
    own, kept = own_experiments(folder), kept_for(folder)
    hidden = left_out(folder)
    for stem in hidden:
        log.warning("%s is not up to date in %s, and left out of its report", stem, folder)
    files = {path for paths in hidden.values() for path in paths}
    values = load_values(folder, REPORT / "recorded.json", files)
    tables = {p.stem: _read_json(p) for p in sorted((folder / "tables").glob("*.json")) if p not in files}
    for one in kept.values():
        if clash := sorted(one.metrics.keys() & values.keys()):
            raise InputError(
                f"{folder / 'metrics.json'} has numbers of {one.stem}, such as {clash[0]}, and run.json "
                "there does not count that experiment; run the profile again, with --experiments if it is to"
            )
        values, tables = values | one.metrics, tables | one.tables
    marks = {experiment_name(stem): None for stem in own} | kept
    reduced = {experiment_name(stem): stem for stem in reduced_experiments(folder)}
    drawn = [figures(folder, language, files, kept) for language in languages]
    return [
        Facts(values, tables, found, language, marks, reduced)
        for language, found in zip(languages, drawn, strict=True)
    ]


def kept_for(folder: Path) -> dict[str, KeptResult]:
    """What was kept of the experiments that the run in `folder` does not have itself, up to date."""
    own = own_experiments(folder)
    return {name: one for name, one in kept_results(folder.name).items() if one.stem not in own}


def load_values(
    folder: Path, recorded: Path | None = None, hidden: Collection[Path] = ()
) -> dict[str, Value]:
    """Return the flat values of a run: `metrics.json`, `run.*` of `run.json`, `recorded.*`.

    Where the run analysed recorded scores itself, its numbers count and the kept ones are left out: they may
    be those of other rows.

    Args:
        folder: The run's folder.
        recorded: File with the kept numbers of the recorded run.
        hidden: Files in the run's folder, the numbers of notebooks, that do not count.
    """
    values = dict(_flatten(_read_json(folder / "metrics.json")))
    for path in (path for path in hidden if path.parent.name == "metrics"):
        left_out_keys = _read_json(path).keys()
        values = {key: value for key, value in values.items() if key not in left_out_keys}
    if (folder / "run.json").exists():
        run = dict(_flatten(_read_json(folder / "run.json"), "run"))
        # a parameter of 0 limits nothing ("0 for all"): what is said of a limit is left out then
        values |= {k: v for k, v in run.items() if v != 0 or not k.startswith("run.parameters.")}
    if recorded is not None and recorded.exists() and not _has_recorded(values):
        values |= _flatten(_read_json(recorded), "recorded")
    return values


def _has_recorded(values: Mapping) -> bool:
    """Whether a run has analysed recorded scores itself."""
    return any(key.startswith("recorded.") for key in values)


def figures(
    folder: Path,
    language: str = "en",
    hidden: Collection[Path] = (),
    kept: Mapping[str, KeptResult] | None = None,
) -> dict[str, Path]:
    """Return the figures a report of this run may show, by name: PDFs, with an SVG beside each.

    The repository's `fig/` also holds the default profile's figures: no other run may show those as its own.
    A language has its own in a folder of its name; those that are not there are the English ones.

    Those of the recorded run whose numbers are kept are left out where the run has analysed another itself.

    Args:
        folder: The run's folder.
        language: Of the figures' labels.
        hidden: Files in the run's folder that do not count.
        kept: Experiments whose figures are those of the repository.
    """
    numbers = folder / "metrics.json"
    own_rows = numbers.exists() and _has_recorded(dict(_flatten(_read_json(numbers))))
    shown = {*DIAGRAMS, *(() if own_rows else STAGES[RECORDED_RUN].figures)}
    shared = {path.stem: path for path in FIG.glob("*.pdf") if path.stem in shown}
    known = shared | {p.stem: p for p in (folder / "fig").glob("*.pdf") if p not in hidden}
    known |= {name: path for one in (kept or {}).values() for name, path in one.figures.items()}
    own = {name: path.parent / language / path.name for name, path in known.items()}
    translated = {name: path for name, path in own.items() if path.exists()}
    if language != "en" and (missing := known.keys() - translated):
        log.warning(
            "report.%s: English figures, none in its language: %s", language, ", ".join(sorted(missing))
        )
    return known | translated


def _read_json(path: Path):
    form = list if path.parent.name == "tables" else dict
    try:
        return read_json(path, form, "run the notebook that writes it again, with --force")
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing: run the notebooks of this run first") from None


def _flatten(values: Mapping, prefix: str = "") -> Iterator[tuple[str, Value]]:
    """Yield (dotted key, value). A key that has the prefix already keeps its name; lists are left out."""
    for key, value in values.items():
        name = key if not prefix or key.startswith(prefix + ".") else f"{prefix}.{key}"
        if isinstance(value, Mapping):
            yield from _flatten(value, name)
        elif not isinstance(value, list):
            yield name, value
