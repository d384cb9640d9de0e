"""Expected metrics against brute force and Monte Carlo."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata

from data_pipelines.synthetic import (
    expected_auc,
    expected_log_loss,
    expected_ne,
)
from data_pipelines.synthetic.random_streams import Floats

# few distinct values: ties, zeros and ones are the nasty part
_SCORES = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.5000001, 0.9, 1.0])
_ROWS = st.lists(st.tuples(_SCORES, _SCORES), min_size=1, max_size=12)


def _brute_force(score: Floats, p: Floats) -> float:
    wins = pairs = 0.0
    for i in range(len(p)):
        for j in range(len(p)):
            if i != j:
                weight = p[i] * (1 - p[j])
                pairs += weight
                wins += weight * (1.0 if score[i] > score[j] else 0.5 * (score[i] == score[j]))
    return wins / pairs if pairs > 0 else math.nan


@given(_ROWS)
def test_auc_equals_brute_force(rows: list[tuple[float, float]]) -> None:
    score, p = np.array(rows).T
    assert expected_auc(score, p) == pytest.approx(_brute_force(score, p), abs=1e-12, nan_ok=True)
    assert expected_auc(p, p) == pytest.approx(_brute_force(p, p), abs=1e-12, nan_ok=True)


def test_auc_and_log_loss_are_the_mean_over_labels() -> None:
    rng = np.random.default_rng(1)
    p = np.round(rng.beta(1, 3, 2_000), 2)
    score = np.clip(p + 0.2 * rng.standard_normal(len(p)), 0.01, 0.99)
    rank = rankdata(score)
    aucs, losses = [], []
    for _ in range(300):
        y = rng.random(len(p)) < p
        positives = y.sum()
        wins = rank[y].sum() - positives * (positives + 1) / 2
        aucs.append(wins / (positives * (len(p) - positives)))
        losses.append(-np.mean(np.where(y, np.log(score), np.log(1 - score))))
    for draws, expected in ((aucs, expected_auc(score, p)), (losses, expected_log_loss(score, p))):
        error = np.std(draws) / math.sqrt(len(draws))
        assert abs(np.mean(draws) - expected) < 4 * error
        assert error < 0.002


@given(_ROWS)
def test_nothing_beats_the_truth(rows: list[tuple[float, float]]) -> None:
    score, p = np.array(rows).T
    assert expected_log_loss(score, p) >= expected_log_loss(p, p) - 1e-12


def test_uninformative_scores() -> None:
    p = np.array([0.1, 0.4, 0.7])
    assert expected_auc(np.zeros(3), p) == pytest.approx(0.5)
    assert expected_ne(np.full(3, p.mean()), p) == pytest.approx(1.0)
    assert expected_ne(p, p) < 1


def test_certain_labels() -> None:
    p = np.array([0.0, 1.0, 1.0])
    assert expected_auc(p, p) == 1.0
    assert expected_log_loss(p, p) == 0.0
    assert expected_auc(-p, p) == 0.0
    assert expected_log_loss(1 - p, p) == math.inf
    assert math.isnan(expected_auc(np.ones(3), np.ones(3)))


@pytest.mark.parametrize(
    ("score", "p", "message"),
    [
        ([0.1], [0.1, 0.2], "two equal 1-D arrays"),
        ([], [], "two equal 1-D arrays"),
        ([math.nan], [0.1], "NaN or infinity"),
        ([0.1], [1.1], r"outside \[0, 1\]"),
        ([0.1], [math.nan], r"outside \[0, 1\]"),
    ],
)
@pytest.mark.parametrize("metric", [expected_auc, expected_log_loss, expected_ne])
def test_bad_input_is_refused(
    metric: Callable[[np.ndarray, np.ndarray], float], score: list, p: list, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        metric(np.array(score), np.array(p))


def test_log_loss_needs_probabilities() -> None:
    with pytest.raises(ValueError, match="needs probabilities"):
        expected_log_loss(np.array([1.5]), np.array([0.5]))
