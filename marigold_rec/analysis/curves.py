"""The curves of a report: ROC, precision and recall, reliability, histograms; thinned to be drawn.

Shapes: N rows.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from marigold_rec.analysis.by_user import no_figure
from marigold_rec.analysis.codes import float_bits
from marigold_rec.analysis.polyline import thinned
from marigold_rec.analysis.ranking import Places, Ranking
from marigold_rec.analysis.report import Bin, Curves, Histogram
from marigold_rec.analysis.rows import Float64s, Rows

MAX_POINTS = 200
MAX_EDGES = 40
WATCH_TIME_BINS = 10

_GRID = 1000
"""The places of the ROC and PR curves that are looked at: at each 1/1000 of the positives and of
the negatives, at each 1/1000 more rows, and all of the first 1000. Between two neighbours no
coordinate moves by more than about 1/1000, unless a tie makes it jump."""

_TOP_SHARE = 0.001
"""Of the rows, whose scores share the last bin of the histogram: a few high ones would press all
others into the first bin."""


def binary_curves(rows: Rows, confidence: float = 0.95) -> Curves:
    """ROC, PR, reliability and histogram of a binary task.

    `confidence`: of the reliability bins' Wilson intervals. They take the rows for independent;
    unequal weights count as (sum of weights)^2 / sum of squared weights rows. Without rows, or with
    a score that is no probability, there is nothing; without both classes neither ROC nor PR.

    Memory beyond `rows`: that of a `Ranking`.
    """
    return Curves() if no_figure(rows, 1) is not None else curves_of(Ranking.of(rows), confidence)


def curves_of(ranking: Ranking, confidence: float) -> Curves:
    """As `binary_curves`, where the ranking is at hand."""
    roc, pr = _roc_and_pr(ranking) if ranking.has_both_classes else ((), ())
    return Curves(
        roc=roc,
        pr=pr,
        bins=_reliability(ranking, NormalDist().inv_cdf(0.5 + confidence / 2)),
        histogram=_histogram(ranking),
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


_Points = tuple[tuple[float, float], ...]


def _roc_and_pr(ranking: Ranking) -> tuple[_Points, _Points]:
    """Both thinned; the PR curve ends where the recall first is 1."""
    places = _ends_of_ties(ranking)
    positives, negatives = ranking.positives_before(places), ranking.negatives_before(places)
    recall = positives / ranking.positive
    end = int(np.argmax(positives == positives[-1])) + 1
    precision = positives[1:end] / (positives[1:end] + negatives[1:end])
    return (
        thinned(negatives / ranking.negative, recall, MAX_POINTS),
        thinned(recall[1:end], precision, MAX_POINTS),
    )


def _ends_of_ties(ranking: Ranking) -> Places:
    """Numbers of first rows, 0 and N among them, that end with a tie's last row; see _GRID."""
    num_rows = len(ranking)
    share = np.linspace(0, 1, _GRID + 1)
    places = np.concatenate(
        [
            np.arange(_GRID),
            np.exp(np.arange(0, np.log(num_rows) + 1 / _GRID, 1 / _GRID)).astype(np.intp),
            ranking.first_place(ranking.positives_before, share * ranking.positive),
            ranking.first_place(ranking.negatives_before, share * ranking.negative),
        ]
    )
    last = np.unique(np.clip(places, 1, num_rows) - 1)
    return np.unique([0, *ranking.end_of_tie(last), num_rows])


def _reliability(ranking: Ranking, z: float) -> tuple[Bin, ...]:
    """From the lowest score on."""
    starts = ranking.bin_starts
    ends = np.append(starts[1:], len(ranking))
    weights = (ranking.weight_before(ends) - ranking.weight_before(starts)).astype(np.float64)
    predicted = ranking.bin_scores / weights
    actual = (ranking.positives_before(ends) - ranking.positives_before(starts)) / weights
    actual = np.clip(actual, 0.0, 1.0)  # the difference of two sums may be a rounding error beyond
    effective = weights
    if ranking.weight_N is not None:
        effective = weights**2 / ranking.sums_by_bin(lambda part: _squared_weights(ranking, part))
    low, high = wilson(actual, effective, z)
    columns = (ends - starts, predicted, actual, low, high)
    bins = zip(*(column.tolist() for column in columns), strict=True)
    found = [Bin(rows=n, predicted=p, actual=a, low=lo, high=hi) for n, p, a, lo, hi in bins]
    return tuple(reversed(found))


def _squared_weights(ranking: Ranking, part: slice) -> Float64s:
    weight_n = ranking.weighted(part, np.ones(part.stop - part.start))
    return weight_n**2


def wilson(rate: Float64s, rows: Float64s, z: float) -> tuple[Float64s, Float64s]:
    """Wilson's score interval (1927) of rates over `rows` rows each: fit for rates near 0."""
    centre = (rate + z**2 / (2 * rows)) / (1 + z**2 / rows)
    half = z / (1 + z**2 / rows) * np.sqrt(rate * (1 - rate) / rows + (z / (2 * rows)) ** 2)
    # Exactly at a rate of 0 or 1, where rounding would leave the rate outside.
    return np.clip(centre - half, 0.0, rate), np.clip(centre + half, rate, 1.0)


def _histogram(ranking: Ranking) -> Histogram:
    """Equal bins from 0 to the 99.9 % quantile of the scores; the last one has those beyond too."""
    limit = np.array([_TOP_SHARE * (ranking.positive + ranking.negative)])
    top = float(ranking.scores(ranking.first_place(ranking.weight_before, limit) - 1)[0])
    # In float32 like the scores: what equals an edge belongs above it, always.
    edges = np.unique(np.linspace(0, top if top > 0 else 1, MAX_EDGES).astype(np.float32))
    places = ranking.num_rows_from(edges)
    places[-1] = 0
    positives = -np.diff(ranking.positives_before(places))
    negatives = -np.diff(ranking.negatives_before(places))
    return Histogram(
        edges=tuple(edges.tolist()),
        positives=tuple(positives.tolist()),
        negatives=tuple(negatives.tolist()),
    )


def _equal_mass(codes: NDArray[np.uint32], weight_sum: Float64s, bins: int) -> Places:
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


def _means(values: Float64s, weight: Float64s | None, starts: Places) -> Float64s:
    """Weighted mean of each bin; writes over `values`."""
    if weight is None:
        return np.add.reduceat(values, starts) / np.diff(starts, append=len(values))
    values *= weight
    return np.add.reduceat(values, starts) / np.add.reduceat(weight, starts)
