"""Each row's pairs, counted one by one; their total against another algorithm."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marigold_rec.analysis import pairs
from marigold_rec.analysis.pairs import pairs_of_rows
from marigold_rec.analysis.rows import Float64s, Rows
from tests.analysis.nasty_rows import SECONDS, WEIGHTS, second_rows


def _one_by_one(rows: Rows) -> tuple[Float64s, Float64s]:
    prediction, label = rows.score_N.astype(np.float64), rows.label_N.astype(np.float64)
    order = np.sign(prediction[:, None] - prediction) * np.sign(label[:, None] - label)
    differs = label[:, None] != label
    return (differs * (0.5 + 0.5 * order)) @ rows.weights, differs @ rows.weights


def _check(rows: Rows) -> None:
    found, expected = pairs_of_rows(rows.score_N, rows.label_N, rows.weight_N), _one_by_one(rows)
    total = rows.weights.sum()
    for some, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(some, other, rtol=0, atol=1e-13 * total)


_ROW = st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(1, 3))


@pytest.mark.parametrize("leaf_bits", [1, 2, 16])
@given(triples=st.lists(_ROW, min_size=1, max_size=40))
def test_equals_every_pair_counted(leaf_bits: int, triples: list[tuple[int, int, int]]) -> None:
    prediction, label, weight = np.array(triples, np.float32).T
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs, "_LEAF_BITS", leaf_bits)
        for weights in (None, weight):
            rows = Rows(prediction.copy(), label.copy(), weights)
            found = pairs_of_rows(rows.score_N, rows.label_N, rows.weight_N)
            expected = _one_by_one(rows)
            np.testing.assert_array_equal(found, expected, "integer weights: exact")


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("kind", SECONDS)
@pytest.mark.parametrize("num_rows", [2, 3, 500])
def test_equals_all_pairs_of_nasty_rows(kind: str, weights: str, num_rows: int) -> None:
    rows = second_rows(kind, weights, num_rows)
    rows = rows.take(rows.weights > 0)
    _check(Rows(rows.predictions, rows.labels, rows.weights))
    _check(Rows(rows.predictions, rows.labels))


@pytest.mark.parametrize("weights", ["ones", "wide"])
@pytest.mark.parametrize("num_rows", [1 << 17, 150_001])
def test_some_of_many_rows(num_rows: int, weights: str) -> None:
    rows = second_rows("few", weights, num_rows)
    weight = None if weights == "ones" else rows.weights
    found = pairs_of_rows(rows.predictions, rows.labels, weight)
    some = np.random.default_rng(0).choice(num_rows, 40, replace=False)
    prediction, label = rows.predictions.astype(np.float64), rows.labels.astype(np.float64)
    order = np.sign(prediction[some, None] - prediction) * np.sign(label[some, None] - label)
    differs = label[some, None] != label
    total = np.ones(num_rows) if weight is None else weight.astype(np.float64)
    for right_or_different, shares in zip(found, (0.5 + 0.5 * order, 1.0), strict=True):
        expected = (differs * shares) @ total
        np.testing.assert_allclose(right_or_different[some], expected, rtol=1e-10)


def test_minus_zero_is_zero() -> None:
    prediction, label = np.array([-0.0, 0, 1], np.float32), np.array([0, 1, -0.0], np.float32)
    right, different = pairs_of_rows(prediction, label, None)
    np.testing.assert_array_equal(right, [0.5, 0.5, 0])
    np.testing.assert_array_equal(different, [1, 2, 1])
