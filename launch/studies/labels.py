"""Names beside points without overlaps: each takes the cheapest of many places near its point."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

# Distances (in text heights) and directions (in degrees), the ones preferred first.
_DISTANCES = (0.7, 1.2, 1.8, 2.6, 3.6, 4.8, 6.2, 8.0)
_ANGLES = (20, -20, 160, -160, 50, -50, 130, -130, 0, 180, 90, -90, 70, -70, 110, -110)
# From this distance on a thin line leads from the label to its point.
_LEADER_FROM = 1.5
_SWEEPS = 4
# Costs: per pixel of overlap with a mark or another label, with a line (the label has a halo), per
# pixel outside of the frame, per text height of distance, per place where a leader crosses a label.
_MARK, _LINE, _OUTSIDE, _DISTANCE, _CROSSING = 20.0, 1.0, 50.0, 60.0, 400.0

Point = tuple[float, float]
Boxes = NDArray[np.float64]
"""[n, 4] in pixels: x0, y0, x1, y1."""


@dataclass(frozen=True)
class Label:
    """A text for the point (x, y), in data units."""

    x: float
    y: float
    text: str
    colour: str
    is_bold: bool = False


@dataclass(frozen=True)
class _Place:
    box: Bbox
    distance: float
    leader: Boxes
    """Dots along the way from the label to its point; none when they are close."""


def place_labels(
    axes: Axes, labels: Sequence[Label], marks: Sequence[Bbox], lines: Sequence[Bbox], size: float
) -> list[Bbox]:
    """Writes the labels into `axes`, whose limits and layout must be final; returns their boxes.

    `marks`: boxes in pixels that no label should touch; `lines`: thin ones that it may, if need be.
    """
    frame = _boxes([axes.get_window_extent()])
    mark_boxes, line_boxes = _boxes(marks), _boxes(lines)
    texts = [_text(axes, label, size) for label in labels]
    candidates = []
    for label, text in zip(labels, texts, strict=True):
        x, y = axes.transData.transform((label.x, label.y)).tolist()
        extent = text.get_window_extent()
        candidates.append(list(_places((x, y), extent.width, extent.height)))
    chosen: list[_Place | None] = [None] * len(labels)
    for _ in range(_SWEEPS):  # a label that was placed early may give way to a later one
        for i, places in enumerate(candidates):
            others = [place for j, place in enumerate(chosen) if place is not None and j != i]
            taken = _boxes([other.box for other in others])
            dots = np.concatenate([np.empty((0, 4)), *(other.leader for other in others)])
            costs = [_cost(p, taken, dots, mark_boxes, line_boxes, frame) for p in places]
            chosen[i] = places[int(np.argmin(costs))]
    placed = [place for place in chosen if place is not None]
    for label, text, place in zip(labels, texts, placed, strict=True):
        _put(axes, label, text, place)
    return [place.box for place in placed]


def _text(axes: Axes, label: Label, size: float) -> Text:
    return axes.text(
        0, 0, label.text, size=size, color=label.colour, transform=None, zorder=5,
        fontweight="bold" if label.is_bold else "normal",
        path_effects=[withStroke(linewidth=2.5, foreground="white")],
    )  # fmt: skip


def _places(point: Point, width: float, height: float) -> Iterator[_Place]:
    for distance in _DISTANCES:
        for angle in _ANGLES:
            dx = math.cos(math.radians(angle)) * distance * height
            dy = math.sin(math.radians(angle)) * distance * height
            # The box's side that looks at the point: right of it, left of it, or centred.
            shift = 0.0 if dx > 0.3 * height else -width if dx < -0.3 * height else -width / 2
            x, y = point[0] + dx + shift, point[1] + dy - height / 2
            box = Bbox.from_bounds(x, y, width, height)
            yield _Place(box, distance, _leader(box, point, distance))


def _leader(box: Bbox, point: Point, distance: float) -> Boxes:
    if distance < _LEADER_FROM:
        return np.empty((0, 4))
    start = _nearest(box, point)
    num_dots = max(2, int(math.dist(start, point) / 4))
    # The last ones would lie on the point's own mark.
    way = np.linspace(start, point, num_dots)[: -min(3, num_dots - 1)]
    return np.concatenate([way - 1, way + 1], axis=1)


def _nearest(box: Bbox, point: Point) -> Point:
    return min(max(point[0], box.x0), box.x1), min(max(point[1], box.y0), box.y1)


def _cost(
    place: _Place, taken: Boxes, dots: Boxes, marks: Boxes, lines: Boxes, frame: Boxes
) -> float:
    """`taken`: the other labels; `dots`: their leaders."""
    box, wide = _boxes([place.box]), _boxes([place.box.padded(2)])
    crossings = (_common(place.leader, taken) > 0).sum() + (_common(wide, dots) > 0).sum()
    crossings += (_common(place.leader, marks) > 0).sum()
    return float(
        _MARK * (_common(wide, taken).sum() + _common(wide, marks).sum())
        + _LINE * _common(wide, lines).sum()
        + _OUTSIDE * (place.box.width * place.box.height - _common(box, frame).sum())
        + _DISTANCE * place.distance
        + _CROSSING * crossings
    )


def _common(some: Boxes, others: Boxes) -> Boxes:
    """Areas of the overlaps, [n of some, n of others]."""
    low = np.maximum(some[:, None, :2], others[None, :, :2])
    high = np.minimum(some[:, None, 2:], others[None, :, 2:])
    return np.prod(np.maximum(high - low, 0.0), axis=2)


def _boxes(boxes: Sequence[Bbox]) -> Boxes:
    return np.array([box.extents for box in boxes]).reshape(-1, 4)


def _put(axes: Axes, label: Label, text: Text, place: _Place) -> None:
    extent = text.get_window_extent()
    # In units of the axes: pixels would be others in a file of another resolution.
    to_axes = axes.transAxes.inverted().transform
    corner = (place.box.x0 - extent.x0, place.box.y0 - extent.y0)
    left, bottom = to_axes(corner).tolist()
    text.set_transform(axes.transAxes)
    text.set_position((left, bottom))
    if len(place.leader):
        x, y = axes.transData.transform((label.x, label.y)).tolist()
        (x0, y0), (x1, y1) = to_axes([_nearest(place.box, (x, y)), (x, y)]).tolist()
        axes.plot([x0, x1], [y0, y1], color=label.colour, lw=0.6, transform=axes.transAxes)
