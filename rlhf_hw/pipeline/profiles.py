"""Profiles: which parameters each notebook gets, as a validated YAML file.

A profile names parameters for all notebooks (`parameters`) and for single ones (`notebooks`, by the
notebook's name without its number); in a full run experiments get what `full` says instead (module `sizes`).
`--set` changes single values, in both sizes. Every name is checked against what the notebooks declare in
their cell tagged `parameters`, because papermill itself only warns about unknown ones.

    profile = apply_overrides(load_profile("nano"), ["seed=3", "dpo_training.learning_rate=1e-6"])
    parameters = resolve_parameters(profile, sorted(NOTEBOOKS.glob("*.ipynb")))
"""

import ast
import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from rlhf_hw.errors import InputError, did_you_mean, one_line
from rlhf_hw.files import folder_name, usable_path, version_of
from rlhf_hw.paths import PROFILES
from rlhf_hw.pipeline.yaml_values import parse_value, read_yaml

Parameters = dict[str, Any]
RESERVED = {"run": "the profile's name"}


class Profile(BaseModel):
    """The content of one profile file."""

    model_config = ConfigDict(extra="forbid")

    name: str
    title: str
    description: str = ""
    parameters: Parameters = {}
    notebooks: dict[str, Parameters] = {}
    full: dict[str, Parameters] = {}

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, name: str) -> str:
        return folder_name(name, "the name of the run's folder")


@dataclass(frozen=True)
class Declared:
    """One parameter a notebook declares: `name: type = default  # help`."""

    type: str
    default: str
    help: str


def available_profiles() -> list[str]:
    """Return the names of the profiles that come with the package."""
    return sorted(path.stem for path in PROFILES.glob("*.yaml"))


def load_profile(name_or_path: str | Path) -> Profile:
    """Read a profile by its name, or from a YAML file of one's own.

    Raises:
        FileNotFoundError: no such profile; the message lists those there are.
        ValueError: the file is not a profile; the message names the file and the key.
    """
    path = usable_path(name_or_path, "profile")
    if path.suffix not in {".yaml", ".yml"}:
        path = PROFILES / f"{name_or_path}.yaml"
    if not path.is_file():
        raise FileNotFoundError(
            f"no profile {str(name_or_path)!r}: there are {', '.join(available_profiles())}, "
            "or give the path of a .yaml file"
        )
    try:
        return Profile.model_validate(read_yaml(path))
    except ValidationError as error:
        raise InputError(f"{path}: {one_line(error)}") from error


def numbered_notebooks(folder: Path) -> list[Path]:
    """The notebooks of a folder that run in order, by their numbers."""
    return sorted(folder.glob("[0-9][0-9]_*.ipynb"))


def apply_overrides(profile: Profile, overrides: Iterable[str]) -> Profile:
    """Return the profile with `key=value` (all notebooks) and `notebook.key=value` applied in order."""
    parameters = dict(profile.parameters)
    notebooks, full = ({n: dict(v) for n, v in part.items()} for part in (profile.notebooks, profile.full))
    for override in overrides:
        target, equals, text = override.partition("=")
        notebook, dot, key = target.strip().rpartition(".")
        if not equals or not key or (dot and not notebook):
            raise InputError(f"--set {override!r}: write key=value or notebook.key=value")
        if notebook:
            notebooks.setdefault(notebook, {})[key] = parse_value(text)
            full.get(notebook, {}).pop(key, None)
            continue
        parameters[key] = parse_value(text)
        for values in [*notebooks.values(), *full.values()]:  # for all: also where one had a value of its own
            values.pop(key, None)
    return profile.model_copy(update={"parameters": parameters, "notebooks": notebooks, "full": full})


def notebook_name(path: Path) -> str:
    """Return the notebook's name without its number: `04_dpo_training.ipynb` -> `dpo_training`."""
    return re.sub(r"^\d+_", "", path.stem)


def named_notebooks(text: str) -> list[str]:
    """The notebooks that `--only` names, by number or name; none where nothing is said: all are meant.

    Raises:
        InputError: something is said, and it names none.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if text and not names:
        raise InputError(f"--only {text}: names no notebook; give numbers or names, such as 02,03")
    return names


def declared_parameters(path: Path) -> dict[str, Declared]:
    """Return what the notebook's cell tagged `parameters` declares, by name."""
    return _inspect(path, *version_of(path))


def default_values(path: Path) -> Parameters:
    """Return the values that the notebook's parameters have where nothing is injected."""
    return {name: _literal(parameter.default) for name, parameter in declared_parameters(path).items()}


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):  # an expression: its text stands for it
        return text


@functools.lru_cache(maxsize=256)
def _inspect(path: Path, *_version: int) -> dict[str, Declared]:
    import papermill

    found = papermill.inspect_notebook(literal_path(path))
    return {
        name: Declared(p["inferred_type_name"].strip(), p["default"], p["help"]) for name, p in found.items()
    }


def literal_path(path: Path) -> str:
    """papermill reads a path as a format string."""
    return str(path).replace("{", "{{").replace("}", "}}")


def resolve_parameters(profile: Profile, notebooks: Sequence[Path]) -> dict[str, Parameters]:
    """Return the parameters to inject into each notebook, by its file's stem.

    Raises:
        ValueError: names that no notebook declares, or values of another type; all of them in one line.
    """
    declared = {path.stem: declared_parameters(path) for path in notebooks}
    stems = {notebook_name(path): path.stem for path in notebooks}
    errors = _unknown_names(profile, declared, stems)
    resolved: dict[str, Parameters] = {}
    for name, stem in stems.items():
        values = {key: value for key, value in profile.parameters.items() if key in declared[stem]}
        values |= {k: v for k, v in profile.notebooks.get(name, {}).items() if k in declared[stem]}
        resolved[stem] = {}
        for key, value in values.items():
            try:
                resolved[stem][key] = _typed(value, declared[stem][key].type)
            except ValueError as error:
                errors.append(f"{name}.{key} {error}")
        if "run" in declared[stem]:
            resolved[stem]["run"] = profile.name
    if errors:
        raise InputError(f"profile {profile.name}: {'; '.join(errors)}; mend this there, or in --set")
    return resolved


def refuse_other_types(namespace: Mapping[str, Any]) -> None:
    """Hold a running notebook's parameters to the types that its cell declares.

    `papermill -p world false` injects the text "false", which counts as true.

    Args:
        namespace: The names of the notebook, its `__annotations__` among them.

    Raises:
        ValueError: a parameter of another type, with the way to give it.
    """
    errors = []
    for name, kind in namespace.get("__annotations__", {}).items():
        value = namespace.get(name)
        fits = (int, float) if kind is float else kind
        if kind in _PYTHON_TYPES.values() and not (isinstance(value, fits) and _is_bool(value, kind)):
            errors.append(f"{name} takes {kind.__name__}, not {type(value).__name__} {value!r}")
    if errors:
        raise InputError("; ".join(errors) + " (papermill: -p for numbers, True and False; -r for texts)")


def _is_bool(value: Any, kind: type) -> bool:
    return isinstance(value, bool) == (kind is bool)


def _unknown_names(profile: Profile, declared: dict[str, dict], stems: dict[str, str]) -> list[str]:
    everywhere = {key for names in declared.values() for key in names}
    errors = [
        f"no notebook declares the parameter {key!r}{did_you_mean(key, everywhere)}"
        for key in profile.parameters
        if key not in everywhere
    ]
    for name, values in profile.notebooks.items():
        if name not in stems:
            errors.append(f"there is no notebook {name!r}{did_you_mean(name, stems)}")
            continue
        names = declared[stems[name]]
        errors += [
            f"{name} declares no {key!r}{did_you_mean(key, names)}" for key in values if key not in names
        ]
    given = set(profile.parameters).union(*profile.notebooks.values())
    errors += [f"{key!r} is not to be set: it is {RESERVED[key]}" for key in sorted(given & RESERVED.keys())]
    return errors


_PYTHON_TYPES = {"int": int, "float": float, "str": str, "bool": bool, "list": list, "dict": dict}


def _typed(value: Any, annotation: str) -> Any:
    """Return the value as the annotated type takes it; raise ValueError where it does not fit."""
    optional = re.fullmatch(r"Optional\[(.+)\]", annotation)
    if optional:
        return None if value is None else _typed(value, optional[1])
    expected = _PYTHON_TYPES.get(annotation.split("[")[0])
    if expected is None or type(value) is expected:
        return value
    if expected is float and type(value) is int:
        return float(value)
    if expected is str and type(value) in (int, float):  # a list of one number: learning_rates=2e-5
        return str(value)
    raise InputError(f"takes {annotation}, not {type(value).__name__} {value!r}")
