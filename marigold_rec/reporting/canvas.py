"""Small matplotlib pictures as inline SVG whose colours and font are the page's.

Text stays text and colours become CSS variables, so that a picture follows light and dark mode and
the reader's own fonts. Only numbers and fixed words are drawn: names from the data go into the
HTML around it, where any script has its glyphs and nothing is read as a formula.
"""

from __future__ import annotations

import io
import re
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from marigold_rec.reporting.wording import shown

# Drawn in colours that stand for names; the style sheet says what they look like.
_VARIABLES = ("ink", "muted", "grid", "model", "baseline", "positive", "negative",
              "c0", "c1", "c2", "c3", "c4", "c5")  # fmt: skip
_COLOURS = {name: f"#0101{i:02x}" for i, name in enumerate(_VARIABLES)}
_NAMES = {colour: name for name, colour in _COLOURS.items()}
_WIDTH_PT, _HEIGHT_PT = 236.0, 182.0  # shown 260 to 400 pixels wide, on a phone too
_TEXT_PT = 9.5
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "path.simplify": True,
    "axes.unicode_minus": True,
    "text.usetex": False,
}
_SVG = "{http://www.w3.org/2000/svg}"
_HREF = "{http://www.w3.org/1999/xlink}href"


def colour(name: str) -> str:
    """Of a CSS variable."""
    return _COLOURS[name]


def series_name(index: int) -> str:
    """The CSS variable of the index-th of several lines."""
    return f"c{index % 6}"


def new_figure(height_pt: float = _HEIGHT_PT) -> Figure:
    """Without pyplot: no window, no global state."""
    figure = Figure(figsize=(_WIDTH_PT / 72, height_pt / 72), layout="constrained")
    FigureCanvasSVG(figure)
    figure.patch.set_visible(False)
    return figure


def plain(axes: Axes, x_label: str = "", y_label: str = "") -> None:
    """Only what helps to read values."""
    axes.patch.set_visible(False)
    axes.grid(True, color=colour("grid"), linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", length=0, labelsize=_TEXT_PT, labelcolor=colour("muted"), pad=4)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(colour("muted"))
        spine.set_linewidth(0.6)
    axes.set_xlabel(x_label, size=_TEXT_PT, color=colour("muted"))
    axes.set_ylabel(y_label, size=_TEXT_PT, color=colour("muted"))


def log_scale(axes: Axes, which: str) -> None:
    """Few labels, in plain numbers: 0.01 and not a power, whose exponent is tiny on a phone."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    low, high = sorted(axes.get_xlim() if which == "x" else axes.get_ylim())
    is_narrow = low > 0 and high / low < 50
    steps = (1.0, 2.0, 5.0) if is_narrow else (1.0,)
    axis.set_major_locator(LogLocator(base=10, subs=steps, numticks=6))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def short_number(value: float, _position: object = None) -> str:
    """12k, 3.4M: labels of an axis of rows or steps."""
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:g}{name}"
    return f"{value:g}"


def to_svg(figure: Figure, key: str, label: str) -> Markup:
    """`key`: unique on the page, all ids are made from it. `label`: what is heard, not seen."""
    with mpl.rc_context({**_SETTINGS, "svg.hashsalt": key}), io.StringIO() as file:
        # All four None: no metadata at all, and no date in it.
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(file, format="svg", metadata=nothing)
        root = ElementTree.fromstring(file.getvalue())
    _strip(root)
    for element in root.iter():
        _restyle(element)
    width, height = figure.get_size_inches() * 72
    root.attrib = {
        "viewBox": f"0 0 {width:g} {height:g}",
        "role": "img",
        "aria-label": shown(label),
    }
    # All text in it is escaped by ElementTree.
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _strip(root: ElementTree.Element) -> None:
    """Without namespaces, white space, and the style sheet, which would hold for the whole page."""
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{_SVG}metadata", f"{_SVG}style"):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        element.tail = None
        if element.tag == "g":
            element.attrib.pop("id", None)  # every picture has an axes_1, and nothing refers to it
        if element.tag != "text":
            element.text = None
        if _HREF in element.attrib:
            element.set("href", element.attrib.pop(_HREF))


def _restyle(element: ElementTree.Element) -> None:
    """CSS variables for colours, the page's font, a hundredth of a point for coordinates."""
    if style := element.get("style"):
        style = re.sub(r"#[0-9a-f]{6}", lambda m: f"var(--{_NAMES[m[0]]})", style)
        # As text matplotlib writes `font: 9px 'DejaVu Sans'` or the parts of it.
        style = re.sub(r"\s*font-family:[^;]*;?", "", style)
        element.set("style", re.sub(r";\s*", ";", re.sub(r":\s+", ":", style)))
    for name in ("d", "x", "y", "transform", "width", "height"):
        if found := element.get(name):
            short = re.sub(
                r"-?\d+\.\d+", lambda m: f"{float(m[0]):.2f}".rstrip("0").rstrip("."), found
            )
            element.set(name, " ".join(short.split()))
