"""Figures against scikit-learn; influences against what they stand for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

from marigold_rec.analysis import row_arrays
from marigold_rec.analysis.binary import FIGURES, binary_estimates
from marigold_rec.analysis.estimate import standard_error
from marigold_rec.analysis.rows import Rows
from marigold_rec.metrics import LOG_LOSS_CLIP
from tests.analysis.derivatives import check_influences
from tests.analysis.nasty_rows import BINARY_SCORES, WEIGHTS, binary_rows


def _rows(scores: str, weights: str, num_rows: int = 500) -> Rows:
    rows = binary_rows(scores, weights, num_rows)
    rows = rows.take(rows.weights > 0)
    return Rows(rows.predictions, rows.labels, None if weights == "ones" else rows.weights)


def _users(rows: Rows, num_users: int) -> Rows:
    user = np.random.default_rng(3).integers(0, num_users, len(rows)).astype(np.int32)
    return replace(rows, user_N=user)


def _values(rows: Rows) -> dict[str, float | None]:
    return {name: found.value for name, found in binary_estimates(rows).items()}


def _ece(rows: Rows, num_bins: int = 20) -> float:
    score, label, weight = rows.score_N.astype(np.float64), rows.label_N, rows.weights
    error = np.zeros(num_bins)
    for value in np.unique(score):
        at = score == value
        middle = weight[score < value].sum() + weight[at].sum() / 2
        error[int(num_bins * middle / weight.sum())] += (weight * (score - label))[at].sum()
    return np.abs(error).sum() / weight.sum()


@pytest.mark.parametrize("chunk", [7, 1 << 16])
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("scores", BINARY_SCORES)
@pytest.mark.parametrize("num_rows", [2, 3, 500])
def test_equals_scikit_learn(
    scores: str, weights: str, chunk: int, num_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_arrays, "_CHUNK", chunk)
    rows = _rows(scores, weights, num_rows)
    found: dict[str, Any] = _values(rows)
    assert tuple(found) == FIGURES
    score, label, weight = rows.score_N.astype(np.float64), rows.label_N, rows.weights
    expected: dict[str, Any] = {
        "auc": roc_auc_score(label, score, sample_weight=weight),
        "pr_auc": average_precision_score(label, score, sample_weight=weight),
        "log_loss": log_loss(
            label, np.clip(score, LOG_LOSS_CLIP, 1 - LOG_LOSS_CLIP), sample_weight=weight
        ),
        "calibration": (weight * score).sum() / (weight * label).sum(),
        "ece": _ece(rows),
    }
    base_rate = np.full(len(rows), np.average(label, weights=weight))
    expected["ne"] = expected["log_loss"] / log_loss(label, base_rate, sample_weight=weight)
    expected["rig"] = 1 - expected["ne"]
    assert found == pytest.approx(expected, rel=1e-9)


def _found(scores: list[float], labels: list[float], weights: list[float] | None = None) -> Any:
    score, label, weight = np.array([scores, labels, weights or [1] * len(labels)], np.float32)
    return _values(Rows(score, label, weight))


def test_auc_by_hand() -> None:
    # Pairs: (0.4, 0.1) 3, (0.4, 0.4) 6 by half, (0.8, 0.1) 1, (0.8, 0.4) 2; of 4 * 3.
    found = _found([0.1, 0.4, 0.4, 0.8], [0, 0, 1, 1], [1, 2, 3, 1])
    assert found["auc"] == (3 + 3 + 1 + 2) / 12


def test_a_constant_at_the_base_rate_has_ne_and_calibration_one() -> None:
    found = _found([0.25] * 8, [1, 1, 0, 0, 0, 0, 0, 0])
    assert found["auc"] == 0.5
    assert found["ne"] == pytest.approx(1.0, abs=1e-15)
    assert found["calibration"] == 1.0


@pytest.mark.parametrize(("score", "label"), [(0.0, 1), (1.0, 0)])
def test_a_certain_miss_costs_a_finite_loss(score: float, label: int) -> None:
    assert _found([score], [label])["log_loss"] == pytest.approx(24 * np.log(2), rel=1e-7)


def test_neighbours_in_float32_are_no_tie() -> None:
    near = float(np.nextafter(np.float32(0.5), np.float32(1)))
    assert _found([0.5, near], [0, 1])["auc"] == 1.0


@pytest.mark.parametrize("chunk", [5, 1 << 16])
@pytest.mark.parametrize("scores", BINARY_SCORES)
def test_influences_are_derivatives(
    scores: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_arrays, "_CHUNK", chunk)
    rows = _users(_rows(scores, "some_zero", 60), 8)
    if scores == "equal":  # the auc would not depend on the weights: let one score differ
        rows.score_N[np.flatnonzero(rows.label_N)[0]] = 0.4
    check_influences(binary_estimates, rows, 8)


def test_users_without_rows_have_no_influence() -> None:
    rows = _users(_rows("few", "wide"), 8)
    assert rows.user_N is not None
    found = binary_estimates(replace(rows, user_N=rows.user_N * 2), num_clusters=20)
    for name, reference in binary_estimates(rows).items():
        if reference.influence_C is not None:
            influence = found[name].influence_C
            assert influence is not None
            np.testing.assert_allclose(influence[:16:2], reference.influence_C, rtol=1e-12)
            assert len(influence) == 20
            assert not influence[1::2].any()
            assert not influence[16:].any()


@pytest.mark.parametrize("weights", WEIGHTS)
def test_without_users_each_row_is_one(weights: str) -> None:
    rows = _rows("few", weights)
    alone = binary_estimates(replace(rows, user_N=np.arange(len(rows), dtype=np.int32)))
    for name, found in binary_estimates(rows).items():
        assert found.value == alone[name].value
        if name != "ece":
            influence, other = found.influence_C, alone[name].influence_C
            assert influence is not None
            assert other is not None
            np.testing.assert_allclose(influence, other, rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("label", "missing", "text"),
    [
        (0, {"auc", "pr_auc", "ne", "rig", "calibration"}, "all 4 labels are 0"),
        (1, {"auc", "pr_auc", "ne", "rig"}, "all 4 labels are 1"),
    ],
)
def test_one_class(label: int, missing: set[str], text: str) -> None:
    rows = Rows(np.array([0.1, 0.5, 0.5, 1], np.float32), np.full(4, label, np.float32))
    found = binary_estimates(rows)
    assert {name for name in FIGURES if found[name].value is None} == missing
    for name in missing:
        assert found[name].reason == text
        assert found[name].influence_C is None


@pytest.mark.parametrize("score", [np.nan, -0.1, 1.5, np.inf])
def test_a_score_that_is_no_probability_gives_no_figure(score: float) -> None:
    rows = Rows(np.array([0.1, score], np.float32), np.array([0, 1], np.float32))
    for found in binary_estimates(rows).values():
        assert found.value is None
        assert found.reason == "1 scores are not numbers in [0, 1]"


def test_no_rows() -> None:
    nothing = np.zeros(0, np.float32)
    for found in binary_estimates(Rows(nothing, nothing)).values():
        assert found.value is None
        assert found.reason == "no observed row with a positive weight"


def test_minus_zero_is_zero() -> None:
    label = np.array([0, 1, 0], np.float32)
    minus = Rows(np.array([-0.0, 0.0, 0.5], np.float32), label)
    assert _values(minus) == _values(Rows(np.abs(minus.score_N), label))
    assert _values(minus)["auc"] == 0.25


def test_single_rows_give_delongs_variance() -> None:
    """DeLong, DeLong and Clarke-Pearson (1988), from the matrix of all pairs."""
    rows = _rows("few", "ones", 300)
    higher, lower = rows.score_N[rows.label_N == 1], rows.score_N[rows.label_N == 0]
    pairs = np.heaviside(higher[:, None].astype(np.float64) - lower, 0.5)
    m, n = pairs.shape
    delong = pairs.mean(1).var(ddof=1) / m + pairs.mean(0).var(ddof=1) / n
    influence = binary_estimates(rows)["auc"].influence_C
    assert influence is not None
    # DeLong has the small-sample factor in each class: m / (m - 1) and n / (n - 1).
    square = influence**2
    of_positives, of_negatives = square[rows.label_N == 1].sum(), square[rows.label_N == 0].sum()
    assert of_positives * m / (m - 1) + of_negatives * n / (n - 1) == pytest.approx(
        delong, rel=1e-9
    )
    error = standard_error(influence)
    assert error is not None
    assert error**2 == pytest.approx(delong, rel=1 / min(m, n))


def test_the_error_is_that_of_resampled_users() -> None:
    """400 bootstrap samples: their spread has an error of 1 / sqrt(800) = 3.5 %; three are allowed.

    Rows as clusters would be off by far more: each user's rows have an effect in common.
    """
    generator = np.random.default_rng(5)
    num_users, num_samples = 300, 400
    user = np.repeat(np.arange(num_users), generator.integers(1, 9, num_users)).astype(np.int32)
    logit = generator.normal(-1, 1, len(user))
    effect = generator.normal(0, 2, num_users)[user]
    label = (generator.random(len(user)) < expit(logit + effect)).astype(np.float32)
    rows = Rows(expit(logit).astype(np.float32), label, user_N=user)
    samples = []
    for _ in range(num_samples):
        weight = generator.multinomial(num_users, np.full(num_users, 1 / num_users))[user]
        rows_drawn = replace(rows, weight_N=weight.astype(np.float32)).take(weight > 0)
        samples.append(_values(rows_drawn))
    by_row = binary_estimates(replace(rows, user_N=None))
    for name, found in binary_estimates(rows).items():
        if name == "ece":
            continue
        assert found.influence_C is not None
        error = standard_error(found.influence_C)
        spread = np.std([sample[name] for sample in samples], ddof=1)
        assert error == pytest.approx(spread, rel=3 * 0.0354), name
        naive = by_row[name].influence_C
        if name in ("log_loss", "calibration"):
            assert naive is not None
            assert standard_error(naive) != pytest.approx(spread, rel=3 * 0.0354), name
