"""Differences of slices as a dot with its interval, on one scale per metric."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from marigold_rec.analysis.report import Slice

# Of the widest intervals: one tiny slice must not press all others to the middle.
_KEPT_SHARE = 0.9
WIDTH = 128.0
_MARGIN = 4.0


@dataclass(frozen=True)
class Whisker:
    """Places on an axis from 0 to WIDTH whose middle is no difference."""

    dot: float | None
    left: float
    right: float
    is_cut_left: bool
    is_cut_right: bool
    middle: float = WIDTH / 2
    width: float = WIDTH


def whisker_scales(slices: Iterable[Slice]) -> dict[str, float]:
    """Metric -> the difference at the end of the axis."""
    ends: defaultdict[str, list[float]] = defaultdict(list)
    for of in slices:
        found = (of.difference, of.difference_low, of.difference_high)
        if values := [abs(value) for value in found if value is not None]:
            ends[of.metric].append(max(values))
    return {metric: _end(sorted(values)) for metric, values in ends.items()}


def whisker(of: Slice, scales: Mapping[str, float]) -> Whisker | None:
    """None: there is no difference to show."""
    if of.difference is None:
        return None
    scale = scales[of.metric]
    low = of.difference if of.difference_low is None else of.difference_low
    high = of.difference if of.difference_high is None else of.difference_high
    return Whisker(
        dot=None if abs(of.difference) > scale else _place(of.difference, scale),
        left=_place(max(min(low, scale), -scale), scale),
        right=_place(max(min(high, scale), -scale), scale),
        is_cut_left=low < -scale,
        is_cut_right=high > scale,
    )


def _end(ascending: Sequence[float]) -> float:
    kept = ascending[min(len(ascending) - 1, int(_KEPT_SHARE * len(ascending)))]
    return kept or ascending[-1] or 1.0


def _place(value: float, scale: float) -> float:
    half = WIDTH / 2 - _MARGIN
    return round(WIDTH / 2 + half * value / scale, 1)
