"""Build the report of a finished run: numbers and figures into Markdown, Markdown into PDF and HTML.

    build_report("nano")                    -> runs/nano/report/report{,.short}.{en,zh}.{pdf,html}
    build_report("nano", engine="both")     also report{,.short}.{en,zh}.typst.pdf

The texts are `report/report.<language>.md` and, in short, `report/report.short.<language>.md`; `text`,
`tables`, `fields` and `glossary` say how their numbers and terms are written. Numbers are
`runs/<run>/metrics.json`, the keys `run.*` of `runs/<run>/run.json` and, unless the run has its own, the keys
`recorded.*` of `report/recorded.json`. Figures are `![Caption](fig/NAME.pdf){#fig:NAME width=90%}`: those of
the run; the diagrams and `recorded_*`, which no run makes, are the repository's `fig/`. An empty block
`::: {.newpage}` begins a page in print.
"""

import json
import logging
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rlhf_hw.errors import InputError
from rlhf_hw.figures.diagrams import DIAGRAMS
from rlhf_hw.files import read_json
from rlhf_hw.paths import FIG, REPORT, RUNS
from rlhf_hw.pipeline.graph import RECORDED_RUN, STAGES, drawn_by
from rlhf_hw.report import LANGUAGES, TEXTS, typesetting
from rlhf_hw.report.fields import Facts, FieldError, Value
from rlhf_hw.report.glossary import link_terms, read_glossary, with_glossary
from rlhf_hw.report.tables import read_tables
from rlhf_hw.report.text import fill
from rlhf_hw.report.typesetting import Document

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


def run_facts(folder: Path, languages: Sequence[str]) -> list[Facts]:
    """What a report of the run in `folder` may name, once for each language."""
    values = load_values(folder, REPORT / "recorded.json")
    tables = {path.stem: _read_json(path) for path in sorted((folder / "tables").glob("*.json"))}
    return [Facts(values, tables, figures(folder, language), language) for language in languages]


def load_values(folder: Path, recorded: Path | None = None) -> dict[str, Value]:
    """Return the flat values a report may name: `metrics.json`, `run.*` of `run.json`, `recorded.*`.

    Where the run analysed recorded scores itself, its numbers count and the kept ones are left out: they may
    be those of other rows.
    """
    values = dict(_flatten(_read_json(folder / "metrics.json")))
    if (folder / "run.json").exists():
        values |= _flatten(_read_json(folder / "run.json"), "run")
    own = any(key.startswith("recorded.") for key in values)
    if recorded is not None and recorded.exists() and not own:
        values |= _flatten(_read_json(recorded), "recorded")
    return values


def _read_json(path: Path):
    form = list if path.parent.name == "tables" else dict
    try:
        return read_json(path, form, "run the notebook that writes it again, with --force")
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing: run the notebooks of this run first") from None


def _flatten(values: Mapping, prefix: str = "") -> Iterator[tuple[str, Value]]:
    """Yield (dotted key, value). A key that has the prefix already keeps its name; lists are left out."""
    for key, value in values.items():
        name = key if not prefix or key.startswith(prefix + ".") else f"{prefix}.{key}"
        if isinstance(value, Mapping):
            yield from _flatten(value, name)
        elif not isinstance(value, list):
            yield name, value


def prepare(source: Path, facts: Facts, folder: Path) -> Document:
    """Fill the text, check everything it names and lay the parts ready in `folder`/report/build.

    Args:
        source: the Markdown text; beside it lie `references.bib` and, where it needs them, `tables.yaml` and
            `glossary.yaml`.
        facts: what it may name, and its language.
        folder: the run's folder.
    """
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
    _copy_figures(text, nodes, facts, build, source.name)
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


def figures(folder: Path, language: str = "en") -> dict[str, Path]:
    """Return the figures a report of this run may show, by name: PDFs, with an SVG beside each.

    The repository's `fig/` also holds the default profile's figures: no other run may show those as its own.
    A language has its own in a folder of its name; those that are not there are the English ones.
    """
    shared = {
        path.stem: path
        for path in FIG.glob("*.pdf")
        if path.stem in DIAGRAMS or path.stem in STAGES[RECORDED_RUN].figures
    }
    known = shared | {path.stem: path for path in (folder / "fig").glob("*.pdf")}
    own = {name: path.parent / language / path.name for name, path in known.items()}
    translated = {name: path for name, path in own.items() if path.exists()}
    if language != "en" and (missing := known.keys() - translated):
        log.warning(
            "report.%s: English figures, none in its language: %s", language, ", ".join(sorted(missing))
        )
    return known | translated


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


def _copy_figures(text: str, nodes: list[dict], facts: Facts, folder: Path, source: str) -> None:
    """Copy a document's figures, PDF for print, SVG for the screen, to where it is built; lead it there."""
    known, place_of = facts.figures, f"fig/{facts.language}"
    (folder / place_of).mkdir(parents=True, exist_ok=True)
    for link in (node["c"][2] for node in nodes if node.get("t") == "Image"):
        target = link[0]
        place = f"{source}:{_line(text, target)}"
        match = re.fullmatch(r"fig/([\w-]+)\.pdf", target)
        if match is None:
            raise InputError(f"{place}: figures are written as fig/NAME.pdf, not {target}")
        if match[1] not in known:
            raise FieldError(f"{place}: no figure '{match[1]}'; {_maker(match[1])}")
        drawn, link[0] = known[match[1]], f"{place_of}/{match[1]}.pdf"
        screen = ".svg" if drawn.with_suffix(".svg").exists() else ".png"  # a run may be older than its SVGs
        for suffix in (".pdf", screen):
            shutil.copyfile(drawn.with_suffix(suffix), (folder / link[0]).with_suffix(suffix))


def _maker(figure: str) -> str:
    """Say which command makes a missing figure."""
    if figure in DIAGRAMS:
        return "make it with `python -m rlhf_hw.figures.diagrams`"
    makers = drawn_by(figure)
    return f"it is made by {', '.join(makers)}" if makers else "no notebook draws it"
