"""XAUC against every pair counted one by one, scipy's Kendall distances and scikit-learn's AUC."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau
from sklearn.metrics import roc_auc_score

from marigold_rec.analysis.rows import Rows
from marigold_rec.analysis.watch_time import watch_time_estimates
from tests.analysis.nasty_rows import SECONDS, WEIGHTS, second_rows

Triples = list[tuple[int, int, int]]


def _xauc(predictions: Any, labels: Any, weights: Any | None = None) -> float:
    weights = np.ones(len(labels)) if weights is None else weights
    prediction, label, weight = np.array([predictions, labels, weights], np.float32)
    rows = Rows(prediction, label, weight)
    found = watch_time_estimates(rows.take(rows.weights > 0))["xauc"].value
    assert found is not None
    return found


def _pair_by_pair(rows: Triples) -> Fraction:
    right = pairs = Fraction(0)
    for prediction, label, weight in rows:
        for other_prediction, other_label, other_weight in rows:
            if label < other_label:
                pairs += weight * other_weight
                sign = (prediction < other_prediction) - (prediction > other_prediction)
                right += weight * other_weight * Fraction(1 + sign, 2)
    return right / pairs


_ROW = st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(1, 3))


@given(st.lists(_ROW, min_size=2, max_size=40).filter(lambda rows: len({r[1] for r in rows}) > 1))
def test_equals_every_pair_counted(rows: Triples) -> None:
    expected = _pair_by_pair(rows)
    found = _xauc(*zip(*rows, strict=True))
    assert found == float(expected), "integer weights: exact, to the last bit"


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("kind", SECONDS)
@pytest.mark.parametrize("num_rows", [2, 3, 500])
def test_equals_all_pairs_of_nasty_rows(kind: str, weights: str, num_rows: int) -> None:
    rows = second_rows(kind, weights, num_rows)
    prediction, label, weight = rows.oracle()
    pair = weight[:, None] * weight * (label[:, None] < label)
    order = 0.5 + 0.5 * np.sign(prediction - prediction[:, None])
    expected = (pair * order).sum() / pair.sum()
    assert _xauc(rows.predictions, rows.labels, rows.weights) == pytest.approx(expected, rel=1e-12)


def test_without_ties_it_is_kendalls_tau_moved_to_0_to_1() -> None:
    generator = np.random.default_rng(0)
    label = generator.permutation(5000)
    prediction = np.argsort(np.argsort(label + generator.normal(0, 2000, 5000)))
    tau: Any = kendalltau(prediction, label)
    found = _xauc(prediction, label)
    assert found == pytest.approx((tau.statistic + 1) / 2, rel=1e-12)
    assert 0.6 < found < 0.9


def test_with_ties_it_is_kendalls_tau_over_the_pairs_that_differ() -> None:
    rows = second_rows("few", "ones", 5000)
    tau: Any = kendalltau(rows.predictions, rows.labels)  # tau-b
    num_pairs = 5000 * 4999 // 2

    def differing(column: Any) -> int:
        _, counts = np.unique(column, return_counts=True)
        return num_pairs - int((counts * (counts - 1) // 2).sum())

    labels, predictions = differing(rows.labels), differing(rows.predictions)
    concordant_less_discordant = tau.statistic * np.sqrt(labels * predictions)
    expected = 0.5 + 0.5 * concordant_less_discordant / labels
    assert _xauc(rows.predictions, rows.labels) == pytest.approx(expected, rel=1e-12)


def test_of_two_labels_it_is_the_auc() -> None:
    rows = second_rows("few", "some_zero", 2000)
    label = (rows.labels > 1).astype(np.float32)
    expected = roc_auc_score(label, rows.predictions, sample_weight=rows.weights)
    assert _xauc(rows.predictions, label, rows.weights) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("num_labels", [2, 3, 7, 8, 9, 64, 1000])
def test_an_order_its_reverse_and_a_constant(num_labels: int) -> None:
    labels = np.arange(num_labels)
    assert _xauc(labels**2, labels) == 1.0
    assert _xauc(labels[::-1], labels) == 0.0
    assert _xauc(np.full(num_labels, 3), labels) == 0.5


def test_a_row_of_weight_w_counts_as_w_rows() -> None:
    rows = second_rows("few", "some_zero", 300)
    repeats = rows.weights.astype(int)
    repeated = _xauc(np.repeat(rows.predictions, repeats), np.repeat(rows.labels, repeats))
    assert _xauc(rows.predictions, rows.labels, rows.weights) == repeated
