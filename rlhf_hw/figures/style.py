"""The one style of all figures: the colour of each thing, sizes, fonts; and how figures are saved.

Okabe and Ito's palette, told apart by readers of every kind of colour vision and in grey print by line style
or fill as well; as wide as they are printed, which is the report's text width of 16 cm (`WIDTH`) or half of
it (`HALF`, for figures that stand in pairs), so that their text of 8 to 9 points stays legible. Figures are
drawn inside `styled`, so that importing this library changes nothing for anybody else's plots; they work
inline in Jupyter (the caller shows or closes them).
"""

from collections.abc import Callable
from functools import wraps
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlhf_hw.files import replacing

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
HALF, TALL = 3.15, 2.9  # width and height of a figure that is printed beside another
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
    "savefig.facecolor": "white",
}


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Runs a drawing function with this style and leaves matplotlib's settings as they were."""

    @wraps(draw)
    def inner(*args, **kwargs) -> Figure:
        with mpl.rc_context(STYLE):
            return draw(*args, **kwargs)

    return inner


def save(figure: Figure, folder: Path, name: str, about: str = "") -> list[Path]:
    """Writes `folder/name.png` (300 dpi) and `folder/name.pdf`; the same figure gives the same bytes.

    Args:
        about: kept in the PNG as its description.

    Returns:
        The two paths.
    """
    metadata = {
        "png": {"Software": None, "Description": about or None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    }
    paths = [Path(folder) / f"{name}.{kind}" for kind in metadata]
    with mpl.rc_context(STYLE):
        for path, (kind, facts) in zip(paths, metadata.items(), strict=True):
            with replacing(path, "wb") as stream:
                figure.savefig(stream, format=kind, dpi=SAVED_DPI, metadata=facts)
    return paths


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


def legend_below(axes: Axes, columns: int = 2) -> None:
    """The legend under the axis label, where it takes no room from a narrow panel."""
    below = {"loc": "upper center", "bbox_to_anchor": (0.45, -0.2), "borderaxespad": 0.0}
    axes.legend(**below, ncols=columns, columnspacing=1.2, handlelength=1.6)


def whiskers(value, low, high) -> list:
    """Distances from the value to the ends of its interval, as `Axes.errorbar` wants them."""
    return [[max(0.0, v - at) for v, at in zip(value, low, strict=True)]] + [
        [max(0.0, at - v) for v, at in zip(value, high, strict=True)]
    ]


def note_line(axes: Axes, value: float, text: str, *, vertical: bool = False) -> None:
    """A thin dashed line at a value that means something (chance, zero, best possible), with its name."""
    draw = axes.axvline if vertical else axes.axhline
    draw(value, color=GREY, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1, label=text)
