"""Typeset a checked pandoc document as PDF, through XeLaTeX or Typst, and as one self-contained HTML page.

pandoc comes from the `pypandoc_binary` wheel, Typst from the `typst` wheel; only XeLaTeX and, for Chinese by
Typst, a font come from the system. `report/conf.typ` (Typst), `report/header.tex` (XeLaTeX) and
`report/style.css` (HTML) decide how it looks. All routes run `report/tables.lua` (tables kept on one page),
`report/xref.lua` (cross-references) and citeproc, and treat every warning as an error: a report is complete
or it is not written. Time stamps are fixed, so that the same inputs give the same bytes.
"""

import logging
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pypandoc
import typst

from rlhf_hw.errors import InputError, RunFailed
from rlhf_hw.paths import REPORT

log = logging.getLogger(__name__)

TEX_PACKAGES = (
    "texlive-xetex texlive-lang-chinese texlive-latex-recommended texlive-fonts-recommended lmodern latexmk"
)
CJK_FONT = "Noto Serif CJK SC"
CJK_PACKAGE = "fonts-noto-cjk"
TEX_RUNS = 4  # table of contents and references settle in two or three

# Words and conventions of each language. Chinese lines join without a space, and Chinese quotes stay.
READER = {"en": "markdown", "zh": "markdown-smart+east_asian_line_breaks"}
WRITER_SUFFIX = {"en": "", "zh": "-smart"}
LANGUAGE_TAGS = {"en": "en", "zh": "zh-CN"}
REFERENCES = {"en": "References", "zh": "参考文献"}
CONTENTS = {"en": "Contents", "zh": "目录"}
ABSTRACT = {"en": "Abstract", "zh": "摘要"}
# Raw HTML and TeX are not read: a report has one source for three formats, and no text can act as code.
NO_RAW = "-raw_html-raw_tex-raw_attribute-native_divs-native_spans-latex_macros"


_BEFORE = re.compile(r"(?<=[\u4e00-\u9fff])(?=-?@\{?[A-Za-z])")
_AFTER = re.compile(r"@([A-Za-z][\w:.-]*)(?=[\u4e00-\u9fff])", re.ASCII)


@dataclass(frozen=True)
class Document:
    """A checked report: its pandoc syntax tree, and the folder to build it in, with its figures in `fig/`."""

    tree: Path
    language: str
    folder: Path
    bibliography: Path
    has_chinese: bool

    @property
    def name(self) -> str:
        """File name without suffix, for example `report.en`."""
        return self.tree.stem

    @property
    def short(self) -> bool:
        """A few pages to hand in: no list of contents, and set closer."""
        return self.name.startswith("report.short.")


def pandoc(arguments: list[str], text: str | None = None, folder: Path | None = None) -> str:
    """Run pandoc; return what it prints.

    Raises:
        RuntimeError: pandoc failed or, where asked by `--fail-if-warnings`, warned.
    """
    done = subprocess.run(
        [pypandoc.get_pandoc_path(), *arguments],
        input=text,
        cwd=folder,
        text=True,
        encoding="utf-8",
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise RunFailed(f"pandoc: {done.stderr.strip()}")
    return done.stdout


def parse(markdown: str, language: str) -> str:
    """Return pandoc's syntax tree (JSON) of a Markdown text.

    pandoc takes Chinese characters that touch a citation for letters of its key, or of an e-mail
    address, so `见@fig:x和` is read as `见 @{fig:x}和`, with a space of no width.
    """
    markdown = _BEFORE.sub("\u200b", _AFTER.sub(r"@{\1}", markdown))
    return pandoc(["--from", READER[language] + NO_RAW, "--to", "json", "--fail-if-warnings"], markdown)


def pdf_engines(engine: str, language: str, has_chinese: bool) -> list[str]:
    """Choose the PDF routes for a document: `auto` is XeLaTeX where it works, else Typst; `both` is both.

    A route that is not possible here is left out, and one log line says what to install.
    """
    if engine not in ("auto", "both", "xelatex", "typst"):
        raise InputError(f"engine '{engine}' is not one of auto, xelatex, typst, both")
    tex, typst_ready = _has_tex(), not has_chinese or has_typst_font(CJK_FONT)
    if engine == "auto":
        engine = "xelatex" if tex else "typst"
    routes = []
    if engine in ("xelatex", "both"):
        if tex:
            routes.append("xelatex")
        else:
            log.error("report.%s: no PDF by XeLaTeX; apt-get install %s", language, TEX_PACKAGES)
    if engine in ("typst", "both"):
        if typst_ready:
            routes.append("typst")
        else:
            log.error(
                "report.%s: no PDF by Typst, the font %s is missing; apt-get install %s",
                language,
                CJK_FONT,
                CJK_PACKAGE,
            )
    return routes


def _has_tex() -> bool:
    """Tell whether XeLaTeX, the class ctexart, its Fandol fonts and hyperref's symbol font are all here."""
    if not (shutil.which("xelatex") and shutil.which("kpsewhich")):
        return False
    wanted = ["ctexart.cls", "FandolSong-Regular.otf", "unicode-math.sty", "caption.sty", "pzdr.tfm"]
    return subprocess.run(["kpsewhich", *wanted], capture_output=True, check=False).returncode == 0


def has_typst_font(family: str) -> bool:
    """Tell whether Typst knows a font family: with a missing one it draws empty boxes and says nothing."""
    return any(font.family == family for font in typst.Fonts().fonts())


def write_xelatex(document: Document, pdf: Path) -> None:
    """Typeset by XeLaTeX with the class ctexart and its Fandol fonts.

    Raises:
        RuntimeError: TeX failed, or its log tells of an undefined reference or a character that a font lacks.
    """
    chinese = document.language == "zh"
    options = [
        "--variable=documentclass:ctexart",
        "--variable=classoption:fontset=fandol",
        "--variable=classoption:" + ("scheme=chinese" if chinese else "scheme=plain"),
        "--variable=papersize:a4",
        f"--variable=fontsize:{10 if document.short else 11}pt",
        f"--variable=geometry:margin={2.1 if document.short else 2.5}cm",
        "--variable=colorlinks:true",
        "--variable=linkcolor:[HTML]{1B4F72}",
        "--variable=citecolor:[HTML]{1B4F72}",
        "--variable=urlcolor:[HTML]{1B4F72}",
        "--include-in-header",
        str(REPORT / "header.tex"),
    ]
    source = document.folder / f"{document.name}.tex"
    _write(document, "latex", source, options)
    _run_xelatex(source)
    shutil.copyfile(source.with_suffix(".pdf"), pdf)


def _run_xelatex(source: Path) -> None:
    """Run XeLaTeX until its references settle, then read its log."""
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "0", "FORCE_SOURCE_DATE": "1", "max_print_line": "1000"}
    command = ["xelatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", source.name]
    for suffix in (".aux", ".toc", ".out"):
        source.with_suffix(suffix).unlink(missing_ok=True)
    before = None
    for _ in range(TEX_RUNS):
        done = subprocess.run(command, cwd=source.parent, env=environment, capture_output=True, check=False)
        tex_log = source.with_suffix(".log").read_text(encoding="utf-8", errors="replace")
        if done.returncode:
            raise RunFailed(f"xelatex failed on {source.name}:\n{_first_error(tex_log)}")
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


def latex_problems(tex_log: str) -> list[str]:
    """Return the lines of a TeX log that mean an incomplete document."""
    wanted = re.compile(
        r"undefined references|Reference `[^']*' on page|Missing character:.*|multiply defined"
    )
    lines = (line.strip() for line in tex_log.splitlines() if wanted.search(line))
    return list(dict.fromkeys(lines))


def _first_error(tex_log: str) -> str:
    lines = tex_log.splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith("!")), max(0, len(lines) - 12))
    return "\n".join(lines[start : start + 12])


def write_typst(document: Document, pdf: Path) -> None:
    """Typeset by Typst with its embedded Latin fonts and, for Chinese, Noto CJK.

    Raises:
        RuntimeError: Typst failed or warned.
    """
    shutil.copyfile(REPORT / "conf.typ", document.folder / "conf.typ")
    source = document.folder / f"{document.name}.typ"
    _write(
        document,
        "typst",
        source,
        [
            "--variable=template:conf.typ",
            "--variable=section-numbering:1.1",
            f"--variable=lang:{document.language}",
            f"--variable=region:{'CN' if document.language == 'zh' else 'US'}",
        ],
    )
    try:
        _, warnings = typst.compile_with_warnings(
            str(source), output=str(pdf), root=str(document.folder), timestamp=0
        )
    except typst.TypstError as error:
        raise RunFailed(f"typst failed on {source.name}: {error}") from error
    # The CJK font was checked for where the text needs it; English is complete without.
    faults = [str(warning) for warning in warnings if "unknown font family" not in str(warning)]
    if faults:
        pdf.unlink(missing_ok=True)
        raise RunFailed(f"typst warns about {source.name}: " + "; ".join(faults))


def write_html(document: Document, page: Path) -> None:
    """Write one HTML file that holds all it shows: figures, style, script, formulas (MathML).

    It links to the same page in the other language, which lies beside it under the same name.
    """
    tongues = (document.language, "zh" if document.language == "en" else "en")
    _write(
        document,
        "html5",
        page,
        [
            "--embed-resources",
            "--mathml",
            f"--template={REPORT / 'page.html'}",
            f"--variable=style:{REPORT / 'style.css'}",
            f"--variable=script:{REPORT / 'page.js'}",
            f"--variable=lang:{LANGUAGE_TAGS[document.language]}",
            f"--variable=other:{page.name.replace(*(f'.{tongue}.' for tongue in tongues))}",
            "--toc-depth=3",  # the title is the first level
            f"--lua-filter={REPORT / 'page.lua'}",
        ],
    )


def _write(document: Document, format_: str, output: Path, options: list[str]) -> None:
    language = document.language
    pandoc(
        [
            "--from",
            "json",
            "--to",
            format_ + (WRITER_SUFFIX[language] if format_ != "html5" else ""),
            "--standalone",
            "--wrap=none",
            "--fail-if-warnings",
            "--number-sections",
            *([] if document.short else ["--toc", "--toc-depth=2"]),
            f"--metadata=report-language:{language}",
            "--metadata=lang:en-US",
            "--metadata=link-citations:true",
            f"--metadata=reference-section-title:{REFERENCES[language]}",
            f"--variable=toc-title:{CONTENTS[language]}",
            f"--variable=abstract-title:{ABSTRACT[language]}",
            f"--bibliography={document.bibliography}",
            f"--metadata-file={REPORT / 'alt.yaml'}",
            f"--lua-filter={REPORT / 'alt.lua'}",
            f"--lua-filter={REPORT / 'tables.lua'}",
            f"--lua-filter={REPORT / 'xref.lua'}",
            "--citeproc",
            f"--lua-filter={REPORT / 'language.lua'}",
            f"--output={output}",
            *options,
            str(document.tree),
        ],
        folder=document.folder,
    )
