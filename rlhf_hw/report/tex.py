"""Run XeLaTeX on a source, and read what its log tells."""

import logging
import os
import re
import shutil
import subprocess
from pathlib import Path

from rlhf_hw.errors import RunFailed
from rlhf_hw.report.glyphs import lay_fonts

log = logging.getLogger(__name__)

TEX_PACKAGES = (
    "texlive-xetex texlive-lang-chinese texlive-latex-recommended texlive-fonts-recommended lmodern latexmk"
)
TEX_RUNS = 4  # table of contents and references settle in two or three


def has_tex() -> bool:
    """Tell whether XeLaTeX, the class ctexart, its Fandol fonts and hyperref's symbol font are all here."""
    if not (shutil.which("xelatex") and shutil.which("kpsewhich")):
        return False
    wanted = ["ctexart.cls", "FandolSong-Regular.otf", "unicode-math.sty", "caption.sty", "pzdr.tfm"]
    return subprocess.run(["kpsewhich", *wanted], capture_output=True, check=False).returncode == 0


def run_xelatex(source: Path) -> str:
    """Run XeLaTeX until its references settle; check its log and return it."""
    fixed = {"SOURCE_DATE_EPOCH": "0", "FORCE_SOURCE_DATE": "1", "max_print_line": "1000", "MKTEXTFM": "0"}
    environment = {**os.environ, **fixed, "TTFONTS": f"{lay_fonts(source.parent)}:"}
    command = ["xelatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", source.name]
    for suffix in (".aux", ".toc", ".out"):
        source.with_suffix(suffix).unlink(missing_ok=True)
    before = None
    for number in range(TEX_RUNS):
        done = subprocess.run(command, cwd=source.parent, env=environment, capture_output=True, check=False)
        tex_log = source.with_suffix(".log").read_text(encoding="utf-8", errors="replace")
        if done.returncode:
            error = _first_error(tex_log)
            said = error or f"exit status {done.returncode}: {done.stdout[-400:].decode(errors='replace')}"
            if error or number == TEX_RUNS - 1:
                raise RunFailed(f"xelatex failed on {source.name}:\n{said}")
            # TeX itself found nothing wrong: what writes the PDF for it was stopped, for want of memory, say
            log.warning("xelatex ended without an error of TeX's on %s, it runs again: %s", source.name, said)
            continue
        now = [
            path.read_bytes()
            for suffix in (".aux", ".toc", ".out")
            if (path := source.with_suffix(suffix)).exists()
        ]
        if now == before:
            break
        before = now
    if problems := latex_problems(tex_log):
        raise RunFailed(f"{source.name}: " + "; ".join(problems))
    return tex_log


def latex_problems(tex_log: str) -> list[str]:
    """Return the lines of a TeX log that mean an incomplete document."""
    wanted = re.compile(
        r"undefined references|Reference `[^']*' on page|Missing character:.*|multiply defined"
    )
    lines = (line.strip() for line in tex_log.splitlines() if wanted.search(line))
    return list(dict.fromkeys(lines))


def _first_error(tex_log: str) -> str:
    """The lines from TeX's first error on; empty where it tells of none."""
    lines = tex_log.splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith("!")), len(lines))
    return "\n".join(lines[start : start + 12])
