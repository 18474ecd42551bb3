"""The one style of all figures: the colour of each thing, sizes, fonts; and how figures are saved.

Okabe and Ito's palette, told apart by readers of every kind of colour vision and in grey print by line style
or fill as well; as wide as they are printed, which is the report's text width of 16 cm (`WIDTH`) or half of
it (`HALF`, for figures that stand in pairs; three in a row: module `narrow`), so that their text of 8 to 9
points stays legible. Figures are
drawn inside `styled`, so that importing this library changes nothing for anybody else's plots; they work
inline in Jupyter (the caller shows or closes them).
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from io import BytesIO
from itertools import product
from pathlib import Path
from types import MappingProxyType

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal
from matplotlib.text import Text
from matplotlib.transforms import ScaledTranslation

from rlhf_hw.figures.case_points import with_cases
from rlhf_hw.figures.labels import FONTS, language_font, speaking
from rlhf_hw.figures.narrow import FOLDER, is_also_narrow, narrowed
from rlhf_hw.figures.numbers import write_minus_signs
from rlhf_hw.files import replacing
from rlhf_hw.stats.replicates import Replicated

# Okabe and Ito (2008), "Color Universal Design"
BLUE, ORANGE, GREEN, SKY, PURPLE, GOLD = "#0072B2", "#D55E00", "#009E73", "#56B4E9", "#CC79A7", "#E69F00"
INK, GREY, LIGHT = "#222222", "#6B7076", "#D9DCE0"
CYCLE = (BLUE, ORANGE, GREEN, PURPLE, GOLD, SKY)
# One colour for one thing; a chosen reply is the REFERENCE where generated replies are compared.
CHOSEN, REJECTED, MARGIN = BLUE, ORANGE, GREEN
BASE, SFT, DPO, REFERENCE, PAIRS = GREY, SKY, BLUE, GOLD, PURPLE
KNOWN_COLOURS = {
    "chosen": CHOSEN,
    "rejected": REJECTED,
    "pairs": PAIRS,  # chosen and rejected replies together
    "base": BASE,
    "SFT": SFT,
    "DPO": DPO,
    "reference": REFERENCE,
}

WIDTH = 6.3  # inches: 16 cm
# points from a panel to its legend: ticks, their names and a line of Chinese stand between; a further line
LEGEND_DROP, LINE = 37, 14
SMALLEST = 8  # points: of a figure's letters where it is drawn, exponents aside
HALF, TALL = 3.15, 2.9  # width and height of a figure that is printed beside another
KINDS, PRINTED = ("png", "pdf", "svg"), ("pdf", "svg")  # files of a figure; those of other languages
SCREEN_DPI, SAVED_DPI = 150, 300  # in a notebook, where half a figure stays legible; in a file
STYLE = {
    "figure.dpi": SCREEN_DPI,
    "figure.constrained_layout.use": True,
    "figure.facecolor": "white",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.labelsize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.prop_cycle": mpl.cycler(color=CYCLE),
    "grid.color": LIGHT,
    "grid.linewidth": 0.5,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "errorbar.capsize": 2.5,
    "pdf.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "rlhf_hw",
    "savefig.facecolor": "white",
}
SHOWN_AS = {  # what figures call things that have short names in tables
    "length": "length rule",
    "words": "bag of words",
    "reference": "reference (chosen)",
}
GOLD_UNIT = "SD of base replies"
INTERVALS, ONE_TRAINING = (
    "95% intervals: thick over prompts, thin over trainings",
    "95% intervals over prompts",
)

log = logging.getLogger(__name__)


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Runs a drawing function with this style and leaves matplotlib's settings as they were.

    Numbers below zero get a minus sign in all its texts.
    """

    @wraps(draw)
    def inner(*args, **kwargs) -> Figure:
        with mpl.rc_context(STYLE):
            figure = draw(*args, **kwargs)
            write_minus_signs(figure)
            return figure

    return inner


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Writes a figure in every language: `folder/name.png`, `.pdf`, `.svg`; `folder/zh/name.pdf`, `.svg`.

    PDF is for print, SVG for the web page, PNG for notebooks and README. A figure that also stands three in a
    row (module `narrow`) has a narrow PDF and SVG in a folder `narrow` beside each PDF. Where there is no
    Chinese font, the files of an earlier figure go, so that none is taken for this one.

    Returns:
        The paths written.
    """
    paths = write_figure(figure, Path(folder) / name)
    if is_also_narrow(figure):
        with mpl.rc_context(STYLE), narrowed(figure):
            paths += write_figure(figure, Path(folder) / FOLDER / name, PRINTED)
    for language in FONTS:
        place = Path(folder) / language / name
        if (font := language_font(language)) is None:
            for kind, parent in product(PRINTED, (place.parent, place.parent / FOLDER)):
                (parent / f"{name}.{kind}").unlink(missing_ok=True)
            continue
        fonts = {"font.sans-serif": [font, *STYLE["font.sans-serif"]]}
        with speaking(figure, language) as untranslated:
            paths += _write_translated(figure, place, fonts)
            if is_also_narrow(figure):
                with mpl.rc_context(STYLE | fonts), narrowed(figure):
                    paths += _write_translated(figure, place.parent / FOLDER / name, fonts)
        if untranslated:
            log.warning("figure %s has no %s for: %s", name, language, "; ".join(dict.fromkeys(untranslated)))
    return paths


def _write_translated(figure: Figure, place: Path, fonts: Mapping) -> list[Path]:
    paths = write_figure(figure, place, ("svg",), fonts)
    with as_outlines(figure) as outlines:
        return paths + write_figure(figure, place, ("pdf",), fonts | outlines)


def write_figure(
    figure: Figure,
    place: Path,
    kinds: Sequence[str] = KINDS,
    style: Mapping = MappingProxyType({}),
    about: str = "",
) -> list[Path]:
    """Writes `place.png` (300 dpi), `place.pdf` and `place.svg`; the same figure gives the same bytes.

    In the SVG texts are outlines, so that it looks alike everywhere, and the ground is transparent; it
    carries the points that are cases (module `case_points`).

    Args:
        place: path without suffix.
        kinds: which of them.
        style: settings beside those of all figures.
        about: kept in the PNG as its description.

    Returns:
        The paths.
    """
    metadata = {
        "png": {"Software": None, "Description": about or None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
        "svg": {"Date": None, "Creator": None},
    }
    paths = [place.with_name(f"{place.name}.{kind}") for kind in kinds]
    with mpl.rc_context(STYLE | style):
        for path, kind in zip(paths, kinds, strict=True):
            with replacing(path, "wb") as stream:
                drawn = BytesIO()
                figure.savefig(
                    drawn, format=kind, dpi=SAVED_DPI, metadata=metadata[kind], transparent=kind == "svg"
                )
                content = drawn.getvalue()
                stream.write(with_cases(content.decode(), figure).encode() if kind == "svg" else content)
    return paths


@contextmanager
def as_outlines(figure: Figure) -> Iterator[dict]:
    """Texts are drawn as outlines: matplotlib embeds a Chinese font in a form that PDF readers reject.

    Yields:
        The settings that do the same for ticks that are made while drawing.
    """
    axes = figure.findobj(Axis)
    spare = [tick for axis in axes for tick in (*axis.majorTicks, *axis.minorTicks)]  # not in use now
    texts = {text for part in (figure, *spare) for text in part.findobj(Text)}
    for text in texts:
        text.set_path_effects([Normal()])
    yield {"path.effects": [Normal()]}
    for text in texts:
        text.set_path_effects([])


def show(figure: Figure, folder: Path, name: str) -> None:
    """Save a figure (see `save`) and show it where the notebook stands."""
    save(figure, folder, name)
    plt.show()


def show_kept(folder: Path, name: str) -> None:
    """Show the saved figure `folder/name.png` in a notebook, as large as a drawn one would be."""
    from IPython.display import Image, display  # only notebooks have it

    path = Path(folder) / f"{name}.png"
    width = round(plt.imread(path).shape[1] * SCREEN_DPI / SAVED_DPI)
    display(Image(path, width=width))


def canvas(rows: int = 1, columns: int = 1, *, width: float = WIDTH, height: float = 2.9, **options):
    """Figure and axes of this style; options go to `plt.subplots`."""
    return plt.subplots(rows, columns, figsize=(width, height), **options)


def legend_below(axes: Axes, columns: int = 2, **entries) -> None:
    """The legend under the axis label, where it takes no room from a narrow panel; entries go to `legend`.

    It stands at a distance in points, not in heights of the panel: a label, which must be there before, is as
    tall in a low panel.
    """
    lines = axes.get_xlabel().count("\n")
    drop = ScaledTranslation(0, -(LEGEND_DROP + LINE * lines) / 72, axes.figure.dpi_scale_trans)
    below = {"loc": "upper center", "bbox_to_anchor": (0.45, 0), "bbox_transform": axes.transAxes + drop}
    axes.legend(**below, **entries, borderaxespad=0.0, ncols=columns, columnspacing=1.2, handlelength=1.6)


def intervals_drawn(numbers: Iterable[Replicated]) -> str:
    """Over what the intervals of a figure are: a single training has none over trainings."""
    return INTERVALS if any(number.trainings is not None for number in numbers) else ONE_TRAINING


def whiskers(value, low, high) -> list:
    """Distances from the value to the ends of its interval, as `Axes.errorbar` wants them."""
    return [[max(0.0, v - at) for v, at in zip(value, low, strict=True)]] + [
        [max(0.0, at - v) for v, at in zip(value, high, strict=True)]
    ]


def note_line(axes: Axes, value: float, text: str, *, vertical: bool = False) -> None:
    """A thin dashed line at a value that means something (chance, zero, best possible), with its name."""
    draw = axes.axvline if vertical else axes.axhline
    draw(value, color=GREY, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1, label=text)
