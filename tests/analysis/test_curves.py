"""Thinned curves against all points of scikit-learn's; bins and histograms against plain loops."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import precision_recall_curve, roc_curve

from marigold_rec.analysis.curves import binary_curves, watch_time_curves
from marigold_rec.analysis.polyline import distance_to_segment, thinned
from marigold_rec.analysis.report import Curves
from marigold_rec.analysis.rows import Rows

KINDS = ["smooth", "ties", "few positives", "many positives", "calibrated", "separated", "small"]


def _rows(kind: str, weights: str = "none") -> Rows:
    generator = np.random.default_rng(3)
    num_rows = 7 if kind == "small" else 20_000
    base = generator.normal(0, 1, num_rows)
    rate = {"few positives": 0.001, "many positives": 0.98, "small": 0.4}.get(kind, 0.1)
    label = generator.random(num_rows) < rate
    label[:2] = (False, True)
    logit = base + 1.5 * label - 3 + (20 * label if kind == "separated" else 0)
    score = 1 / (1 + np.exp(-logit))
    if kind == "calibrated":
        label = generator.random(num_rows) < score
    elif kind == "ties":
        score = np.round(score, 1)
    weight = None
    if weights == "wide":
        weight = (10 ** generator.uniform(-1, 1, num_rows)).astype(np.float32)
    return Rows(score.astype(np.float32), label.astype(np.float32), weight)


def _largest_distance(points: Any, x: Any, y: Any) -> float:
    drawn = np.array(points)
    distances = [distance_to_segment(x, y, *start, *end) for start, end in pairwise(drawn)]
    return float(np.min(distances, axis=0).max())


@pytest.mark.parametrize("weights", ["none", "wide"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_point_of_the_roc_curve_is_far_from_the_drawn_one(kind: str, weights: str) -> None:
    rows = _rows(kind, weights)
    points = binary_curves(rows).roc
    assert len(points) <= 200
    assert points[0] == (0, 0)
    assert points[-1] == (1, 1)
    assert (np.diff(points, axis=0) >= 0).all()
    x, y, _ = roc_curve(
        rows.label_N, rows.score_N, sample_weight=rows.weight_N, drop_intermediate=False
    )
    assert _largest_distance(points, x, y) < 0.003
    assert _largest_distance([*zip(x, y, strict=True)], *np.array(points).T) < 1e-9


@pytest.mark.parametrize("weights", ["none", "wide"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_point_of_the_pr_curve_is_far_from_the_drawn_one(kind: str, weights: str) -> None:
    rows = _rows(kind, weights)
    points = binary_curves(rows).pr
    assert len(points) <= 200
    assert points[-1][0] == 1, "it ends where all positives are found"
    assert (np.diff(points, axis=0)[:, 0] >= 0).all()
    y, x, _ = precision_recall_curve(rows.label_N, rows.score_N, sample_weight=rows.weight_N)
    x, y = x[:-1], y[:-1]  # without the point (0, 1), which is no threshold's
    end = np.flatnonzero(x >= 1 - 1e-12)[-1]  # the highest threshold that finds all
    assert _largest_distance([*points, points[-1]], x[end:], y[end:]) < 0.003


@pytest.mark.parametrize("weights", ["none", "wide"])
@pytest.mark.parametrize("kind", KINDS)
def test_reliability_bins(kind: str, weights: str) -> None:
    rows = _rows(kind, weights)
    bins = binary_curves(rows).bins
    order = np.argsort(rows.score_N, kind="stable")
    sorted_rows = rows.take(order)
    assert 1 <= len(bins) <= 20
    assert sum(part.rows for part in bins) == len(rows)
    start = 0
    for part in bins:
        own = sorted_rows.take(np.arange(start, start + part.rows))
        start += part.rows
        weight = own.weights
        assert part.predicted == pytest.approx(np.average(own.score_N, weights=weight), rel=1e-6)
        actual = np.average(own.label_N, weights=weight)
        assert part.actual == pytest.approx(actual, rel=1e-9, abs=1e-9)
        assert part.low is not None
        assert part.high is not None
        assert 0 <= part.low <= part.actual <= part.high <= 1
        if start < len(rows):
            assert sorted_rows.score_N[start - 1] < sorted_rows.score_N[start], "ties stay together"
    if kind not in ("ties", "small", "separated"):  # the others have hardly a tie
        shares = [1 / 20] * 20
        starts = np.cumsum([0, *[part.rows for part in bins]])[:-1]
        found = np.add.reduceat(sorted_rows.weights, starts) / rows.weights.sum()
        assert found == pytest.approx(shares, rel=0.02)


def test_the_interval_is_wilsons() -> None:
    score = np.repeat(np.array([0.1, 0.4], np.float32), 50)
    label = (np.arange(100) % 50 < 7).astype(np.float32)
    expected = binomtest(7, 50).proportion_ci(0.9, method="wilson")
    for part in binary_curves(Rows(score, label), confidence=0.9).bins:
        assert (part.rows, part.actual) == (50, 0.14)
        assert (part.low, part.high) == pytest.approx((expected.low, expected.high), rel=1e-9)


def test_unequal_weights_widen_the_interval() -> None:
    rows = _rows("smooth", "wide")
    assert rows.weight_N is not None
    equal = binary_curves(Rows(rows.score_N, rows.label_N)).bins[10]
    unequal = binary_curves(rows).bins[10]
    scaled = Rows(rows.score_N, rows.label_N, rows.weight_N * 1000)
    assert equal.high is not None
    assert equal.low is not None
    assert unequal.high is not None
    assert unequal.low is not None
    assert unequal.high - unequal.low > 1.2 * (equal.high - equal.low)
    assert binary_curves(scaled).bins[10].low == pytest.approx(unequal.low, rel=1e-3)


@pytest.mark.parametrize("weights", ["none", "wide"])
@pytest.mark.parametrize("kind", KINDS)
def test_histogram(kind: str, weights: str) -> None:
    rows = _rows(kind, weights)
    histogram = binary_curves(rows).histogram
    assert histogram is not None
    edges = np.array(histogram.edges)
    assert len(edges) <= 40
    assert edges[0] == 0
    assert np.diff(edges) == pytest.approx(edges[-1] / (len(edges) - 1), rel=1e-4)
    beyond = rows.weights[rows.score_N > edges[-1]].sum() / rows.weights.sum()
    assert beyond <= 0.001
    for heights, label in ((histogram.positives, 1), (histogram.negatives, 0)):
        own = rows.take(rows.label_N == label)
        clipped = np.minimum(own.score_N, edges[-1])
        expected, _ = np.histogram(clipped, edges, weights=own.weights)
        assert heights == pytest.approx(expected, rel=1e-9, abs=1e-6)


_SCORES = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1), st.integers(1, 3)), min_size=1)


@given(_SCORES, st.booleans())
def test_any_rows(drawn: list[tuple[int, int, int]], is_weighted: bool) -> None:
    score, label, weight = (np.array(column, np.float32) for column in zip(*drawn, strict=True))
    rows = Rows(score / np.float32(5), label, weight if is_weighted else None)
    curves = binary_curves(rows)
    has_both = len(set(label.tolist())) == 2
    assert bool(curves.roc) == bool(curves.pr) == has_both
    if has_both:
        x, y, _ = roc_curve(label, rows.score_N, sample_weight=rows.weight_N)
        assert _largest_distance(curves.roc, x, y) < 1e-3, "all corners are drawn"
    assert sum(part.rows for part in curves.bins) == len(rows)
    assert curves.histogram is not None
    heights = (*curves.histogram.positives, *curves.histogram.negatives)
    assert sum(heights) == pytest.approx(rows.weights.sum())
    assert sum(part.rows for part in watch_time_curves(rows).bins) == len(rows)


@pytest.mark.parametrize("is_weighted", [False, True])
def test_deciles_of_a_watch_time(is_weighted: bool) -> None:
    generator = np.random.default_rng(0)
    label = generator.exponential(30, 5000).astype(np.float32)
    prediction = (label * generator.lognormal(0, 1, 5000)).astype(np.float32)
    weight = generator.uniform(1, 4, 5000).astype(np.float32) if is_weighted else None
    rows = Rows(prediction, label, weight)
    curves = watch_time_curves(rows)
    assert curves == Curves(bins=curves.bins)
    assert len(curves.bins) == 10
    parts = np.split(np.argsort(prediction), np.cumsum([part.rows for part in curves.bins])[:-1])
    for part, row in zip(curves.bins, parts, strict=True):
        own = rows.take(row)
        assert own.weights.sum() == pytest.approx(rows.weights.sum() / 10, rel=0.01)
        predicted = np.average(own.score_N.astype(float), weights=own.weights)
        actual = np.average(own.label_N.astype(float), weights=own.weights)
        assert (part.predicted, part.actual) == pytest.approx((predicted, actual), rel=1e-9)


def test_equal_predictions_share_a_bin() -> None:
    prediction = np.repeat(np.array([1, 2], np.float32), [30, 70])
    bins = watch_time_curves(Rows(prediction, prediction * 2)).bins
    assert [(part.rows, part.predicted, part.actual) for part in bins] == [(30, 1, 2), (70, 2, 4)]


def test_no_row_no_curve() -> None:
    none = Rows(np.empty(0, np.float32), np.empty(0, np.float32))
    assert binary_curves(none) == watch_time_curves(none) == Curves()


@pytest.mark.parametrize("bad", [-0.5, np.nan, np.inf])
def test_invalid_scores_have_no_curve(bad: float) -> None:
    rows = Rows(np.array([0.5, bad], np.float32), np.array([0, 1], np.float32))
    assert binary_curves(rows) == watch_time_curves(rows) == Curves()


@pytest.mark.parametrize("max_points", [2, 3, 10])
def test_thinned_keeps_both_ends_and_the_limit(max_points: int) -> None:
    x = np.linspace(0, 1, 1000)
    points = thinned(x, x**2, max_points)
    assert len(points) == max_points
    assert points[0] == (0, 0)
    assert points[-1] == (1, 1)


def test_a_straight_line_needs_two_points() -> None:
    x = np.linspace(0, 1, 1000)
    assert thinned(x, 1 - x, 200) == ((0, 1), (1, 0))
