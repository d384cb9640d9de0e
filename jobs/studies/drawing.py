"""All plots of a study share this style: Okabe and Ito's colours, safe for colour-blind readers."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

INK = "#222222"
GREY = "#767676"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#A79F00")
LINE_STYLES = ("-", "--", "-.", ":")
TEXT_SIZE = 10.0
_WIDTH_IN = 9.0  # shown 900 pixels wide, a point is 1.4 pixels
_DPI = 200


def new_figure(height_in: float) -> Figure:
    """Makes an empty figure without pyplot: no window, no global state."""
    figure = Figure(figsize=(_WIDTH_IN, height_in), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def style_axes(axes: Axes) -> None:
    """Leaves only the grid, the ticks and two spines."""
    axes.grid(True, color="#e4e4e4", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=TEXT_SIZE - 1, colors=INK)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def save(figure: Figure, out: Path, name: str) -> str:
    """Writes NAME.svg and NAME.png, reproducibly; returns the PNG's name."""
    with mpl.rc_context({"svg.hashsalt": "marigold"}):
        figure.savefig(out / f"{name}.svg", metadata={"Date": None})
        figure.savefig(out / f"{name}.png", dpi=_DPI)
    return f"{name}.png"


def line_style(index: int) -> tuple[str, str]:
    """Returns (colour, line style) of the index-th task; the first 32 are all different."""
    return COLOURS[index % len(COLOURS)], LINE_STYLES[index // len(COLOURS) % len(LINE_STYLES)]
