"""Errors and intervals against closed forms of a mean, and what has no interval."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import norm, sem

from marigold_rec.analysis import row_arrays
from marigold_rec.analysis.estimate import (
    ClusterSums,
    Difference,
    Estimate,
    Scale,
    detectable_difference,
    difference,
    interval,
    standard_error,
)
from marigold_rec.analysis.rows import Rows


def _rows(user: Any) -> Rows:
    column = np.ones(7, np.float32)
    return Rows(column, column, user_N=None if user is None else np.array(user, np.int32))


def _mean(values: np.ndarray) -> Estimate:
    return Estimate(float(values.mean()), (values - values.mean()) / len(values))


def test_sums_by_cluster_are_those_of_bincount(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_arrays, "_CHUNK", 3)
    user, values = [4, 0, 4, 1, 1, 4, 0], np.arange(7.0)
    for num_clusters in (None, 9):
        clusters = ClusterSums(_rows(user), num_clusters)
        sums = clusters.zeros()
        for part in row_arrays.chunks(7):
            clusters.add(sums, clusters.of(part), values[part])
        np.testing.assert_array_equal(sums, np.bincount(user, values, num_clusters or 5))


def test_without_users_each_row_is_a_cluster() -> None:
    clusters = ClusterSums(_rows(None))
    sums = clusters.zeros()
    clusters.add(sums, clusters.of(slice(2, 4)), np.array([5.0, 6.0]))
    np.testing.assert_array_equal(sums, [0, 0, 5, 6, 0, 0, 0])
    with pytest.raises(ValueError, match="each of the 7 rows is a cluster; found num_clusters = 9"):
        ClusterSums(_rows(None), 9)


def test_the_error_of_a_mean_is_the_classical_one() -> None:
    values = np.random.default_rng(0).gamma(2, size=50)
    influence = _mean(values).influence_C
    assert influence is not None
    assert standard_error(influence) == pytest.approx(sem(values), rel=1e-12)
    with_absent_users = np.concatenate([np.zeros(30), influence])
    assert standard_error(with_absent_users) == pytest.approx(sem(values), rel=1e-12)


@pytest.mark.parametrize("influence", [[], [0.0], [0.0, 0.0, 0.0], [0.0, 1e-17]])
def test_one_cluster_has_no_error(influence: list[float]) -> None:
    assert standard_error(np.array(influence)) is None


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_intervals_are_normal_on_their_scale(confidence: float) -> None:
    value, se = 0.7, 0.05
    plain = norm.interval(confidence, value, se)
    assert interval(value, se, "plain", confidence) == pytest.approx(plain, rel=1e-12)
    log = np.exp(norm.interval(confidence, np.log(value), se / value))
    assert interval(value, se, "log", confidence) == pytest.approx(log, rel=1e-12)
    middle, scaled = np.log(value / (1 - value)), se / (value * (1 - value))
    logits = np.array(norm.interval(confidence, middle, scaled))
    expected = 1 / (1 + np.exp(-logits))
    assert interval(value, se, "logit", confidence) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("scale", "top"), [("logit", 1.0), ("log", np.inf)])
def test_wide_intervals_stay_within_the_range(scale: Scale, top: float) -> None:
    found = interval(0.9, 0.9, scale, 0.99)
    assert found is not None
    assert 0 < found[0] < 0.9 < found[1] < top


@pytest.mark.parametrize(
    ("value", "se", "scale"),
    [
        (0.5, None, "plain"),
        (0.5, 0.0, "logit"),
        (0.5, 1e-17, "logit"),
        (0.0, 0.1, "logit"),
        (1.0, 0.1, "logit"),
        (0.0, 0.1, "log"),
    ],
)
def test_no_interval_where_the_first_order_says_nothing(
    value: float, se: float | None, scale: Scale
) -> None:
    assert interval(value, se, scale, 0.95) is None


def test_a_paired_difference_is_that_of_the_pairs() -> None:
    generator = np.random.default_rng(1)
    common = generator.normal(size=80)
    new, old = common + generator.normal(0.05, 0.2, 80), common
    found = difference(_mean(new), _mean(old), 0.9)
    delta, se = (new - old).mean(), sem(new - old)
    assert found is not None
    assert found.delta == pytest.approx(delta, rel=1e-12)
    assert (found.low, found.high) == pytest.approx(norm.interval(0.9, delta, se), rel=1e-9)
    assert found.p_value == pytest.approx(2 * norm.sf(abs(delta / se)), rel=1e-9)


def test_differences_without_variation() -> None:
    mean = _mean(np.arange(5.0))
    assert difference(mean, mean, 0.95) == Difference(0.0, 0.0, 0.0, 1.0)
    assert mean.value is not None
    shifted = Estimate(mean.value + 1, mean.influence_C)
    assert difference(shifted, mean, 0.95) == Difference(1.0, None, None, None)


def test_differences_of_what_is_missing() -> None:
    mean = _mean(np.arange(5.0))
    assert difference(mean, Estimate(None, reason="no rows"), 0.95) is None
    assert difference(Estimate(3.0), mean, 0.95) == Difference(1.0, None, None, None)
    with pytest.raises(ValueError, match="the same clusters; found 5 and 6"):
        difference(mean, _mean(np.arange(6.0)), 0.95)


def test_the_detectable_difference_is_found_in_four_of_five_cases() -> None:
    noise = np.random.default_rng(2).normal(size=200_000)
    found = np.abs(noise + detectable_difference(1.0)) > norm.ppf(0.975)
    assert found.mean() == pytest.approx(0.8, abs=4 * 0.4 / np.sqrt(200_000))
