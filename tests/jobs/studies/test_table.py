"""The table's mathematics against values worked out by hand."""

from __future__ import annotations

import math

import pytest

from jobs.studies.table import (
    Spread,
    delta_m,
    make_rows,
    paired_difference,
    paired_ratio,
    ranks,
    shares,
    spread,
)

_HIGHER = {"ctr": True, "watch_time": False}
_SINGLE = {"ctr": 0.8, "watch_time": 50.0}


def _assert_spread(found: Spread | None, mean: float, sd: float | None, count: int) -> None:
    assert found is not None
    assert (found.mean, found.count) == (pytest.approx(mean), count)
    assert found.sd == (None if sd is None else pytest.approx(sd, abs=1e-12))


def test_the_spread_is_the_samples_standard_deviation() -> None:
    _assert_spread(spread([0.70, 0.72, 0.74]), 0.72, 0.02, 3)
    assert spread([0.7]) == Spread(0.7, None, 1)
    assert spread([]) is None


def test_a_standard_error_is_that_of_the_mean() -> None:
    assert Spread(1.0, 0.6, 9).error == pytest.approx(0.2)
    assert Spread(1.0, None, 1).error is None


def test_differences_are_taken_seed_by_seed() -> None:
    of, reference = {1: 0.75, 2: 0.65, 4: 0.1}, {1: 0.70, 2: 0.62, 3: 0.9}
    found = paired_difference(of, reference)
    assert found is not None
    assert (found.mean, found.count) == (pytest.approx(0.04), 2), "seeds 3 and 4 have no partner"
    assert found.sd == pytest.approx(0.02 / math.sqrt(2))
    assert found.error == pytest.approx(0.01)
    assert paired_difference({1: 0.5}, {2: 0.5}) is None


def test_step_times_are_compared_seed_by_seed() -> None:
    found = paired_ratio({1: 3.0, 2: 2.0}, {1: 2.0, 2: 1.0})
    assert found is not None
    assert found.mean == 1.75, "not 5 / 3, the ratio of the sums"


def test_delta_m_is_the_mean_gain_over_single_task_models() -> None:
    # ctr: 0.84 is +5 % and 0.80 is 0; watch_time, lower is better: 45 is +10 % and 60 is -20 %.
    metrics = {"ctr": {1: 0.84, 2: 0.80}, "watch_time": {1: 45.0, 2: 60.0}}
    found = delta_m(metrics, _SINGLE, _HIGHER)
    assert found is not None
    assert found.mean == pytest.approx((7.5 - 10) / 2)
    assert found.sd == pytest.approx(17.5 / math.sqrt(2))


def test_delta_m_of_a_negative_reference_keeps_its_sign() -> None:
    found = delta_m({"ctr": {1: -0.1}}, {"ctr": -0.2}, {"ctr": True})
    assert found is not None
    assert found.mean == pytest.approx(50), "-0.1 is better than -0.2"


def test_delta_m_takes_only_seeds_that_have_all_tasks() -> None:
    metrics = {"ctr": {1: 0.84, 2: 0.1}, "watch_time": {1: 50.0}}
    found = delta_m(metrics, _SINGLE, _HIGHER)
    _assert_spread(found, 2.5, None, 1)


@pytest.mark.parametrize("single_task", [{}, {"ctr": 0.8}, {"ctr": 0.8, "watch_time": 0.0}])
def test_there_is_no_delta_m_without_all_references(single_task: dict[str, float]) -> None:
    metrics = {"ctr": {1: 0.84}, "watch_time": {1: 45.0}}
    assert delta_m(metrics, single_task, _HIGHER) is None


def test_ties_share_their_mean_rank() -> None:
    means = {"a": 0.7, "b": 0.8, "c": 0.7, "d": 0.1}
    assert ranks(means, higher_is_better=True) == {"a": 2.5, "b": 1, "c": 2.5, "d": 4}
    assert ranks(means, higher_is_better=False) == {"a": 2.5, "b": 4, "c": 2.5, "d": 1}


def test_rows_rank_automatic_balancers_only_and_come_best_first() -> None:
    value = {
        "equal": {"ctr": {1: 0.70, 2: 0.72}, "watch_time": {1: 50.0, 2: 52.0}},
        "hand": {"ctr": {1: 0.90, 2: 0.90}, "watch_time": {1: 10.0, 2: 10.0}},
        "good": {"ctr": {1: 0.80, 2: 0.80}, "watch_time": {1: 50.0, 2: 52.0}},
    }
    rows = make_rows(
        value,
        {"equal": {1: 0.1, 2: 0.2}, "good": {1: 0.11, 2: 0.22}},
        higher_is_better=_HIGHER,
        automatic=["equal", "good"],
        reference="equal",
        single_task=_SINGLE,
    )
    assert [row.name for row in rows] == ["hand", "good", "equal"]
    hand, good, equal = rows
    assert (hand.mean_rank, hand.ranks, hand.step_time) == (None, {}, None)
    assert (good.ranks, good.mean_rank) == ({"ctr": 1, "watch_time": 1.5}, 1.25)
    assert (equal.ranks, equal.mean_rank) == ({"ctr": 2, "watch_time": 1.5}, 1.75)
    assert good.differences["ctr"].mean == pytest.approx(0.09)
    assert good.differences["watch_time"] == Spread(0.0, 0.0, 2)
    assert equal.differences == {}, "the reference does not differ from itself"
    _assert_spread(good.step_time, 1.1, 0.0, 2)
    assert equal.step_time == Spread(1.0, 0.0, 2)


def test_a_task_without_a_figure_leaves_the_rank_out_and_the_row_in() -> None:
    value = {"equal": {"ctr": {1: 0.7}, "watch_time": {1: 50.0}}, "odd": {"ctr": {1: 0.8}}}
    rows = make_rows(
        value,
        {},
        higher_is_better=_HIGHER,
        automatic=["equal", "odd"],
        reference="equal",
        single_task={},
    )
    odd = next(row for row in rows if row.name == "odd")
    assert (odd.delta_m, odd.mean_rank, odd.ranks) == (None, None, {"ctr": 1})
    assert odd.differences.keys() == {"ctr"}


def test_shares_sum_to_one() -> None:
    assert shares({"ctr": 3.0, "cvr": 1.0}) == {"ctr": 0.75, "cvr": 0.25}
    assert shares({"ctr": 0.0}) == {"ctr": 0.0}
