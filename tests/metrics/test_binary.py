"""BinaryScores against scikit-learn, and where a figure does not exist."""

from __future__ import annotations

import math
import pickle
from dataclasses import asdict

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, roc_auc_score

from marigold_rec.metrics import LOG_LOSS_CLIP, BinaryMetrics, BinaryScores
from tests.metrics.nasty_rows import BINARY_SCORES, WEIGHTS, Rows, binary_rows


def metrics(rows: Rows) -> BinaryMetrics:
    scores = BinaryScores()
    scores.add(rows.predictions, rows.labels, rows.weights)
    return scores.compute()


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("kind", BINARY_SCORES)
@pytest.mark.parametrize("num_rows", [2, 3, 500, 20_000])
def test_equals_scikit_learn(kind: str, weights: str, num_rows: int) -> None:
    rows = binary_rows(kind, weights, num_rows)
    found = metrics(rows)
    score, label, weight = rows.oracle()
    clipped = np.clip(score, LOG_LOSS_CLIP, 1 - LOG_LOSS_CLIP)
    entropy = log_loss(
        label, np.full(len(label), np.average(label, weights=weight)), sample_weight=weight
    )
    expected_loss = log_loss(label, clipped, sample_weight=weight, labels=[0, 1])
    assert found.auc == pytest.approx(roc_auc_score(label, score, sample_weight=weight), rel=1e-9)
    assert found.log_loss == pytest.approx(expected_loss, rel=1e-9)
    assert found.ne == pytest.approx(expected_loss / entropy, rel=1e-9)
    assert found.calibration == pytest.approx(
        (weight * score).sum() / (weight * label).sum(), rel=1e-9
    )
    assert found.rows == (weight > 0).sum()
    assert found.zero_weight_rows == (weight == 0).sum()
    assert found.positives == label[weight > 0].sum()
    assert found.weight_sum == pytest.approx(weight.sum(), rel=1e-12)
    assert not found.reasons


def test_auc_by_hand() -> None:
    scores = BinaryScores()
    scores.add(
        np.array([0.1, 0.4, 0.4, 0.8], np.float32),
        np.array([0, 0, 1, 1], np.float32),
        np.array([1, 2, 3, 1], np.float32),
    )
    # Pairs: (0.4, 0.1) 3, (0.4, 0.4) 6 by half, (0.8, 0.1) 1, (0.8, 0.4) 2; of 4 * 3.
    assert scores.compute().auc == (3 + 3 + 1 + 2) / 12


def test_a_constant_at_the_base_rate_has_ne_and_calibration_one() -> None:
    scores = BinaryScores()
    scores.add(np.full(8, 0.25, np.float32), np.array([1, 1, 0, 0, 0, 0, 0, 0], np.float32))
    found = scores.compute()
    assert found.auc == 0.5
    assert found.ne == pytest.approx(1.0, abs=1e-15)
    assert found.calibration == 1.0


@pytest.mark.parametrize(("score", "label"), [(0.0, 1), (1.0, 0)])
def test_a_certain_miss_costs_a_finite_loss(score: float, label: int) -> None:
    scores = BinaryScores()
    scores.add(np.array([score], np.float32), np.array([label]))
    assert scores.compute().log_loss == pytest.approx(24 * math.log(2), rel=1e-7)


@pytest.mark.parametrize(
    ("label", "without"), [(0, {"auc", "ne", "calibration"}), (1, {"auc", "ne"})]
)
def test_one_class_has_no_auc(label: int, without: set[str]) -> None:
    scores = BinaryScores()
    scores.add(np.array([0.2, 0.7, 0.3], np.float32), np.full(3, label))
    # A row of the other class that weighs nothing does not count as a class.
    scores.add(np.array([0.5], np.float32), np.array([1 - label]), np.array([0.0], np.float32))
    found = asdict(scores.compute())
    assert {key for key, value in found.items() if value is None} == without
    assert set(found["reasons"]) == without
    assert found["reasons"]["auc"] == f"all 3 labels are {label}"
    assert found["log_loss"] is not None


@pytest.mark.parametrize("weights", [None, np.zeros(2, np.float32)])
def test_no_rows_have_no_figures(weights: np.ndarray | None) -> None:
    scores = BinaryScores()
    if weights is not None:
        scores.add(np.array([0.2, 0.7], np.float32), np.array([0, 1]), weights)
    found = scores.compute()
    assert (found.auc, found.log_loss, found.ne, found.calibration) == (None,) * 4
    assert found.reasons["auc"] == "no observed row with a positive weight"
    assert (found.rows, found.positives, found.weight_sum) == (0, 0, 0.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1.0000001, -1e-30])
def test_scores_that_are_no_probability_are_counted_and_void_the_figures(bad: float) -> None:
    scores = BinaryScores()
    scores.add(np.array([0.2, bad, 0.7], np.float32), np.array([0, 1, 1]))
    found = scores.compute()
    assert (found.auc, found.log_loss, found.ne, found.calibration) == (None,) * 4
    assert found.invalid_scores == 1
    assert found.rows == 2
    assert found.reasons["auc"] == "1 scores are not numbers in [0, 1]"
    # A row that weighs nothing may have any score.
    scores = BinaryScores()
    scores.add(np.array([0.2, bad, 0.7], np.float32), np.array([0, 1, 1]), np.array([1, 0, 1]))
    assert scores.compute().auc == 1.0


def test_minus_zero_ties_with_zero() -> None:
    scores = BinaryScores()
    scores.add(np.array([0.0, -0.0], np.float32), np.array([0, 1]))
    assert scores.compute().auc == 0.5


def test_neighbours_in_float32_are_no_tie() -> None:
    near = np.nextafter(np.float32(0.5), np.float32(1))
    scores = BinaryScores()
    scores.add(np.array([0.5, near], np.float32), np.array([0, 1]))
    assert scores.compute().auc == 1.0


def test_takes_tensors_and_survives_pickling() -> None:
    rows = binary_rows("few", "wide")
    scores = BinaryScores()
    scores.add(*(torch.from_numpy(c) for c in (rows.predictions, rows.labels, rows.weights)))
    again = pickle.loads(pickle.dumps(scores))
    assert again.compute() == scores.compute() == metrics(rows)
    again.add(rows.predictions, rows.labels, rows.weights)
    assert again.compute().rows == 2 * scores.compute().rows


@pytest.mark.parametrize(
    ("scores", "labels", "weights", "error", "message"),
    [
        (np.zeros(2), np.zeros(2), None, TypeError, "predictions are float64; give float32"),
        ([0, 1], [0, 2], None, ValueError, "labels must be 0 or 1; found 2.0"),
        ([0, 1], [0, 0.5], None, TypeError, "labels are float64"),
        ([0, 1], np.array([0, math.nan], np.float32), None, ValueError, "labels must be finite"),
        ([0, 1], [0, 1], [1, -1], ValueError, "weights must be finite and >= 0; found -1.0"),
        ([0, 1], [0, 1, 1], None, ValueError, "2 predictions, 3 labels"),
        ([[0], [1]], [0, 1], None, ValueError, r"one-dimensional; found shape \(2, 1\)"),
    ],
)
def test_rows_that_are_refused(
    scores: object, labels: object, weights: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        BinaryScores().add(scores, labels, weights)


def test_a_class_that_is_lost_beside_the_other_has_no_ne():
    scores = BinaryScores()
    heavy = np.asarray([1e17, 1e17, 1.0, 1.0], np.float32)
    scores.add(np.asarray([0.9, 1.0, 0.2, 0.0], np.float32), np.asarray([1, 1, 0, 0]), heavy)
    found = scores.compute()
    assert found.ne is None
    assert "weights" in found.reasons["ne"]
    assert found.auc == 1.0
    assert found.saturated_scores == 2
