"""RegressionScores against scikit-learn and scipy, and where a figure does not exist."""

from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

from marigold_rec.metrics import RegressionMetrics, RegressionScores
from tests.metrics.nasty_rows import SECONDS, WEIGHTS, Rows, second_rows


def metrics(rows: Rows) -> RegressionMetrics:
    scores = RegressionScores()
    scores.add(rows.predictions, rows.labels, rows.weights)
    return scores.compute()


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("kind", SECONDS)
@pytest.mark.parametrize("num_rows", [2, 3, 500, 20_000])
def test_equals_scikit_learn(kind: str, weights: str, num_rows: int) -> None:
    rows = second_rows(kind, weights, num_rows)
    found = metrics(rows)
    prediction, label, weight = rows.oracle()
    mae = mean_absolute_error(label, prediction, sample_weight=weight)
    mse = mean_squared_error(label, prediction, sample_weight=weight)
    r2 = r2_score(np.log1p(label), np.log1p(prediction), sample_weight=weight)
    assert found.mae_s == pytest.approx(mae, rel=1e-9)
    assert found.rmse_s == pytest.approx(math.sqrt(mse), rel=1e-9)
    assert found.r2_log == pytest.approx(r2, rel=1e-9, abs=1e-9)
    assert found.rows == (weight > 0).sum()
    assert found.zero_weight_rows == (weight == 0).sum()
    assert found.weight_sum == pytest.approx(weight.sum(), rel=1e-12)
    assert not found.reasons


@pytest.mark.parametrize("weights", ["ones", "some_zero"])
@pytest.mark.parametrize("kind", SECONDS)
@pytest.mark.parametrize("num_rows", [2, 3, 500, 20_000])
def test_spearman_equals_scipy(kind: str, weights: str, num_rows: int) -> None:
    rows = second_rows(kind, weights, num_rows)
    prediction, label, weight = rows.oracle()
    repeats = weight.astype(int)  # a row of weight w counts as w rows
    expected: Any = spearmanr(np.repeat(prediction, repeats), np.repeat(label, repeats))
    assert metrics(rows).spearman == pytest.approx(expected.statistic, rel=1e-9, abs=1e-9)


def test_spearman_of_an_order_and_its_reverse() -> None:
    seconds = np.array([0, 1, 5, 600], np.float32)
    for prediction, expected in ((seconds**2, 1.0), (seconds[::-1], -1.0)):
        scores = RegressionScores()
        scores.add(prediction, seconds)
        assert scores.compute().spearman == pytest.approx(expected, abs=1e-15)


def test_equal_labels_have_no_r2_and_equal_predictions_no_rank() -> None:
    scores = RegressionScores()
    scores.add(np.array([1, 2], np.float32), np.array([30, 30], np.float32))
    found = scores.compute()
    assert (found.r2_log, found.spearman, found.xauc) == (None, None, None)
    assert found.mae_s == 28.5
    assert found.reasons == dict.fromkeys(("r2_log", "spearman", "xauc"), "all labels are 30 s")
    scores = RegressionScores()
    scores.add(np.array([3, 3], np.float32), np.array([10, 30], np.float32))
    found = scores.compute()
    assert found.spearman is None
    assert found.r2_log is not None
    assert found.xauc == 0.5, "an order by chance is a figure; a correlation does not exist"
    assert found.reasons == {"spearman": "all predictions are 3 s"}


def test_no_rows_have_no_figures() -> None:
    found = RegressionScores().compute()
    assert (found.mae_s, found.rmse_s, found.r2_log, found.spearman, found.xauc) == (None,) * 5
    assert set(found.reasons) == {"mae_s", "rmse_s", "r2_log", "spearman", "xauc"}
    assert found.rows == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, -0.5])
def test_invalid_predictions_are_counted_and_void_the_figures(bad: float) -> None:
    scores = RegressionScores()
    scores.add(np.array([1, bad], np.float32), np.array([1, 2], np.float32))
    found = scores.compute()
    assert (found.mae_s, found.rmse_s, found.r2_log, found.spearman, found.xauc) == (None,) * 5
    assert (found.rows, found.invalid_predictions) == (1, 1)
    assert found.reasons["mae_s"] == "1 predictions are not finite numbers >= 0"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1.0])
def test_invalid_labels_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="labels must be finite and >= 0"):
        RegressionScores().add(np.ones(2, np.float32), np.array([1, bad], np.float32))


def test_float64_is_refused() -> None:
    with pytest.raises(TypeError, match="predictions are float64"):
        RegressionScores().add(np.ones(2), np.ones(2, np.float32))


def test_survives_pickling() -> None:
    rows = second_rows("few", "wide")
    scores = RegressionScores()
    scores.add(rows.predictions, rows.labels, rows.weights)
    assert pickle.loads(pickle.dumps(scores)).compute() == metrics(rows)
