"""YAML as people mean it, in files of settings and on the command line: YAML 1.2, every key once.

parse_value("1e-6")                 # 1e-06, where PyYAML reads a text
read_yaml(Path("mine.yaml"))        # {"name": "mine", ...}
"""

import re
from pathlib import Path
from typing import Any

import yaml

from rlhf_hw.errors import InputError
from rlhf_hw.files import read_text

FORM = "expected lines of the form `key: value`"


class _Loader(yaml.SafeLoader):
    """YAML 1.2 scalars: `1e-6` is a float, `yes` and `1:30` are text, and a key may stand only once."""

    yaml_implicit_resolvers = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [str(key.value) for key, _ in node.value]
        if len(set(keys)) < len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise InputError(f"line {node.start_mark.line + 1}: the key {twice!r} stands there twice")
        return super().construct_mapping(node, deep)


for _tag, _pattern, _first in [
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf)|\.(nan|NaN)",
        "-+.0123456789",
    ),
    ("null", r"~|null|Null|NULL|None|", ["~", "n", "N", ""]),
]:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), list(_first))
# PyYAML reads a leading zero as octal; a plain decimal is what people mean.
_Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(node.value))


def parse_value(text: str) -> Any:
    """Return the value of YAML text: `3`, `1e-6`, `true`, `null`, `[a, b]`, else the text as it is."""
    if not text:
        return text
    try:
        return yaml.load(text, _Loader)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise InputError(f"not a YAML value: {text!r:.200}; put text with such marks in quotes") from error


def read_yaml(path: Path) -> dict[str, Any]:
    """The content of a YAML file of settings.

    Raises:
        FileNotFoundError: it is not there.
        InputError: it is no YAML, a key stands twice, or it holds something else than `key: value`.
    """
    text = read_text(path)
    try:
        found = yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        line = (error.problem_mark or error.context_mark).line + 1
        raise InputError(f"{path}, line {line}: not YAML ({error.problem}); {FORM}") from error
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise InputError(f"{path}: {' '.join(str(error).split())}; {FORM}") from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: found {type(found).__name__}; {FORM}")
    return found
