"""NDCG and MRR against all orders of tied rows, scikit-learn and slates repeated."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from marigold_rec.analysis import codes
from marigold_rec.analysis.estimate import Estimate
from marigold_rec.analysis.rows import Rows
from marigold_rec.analysis.slates import slate_estimates

KS = (1, 3, 10)
NAMES = ("ndcg@1", "ndcg@3", "ndcg@10", "mrr", "slates_share")


def _rows(
    seed: int = 0,
    num_rows: int = 2000,
    num_slates: int = 300,
    num_users: int = 50,
    decimals: int = 1,
) -> Rows:
    """Slates of one row, of many, without a positive and without a negative; slate 1 is empty."""
    generator = np.random.default_rng(seed)
    group = (num_slates * generator.random(num_rows) ** 2).astype(np.int32)
    group[group == 1] = 2
    score = np.round(generator.random(num_rows), decimals).astype(np.float32)
    label = (generator.random(num_rows) < 0.5 * score).astype(np.float32)
    user = generator.integers(0, num_users, num_slates).astype(np.int32)[group]
    return Rows(score, label, None, user, group)


def _slate(scores: Any, labels: Any) -> dict[str, float | None]:
    score, label = (np.asarray(column, np.float32) for column in (scores, labels))
    rows = Rows(score / np.float32(4), label, group_N=np.zeros(len(scores), np.int32))
    return {name: estimate.value for name, estimate in slate_estimates(rows, KS).items()}


def _over_all_orders(scores: Any, labels: Any) -> dict[str, float]:
    """Means over the permutations that have falling scores."""
    found: dict[str, list[float]] = {name: [] for name in NAMES}
    discounts = 1 / np.log2(np.arange(len(scores)) + 2)
    for order in permutations(range(len(scores))):
        if (np.diff(scores[list(order)]) <= 0).all():
            ranked = labels[list(order)]
            for k in KS:
                ideal = discounts[: min(k, int(labels.sum()))].sum()
                found[f"ndcg@{k}"].append((ranked * discounts)[:k].sum() / ideal)
            found["mrr"].append(1 / (1 + int(np.argmax(ranked))))
    return {name: float(np.mean(values)) for name, values in found.items() if values}


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1)), min_size=1, max_size=6))
def test_ties_are_the_mean_over_all_orders(drawn: list[tuple[int, int]]) -> None:
    scores, labels = (np.array(column) for column in zip(*drawn, strict=True))
    found = _slate(scores, labels)
    if labels.any():
        assert found == pytest.approx(_over_all_orders(scores, labels) | {"slates_share": 1})
    else:
        assert found == dict.fromkeys(NAMES[:-1]) | {"slates_share": 0}


@pytest.mark.parametrize("block_rows", [1, 50, codes.BLOCK_ROWS])
@pytest.mark.parametrize("decimals", [1, 7])
def test_equals_scikit_learn_slate_by_slate(
    block_rows: int, decimals: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codes.blocks_of_whole_codes, "__defaults__", (block_rows,))
    rows = _rows(decimals=decimals)
    ndcgs: dict[int, list[float]] = {k: [] for k in KS}
    num_slates, reciprocal = 0, []
    assert rows.group_N is not None
    for slate in np.unique(rows.group_N):
        own = rows.take(rows.group_N == slate)
        num_slates += 1
        if not own.label_N.any():
            continue
        for k in KS:
            # A slate of one row: scikit-learn refuses, and there is only one order.
            single = len(own) == 1
            ndcgs[k].append(1.0 if single else ndcg_score([own.label_N], [own.score_N], k=k))
        reciprocal.append(_simulated_reciprocal_rank(own) if decimals == 1 else _reciprocal(own))
    found = slate_estimates(rows, KS)
    for k in KS:
        assert found[f"ndcg@{k}"].value == pytest.approx(np.mean(ndcgs[k]), rel=1e-12)
    tolerance = 0.01 if decimals == 1 else 1e-12
    assert found["mrr"].value == pytest.approx(np.mean(reciprocal), rel=tolerance)
    assert found["slates_share"].value == len(ndcgs[1]) / num_slates


def _reciprocal(own: Rows) -> float:
    return 1 / (1 + int(np.argmax(own.label_N[np.argsort(-own.score_N)])))


def _simulated_reciprocal_rank(own: Rows) -> float:
    generator = np.random.default_rng(0)
    shuffled = (own.take(generator.permutation(len(own))) for _ in range(50))
    return float(np.mean([_reciprocal(rows) for rows in shuffled]))


def test_a_large_tie_has_the_closed_form() -> None:
    """One positive among m equal rows: each place alike, so the mean of 1 / rank."""
    m = 100_000
    labels = np.zeros(m)
    labels[7] = 1
    found = _slate(np.full(m, 0.5), labels)
    assert found["mrr"] == pytest.approx((1 / np.arange(1, m + 1)).mean(), rel=1e-9)
    assert found["ndcg@1"] == pytest.approx(1 / m, rel=1e-12)


def test_perfect_and_worst_order() -> None:
    assert _slate([3, 2, 1], [1, 0, 0]) == dict.fromkeys(NAMES, 1)
    assert _slate([1, 2, 3], [1, 0, 0]) == pytest.approx(
        {"ndcg@1": 0, "ndcg@3": 0.5, "ndcg@10": 0.5, "mrr": 1 / 3, "slates_share": 1}
    )


def test_weights_of_rows_do_not_count() -> None:
    rows = _rows()
    weight = np.random.default_rng(0).random(len(rows)).astype(np.float32)
    weighted = Rows(rows.score_N, rows.label_N, weight, rows.user_N, rows.group_N)
    for name, estimate in slate_estimates(weighted, KS).items():
        assert estimate.value == slate_estimates(rows, KS)[name].value


@pytest.mark.parametrize("name", NAMES)
def test_influence_is_the_slope_of_seeing_a_users_slates_again(name: str) -> None:
    """As of the figures by user: the harmonic mean of the steps to one user more and one less."""
    rows = _rows(num_rows=300, num_slates=60, num_users=8)
    estimate = slate_estimates(rows, KS)[name]
    assert estimate.influence_C is not None
    assert estimate.influence_C.sum() == pytest.approx(0, abs=1e-12)
    for user in range(8):
        less, same, more = (_value_of_copies(rows, user, n, name) for n in (1, 2, 3))
        up, down = more - same, same - less
        slope = 4 * up * down / (up + down) if abs(up) > 1e-15 else 0.0
        assert estimate.influence_C[user] == pytest.approx(slope, rel=1e-9, abs=1e-15)


def _value_of_copies(rows: Rows, user: int, copies: int, name: str) -> float:
    """With the slates of this user `copies` times and all others twice."""
    assert rows.user_N is not None
    is_user = rows.user_N == user
    parts = [*[~is_user] * 2, *[is_user] * copies]
    many = rows.take(np.concatenate([np.flatnonzero(part) for part in parts]))
    copy = np.repeat(np.arange(len(parts)), [part.sum() for part in parts])
    assert many.group_N is not None
    group = (many.group_N + 60 * copy).astype(np.int32)
    value = slate_estimates(Rows(many.score_N, many.label_N, None, None, group), KS)[name].value
    assert value is not None
    return value


def test_without_users_the_influence_stands_at_the_first_row_of_the_slate() -> None:
    rows = _rows()
    assert rows.group_N is not None
    no_user = Rows(rows.score_N, rows.label_N, group_N=rows.group_N)
    one_user_each = Rows(rows.score_N, rows.label_N, None, rows.group_N, rows.group_N)
    _, first = np.unique(rows.group_N, return_index=True)
    for name, estimate in slate_estimates(no_user, KS).items():
        expected = slate_estimates(one_user_each, KS)[name].influence_C
        assert expected is not None
        assert estimate.influence_C is not None
        assert len(estimate.influence_C) == len(rows)
        of_slates = expected[np.unique(rows.group_N)]
        np.testing.assert_allclose(estimate.influence_C[first], of_slates, rtol=1e-12, atol=1e-17)
        assert np.count_nonzero(estimate.influence_C) <= len(first)


def test_a_slate_of_two_users_is_its_first_rows() -> None:
    group = np.array([1, 1, 0, 0], np.int32)
    user = np.array([2, 0, 1, 1], np.int32)
    rows = Rows(
        np.array([0.1, 0.2, 0.2, 0.1], "f4"), np.array([1, 0, 1, 0], "f4"), None, user, group
    )
    influence_C = slate_estimates(rows, (1,))["mrr"].influence_C
    assert influence_C is not None
    assert influence_C.tolist() == [0, 0.125, -0.125]


def test_reasons() -> None:
    rows = _rows()
    no_slate = Rows(rows.score_N, rows.label_N)
    no_row = rows.take(np.zeros(len(rows), np.bool_))
    for some, reason in (
        (no_slate, "no slate column: set evaluation.group"),
        (no_row, "no observed row with a positive weight"),
    ):
        assert slate_estimates(some, KS) == dict.fromkeys(NAMES, Estimate(None, reason=reason))
    no_positive = Rows(rows.score_N, rows.label_N * 0, group_N=rows.group_N)
    none = Estimate(None, reason="no slate has a positive")
    found = slate_estimates(no_positive, KS)
    assert found.pop("slates_share").value == 0
    assert found == dict.fromkeys(NAMES[:-1], none)


def test_one_invalid_score_and_there_is_no_figure() -> None:
    rows = _rows()
    rows.score_N[7] = np.nan
    none = Estimate(None, reason="1 scores are not numbers in [0, 1]")
    assert slate_estimates(rows, KS) == dict.fromkeys(NAMES, none)


def test_influences_of_some_rows_can_be_as_long_as_those_of_all() -> None:
    for estimate in slate_estimates(_rows(), KS, num_users=1000).values():
        assert estimate.influence_C is not None
        assert len(estimate.influence_C) == 1000


def test_refuses_a_k_of_zero() -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        slate_estimates(_rows(), (0, 5))
