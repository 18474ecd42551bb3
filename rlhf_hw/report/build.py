"""Build the report of a finished run: numbers and figures into Markdown, Markdown into PDF and HTML.

    build_report("nano")                    -> runs/nano/report/report{,.short}.{en,zh}.{pdf,html}
    build_report("nano", engine="both")     also report{,.short}.{en,zh}.typst.pdf

The texts are `report/report.<language>.md` and, in short, `report/report.short.<language>.md`; `text`,
`tables`, `fields` and `glossary` say how their numbers and terms are written, `shown` says where they come
from. Figures are written `![Caption](fig/NAME.pdf){#fig:NAME width=90%}`, the width as a share of the text's;
below 40% the narrow drawing is taken (`rlhf_hw.figures.narrow`). An empty block `::: {.newpage}` begins a
page in print.
"""

import json
import logging
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from rlhf_hw.errors import InputError
from rlhf_hw.figures.case_points import without_cases
from rlhf_hw.figures.diagrams import DIAGRAMS
from rlhf_hw.paths import REPORT, RUNS
from rlhf_hw.pipeline.graph import drawn_by
from rlhf_hw.report import LANGUAGES, TEXTS, typesetting
from rlhf_hw.report.document import Document
from rlhf_hw.report.fields import Facts, FieldError
from rlhf_hw.report.glossary import link_terms, read_glossary, with_glossary
from rlhf_hw.report.letters import LARGER, LEAST_LETTERS, RUN_AGAIN, drawing_for, is_older, printed_letters
from rlhf_hw.report.pages import report_places
from rlhf_hw.report.shown import run_facts
from rlhf_hw.report.tables import read_tables
from rlhf_hw.report.text import fill

log = logging.getLogger(__name__)

STRICT_RUN = "nano"  # the default profile, whose report must have all its text in place
CODE_WIDTH = 88  # characters of code on a printed line; a Chinese one counts twice
_REFERENCE = re.compile(r"(fig|tbl|eq|sec):")
_CHINESE = re.compile(r"[\u3000-\u303f\u4e00-\u9fff\uff01-\uff5e]")


def build_report(
    run: str,
    languages: Sequence[str] = LANGUAGES,
    formats: Sequence[str] = ("pdf", "html"),
    engine: str = "auto",
) -> list[Path]:
    """Fill and typeset the report of one run.

    Args:
        run: name of the run below `runs/`.
        languages: any of `en`, `zh`.
        formats: any of `pdf`, `html`.
        engine: `auto` (XeLaTeX where it works, else Typst), `xelatex`, `typst`, or `both`.

    Returns:
        the files written. A PDF whose route is not possible on this machine is logged and missing from them.

    Raises:
        FieldError: a key, table, figure or citation that does not exist, with file and line.
        ValueError: a malformed field or block, an unknown language, format or engine.
        RuntimeError: pandoc, XeLaTeX or Typst failed, or their output would be incomplete.
    """
    for name, given, known in (("language", languages, LANGUAGES), ("format", formats, ("pdf", "html"))):
        if wrong := set(given) - set(known):
            raise InputError(f"{name} {', '.join(sorted(wrong))} is not one of {', '.join(known)}")
    folder = RUNS / run
    documents = [
        prepare(REPORT / f"{text}.{facts.language}.md", facts, folder)
        for facts in run_facts(folder, languages)
        for text in TEXTS
    ]
    # two documents at a time: each waits for pandoc and XeLaTeX most of the time
    with ThreadPoolExecutor(max_workers=len(LANGUAGES)) as threads:
        made = threads.map(lambda one: typeset(one, folder / "report", formats, engine), documents)
        return [path for paths in made for path in paths]


def prepare(source: Path, facts: Facts, folder: Path) -> Document:
    """Fill the text, check everything it names and lay the parts ready in `folder`/report/build.

    Args:
        source: the Markdown text; beside it lie `references.bib` and, where it needs them, `tables.yaml` and
            `glossary.yaml`.
        facts: what it may name, and its language.
        folder: the run's folder.
    """
    facts = replace(facts, used=set())  # by this text
    text = source.read_text(encoding="utf-8")
    declared, glossary = source.with_name("tables.yaml"), source.with_name("glossary.yaml")
    filled = fill(text, facts, read_tables(declared) if declared.exists() else {}, source.name)
    terms = read_glossary(glossary)[facts.language] if glossary.exists() else []
    filled, terms = with_glossary(filled, terms, facts, glossary.name)
    unused = sorted(set(facts.values) - facts.used)
    log.debug("%s leaves %d keys unused: %s", source.name, len(unused), ", ".join(unused))
    build = folder / "report" / "build"
    build.mkdir(parents=True, exist_ok=True)
    (build / source.name).write_text(filled, encoding="utf-8")
    tree = json.loads(typesetting.parse(filled, facts.language))
    link_terms(tree["blocks"], terms)
    tree["blocks"] = [part for block in tree["blocks"] for part in _new_page(block)]
    nodes = list(_nodes(tree["blocks"]))
    bibliography = source.with_name("references.bib")
    _check_text(text, nodes, source.name)
    _check_references(text, nodes, bibliography, source.name)
    small = _copy_figures(text, nodes, facts, build, source.name)
    report_places(source.name, small, folder.name == STRICT_RUN, "letters in figures are too small", LARGER)
    facts.check_marks(source.name)
    path = (build / source.name).with_suffix(".json")
    path.write_text(json.dumps(tree), encoding="utf-8")
    return Document(path, facts.language, build, bibliography, strict=folder.name == STRICT_RUN)


def _new_page(block: dict) -> list[dict]:
    """The block, or where it is an empty one of the class `newpage`, a new page in both PDFs."""
    if block["t"] != "Div" or "newpage" not in block["c"][0][1]:
        return [block]
    breaks = {"latex": "\\clearpage", "typst": "#pagebreak(weak: true)"}
    return [{"t": "RawBlock", "c": [format_, code]} for format_, code in breaks.items()]


def typeset(document: Document, folder: Path, formats: Iterable[str], engine: str) -> list[Path]:
    """Write a prepared document in the wanted formats; return the files."""
    written = []
    if "pdf" in formats:
        for route in typesetting.pdf_engines(engine, document):
            second = engine == "both" and route == "typst"
            written.append(folder / f"{document.name}{'.typst' if second else ''}.pdf")
            (typesetting.write_xelatex if route == "xelatex" else typesetting.write_typst)(
                document, written[-1]
            )
    if "html" in formats:
        written.append(folder / f"{document.name}.html")
        typesetting.write_html(document, written[-1])
    for path in written:
        log.info("wrote %s", path)
    return written


def _nodes(tree) -> Iterator[dict]:
    """Yield every node of a pandoc syntax tree, parents first."""
    if isinstance(tree, dict):
        if "t" in tree or "citationId" in tree:
            yield tree
        tree = list(tree.values())
    if isinstance(tree, list):
        for part in tree:
            yield from _nodes(part)


def _line(text: str, needle: str) -> int:
    """Return the number of the first line that holds `needle`, 1 if none does."""
    return next((number for number, line in enumerate(text.splitlines(), 1) if needle in line), 1)


def _check_text(text: str, nodes: list[dict], source: str) -> None:
    """Refuse left-over `??`, code wider than the page, and `%` that would comment out a formula."""
    if "??" in text:
        raise InputError(f"{source}:{_line(text, '??')}: '??' marks an open place")
    if touching := re.search(r"[A-Za-z0-9]@(fig|tbl|eq|sec):", text):
        raise InputError(
            f"{source}:{_line(text, touching[0])}: a space is missing before the reference {touching[0]}"
        )
    for node in nodes:
        if node.get("t") == "CodeBlock":
            for line in node["c"][1].splitlines():
                if len(line) + len(_CHINESE.findall(line)) > CODE_WIDTH:
                    raise InputError(
                        f"{source}:{_line(text, line)}: code wider than {CODE_WIDTH} characters: {line}"
                    )
        elif node.get("t") == "Math" and re.search(r"(?<!\\)%", node["c"][1]):
            raise InputError(
                f"{source}: write \\% in the formula {node['c'][1]!r}, or put the number outside"
            )


def _check_references(text: str, nodes: list[dict], bibliography: Path, source: str) -> None:
    """Check that citations stand in the bibliography and references have a label, which must be unique."""
    entries = re.findall(r"^@\w+\{([^,\s]+)\s*,", bibliography.read_text(encoding="utf-8"), re.MULTILINE)
    labels = _labels(nodes)
    if doubled := {label for label in labels if labels.count(label) > 1}:
        raise InputError(f"{source}: labels used twice: {', '.join(sorted(doubled))}")
    for node in nodes:
        name = node.get("citationId")
        if name is None:
            if (
                node["t"] == "Cite"
                and len({bool(_REFERENCE.match(c["citationId"])) for c in node["c"][0]}) > 1
            ):
                raise InputError(
                    f"{source}: citations and cross-references in one bracket: "
                    + "; ".join(c["citationId"] for c in node["c"][0])
                )
        elif name not in (labels if _REFERENCE.match(name) else entries):
            where = (
                "no figure, table, equation or heading has this label"
                if _REFERENCE.match(name)
                else (f"not in {bibliography.name}")
            )
            raise FieldError(f"{source}:{_line(text, '@' + name)}: @{name}: {where}")


def _labels(nodes: list[dict]) -> list[str]:
    """Return all labels of figures, tables, equations and sections."""
    attributes = {"Figure": 0, "Table": 0, "Div": 0, "Header": 1}
    found = [node["c"][attributes[node["t"]]][0] for node in nodes if node.get("t") in attributes]
    strings = (node["c"] for node in nodes if node.get("t") == "Str")
    found += [match[1] for string in strings if (match := re.match(r"\{#(eq:[\w.:-]+)\}", string))]
    return [label for label in found if _REFERENCE.match(label)]


def _copy_figures(text: str, nodes: list[dict], facts: Facts, folder: Path, source: str) -> list[str]:
    """Copy a document's figures, PDF for print, SVG for the screen, to where it is built; lead it there.

    Returns:
        the figures whose letters would be too small in print, with the size.
    """
    known, small = facts.figures, []
    for (_, _, attributes), _, link in (node["c"] for node in nodes if node.get("t") == "Image"):
        target = link[0]
        place = f"{source}:{_line(text, target)}"
        match = re.fullmatch(r"fig/([\w-]+)\.pdf", target)
        if match is None:
            raise InputError(f"{place}: figures are written as fig/NAME.pdf, not {target}")
        if match[1] not in known:
            raise FieldError(f"{place}: no figure '{match[1]}'; {_maker(match[1])}")
        facts.used.add(f"figure:{match[1]}")
        share = float(dict(attributes).get("width", "100%").rstrip("%")) / 100
        drawn = drawing_for(known[match[1]], share)
        if is_older(drawn, share):
            log.warning("%s: %s was drawn before it was drawn narrow, too; %s", place, drawn.stem, RUN_AGAIN)
        elif (size := printed_letters(drawn, share)) < LEAST_LETTERS:
            small.append(f"line {_line(text, target)}: {drawn.stem} at {share:.0%} has {size:.1f} points")
        link[0] = f"fig/{facts.language}/{'narrow/' if drawn != known[match[1]] else ''}{drawn.name}"
        (folder / link[0]).parent.mkdir(parents=True, exist_ok=True)
        screen = ".svg" if drawn.with_suffix(".svg").exists() else ".png"  # a run may be older than its SVGs
        shutil.copyfile(drawn, folder / link[0])
        _copy_for_screen(drawn.with_suffix(screen), (folder / link[0]).with_suffix(screen))
    return small


def _copy_for_screen(drawn: Path, target: Path) -> None:
    """Copy a figure, and the cases of its points and of its bars, for page.lua and bars.lua."""
    beside = {kind: target.with_suffix(f".{kind}.json") for kind in ("cases", "bars")}
    for path in beside.values():
        path.unlink(missing_ok=True)  # of the figure as it was once
    if drawn.suffix != ".svg":
        shutil.copyfile(drawn, target)
        return
    svg, cases = without_cases(drawn.read_text(encoding="utf-8"))
    target.write_text(svg, encoding="utf-8")
    found: dict[str, list] = {}
    for group in cases["groups"] if cases else ():
        kind = "bars" if group["address"].endswith("=") else "cases"  # of a bar the range ends the address
        found.setdefault(kind, []).append(group)
    for kind, groups in found.items():
        beside[kind].write_text(json.dumps(cases | {"groups": groups}), encoding="utf-8")


def _maker(figure: str) -> str:
    """Say which command makes a missing figure."""
    if figure in DIAGRAMS:
        return "make it with `python -m rlhf_hw.figures.diagrams`"
    makers = drawn_by(figure)
    return f"it is made by {', '.join(makers)}" if makers else "no notebook draws it"
