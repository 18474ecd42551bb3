"""One run's folder: where notebooks find what earlier ones wrote, and where numbers and figures go.

`runs/<name>/` holds checkpoints, TensorBoard logs, score files, figures and `metrics.json`. Each stage
(notebook) writes its own `metrics/<stage>.json`; `metrics.json` is their union, so that running a stage
again replaces its numbers and no stale one stays behind.
"""

import json
import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, Protocol, TypeVar

from rlhf_hw.errors import InputError
from rlhf_hw.files import folder_name, read_json, write_json
from rlhf_hw.paths import RUNS
from rlhf_hw.pipeline.fingerprints import code_of, content, hash_of, identity, packages
from rlhf_hw.pipeline.graph import replica

T = TypeVar("T")
log = logging.getLogger(__name__)

MAKE_AGAIN = "RLHF_HW_MAKE_AGAIN"  # environment of kernels: with any value nothing kept is used
READ_BACK = "read_back"  # entry of a note, the artefact's name: the notebook that last ran did not make it
OUTPUTS = ("output_dir", "log_dir")  # settings that say where results go, not what they are


class Recordable(Protocol):
    """What an experiment returns: plain data, for the report and for its notebook."""

    @property
    def metrics(self) -> Mapping[str, Any]: ...

    @property
    def claims(self) -> Mapping[str, bool]: ...

    @property
    def tables(self) -> Mapping[str, list[dict]]: ...


class Run:
    """The folder of one run.

    Args:
        name: The run's name below `runs/`.
        make: (artefact, name of the run) -> None, makes an artefact that is needed and missing.
    """

    def __init__(self, name: str, make: Callable[[str, str], object] | None = None):
        self.name, self.make = folder_name(name, "run"), make
        self.path = RUNS / name  # made with the first file that is written there

    @property
    def fig(self) -> Path:
        """The folder for figures, which is there then."""
        folder = self.path / "fig"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def __truediv__(self, relative: str) -> Path:
        return self.path / relative

    def scores(self, name: str) -> Path:
        """Path of the score file called `name`."""
        path = self.path / "scores" / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def need(self, artefact: str, replicate: int = 0) -> Path:
        """Path of an artefact, or of one replicate of it; if it is missing, its notebook makes it first.

        That notebook runs with the parameters that this run's record holds for it: those it last ran with,
        else those of the profile that was last run here, else its own defaults. It gets its stamp, so that
        the next `rlhf-hw run` with the same parameters has nothing to do.

        Raises:
            ValueError: no notebook makes it, or the one that can did not with these parameters.
        """
        artefact = replica(artefact, replicate)
        path = self.path / artefact
        if not path.exists() and self.make is not None:
            self.make(artefact, self.name)
            if not path.exists():
                raise InputError(f"{path}: the notebook that can make it did not with this run's parameters")
        return path

    def kept(
        self, artefact: str, make: Callable[[], T], load: Callable[[Path], T], settings: Mapping[str, Any]
    ) -> T:
        """What `make` returns; where the same call made the artefact before, what `load` reads back from it.

        So an edit of a figure draws it again and trains nothing. The same call: the same settings, the same
        content of the files that they name, and the same library code behind the functions that `make` names.
        What failed, what resumes an earlier training (`resume` in the settings), and what was changed since
        is made again, and so is everything in `rlhf-hw run --force`.

            settings = config.model_dump(mode="json")
            results.kept("dpo", lambda: run_training("dpo", config), load_result, settings)

        Args:
            artefact: File or folder of the run that `make` writes.
            make: Called without arguments; it names what it calls of the library.
            load: Reads the result back from the artefact's path.
            settings: Everything else that the result depends on; `output_dir` and `log_dir` do not count.

        Raises:
            ValueError: `make` names nothing of the library, so that no change of code would be seen.
        """
        return self.kept_all([artefact], lambda _: [make()], load, [settings], of=make)[0]

    def kept_all(
        self,
        artefacts: Sequence[str],
        make: Callable[[list[int]], Iterable[T]],
        load: Callable[[Path], T],
        settings: Sequence[Mapping[str, Any]],
        of: Callable | None = None,
    ) -> list[T]:
        """`kept` for several artefacts that are made together, for instance one for each replicate.

            train = lambda which: run_trainings("rm", [configs[n] for n in which])
            trained = results.kept_all(names, train, load_result, settings)

        Args:
            artefacts: Files or folders of the run.
            make: Makes those whose numbers it is given; its results come in that order, and each is noted as
                it comes, so that an end in the middle loses only what was not made yet.
            load: Reads a result back from its artefact's path.
            settings: Of each.
            of: The function whose names count as the call; default: `make`.
        """
        call, modules = _named_in(of or make)
        code = code_of("\n".join(f"import {module}" for module in modules))
        keys, found, left = [], {}, []
        for number, (artefact, values) in enumerate(zip(artefacts, settings, strict=True)):
            path, note = self.path / artefact, self._note(artefact)
            depends = {key: value for key, value in values.items() if key not in OUTPUTS}
            key = hash_of(settings=identity(depends), call=call, code=code, versions=packages())
            keys.append(key)
            again = os.environ.get(MAKE_AGAIN) or values.get("resume")
            made = {"key": key, "content": content(path)} if path.exists() and not again else {}
            if made and {k: v for k, v in _read_note(note).items() if k != READ_BACK} == made:
                log.warning("%s: read back, the same settings, data and code made it before", artefact)
                found[number] = load(path)
                write_json(note, made | {READ_BACK: artefact})  # its notebook's time is not that of making it
            else:
                note.unlink(missing_ok=True)
                left.append(number)
        for number, result in zip(left, make(left) if left else (), strict=True):
            found[number] = result
            if not settings[number].get("resume"):
                written = {"key": keys[number], "content": content(self.path / artefacts[number])}
                write_json(self._note(artefacts[number]), written)
        return [found[number] for number in range(len(artefacts))]

    def _note(self, artefact: str) -> Path:
        """Where stands under which settings an artefact was made."""
        return self.path / "kept" / f"{artefact.replace('/', '-')}.json"

    def record(self, stage: str, found: Mapping[str, Any] | Recordable) -> None:
        """Replace the numbers of one stage and rewrite `metrics.json`; a result's tables are written, too.

        Args:
            stage: Name of the stage, for example "02".
            found: Flat mapping from dotted key to number or text, or a result: its metrics, a key
                `claims.<name>` for each claim that holds, its tables.

        Raises:
            ValueError: A value is nested, or another stage already wrote a key.
        """
        if not isinstance(found, Mapping):
            for name, rows in found.tables.items():
                self.table(name, rows)
            found = {**found.metrics, **claims(**found.claims)}
        clean = {key: plain_value(key, value) for key, value in found.items()}
        others = self._stages(skip=stage)
        clash = sorted(set(clean) & set(others))
        if clash:
            raise InputError(f"{self.path}: stage {stage} writes keys of another stage: {clash[:5]}")
        write_json(self.path / "metrics" / f"{stage}.json", clean)
        write_json(self.path / "metrics.json", dict(sorted({**others, **clean}.items())))

    def table(self, name: str, rows: list[dict]) -> None:
        """Write a table for the report: a list of flat rows."""
        write_json(self.path / "tables" / f"{name}.json", rows)

    def _stages(self, skip: str = "") -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for path in sorted((self.path / "metrics").glob("*.json")):
            if path.stem != skip:
                merged.update(read_json(path, remedy="run its notebook again, with --force"))
        return merged


def _read_note(path: Path) -> dict[str, Any]:
    """What stands in a note of something kept; empty where there is none, or none that is whole."""
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def read_back(folder: Path) -> int:
    """How many results that a run has its notebooks did not make but read back, when they last ran."""
    names = (_read_note(path).get(READ_BACK) for path in (folder / "kept").glob("*.json"))
    return sum(isinstance(name, str) and (folder / name).exists() for name in names)


def _named_in(function: Callable) -> tuple[list[str], list[str]]:
    """Names and constants in a function's code, and the library's modules that it lies in or names."""
    code: CodeType = function.__code__
    inside = list(_codes(code))
    names = sorted({name for part in inside for name in part.co_names})
    constants = [repr(c) for part in inside for c in part.co_consts if not isinstance(c, CodeType)]
    values = [function, *(function.__globals__.get(name) for name in names)]
    values += [cell.cell_contents for cell in function.__closure__ or ()]
    modules = {
        value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None) or ""
        for value in values
    }
    # a notebook's own functions count by their code
    own = (v for v in values[1:] if isinstance(v, FunctionType) and not v.__module__.startswith("rlhf_hw."))
    constants += [f"{v.__code__.co_code.hex()} {v.__code__.co_consts!r}" for v in own]
    found = sorted(name for name in modules if name.startswith("rlhf_hw."))
    if not found:
        raise InputError("kept: `make` names nothing of the library, so no change of its code would be seen")
    return [*names, *constants], found


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A function's code and that of the functions inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def plain_value(key: str, value: Any) -> Any:
    """Return a number, text or flag as plain Python; NaN and nested values are refused."""
    if isinstance(value, str | bool):
        return value
    if getattr(value, "ndim", 0) or isinstance(value, list | dict | tuple) or value is None:
        raise InputError(f"metric {key!r}: expected one number or text, found {type(value).__name__}")
    number = value.item() if "item" in dir(value) else value
    if isinstance(number, float) and not math.isfinite(number):
        raise InputError(f"metric {key!r} is {number}; a report cannot show it")
    return number


def claims(**statements: bool) -> dict[str, bool]:
    """Flags for the report: only true statements become keys, `claims.<name>`."""
    return {f"claims.{name}": True for name, true in statements.items() if true}


def read_back_metric(folder: Path) -> dict[str, int]:
    """`run.read_back` where there is something to tell: the report's conditions ask whether a key exists."""
    count = read_back(folder)
    return {"run.read_back": count} if count else {}
