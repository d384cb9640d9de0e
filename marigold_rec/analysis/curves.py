"""The curves of a report: ROC, precision and recall, reliability, histograms; thinned to be drawn.

Shapes: N rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from marigold_rec.analysis.by_user import no_figure
from marigold_rec.analysis.codes import float_bits
from marigold_rec.analysis.polyline import thinned
from marigold_rec.analysis.report import Bin, Curves, Histogram
from marigold_rec.analysis.rows import Float64s, Rows

MAX_POINTS = 200
MAX_BINS = 20
MAX_EDGES = 40
WATCH_TIME_BINS = 10

_GRID = 1000
"""The places of the ROC and PR curves that are looked at: at each 1/1000 of the positives and of
the negatives, at each 1/1000 more rows, and all of the first 1000. Between two neighbours no
coordinate moves by more than about 1/1000, unless a tie makes it jump."""

_TOP_SHARE = 0.001
"""Of the rows, whose scores share the last bin of the histogram: a few high ones would press all
others into the first bin."""

_Places = NDArray[np.intp]


def binary_curves(rows: Rows, confidence: float = 0.95) -> Curves:
    """ROC, PR, reliability and histogram of a binary task.

    `confidence`: of the reliability bins' Wilson intervals. They take the rows for independent;
    unequal weights count as (sum of weights)^2 / sum of squared weights rows. Without rows, or with
    a score that is no probability, there is nothing; without both classes neither ROC nor PR.

    Memory beyond `rows`: 36 bytes a row, 48 with weights.
    """
    if no_figure(rows, 1) is not None:
        return Curves()
    ranked = _Ranked.of(rows)
    roc, pr = ranked.roc_and_pr() if ranked.has_both_classes else ((), ())
    return Curves(
        roc=roc,
        pr=pr,
        bins=_reliability(ranked, NormalDist().inv_cdf(0.5 + confidence / 2)),
        histogram=_histogram(ranked),
    )


def watch_time_curves(rows: Rows) -> Curves:
    """Mean predicted against mean actual seconds, for rows of the lowest to the highest prediction.

    At most 10 bins of equal weight, rows with equal predictions in one bin; no intervals. Memory
    beyond `rows`: 32 bytes a row, 40 with weights.
    """
    if no_figure(rows, np.inf) is not None:
        return Curves()
    bits = float_bits(rows.score_N)
    order = np.argsort(bits, kind="stable")
    bits = bits[order]
    weight = None if rows.weight_N is None else rows.weight_N[order].astype(np.float64)
    weight_sum = np.arange(1.0, len(rows) + 1) if weight is None else np.cumsum(weight)
    starts = _equal_mass(bits, weight_sum, WATCH_TIME_BINS)
    del weight_sum
    predicted = _means(bits.view(np.float32).astype(np.float64), weight, starts)
    actual = _means(rows.label_N[order].astype(np.float64), weight, starts)
    counts = np.diff(starts, append=len(rows))
    bins = zip(counts.tolist(), predicted.tolist(), actual.tolist(), strict=True)
    return Curves(bins=tuple(Bin(rows=n, predicted=p, actual=a) for n, p, a in bins))


@dataclass(frozen=True)
class _Ranked:
    """The rows from the highest score on. `code` rises as the score falls, and is equal in ties."""

    code_N: NDArray[np.uint32]
    weight_N: Float64s | None
    positive_sum: Float64s
    """Weight of the positives among the first i rows, i = 0 .. N."""
    weight_sum: Float64s

    @classmethod
    def of(cls, rows: Rows) -> _Ranked:
        # Score and label in 32 bits: without weights a sort of these is all.
        keys = float_bits(rows.score_N)
        keys <<= np.uint32(1)
        keys |= rows.label_N != 0
        np.invert(keys, out=keys)
        weight = None
        if rows.weight_N is None:
            keys.sort()
        else:
            order = np.argsort(keys, kind="stable")
            keys, weight = keys[order], rows.weight_N[order].astype(np.float64)
            del order
        is_positive = (keys & np.uint32(1)) == 0
        keys >>= np.uint32(1)
        sums = np.zeros((2, len(keys) + 1))
        np.cumsum(is_positive if weight is None else is_positive * weight, out=sums[0, 1:])
        if weight is None:
            sums[1] = np.arange(len(keys) + 1)
        else:
            np.cumsum(weight, out=sums[1, 1:])
        return cls(keys, weight, sums[0], sums[1])

    @property
    def has_both_classes(self) -> bool:
        return bool(self.positive_sum[-1] > 0) and self._negative_sum > 0

    @property
    def _negative_sum(self) -> float:
        return float(self.weight_sum[-1] - self.positive_sum[-1])

    def scores(self) -> NDArray[np.float32]:
        """float32 [N], falling."""
        return ((~(self.code_N << np.uint32(1))) >> np.uint32(1)).view(np.float32)

    def num_rows_from(self, scores: NDArray[np.float32]) -> _Places:
        """Number of rows with at least each of these scores."""
        codes = ~(float_bits(scores) << np.uint32(1)) >> np.uint32(1)
        return np.searchsorted(self.code_N, codes, side="right")

    def roc_and_pr(
        self,
    ) -> tuple[tuple[tuple[float, float], ...], tuple[tuple[float, float], ...]]:
        """Both thinned; the PR curve ends where the recall first is 1."""
        places = self._places()
        positives = self.positive_sum[places]
        negatives = self.weight_sum[places] - positives
        recall = positives / self.positive_sum[-1]
        # The difference of two sums may fall by a rounding error.
        false_positive_rate = np.maximum.accumulate(negatives / self._negative_sum)
        end = int(np.argmax(positives == positives[-1])) + 1
        precision = positives[1:end] / self.weight_sum[places[1:end]]
        return (
            thinned(false_positive_rate, recall, MAX_POINTS),
            thinned(recall[1:end], precision, MAX_POINTS),
        )

    def _places(self) -> _Places:
        """Numbers of first rows, 0 and N among them, that end with a tie's last row."""
        num_rows = len(self.code_N)
        share = np.linspace(0, 1, _GRID + 1)
        geometric = np.exp(np.arange(0, np.log(num_rows) + 1 / _GRID, 1 / _GRID)).astype(np.intp)
        negative_sum = self.weight_sum - self.positive_sum
        places = np.concatenate(
            [
                np.arange(_GRID),
                geometric,
                np.searchsorted(self.positive_sum, share * self.positive_sum[-1]),
                np.searchsorted(negative_sum, share * negative_sum[-1]),
            ]
        )
        last = self.code_N[np.clip(places, 1, num_rows) - 1]
        return np.unique([0, *np.searchsorted(self.code_N, last, side="right"), num_rows])


def _reliability(ranked: _Ranked, z: float) -> tuple[Bin, ...]:
    """From the lowest score on."""
    weight = ranked.weight_N
    starts = _equal_mass(ranked.code_N, ranked.weight_sum[1:], MAX_BINS)
    ends = np.append(starts[1:], len(ranked.code_N))
    predicted = _means(ranked.scores().astype(np.float64), weight, starts)
    weights = ranked.weight_sum[ends] - ranked.weight_sum[starts]
    actual = (ranked.positive_sum[ends] - ranked.positive_sum[starts]) / weights
    actual = np.clip(actual, 0.0, 1.0)  # the difference of two sums may be a rounding error beyond
    effective = weights
    if weight is not None:
        effective = weights**2 / np.add.reduceat(weight**2, starts)
    low, high = wilson(actual, effective, z)
    columns = (ends - starts, predicted, actual, low, high)
    bins = zip(*(column.tolist() for column in columns), strict=True)
    found = [Bin(rows=n, predicted=p, actual=a, low=lo, high=hi) for n, p, a, lo, hi in bins]
    return tuple(reversed(found))


def wilson(rate: Float64s, rows: Float64s, z: float) -> tuple[Float64s, Float64s]:
    """Wilson's score interval (1927) of rates over `rows` rows each: fit for rates near 0."""
    centre = (rate + z**2 / (2 * rows)) / (1 + z**2 / rows)
    half = z / (1 + z**2 / rows) * np.sqrt(rate * (1 - rate) / rows + (z / (2 * rows)) ** 2)
    # Exactly at a rate of 0 or 1, where rounding would leave the rate outside.
    return np.clip(centre - half, 0.0, rate), np.clip(centre + half, rate, 1.0)


def _histogram(ranked: _Ranked) -> Histogram:
    """Equal bins from 0 to the 99.9 % quantile of the scores; the last one has those beyond too."""
    scores = ranked.scores()
    top = scores[np.searchsorted(ranked.weight_sum[1:], _TOP_SHARE * ranked.weight_sum[-1])]
    # In float32 like the scores: what equals an edge belongs above it, always.
    edges = np.unique(np.linspace(0, top if top > 0 else 1, MAX_EDGES).astype(np.float32))
    places = ranked.num_rows_from(edges)
    places[-1] = 0
    positives = -np.diff(ranked.positive_sum[places])
    negatives = np.maximum(-np.diff(ranked.weight_sum[places]) - positives, 0.0)
    return Histogram(
        edges=tuple(edges.tolist()),
        positives=tuple(positives.tolist()),
        negatives=tuple(negatives.tolist()),
    )


def _equal_mass(codes: NDArray[np.uint32], weight_sum: Float64s, bins: int) -> _Places:
    """First rows of at most `bins` bins of about equal weight; equal codes share a bin.

    `codes` ascend; `weight_sum`: of each row and those before. Each limit moves to the nearer end
    of the tie that it would split.
    """
    limits = np.arange(1, bins) / bins * weight_sum[-1]
    row = np.minimum(np.searchsorted(weight_sum, limits), len(codes) - 1)
    start = np.searchsorted(codes, codes[row], side="left")
    end = np.searchsorted(codes, codes[row], side="right")
    before = np.where(start > 0, weight_sum[start - 1], 0.0)
    is_start_nearer = limits - before <= weight_sum[end - 1] - limits
    starts = np.unique([0, *np.where(is_start_nearer, start, end)])
    return starts[starts < len(codes)]


def _means(values: Float64s, weight: Float64s | None, starts: _Places) -> Float64s:
    """Weighted mean of each bin; writes over `values`."""
    if weight is None:
        return np.add.reduceat(values, starts) / np.diff(starts, append=len(values))
    values *= weight
    return np.add.reduceat(values, starts) / np.add.reduceat(weight, starts)
