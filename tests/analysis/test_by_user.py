"""GAUC and GXAUC against scikit-learn and all pairs user by user; influences by repeated users."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from marigold_rec.analysis import by_user, codes
from marigold_rec.analysis.by_user import gauc_estimates, gxauc_estimates
from marigold_rec.analysis.estimate import Estimate
from marigold_rec.analysis.rows import Rows

GAUCS = ("gauc", "gauc_unweighted", "gauc_user_share", "gauc_row_share")


def _rows(
    seed: int = 0, num_rows: int = 3000, num_users: int = 300, weights: str = "none", **other: Any
) -> Rows:
    """Few different scores; some users have one row, one class or none; the last one has rows."""
    generator = np.random.default_rng(seed)
    user = np.minimum(generator.geometric(6 / num_users, num_rows), num_users) - 1
    user[user == 1] = 2
    user[0] = num_users - 1
    score = np.round(generator.random(num_rows), 1).astype(np.float32)
    label = generator.random(num_rows) < 0.4 * score
    weight = {
        "none": None,
        "ones": np.ones(num_rows, np.float32),
        "wide": (10 ** generator.uniform(-2, 2, num_rows)).astype(np.float32),
    }[weights]
    columns = {
        "score_N": score,
        "label_N": label.astype(np.float32),
        "weight_N": weight,
        "user_N": user.astype(np.int32),
    }
    return Rows(**(columns | other))


def _seconds(seed: int = 0, **options: Any) -> Rows:
    rows = _rows(seed, **options)
    generator = np.random.default_rng(seed)
    label = np.floor(generator.exponential(4, len(rows))).astype(np.float32)
    prediction = np.floor(label * generator.lognormal(0, 1, len(rows))).astype(np.float32)
    return Rows(prediction, label, rows.weight_N, rows.user_N)


def _xauc(label: Any, prediction: Any, weight: Any) -> float:
    pair = weight[:, None] * weight * (label[:, None] < label)
    return (pair * (0.5 + 0.5 * np.sign(prediction - prediction[:, None]))).sum() / pair.sum()


def _auc(label: Any, score: Any, weight: Any) -> float:
    return float(roc_auc_score(label, score, sample_weight=weight))


def _by_user(rows: Rows, figure: Any) -> tuple[list[float], list[float], list[float]]:
    """(figure, weight) of the users that have one, weights of all users with rows."""
    assert rows.user_N is not None
    figures, counted, weights = [], [], []
    for user in np.unique(rows.user_N):
        own = rows.take(rows.user_N == user)
        weights.append(own.weights.sum())
        if len(np.unique(own.label_N)) > 1:
            figures.append(figure(own.label_N, own.score_N.astype(float), own.weights))
            counted.append(own.weights.sum())
    return figures, counted, weights


def _values(estimates: dict[str, Estimate]) -> dict[str, float | None]:
    return {name: estimate.value for name, estimate in estimates.items()}


def _expected_gauc(rows: Rows) -> dict[str, float]:
    aucs, counted, weights = _by_user(rows, _auc)
    return {
        "gauc": float(np.average(aucs, weights=counted)),
        "gauc_unweighted": float(np.mean(aucs)),
        "gauc_user_share": len(aucs) / len(weights),
        "gauc_row_share": sum(counted) / sum(weights),
    }


@pytest.mark.parametrize("weights", ["none", "ones", "wide"])
@pytest.mark.parametrize("block_rows", [1, 50, codes.BLOCK_ROWS])
def test_gauc_is_scikit_learns_auc_averaged_over_users(
    weights: str, block_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _set_block_rows(monkeypatch, block_rows)
    rows = _rows(weights=weights)
    assert _values(gauc_estimates(rows)) == pytest.approx(_expected_gauc(rows), rel=1e-12)


@pytest.mark.parametrize("weights", ["none", "ones", "wide"])
@pytest.mark.parametrize("block_rows", [1, 50, codes.BLOCK_ROWS])
def test_gxauc_is_all_pairs_averaged_over_users(
    weights: str, block_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _set_block_rows(monkeypatch, block_rows)
    rows = _seconds(weights=weights)
    xaucs, counted, _ = _by_user(rows, _xauc)
    expected = np.average(xaucs, weights=counted)
    assert gxauc_estimates(rows)["gxauc"].value == pytest.approx(expected, rel=1e-11)


def _set_block_rows(monkeypatch: pytest.MonkeyPatch, block_rows: int) -> None:
    monkeypatch.setattr(codes.blocks_of_whole_codes, "__defaults__", (block_rows,))
    monkeypatch.setattr(codes.columns_by_code, "__defaults__", (block_rows,))
    assert by_user.columns_by_code is codes.columns_by_code


_ROW = st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 9), st.integers(1, 3))
_SOME_ROWS = st.lists(_ROW, min_size=1, max_size=40)


@given(_SOME_ROWS, st.booleans())
def test_any_rows(drawn: list[tuple[int, int, int, int]], is_weighted: bool) -> None:
    user, score, label, weight = (np.array(column) for column in zip(*drawn, strict=True))
    weight_N = weight.astype(np.float32) if is_weighted else None
    seconds = Rows(score.astype(np.float32), label.astype(np.float32), weight_N, user.astype("i4"))
    xaucs, counted, _ = _by_user(seconds, _xauc)
    found = gxauc_estimates(seconds)["gxauc"]
    if xaucs:
        assert found.value == pytest.approx(np.average(xaucs, weights=counted), rel=1e-12)
    else:
        assert found == Estimate(None, reason="no user has two different labels")
    binary = Rows(
        seconds.score_N / np.float32(9),
        (seconds.label_N > 4).astype("f4"),
        weight_N,
        seconds.user_N,
    )
    aucs, counted, _ = _by_user(binary, _auc)
    estimates = gauc_estimates(binary)
    if aucs:
        assert _values(estimates) == pytest.approx(_expected_gauc(binary), rel=1e-12)
    else:
        assert estimates["gauc"] == Estimate(None, reason="no user has both classes")
        assert estimates["gauc_unweighted"].value is None
        assert estimates["gauc_user_share"].value == estimates["gauc_row_share"].value == 0


def test_of_one_user_it_is_the_auc() -> None:
    rows = _rows(weights="wide", user_N=np.zeros(3000, np.int32))
    expected = _auc(rows.label_N, rows.score_N, rows.weights)
    found = _values(gauc_estimates(rows))
    assert found["gauc"] == found["gauc_unweighted"] == pytest.approx(expected, rel=1e-12)
    assert found["gauc_user_share"] == found["gauc_row_share"] == 1
    assert gxauc_estimates(rows)["gxauc"].value == pytest.approx(expected, rel=1e-12)


def test_a_constant_score_has_exactly_one_half() -> None:
    rows = _rows(score_N=np.full(3000, 0.3, np.float32))
    assert gauc_estimates(rows)["gauc"].value == pytest.approx(0.5, rel=1e-12)
    assert gxauc_estimates(rows)["gxauc"].value == pytest.approx(0.5, rel=1e-12)


def test_the_order_of_rows_and_the_numbers_of_users_do_not_matter() -> None:
    rows = _rows(weights="wide")
    generator = np.random.default_rng(5)
    moved = rows.take(generator.permutation(3000))
    assert moved.user_N is not None
    renamed = generator.permutation(300).astype(np.int32)[moved.user_N]
    moved = Rows(moved.score_N, moved.label_N, moved.weight_N, renamed)
    expected = _values(gauc_estimates(rows)) | _values(gxauc_estimates(rows))
    found = _values(gauc_estimates(moved)) | _values(gxauc_estimates(moved))
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("weights", ["none", "wide"])
@pytest.mark.parametrize("name", [*GAUCS, "gxauc"])
def test_influence_is_the_slope_of_seeing_a_user_again(name: str, weights: str) -> None:
    """Exactly: of a ratio, the harmonic mean of the steps to one user more and to one less.

    Of all users twice, so that one can be taken away; each then moves the figure half as far. A
    user that is seen again is another user with the same rows.
    """
    figures = gxauc_estimates if name == "gxauc" else gauc_estimates
    rows = (_seconds if name == "gxauc" else _rows)(num_rows=200, num_users=25, weights=weights)
    assert rows.user_N is not None
    estimate = figures(rows)[name]
    assert estimate.influence_C is not None
    assert len(estimate.influence_C) == 25, "users without rows are there too"
    assert estimate.influence_C[1] == 0
    assert estimate.influence_C.sum() == pytest.approx(0, abs=1e-12)
    for user in np.unique(rows.user_N):
        less, same, more = (_value_of_copies(rows, user, n, figures, name) for n in (1, 2, 3))
        up, down = more - same, same - less
        slope = 4 * up * down / (up + down) if abs(up) > 1e-15 else 0.0
        assert estimate.influence_C[user] == pytest.approx(slope, rel=1e-9, abs=1e-15)


def _value_of_copies(rows: Rows, user: int, copies: int, figures: Any, name: str) -> float:
    """With this user `copies` times and all others twice."""
    assert rows.user_N is not None
    is_user = rows.user_N == user
    parts = [*[~is_user] * 2, *[is_user] * copies]
    row = np.concatenate([np.flatnonzero(part) for part in parts])
    copy = np.repeat(np.arange(len(parts)), [part.sum() for part in parts])
    many = rows.take(row)
    assert many.user_N is not None
    numbered = (many.user_N + 25 * copy).astype(np.int32)
    return figures(Rows(many.score_N, many.label_N, many.weight_N, numbered))[name].value


def test_reasons() -> None:
    no_user = _rows(user_N=None)
    no_row = _rows().take(np.zeros(3000, np.bool_))
    for rows, reason in (
        (no_user, "no user column: set evaluation.user"),
        (no_row, "no observed row with a positive weight"),
    ):
        none = Estimate(None, reason=reason)
        assert gauc_estimates(rows) == dict.fromkeys(GAUCS, none)
        assert gxauc_estimates(rows) == {"gxauc": none}


@pytest.mark.parametrize("bad", [-1, np.nan, np.inf])
def test_one_invalid_score_and_there_is_no_figure(bad: float) -> None:
    score = _rows().score_N
    score[7] = bad
    rows = _rows(score_N=score)
    none = Estimate(None, reason="1 scores are not numbers in [0, 1]")
    assert gauc_estimates(rows) == dict.fromkeys(GAUCS, none)
    none = Estimate(None, reason="1 predictions are not finite numbers >= 0")
    assert gxauc_estimates(rows) == {"gxauc": none}


def test_influences_of_some_rows_can_be_as_long_as_those_of_all() -> None:
    some = _rows().take(_rows().score_N > 2 / 3)
    for estimates in (gauc_estimates(some, 1000), gxauc_estimates(some, 1000)):
        for estimate in estimates.values():
            assert estimate.influence_C is not None
            assert len(estimate.influence_C) == 1000


def test_rows_are_counted_exactly() -> None:
    """In integers: not the least rounding, however many users and rows share a block."""
    generator = np.random.default_rng(4)
    user = np.repeat(np.arange(400, dtype=np.int32), 200)
    score = np.round(generator.random(len(user)), 2).astype(np.float32)
    label = (generator.random(len(user)) < 0.3).astype(np.float32)
    expected = []
    for start in range(0, len(user), 200):
        own, is_positive = score[start : start + 200], label[start : start + 200] == 1
        pairs = own[is_positive][:, None].astype(float) - own[~is_positive]
        expected.append(np.heaviside(pairs, 0.5).sum() / pairs.size)
    found = gauc_estimates(Rows(score, label, user_N=user))["gauc_unweighted"]
    assert found.value == np.sum(expected) / 400
