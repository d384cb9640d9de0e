"""A curve of many points as a polyline of few, as near to it as that many can be."""

from __future__ import annotations

import heapq

import numpy as np

from marigold_rec.analysis.rows import Float64s

_NEAR = 0.0005
"""Nobody sees less: a third of a pixel of a picture 600 pixels wide, for a curve in [0, 1]^2."""


def thinned(x: Float64s, y: Float64s, max_points: int) -> tuple[tuple[float, float], ...]:
    """At most `max_points` (>= 2) of the points, first and last among them, in their order.

    Ramer, Douglas and Peucker's method (1972, 1973), the segment that is farthest off split first,
    at its farthest point, until all points are near or `max_points` are drawn.
    """
    kept = {0, len(x) - 1}
    segments = [_farthest(x, y, 0, len(x) - 1)]
    while segments and len(kept) < max_points:
        distance, first, middle, last = heapq.heappop(segments)
        if -distance <= _NEAR:
            break
        kept.add(middle)
        heapq.heappush(segments, _farthest(x, y, first, middle))
        heapq.heappush(segments, _farthest(x, y, middle, last))
    points = sorted(kept)
    return tuple(zip(x[points].tolist(), y[points].tolist(), strict=True))


def _farthest(x: Float64s, y: Float64s, first: int, last: int) -> tuple[float, int, int, int]:
    """(-distance, first, farthest point, last) of the points between two, to their segment."""
    if last - first < 2:
        return 0.0, first, first, last
    inside = slice(first + 1, last)
    distances = distance_to_segment(x[inside], y[inside], x[first], y[first], x[last], y[last])
    middle = int(np.argmax(distances))
    return -float(distances[middle]), first, first + 1 + middle, last


def distance_to_segment(
    x: Float64s, y: Float64s, x0: float, y0: float, x1: float, y1: float
) -> Float64s:
    """Of each point (x, y) to the segment from (x0, y0) to (x1, y1)."""
    dx, dy = x1 - x0, y1 - y0
    length_squared = dx**2 + dy**2
    along = np.zeros_like(x)
    if length_squared > 0:
        along = np.clip(((x - x0) * dx + (y - y0) * dy) / length_squared, 0.0, 1.0)
    return np.hypot(x - x0 - along * dx, y - y0 - along * dy)
