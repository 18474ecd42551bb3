"""The record of a run, `run.json` in its folder: profile, what each notebook ran with, machine, versions."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rlhf_hw.errors import InputError, one_line
from rlhf_hw.files import read_json, write_json
from rlhf_hw.pipeline.profiles import Profile

REMEDY = "remove it and run again with --force"
FORMS = {"profile": dict, "parameters": dict, "seconds": dict, "experiments": list, "reduced": list}


def read_record(folder: Path) -> dict[str, Any]:
    """The record in a run's folder, empty where there is none.

    Raises:
        InputError: it is torn, or something else stands where notebooks or their parameters should.
    """
    file = folder / "run.json"
    if not file.exists():
        return {}
    record = read_json(file, remedy=REMEDY)
    wrong = [key for key, form in FORMS.items() if not isinstance(record.get(key, form()), form)]
    if not wrong:
        ran_with = record.get("parameters", {})
        wrong = [f"parameters.{stem}" for stem, values in ran_with.items() if not isinstance(values, dict)]
    if wrong:
        raise InputError(f"{file}: key {wrong[0]!r} does not hold what a run writes there; {REMEDY}")
    return record


def recorded_profile(folder: Path) -> Profile | None:
    """The profile that was last run in a folder, with what `--set` changed; None where none was.

    Raises:
        InputError: the record is damaged.
    """
    record = read_record(folder)
    try:
        return Profile.model_validate(record["profile"]) if "profile" in record else None
    except ValidationError as error:
        raise InputError(f"{folder / 'run.json'}: profile: {one_line(error)}; {REMEDY}") from error


def was_last_run(folder: Path, profile: Profile) -> bool:
    """Whether a profile, `--set` included, is the one last run in a folder; of a damaged record none is."""
    try:
        return recorded_profile(folder) == profile
    except InputError:
        return False


def note_in_record(folder: Path, **found: Any) -> None:
    """Write into the record; parameters and seconds of other notebooks stay."""
    record = read_record(folder)  # anew: a notebook may have run another meanwhile
    for key, value in found.items():
        record[key] = record.get(key, {}) | value if key in ("parameters", "seconds") else value
    write_json(folder / "run.json", record)
