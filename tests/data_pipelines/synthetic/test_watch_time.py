"""Closed forms of the censored log-normal against Monte Carlo and adaptive integration."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from data_pipelines.synthetic.watch_time import expected_watch_s, watch_log1p_moments

# (mu, sigma, duration_s): usual, nearly always cut off, hardly ever, tiny and huge
CASES = [
    (4.4, 0.9, 180.0),
    (7.0, 0.9, 15.0),
    (2.0, 0.5, 3600.0),
    (-3.0, 0.9, 15.0),
    (12.0, 2.0, 60.0),
]


@pytest.mark.parametrize(("mu", "sigma", "duration"), CASES)
def test_moments_against_monte_carlo(mu: float, sigma: float, duration: float) -> None:
    z = np.random.default_rng(2).standard_normal(400_000)
    seconds = np.minimum(np.exp(mu + sigma * z), duration)
    logs = np.log1p(seconds)
    mean, variance = watch_log1p_moments(np.array([mu]), sigma, np.array([duration]))
    expected = expected_watch_s(np.array([mu]), sigma, np.array([duration]))
    for draws, value in ((seconds, expected), (logs, mean), ((logs - mean) ** 2, variance)):
        assert abs(draws.mean() - value[0]) <= 4.5 * draws.std() / np.sqrt(len(z)) + 1e-9


@pytest.mark.parametrize(("mu", "sigma", "duration"), CASES)
def test_moments_against_integration(mu: float, sigma: float, duration: float) -> None:
    end = (np.log(duration) - mu) / sigma

    def moment(power: int) -> float:
        def density(z: float) -> float:
            return np.log1p(np.exp(mu + sigma * z)) ** power * norm.pdf(z)

        below = quad(density, -12, min(end, 12), epsabs=1e-13, limit=200)[0] if end > -12 else 0.0
        return below + np.log1p(duration) ** power * norm.sf(end)

    mean, variance = watch_log1p_moments(np.array([mu]), sigma, np.array([duration]))
    assert mean[0] == pytest.approx(moment(1), abs=1e-7)
    assert variance[0] == pytest.approx(moment(2) - moment(1) ** 2, abs=1e-7)


def test_without_limit_it_is_the_log_normal_mean() -> None:
    mu = np.array([1.0, 3.0])
    expected = expected_watch_s(mu, 0.9, np.array([1e12, 1e12]))
    np.testing.assert_allclose(expected, np.exp(mu + 0.9**2 / 2), rtol=1e-12)
