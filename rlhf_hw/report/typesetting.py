"""Typeset a checked pandoc document as PDF, through XeLaTeX or Typst, and as one self-contained HTML page.

pandoc comes from the `pypandoc_binary` wheel, Typst from the `typst` wheel; only XeLaTeX and, for Chinese by
Typst, a font come from the system. `report/conf.typ` (Typst), `report/header.tex` (XeLaTeX) and
`report/style.css` (HTML) decide how it looks. All routes run `report/tables.lua` (tables kept on one page),
`report/xref.lua` (cross-references) and citeproc, and treat every warning as an error: a report is complete
or it is not written. Time stamps are fixed: the same inputs give the same bytes.
"""

import json
import logging
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pypandoc
import typst

from rlhf_hw.errors import InputError, RunFailed
from rlhf_hw.paths import REPORT
from rlhf_hw.report.document import Document
from rlhf_hw.report.explorer import explorer_options
from rlhf_hw.report.glyphs import (
    FONT_PACKAGES,
    SIGN,
    characters,
    is_chinese,
    is_right_to_left,
    is_usual,
    typst_fonts,
    typst_lacks,
    without,
)
from rlhf_hw.report.pages import misplaced_words, overfull_boxes, report_places
from rlhf_hw.report.tex import TEX_PACKAGES, has_tex, run_xelatex

log = logging.getLogger(__name__)

CJK_PACKAGE = "fonts-noto-cjk"

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


def pdf_engines(engine: str, document: Document) -> list[str]:
    """Choose the PDF routes for a document: `auto` is XeLaTeX where it works, else Typst; `both` is both.

    A route that is not possible here is left out, and one log line says what to install. Typst sets a Chinese
    report only where fonts hold all its Chinese characters.
    """
    if engine not in ("auto", "both", "xelatex", "typst"):
        raise InputError(f"engine '{engine}' is not one of auto, xelatex, typst, both")
    tex = has_tex()
    if engine == "auto":
        engine = "xelatex" if tex else "typst"
    routes = []
    if engine in ("xelatex", "both"):
        if tex:
            routes.append("xelatex")
        else:
            log.error("%s: no PDF by XeLaTeX; apt-get install %s", document.name, TEX_PACKAGES)
    if engine in ("typst", "both"):
        if lacking := _lacking_chinese(document):
            log.error(
                "%s: no PDF by Typst: no font here has %d of the report's Chinese characters (%s); "
                "apt-get install %s",
                document.name,
                len(lacking),
                "".join(sorted(lacking)[:10]),
                CJK_PACKAGE,
            )
        else:
            routes.append("typst")
    return routes


def _lacking_chinese(document: Document) -> set[str]:
    """The Chinese characters of a Chinese report that Typst would draw as empty boxes."""
    if document.language != "zh":
        return set()
    used = characters(json.loads(document.tree.read_text(encoding="utf-8")))
    return typst_lacks(filter(is_chinese, used), document.folder, f"{document.name}.chinese")


def write_xelatex(document: Document, pdf: Path) -> None:
    """Typeset by XeLaTeX with the class ctexart and its Fandol fonts.

    Raises:
        RuntimeError: TeX failed, or its log tells of an undefined reference or a character that a font lacks.
    """
    options = [
        "--variable=documentclass:ctexart",
        "--variable=classoption:fontset=fandol",
        f"--variable=classoption:scheme={'chinese' if document.language == 'zh' else 'plain'}",
        "--variable=papersize:a4",
        f"--variable=fontsize:{10 if document.short else 11}pt",
        f"--variable=geometry:margin={document.margin}cm",
        "--variable=colorlinks:true",
        "--variable=linkcolor:[HTML]{1B4F72}",
        "--variable=citecolor:[HTML]{1B4F72}",
        "--variable=urlcolor:[HTML]{1B4F72}",
        "--include-in-header",
        str(REPORT / "header.tex"),
    ]
    source = document.folder / f"{document.name}.tex"
    tree = json.loads(document.tree.read_text(encoding="utf-8"))
    backwards = {c for c in characters(tree) if is_right_to_left(c)}
    if backwards:
        log.warning(
            "%s: XeLaTeX sets no script from right to left here: a sign for each letter", document.name
        )
    unusual = {SIGN, *(c for c in characters(tree) - backwards if not is_usual(c))}
    options.append(f"--metadata=further-fonts:{''.join(sorted(unusual))}")
    _write(_with_signs(document, tree, backwards), "latex", source, options)
    tex_log = run_xelatex(source)
    report_places(source.name, overfull_boxes(tex_log), document.strict)
    _warn_of_signs(document, set(re.findall(r"^No font has the character (.)", tex_log, re.MULTILINE)))
    shutil.copyfile(source.with_suffix(".pdf"), pdf)


def _with_signs(document: Document, tree: dict, missing: set[str]) -> Document:
    """The document with a sign for each missing character."""
    path = document.tree.with_suffix(".signs.json")
    path.write_text(json.dumps(without(tree, missing)), encoding="utf-8")
    return replace(document, tree=path)


def _warn_of_signs(document: Document, missing: set[str]) -> None:
    if missing:
        log.warning(
            "%s: a sign stands for %d characters that no font here has (%s%s); apt-get install %s",
            document.name,
            len(missing),
            " ".join(sorted(missing)[:20]),
            " …" if len(missing) > 20 else "",
            FONT_PACKAGES,
        )


def write_typst(document: Document, pdf: Path) -> None:
    """Typeset by Typst with its embedded Latin fonts and, for Chinese, Noto CJK; tagged, with bookmarks.

    Raises:
        RuntimeError: Typst failed or warned.
    """
    shutil.copyfile(REPORT / "conf.typ", document.folder / "conf.typ")
    source = document.folder / f"{document.name}.typ"
    tree = json.loads(document.tree.read_text(encoding="utf-8"))
    missing = typst_lacks(characters(tree), document.folder, f"{document.name}.glyphs")
    _warn_of_signs(document, missing)
    _write(
        _with_signs(document, tree, missing),
        "typst",
        source,
        [
            "--variable=template:conf.typ",
            f"--variable=fontsize:{10 if document.short else 10.5}pt",
            "--variable=section-numbering:1.1",
            f"--variable=lang:{document.language}",
            f"--variable=region:{'CN' if document.language == 'zh' else 'US'}",
        ],
    )
    try:
        _, warnings = typst.compile_with_warnings(
            str(source),
            output=str(source.with_suffix(".pdf")),
            root=str(document.folder),
            timestamp=0,
            **typst_fonts(document.folder),
        )
    except typst.TypstError as error:
        raise RunFailed(f"typst failed on {source.name}: {error}") from error
    # The CJK font was checked for where the text needs it; English is complete without.
    faults = [str(warning) for warning in warnings if "unknown font family" not in str(warning)]
    if faults:
        raise RunFailed(f"typst warns about {source.name}: " + "; ".join(faults))
    report_places(source.name, misplaced_words(source.with_suffix(".pdf"), document.margin), document.strict)
    shutil.copyfile(source.with_suffix(".pdf"), pdf)


def write_html(document: Document, page: Path) -> None:
    """Write one HTML file that holds all it shows: figures, style, script, formulas (MathML).

    It links to the same page in the other language and, where one lies beside it, to the explorer of replies.
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
            *explorer_options(page),
            f"--lua-filter={REPORT / 'page.lua'}",
            f"--lua-filter={REPORT / 'bars.lua'}",
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
            f"--lua-filter={REPORT / 'placement.lua'}",
            f"--lua-filter={REPORT / 'language.lua'}",
            f"--output={output}",
            *options,
            str(document.tree),
        ],
        folder=document.folder,
    )
