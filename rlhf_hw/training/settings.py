"""What all settings share: names that are known, numbers that are numbers, and bounds where they say none."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from rlhf_hw.errors import InputError, one_line

MANY = 10**9  # beyond it no run ends, and products are no numbers of the machine
# of rates, weights and other factors: what is larger teaches nothing, and its powers overflow
LARGE = 1e6
# of one machine: a few can be tried on any, more than it has processors gain nothing, thousands stop it
PROCESSES = max(16, os.cpu_count() or 1)


class Settings(BaseModel):
    """Named values that are checked when they are given; one that is not known is refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any], **given: Any) -> Self:
        """Build settings from the fields that a notebook names among its parameters, and what is given."""
        return cls(**{name: parameters[name] for name in cls.model_fields if name in parameters} | given)

    @classmethod
    def from_file(cls, path: Path | None, values: Mapping[str, Any], given: Mapping[str, Any]) -> Self:
        """Build settings from what stands in a file, and what is given beside it and wins.

        Raises:
            InputError: naming the file where the fault lies in it.
            ValidationError: the fault lies in what is given.
        """
        try:
            return cls.model_validate({**values, **given})
        except ValidationError as error:
            read = {str(name) for name in values.keys() - given.keys()}
            named = {str(e["loc"][0]) for e in error.errors() if e["loc"]}
            if not read & (named or {one_line(error).partition(":")[0]}):
                raise
            raise InputError(f"{path}: {one_line(error)}") from error

    @model_validator(mode="before")
    @classmethod
    def _no_number_is_true(cls, values: Any) -> Any:
        """pydantic would read true as 1."""
        numbers = {n for n, f in cls.model_fields.items() if f.annotation in (int, float, int | None)}
        for name in sorted(n for n in numbers & dict(values).keys() if isinstance(values[n], bool)):
            raise InputError(f"{name}: expected a number, found {str(values[name]).lower()}")
        return values

    @classmethod
    def describe(cls, name: str) -> str:
        """What a setting means, for `--help`."""
        return cls.model_fields[name].description or ""

    @model_validator(mode="after")
    def _numbers_have_an_end(self) -> Self:
        """Where a setting says none: at `MANY` for whole numbers, at `LARGE` for others, of either sign."""
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if type(value) not in (int, float) or any(
                hasattr(m, "le") or hasattr(m, "lt") for m in field.metadata
            ):
                continue
            most = MANY if field.annotation in (int, int | None) else LARGE
            if abs(value) > most:
                raise InputError(f"{name}: expected at most {most:g}, found {value}")
        return self
