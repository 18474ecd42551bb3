"""The reply explorer: one HTML file with its data, style and scripts, to look at every reply of a run.

    write_explorer(explored_run(folder), folder / "report" / "explorer.html", "en")

The data come from `experiments.explored`. `report/explorer/` holds the frame (`page.html`), the style, the
words in both languages (`labels.yaml`) and the scripts, in the order of `SCRIPTS`. The page loads nothing:
its security policy allows its own style and script, by their hashes, and no request. Texts are data in JSON,
in which no `<`, `>` or `&` stands as itself, and the scripts set them as text; no reply can act as code.
"""

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from rlhf_hw.errors import InputError
from rlhf_hw.files import write_text
from rlhf_hw.paths import REPORT
from rlhf_hw.report import LANGUAGES

FOLDER = REPORT / "explorer"
SCRIPTS = ("cases.js", "texts.js", "charts.js", "reading.js", "view.js")
PAGE = "explorer.html"  # beside the report's pages, which link to it
_ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029\ufeff"}
_SURROGATE = re.compile("[\ud800-\udfff]")
_HOLE = re.compile(r"\{\{([\w-]+)\}\}")


def write_explorer(found: Mapping[str, Any], path: Path, language: str = "en") -> Path:
    """Write the page.

    Args:
        found: What `experiments.explored` found, plain data.
        path: The file to write.
        language: In which it opens; it speaks both.

    Returns:
        The path.

    Raises:
        InputError: an unknown language, or data that JSON cannot say.
    """
    if language not in LANGUAGES:
        raise InputError(f"language {language} is not one of {', '.join(LANGUAGES)}")
    labels = read_labels()
    table = {tongue: {key: words[tongue] for key, words in labels.items()} for tongue in LANGUAGES}
    style = (FOLDER / "style.css").read_text(encoding="utf-8")
    scripts = "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in SCRIPTS)
    script = f'"use strict";\n(() => {{\n{scripts}}})();\n'
    parts = {
        "policy": security_policy(style, script),
        "title": html.escape(table[language]["title"].format(found["title"])),
        "no-script": html.escape(" ".join(table[tongue]["no-script"] for tongue in LANGUAGES)),
        "style": style,
        "script": script,
        "labels": as_data({"start": language, "table": table}),
        "replies": as_data(found),
    }
    page = (FOLDER / "page.html").read_text(encoding="utf-8")
    write_text(path, _HOLE.sub(lambda hole: parts[hole[1]], page))  # in one pass: data are never looked into
    return path


def explorer_options(page: Path) -> list[str]:
    """What tells pandoc to link a page of the report to the explorer; nothing where none lies beside it.

    `views.yaml` says which figure leads to which cases.
    """
    there = page.with_name(PAGE).exists()
    return [f"--metadata=explorer:{PAGE}", f"--metadata-file={FOLDER / 'views.yaml'}"] if there else []


def read_labels() -> dict[str, dict[str, str]]:
    """The words of the page: key -> language -> text."""
    return yaml.safe_load((FOLDER / "labels.yaml").read_text(encoding="utf-8"))


def security_policy(style: str, script: str) -> str:
    """The content security policy of a page with this style and this script, which may do nothing else."""
    allowed = {"style-src": style, "script-src": script}
    hashes = {
        name: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for name, text in allowed.items()
    }
    own = [f"{name} 'sha256-{digest}'" for name, digest in hashes.items()]
    return "; ".join(["default-src 'none'", *own, "base-uri 'none'", "form-action 'none'"])


def as_data(content: Any) -> str:
    """Plain data as JSON that can stand in a script element, whatever its texts hold."""
    try:
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError as error:
        raise InputError(f"the explorer's data: {error}") from error
    # outside of texts JSON has none of these characters
    return _SURROGATE.sub(lambda half: f"\\u{ord(half[0]):04x}", text.translate(_ESCAPES))
