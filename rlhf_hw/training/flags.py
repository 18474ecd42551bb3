"""The settings of a training as flags of the command line, one for each field.

add_flags(parser, SETTINGS["rm"])        # --learning-rate FLOAT, ...
"""

import argparse
import types
import typing
from typing import Any


def add_flags(parser: argparse.ArgumentParser, settings: Any) -> None:
    """Add a flag for each field of the settings, described as it is there, with its default.

    Values stay text: pydantic converts and checks them, with the field's own message.

    Args:
        parser: Gets the flags; one that is not given leaves no trace in its result.
        settings: A class of `rlhf_hw.training.config`.
    """
    for name, field in settings.model_fields.items():
        default = "" if field.is_required() else f" [{field.default}]"
        flag = f"--{name.replace('_', '-')}"
        text = f"{settings.describe(name)}{default}".replace("%", "%%")
        shared = {"dest": name, "default": argparse.SUPPRESS, "help": text}
        if field.annotation is bool:
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, **shared)
        else:
            parser.add_argument(flag, metavar=_type_name(field.annotation), **shared)


def _type_name(annotation: Any) -> str:
    if typing.get_origin(annotation) is typing.Literal:
        return "|".join(map(str, typing.get_args(annotation)))
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        return _type_name(typing.get_args(annotation)[0])
    return annotation.__name__.lower()
