"""Influences by finite differences, independent of any formula: the oracle of every influence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from marigold_rec.analysis.estimate import Estimate
from marigold_rec.analysis.rows import Float64s, Rows

Estimates = Callable[[Rows], dict[str, Estimate]]


def check_influences(estimates: Estimates, rows: Rows, num_clusters: int) -> None:
    """Every influence equals the derivative in its user's weight, and together they are 0.

    `rows.weight_N`: small integers, so that float32 holds the changed weights exactly. Central
    differences of step h, once extrapolated, are off by O(h^4) = 1e-12 and by rounding, 1e-16 / h.
    """
    found = estimates(rows)
    for name, estimate in found.items():
        if name == "ece":
            continue
        numeric_C = _richardson(estimates, rows, name, num_clusters)
        assert estimate.influence_C is not None
        scale = np.abs(numeric_C).max()
        assert scale > 1e-4, f"{name}: a derivative that tests nothing"
        np.testing.assert_allclose(
            estimate.influence_C, numeric_C, rtol=0, atol=1e-9 * scale, err_msg=name
        )
        assert estimate.influence_C.sum() == pytest.approx(0, abs=1e-12 * scale * num_clusters)


def _richardson(estimates: Estimates, rows: Rows, name: str, num_clusters: int) -> Float64s:
    def value(user: int, factor: float) -> float:
        assert rows.weight_N is not None
        assert rows.user_N is not None
        weight = np.where(rows.user_N == user, rows.weight_N * np.float32(factor), rows.weight_N)
        found = estimates(replace(rows, weight_N=weight))[name].value
        assert found is not None
        return found

    def central(user: int, h: float) -> float:
        return (value(user, 1 + h) - value(user, 1 - h)) / (2 * h)

    h = 2.0**-9
    return np.array([(4 * central(u, h / 2) - central(u, h)) / 3 for u in range(num_clusters)])
