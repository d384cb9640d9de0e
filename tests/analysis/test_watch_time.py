"""Figures against scikit-learn and scipy; influences against finite differences."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

from marigold_rec.analysis import row_arrays
from marigold_rec.analysis.estimate import standard_error
from marigold_rec.analysis.rows import Rows
from marigold_rec.analysis.watch_time import FIGURES, watch_time_estimates
from tests.analysis.derivatives import check_influences
from tests.analysis.nasty_rows import SECONDS, WEIGHTS, second_rows


def _rows(seconds: str, weights: str, num_rows: int = 500) -> Rows:
    rows = second_rows(seconds, weights, num_rows)
    rows = rows.take(rows.weights > 0)
    return Rows(rows.predictions, rows.labels, None if weights == "ones" else rows.weights)


@pytest.mark.parametrize("chunk", [7, 1 << 16])
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("seconds", SECONDS)
@pytest.mark.parametrize("num_rows", [2, 3, 500])
def test_equals_scikit_learn(
    seconds: str, weights: str, chunk: int, num_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_arrays, "_CHUNK", chunk)
    rows = _rows(seconds, weights, num_rows)
    estimates = watch_time_estimates(rows)
    assert tuple(estimates) == FIGURES
    found = {name: estimates[name].value for name in FIGURES}
    prediction, label = rows.score_N.astype(np.float64), rows.label_N.astype(np.float64)
    weight: Any = rows.weights
    mse = mean_squared_error(label, prediction, sample_weight=weight)
    expected = {
        "mae_s": mean_absolute_error(label, prediction, sample_weight=weight),
        "rmse_s": np.sqrt(mse),
        "r2_log": r2_score(np.log1p(label), np.log1p(prediction), sample_weight=weight),
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-9, abs=1e-9), name


@pytest.mark.parametrize("weights", ["ones", "some_zero"])
@pytest.mark.parametrize("seconds", SECONDS)
@pytest.mark.parametrize("num_rows", [2, 3, 500, 20_000])
def test_spearman_equals_scipy(seconds: str, weights: str, num_rows: int) -> None:
    rows = _rows(seconds, weights, num_rows)
    repeats = rows.weights.astype(int)  # a row of weight w counts as w rows
    prediction, label = np.repeat(rows.score_N, repeats), np.repeat(rows.label_N, repeats)
    expected: Any = spearmanr(prediction, label)
    found = watch_time_estimates(rows)["spearman"].value
    assert found == pytest.approx(expected.statistic, rel=1e-9, abs=1e-9)


def test_equal_predictions_have_an_order_by_chance_and_no_correlation() -> None:
    found = watch_time_estimates(Rows(np.array([3, 3], np.float32), np.array([10, 30], np.float32)))
    assert found["spearman"].value is None
    assert found["spearman"].reason == "all predictions are 3 s"
    assert found["xauc"].value == 0.5


@pytest.mark.parametrize("chunk", [5, 1 << 16])
@pytest.mark.parametrize("seconds", SECONDS)
def test_influences_are_derivatives(
    seconds: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_arrays, "_CHUNK", chunk)
    rows = _rows(seconds, "some_zero", 60)
    user = np.random.default_rng(3).integers(0, 8, len(rows)).astype(np.int32)
    check_influences(watch_time_estimates, replace(rows, user_N=user), 8)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_without_users_each_row_is_one(weights: str) -> None:
    rows = _rows("few", weights)
    alone = watch_time_estimates(replace(rows, user_N=np.arange(len(rows), dtype=np.int32)))
    for name, found in watch_time_estimates(rows).items():
        assert found.value == alone[name].value
        influence, other = found.influence_C, alone[name].influence_C
        assert influence is not None
        assert other is not None
        np.testing.assert_array_equal(influence, other)


def test_the_error_of_the_mae_is_that_of_a_mean() -> None:
    rows = _rows("distinct", "ones")
    error = np.abs(rows.score_N.astype(np.float64) - rows.label_N)
    influence = watch_time_estimates(rows)["mae_s"].influence_C
    assert influence is not None
    expected = error.std(ddof=1) / np.sqrt(len(rows))
    assert standard_error(influence) == pytest.approx(expected, rel=1e-9)


def test_equal_labels_have_neither_r2_nor_pairs() -> None:
    rows = Rows(np.array([1, 2, 4], np.float32), np.full(3, 2, np.float32))
    found = watch_time_estimates(rows)
    for name in ("r2_log", "xauc", "spearman"):
        assert found[name].value is None
        assert found[name].reason == "all labels are 2 s"
    assert found["mae_s"].value == 1


def test_perfect_predictions_have_no_interval() -> None:
    label = np.array([1, 2, 4], np.float32)
    found = watch_time_estimates(Rows(label, label))
    expected = {"mae_s": 0, "rmse_s": 0, "r2_log": 1, "xauc": 1, "spearman": pytest.approx(1)}
    assert {name: found[name].value for name in FIGURES} == expected
    assert found["rmse_s"].influence_C is None
    for name in ("mae_s", "r2_log", "xauc"):
        influence = found[name].influence_C
        assert influence is not None
        assert not influence.any()


@pytest.mark.parametrize("prediction", [np.nan, -1, np.inf])
def test_an_invalid_prediction_gives_no_figure(prediction: float) -> None:
    rows = Rows(np.array([3, prediction], np.float32), np.array([0, 1], np.float32))
    for found in watch_time_estimates(rows).values():
        assert found.value is None
        assert found.reason == "1 predictions are not finite numbers >= 0"


def test_no_rows() -> None:
    nothing = np.zeros(0, np.float32)
    for found in watch_time_estimates(Rows(nothing, nothing)).values():
        assert found.value is None
        assert found.reason == "no observed row with a positive weight"
