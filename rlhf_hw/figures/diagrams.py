"""The report's own drawings: the stages of RLHF, the reward model's loss, the two routes to a policy.

    python -m rlhf_hw.figures.diagrams        draws all into fig/, as PNG and PDF

Everything is drawn in centimetres at the printed width of 16 cm, so that the font sizes here are the printed
ones. The colours and the way of saving are those of all figures (`figures.style`).
"""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import PlaceHolderLayoutEngine
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from rlhf_hw.figures.style import (
    BASE,
    CHOSEN,
    DPO,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    REJECTED,
    save,
    styled,
)
from rlhf_hw.paths import FIG

WIDTH = 16.0  # cm
TEXT, SMALL, HEAD = 9.0, 8.0, 10.0  # points
TINT = 0.13  # share of its colour in the face of a box
REWARD_MODEL, RL, OPTIMAL = ORANGE, PURPLE, GREEN  # what only diagrams show


def draw_all(folder: Path = FIG) -> list[Path]:
    """Draw every diagram into a folder; return the files, a PNG and a PDF each."""
    return [path for name, draw in DIAGRAMS.items() for path in save(styled(draw)(), folder, name)]


def sheet(height: float) -> tuple[Figure, Axes]:
    """Return a white figure of the printed width whose coordinates are centimetres."""
    # An engine that does nothing: with none at all, the shared style would lay the second saving out anew.
    layout = PlaceHolderLayoutEngine(adjust_compatible=True, colorbar_gridspec=True)
    figure = Figure(figsize=(WIDTH / 2.54, height / 2.54), layout=layout)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(0, height))
    axes.axis("off")
    return figure, axes


def box(
    axes: Axes, x: float, y: float, width: float, height: float, lines: Sequence[str], colour: str
) -> None:
    """Draw a rounded box with up to two centred lines of text; x and y are its lower left corner."""
    axes.add_patch(
        FancyBboxPatch(
            (x + 0.1, y + 0.1),
            width - 0.2,
            height - 0.2,
            boxstyle="round,pad=0.1",
            facecolor=_tint(colour),
            edgecolor=colour,
            linewidth=1.0,
        )
    )
    for line, shift in zip(lines, (0.3, -0.3) if len(lines) == 2 else (0.0,) * len(lines), strict=True):
        write_line(axes, x + width / 2, y + height / 2 + shift, line)


def _tint(colour: str) -> tuple[float, ...]:
    return tuple(1 - TINT * (1 - int(colour[i : i + 2], 16) / 255) for i in (1, 3, 5))


def write_line(axes: Axes, x: float, y: float, text: str, size: float = TEXT, **style) -> None:
    """Write one line whose capitals are centred on y: lines with and without descenders stay level."""
    axes.text(x, y - 0.0127 * size, text, size=size, va="baseline", **{"color": INK, "ha": "center"} | style)


def arrow(
    axes: Axes, start: Sequence[float], end: Sequence[float], colour: str = GREY, bend: float = 0.0
) -> None:
    axes.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle="-|>",
            mutation_scale=9,
            linewidth=1.2,
            color=colour,
            shrinkA=0,
            shrinkB=0,
            connectionstyle=f"arc3,rad={bend}",
        )
    )


# Title, notebooks, colour, and the boxes from top to bottom.
_STAGES = [
    (
        "1  Base model",
        "notebook 00",
        BASE,
        (
            ["texts and replies,", "good and bad"],
            ["next-token loss", r"$-\log\,\pi(y_t\,|\,x, y_{<t})$"],
            ["base model", r"$\pi_0$"],
        ),
    ),
    (
        "2  Reward model",
        "notebooks 01, 02, 03",
        REWARD_MODEL,
        (
            ["preference pairs", r"$(x,\ y_w \succ y_l)$"],
            ["Bradley–Terry loss", r"$-\log\,\sigma(r_w - r_l)$"],
            ["reward model", r"$r_\phi(x, y)$"],
        ),
    ),
    (
        "3  Policy",
        "notebooks 04, 05",
        DPO,
        (
            ["the same pairs"],
            ["DPO loss in place of RL:", r"high reward, near $\pi_{\mathrm{ref}}$"],
            ["policy", r"$\pi_\theta$"],
        ),
    ),
]


def rlhf_pipeline() -> Figure:
    """Draw the three stages of RLHF and the notebooks that do them."""
    figure, axes = sheet(9.4)
    width, gap = 4.4, 1.4
    for index, (title, notebooks, colour, boxes) in enumerate(_STAGES):
        x = index * (width + gap)
        axes.add_patch(Rectangle((x + 0.05, 8.0), width - 0.1, 1.3, facecolor=colour, edgecolor="none"))
        write_line(axes, x + width / 2, 8.9, title, size=HEAD, color="white", weight="bold")
        write_line(axes, x + width / 2, 8.35, notebooks, size=SMALL, color="white")
        for y, lines in zip((6.3, 4.15, 2.0), boxes, strict=True):
            box(axes, x + 0.05, y, width - 0.1, 1.35, lines, colour)
        for y in (6.3, 4.15):
            arrow(axes, (x + width / 2, y), (x + width / 2, y - 0.8), colour)
    first, second, third = (index * (width + gap) for index in range(3))
    arrow(axes, (first + width, 2.67), (second, 2.67), BASE)
    write_line(axes, first + width + gap / 2, 3.0, "start", size=SMALL, color=BASE)
    write_line(axes, second + width + gap / 2, 7.27, "reused", size=SMALL, color=REWARD_MODEL)
    arrow(axes, (second + width, 6.97), (third, 6.97), REWARD_MODEL)
    arrow(axes, (second + width, 2.67), (third, 2.67), REWARD_MODEL)
    write_line(axes, second + width + gap / 2, 3.0, "judges", size=SMALL, color=REWARD_MODEL)
    # After SFT the base model is also the start and the reference of the policy: one line below everything.
    axes.plot([first + width / 2] * 2, [2.0, 1.1], color=BASE, linewidth=1.2)
    axes.plot([first + width / 2, third + width / 2], [1.1, 1.1], color=BASE, linewidth=1.2)
    arrow(axes, (third + width / 2, 1.1), (third + width / 2, 2.0), BASE)
    line = r"after SFT on the chosen replies: start and reference $\pi_{\mathrm{ref}}$ of the policy"
    write_line(axes, second + width / 2, 0.65, line, size=SMALL, color=BASE)
    return figure


def _tokens(
    axes: Axes, x: float, y: float, tokens: Sequence[str], colour: str, width: float, first: int
) -> float:
    """Draw a run of tokens with their positions below; return where the next run starts."""
    for index, token in enumerate(tokens):
        end = token == "end"
        axes.add_patch(
            Rectangle(
                (x, y),
                width,
                0.8,
                facecolor=colour if end else _tint(colour),
                edgecolor=colour,
                linewidth=0.9,
            )
        )
        write_line(
            axes,
            x + width / 2,
            y + 0.39,
            token,
            size=SMALL,
            color="white" if end else INK,
            weight="bold" if end else "normal",
        )
        write_line(axes, x + width / 2, y - 0.3, str(first + index), size=SMALL, color=GREY)
        x += width
    return x


def rm_loss_diagram() -> Figure:
    """Draw one row with a prompt and its two replies, the scores at the end tokens, and the loss."""
    figure, axes = sheet(8.6)
    width, y, left = 1.13, 2.5, 1.75
    chosen_at = _tokens(axes, left, y, ["How", "old", "is", "it", "?"], GREY, width, 0)
    rejected_at = _tokens(axes, chosen_at, y, ["Ten", "years", "end"], CHOSEN, width, 5)
    end = _tokens(axes, rejected_at, y, ["Who", "knows", "end"], REJECTED, width, 5)
    write_line(axes, left - 0.2, y + 0.4, "one row", size=SMALL, ha="right", color=GREY)
    write_line(axes, left - 0.2, y - 0.3, "positions", size=SMALL, ha="right", color=GREY)
    for start, stop, label, colour in (
        (left, chosen_at, "prompt $x$, computed once", GREY),
        (chosen_at, rejected_at, "chosen $y_w$", CHOSEN),
        (rejected_at, end, "rejected $y_l$", REJECTED),
    ):
        axes.plot([start + 0.1, stop - 0.1], [1.75, 1.75], color=colour, linewidth=1.5)
        write_line(axes, (start + stop) / 2, 1.4, label, color=colour)
    for height, note in (
        (0.75, "each reply attends to the prompt and to itself, never to the other reply;"),
        (0.35, "both count their positions from the end of the prompt"),
    ):
        write_line(axes, WIDTH / 2, height, note, size=SMALL, color=GREY)
    ends = (rejected_at - width / 2, end - width / 2)
    for x, name, colour in zip(ends, ("r_w", "r_l"), (CHOSEN, REJECTED), strict=True):
        arrow(axes, (x, y + 0.8), (x, 4.35), colour)
        box(axes, x - 1.15, 4.35, 2.3, 0.95, [f"score ${name}$"], colour)
    write_line(axes, ends[0] - 1.4, 3.85, "score head on the end token", size=SMALL, color=GREY, ha="right")
    box(
        axes,
        8.0,
        6.75,
        7.0,
        1.5,
        [
            r"$\mathcal{L} = -\log\,\sigma(r_w - r_l)$",
            r"Bradley–Terry: $P(y_w \succ y_l\,|\,x) = \sigma(r_w - r_l)$",
        ],
        INK,
    )
    for x, colour, label, side in (
        (ends[0], CHOSEN, "the loss pushes it up", "right"),
        (ends[1], REJECTED, "and it down", "left"),
    ):
        arrow(axes, (x, 5.3), (x, 6.75), colour)
        write_line(
            axes, x + (-0.2 if side == "right" else 0.2), 6.0, label, size=SMALL, color=colour, ha=side
        )
    return figure


def dpo_vs_rlhf() -> Figure:
    """Draw the two routes from preferences to the same optimal policy: reward model and RL, or DPO."""
    figure, axes = sheet(8.6)
    box(axes, 0.1, 3.4, 2.7, 1.8, ["preferences", r"$(x,\ y_w \succ y_l)$"], GREY)
    box(axes, 3.6, 6.5, 3.8, 1.7, ["reward model", r"$\min_\phi\ -\log\,\sigma(r_w - r_l)$"], REWARD_MODEL)
    box(
        axes,
        8.5,
        6.5,
        4.6,
        1.7,
        [
            "RL with a KL penalty",
            r"$\max_\theta\ r_\phi - \beta\,\mathrm{KL}(\pi_\theta\,||\,\pi_{\mathrm{ref}})$",
        ],
        RL,
    )
    box(axes, 3.6, 0.1, 9.5, 2.3, [], DPO)
    write_line(axes, 8.35, 1.95, "DPO: one supervised loss, no reward model, no sampling")
    loss = (
        r"$-\log\,\sigma\left(\beta\log\dfrac{\pi_\theta(y_w|x)}{\pi_{\mathrm{ref}}(y_w|x)}"
        r" - \beta\log\dfrac{\pi_\theta(y_l|x)}{\pi_{\mathrm{ref}}(y_l|x)}\right)$"
    )
    write_line(axes, 8.35, 0.95, loss)
    box(axes, 13.2, 3.4, 2.7, 1.8, ["optimal policy", r"$\pi^{*}(y|x)$"], OPTIMAL)
    for y, line, size in (
        (5.5, r"$\pi^{*}(y|x) = \dfrac{1}{Z(x)}\,\pi_{\mathrm{ref}}(y|x)\,e^{\,r(x,y)/\beta}$", HEAD),
        (
            4.3,
            r"$\Longleftrightarrow\quad r(x,y) = \beta\log\dfrac{\pi^{*}(y|x)}{\pi_{\mathrm{ref}}(y|x)}"
            r" + \beta\log Z(x)$",
            HEAD,
        ),
        (3.3, r"$Z(x)$ is the same for both replies and cancels in $r_w - r_l$", SMALL),
    ):
        write_line(axes, 8.0, y, line, size=size, color=GREY if size == SMALL else INK)
    arrow(axes, (1.45, 5.2), (3.6, 7.35), REWARD_MODEL, bend=-0.25)
    arrow(axes, (7.4, 7.35), (8.5, 7.35), RL)
    arrow(axes, (13.1, 7.35), (14.55, 5.2), RL, bend=-0.25)
    arrow(axes, (1.45, 3.4), (3.6, 1.25), DPO, bend=0.25)
    arrow(axes, (13.1, 1.25), (14.55, 3.4), DPO, bend=0.25)
    return figure


DIAGRAMS = {draw.__name__: draw for draw in (rlhf_pipeline, rm_loss_diagram, dpo_vs_rlhf)}

if __name__ == "__main__":
    draw_all()
