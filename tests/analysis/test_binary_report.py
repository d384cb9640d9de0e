"""Figures and curves together are those of the single functions, bit for bit, in two threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from marigold_rec.analysis import binary_report as module
from marigold_rec.analysis.binary import binary_estimates
from marigold_rec.analysis.binary_report import binary_report
from marigold_rec.analysis.by_user import gauc_estimates
from marigold_rec.analysis.curves import binary_curves
from marigold_rec.analysis.rows import Rows


def _rows(num_rows: int, is_weighted: bool, has_users: bool) -> Rows:
    generator = np.random.default_rng(1)
    score = np.round(generator.random(num_rows), 3).astype(np.float32)
    label = (generator.random(num_rows) < score).astype(np.float32)
    weight = generator.uniform(0.5, 2, num_rows).astype(np.float32)
    user = generator.integers(0, num_rows // 9 + 1, num_rows).astype(np.int32)
    return Rows(score, label, weight if is_weighted else None, user if has_users else None)


def _check(rows: Rows) -> None:
    estimates, curves = binary_report(rows, 0.9)
    assert curves == binary_curves(rows, 0.9)
    expected: dict[str, Any] = binary_estimates(rows) | gauc_estimates(rows)
    assert list(estimates) == list(expected)
    for name, found in estimates.items():
        assert (found.value, found.reason) == (expected[name].value, expected[name].reason)
        np.testing.assert_array_equal(found.influence_C, expected[name].influence_C)


@pytest.mark.parametrize("has_users", [False, True])
@pytest.mark.parametrize("is_weighted", [False, True])
@pytest.mark.parametrize("rows_for_two", [0, 1 << 18])
def test_equals_the_single_functions(
    rows_for_two: int, is_weighted: bool, has_users: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ROWS_FOR_TWO", rows_for_two)
    _check(_rows(150_000, is_weighted, has_users))
    _check(_rows(12, is_weighted, has_users))


@pytest.mark.parametrize("label", [0, 1])
def test_one_class(label: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ROWS_FOR_TWO", 0)
    rows = _rows(30, False, True)
    _check(Rows(rows.score_N, np.full(30, label, np.float32), None, rows.user_N))


@pytest.mark.parametrize("num_rows", [0, 3])
def test_no_figure(num_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ROWS_FOR_TWO", 0)
    _check(Rows(np.full(num_rows, 1.5, np.float32), np.ones(num_rows, np.float32)))
