"""Do 95 % intervals hold the truth in 95 % of new evaluations? On data whose truth is known.

The truth is that of the population of users: each repetition draws new users with their rows, and
the figures of infinitely many of them are integrals. The model does not know a user's mood, which
all of the user's rows share, so rows of one user are not alone.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, ndtri

from data_pipelines.synthetic.truth import expected_auc, expected_log_loss, expected_ne
from marigold_rec.analysis.binary import binary_estimates
from marigold_rec.analysis.estimate import difference, interval, standard_error
from marigold_rec.analysis.rows import Rows
from marigold_rec.metrics import metric_of

_MEAN, _SPREAD, _MOOD = -1.0, 1.2, 1.5
_NUM_USERS, _NUM_REPETITIONS = 300, 500


def _draw(generator: np.random.Generator) -> Rows:
    user = np.repeat(np.arange(_NUM_USERS), generator.integers(1, 9, _NUM_USERS)).astype(np.int32)
    logit = generator.normal(_MEAN, _SPREAD, len(user))
    mood = generator.normal(0, _MOOD, _NUM_USERS)[user]
    label = generator.random(len(user)) < expit(logit + mood)
    return Rows(expit(logit).astype(np.float32), label.astype(np.float32), user_N=user)


def _truth() -> dict[str, float]:
    """Quantiles of the logits stand for all rows; moods by Gauss and Hermite's quadrature."""
    logit = _MEAN + _SPREAD * ndtri((np.arange(100_000) + 0.5) / 100_000)
    moods, shares = np.polynomial.hermite_e.hermegauss(40)
    probability = expit(logit[:, None] + _MOOD * moods) @ (shares / shares.sum())
    score = expit(logit)
    return {
        "auc": expected_auc(score, probability),
        "log_loss": expected_log_loss(score, probability),
        "ne": expected_ne(score, probability),
        "calibration": score.mean() / probability.mean(),
    }


@pytest.fixture(scope="module")
def evaluations() -> list[Rows]:
    generator = np.random.default_rng(7)
    return [_draw(generator) for _ in range(_NUM_REPETITIONS)]


def _coverage(evaluations: list[Rows]) -> dict[str, float]:
    truth = _truth()
    hits = dict.fromkeys(truth, 0)
    for rows in evaluations:
        estimates = binary_estimates(rows)
        for name, true_value in truth.items():
            found = estimates[name]
            assert found.value is not None
            assert found.influence_C is not None
            limits = interval(
                found.value, standard_error(found.influence_C), metric_of(name).scale, 0.95
            )
            assert limits is not None
            hits[name] += limits[0] <= true_value <= limits[1]
    return {name: count / len(evaluations) for name, count in hits.items()}


def test_intervals_by_user_cover_the_truth(evaluations: list[Rows]) -> None:
    for name, share in _coverage(evaluations).items():
        assert 0.93 <= share <= 0.97, f"{name}: {share}"


def test_intervals_that_take_rows_for_independent_do_not(evaluations: list[Rows]) -> None:
    coverage = _coverage([replace(rows, user_N=None) for rows in evaluations])
    for name in ("log_loss", "calibration"):
        assert coverage[name] < 0.92, f"{name}: {coverage[name]}"


def test_a_paired_test_without_a_true_difference_finds_one_in_twenty(
    evaluations: list[Rows],
) -> None:
    """Two models, each with noise of its own and of the same size: equal in the population."""
    generator = np.random.default_rng(8)
    p_values = []
    for rows in evaluations:
        logit = np.log(rows.score_N / (1 - rows.score_N))
        estimates = []
        for _ in range(2):
            noisy = expit(logit + generator.normal(0, 0.5, len(rows)))
            estimates.append(binary_estimates(replace(rows, score_N=noisy.astype(np.float32))))
        found = difference(estimates[0]["auc"], estimates[1]["auc"], 0.95)
        assert found is not None
        assert found.p_value is not None
        p_values.append(found.p_value)
    assert 0.03 <= np.mean(np.array(p_values) < 0.05) <= 0.07
    assert np.mean(p_values) == pytest.approx(0.5, abs=4 / np.sqrt(12 * _NUM_REPETITIONS))
