"""Figures that also stand three in a row: drawn anew for a third of the text's width, their letters as large.

    figure = also_narrow(figure)      a drawing function says that its figure may stand there
    with narrowed(figure): ...        it is narrow in here; `style.save` writes it so to `narrow/`

The name of the value axis goes above the axes, the legend below them in one column.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from weakref import WeakSet

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

THIRD, LOW = 2.0, 2.3  # inches: width and height of a figure of which three stand in a row
FOLDER = "narrow"  # beside the figures as they are drawn
LEFT = -0.18  # of the axes' width: where a name above them begins
_ALSO_NARROW: WeakSet[Figure] = WeakSet()


def also_narrow(figure: Figure) -> Figure:
    """The figure, which is from now on saved for a third of the text's width, too."""
    _ALSO_NARROW.add(figure)
    return figure


def is_also_narrow(figure: Figure) -> bool:
    """Whether a figure is saved for a third of the text's width, too."""
    return figure in _ALSO_NARROW


@contextmanager
def narrowed(figure: Figure) -> Iterator[None]:
    """A figure that is as narrow as a third of the text for as long as the `with` lasts."""
    with ExitStack() as afterwards:
        afterwards.callback(figure.set_size_inches, *figure.get_size_inches())
        figure.set_size_inches(THIRD, LOW)
        _panels_closer(figure, afterwards)
        for axes in figure.axes:
            _name_above(axes, afterwards)
            _legend_below(figure, axes, afterwards)
            _fewer_ticks(axes, afterwards)
        yield


def _panels_closer(figure: Figure, afterwards: ExitStack) -> None:
    """Of panels that share a name of their value axis: it stands where the title stood, and room is saved."""
    name, title, layout = figure.get_supylabel(), figure.get_suptitle(), figure.get_layout_engine()
    if not name:
        return
    afterwards.callback(figure.supylabel, name, fontsize=8.5)
    afterwards.callback(figure.suptitle, title, fontsize=9, x=0.5, ha="center")
    afterwards.callback(layout.set, h_pad=layout.get()["h_pad"])
    figure.supylabel("")
    figure.suptitle(name, fontsize=8, x=0.02, ha="left")
    layout.set(h_pad=0.01)
    for axes in figure.axes:
        said = axes.get_title(loc="left")
        afterwards.callback(axes.set_title, said, loc="left", fontsize=8, pad=2, x=0.0)
        axes.set_title(said, loc="left", fontsize=8, pad=1, x=LEFT)


def _name_above(axes: Axes, afterwards: ExitStack) -> None:
    name = axes.get_ylabel()
    if name and not axes.get_title(loc="left"):
        afterwards.callback(axes.set_title, "", loc="left", x=0.0)
        afterwards.callback(axes.set_ylabel, name)
        axes.set_title(name.replace(" (", "\n("), fontsize=8, loc="left", x=LEFT, pad=4)
        axes.set_ylabel("")
    afterwards.callback(axes.xaxis.label.set, x=0.5, ha="center")
    axes.xaxis.label.set(x=1.0, ha="right")


def _legend_below(figure: Figure, axes: Axes, afterwards: ExitStack) -> None:
    legend = axes.get_legend()
    if legend is None:
        return
    said = [text.get_text() for text in legend.get_texts()]
    where = {"loc": "outside lower center", "ncols": 1, "labelspacing": 0.15, "borderpad": 0}
    below = figure.legend(axes.get_legend_handles_labels()[0], said, **where)
    afterwards.callback(below.remove)
    afterwards.callback(legend.set, visible=True, in_layout=True)
    legend.set(visible=False, in_layout=False)


def _fewer_ticks(axes: Axes, afterwards: ExitStack) -> None:
    for axis, bins in ((axes.xaxis, 5), (axes.yaxis, 4 if len(axes.figure.axes) == 1 else 2)):
        locator = axis.get_major_locator()
        if isinstance(locator, MaxNLocator):
            afterwards.callback(axis.set_major_locator, locator)
            axis.set_major_locator(MaxNLocator(bins, integer=axis is axes.xaxis))
