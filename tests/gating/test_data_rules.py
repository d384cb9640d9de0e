"""Every rule on the data with a case just inside its limit and one just outside."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from marigold_rec.config.gate import DataLimits, GateConfig
from marigold_rec.gating import Check, Profile, Verdict, judge_data
from tests.gating.made import MONDAY, category, label, night, number

WEEK = [night(day) for day in range(7)]


def judged(today: Profile, before: list[Profile] = WEEK, **data: Any) -> Verdict:
    return judge_data(GateConfig(data=DataLimits(**data)), today, before)


def refused(verdict: Verdict, rule: str, about: str | None = None) -> Check:
    """The only reason for a refusal."""
    failed = [check for check in verdict.checks if check.result == "failed"]
    assert [(check.rule, check.about) for check in failed] == [(rule, about)]
    assert not verdict.publish
    assert verdict.reasons == (failed[0].sentence,)
    return failed[0]


def passed(verdict: Verdict, rule: str) -> None:
    assert verdict.publish, verdict.reasons
    assert "passed" in {check.result for check in verdict.checks if check.rule == rule}


def test_an_ordinary_day_passes_every_rule():
    verdict = judged(night(7))
    assert verdict.publish
    assert verdict.reasons == ()
    assert not verdict.is_first
    assert verdict.dates == (datetime.date(2024, 1, 8), datetime.date(2024, 1, 8))
    assert {check.result for check in verdict.checks} == {"passed"}


@pytest.mark.parametrize(
    ("share", "is_good"), [(0.59, False), (0.61, True), (1.99, True), (2.01, False)]
)
def test_rows(share: float, is_good: bool):
    verdict = judged(night(7, round(1e6 * share)))
    if is_good:
        passed(verdict, "data.min_rows_share")
        passed(verdict, "data.max_rows_share")
    else:
        rule = "data.min_rows_share" if share < 1 else "data.max_rows_share"
        check = refused(verdict, rule)
        assert check.found == pytest.approx(share)
        assert f"2024-01-08 has {1e6 * share:,.0f} rows per day, {share:.0%} of the usual" in (
            check.sentence
        )
        assert "(1 Monday before)" in check.sentence


def test_rows_are_compared_with_the_same_weekday():
    quiet = [night(day, 300_000 if day in (5, 6) else 1_000_000) for day in range(12)]
    assert judged(night(12, 250_000), quiet).publish  # Saturday, as the one before
    refused(judged(night(11, 300_000), quiet[:11]), "data.min_rows_share")  # Friday


def test_without_the_same_weekday_the_part_of_the_week_counts():
    days = [night(day) for day in range(4)]
    check = refused(judged(night(4, 590_000), days), "data.min_rows_share")
    assert "(4 working days)" in check.sentence


def test_a_first_weekend_can_be_too_small_but_not_too_large():
    days = [night(day) for day in range(5)]
    refused(judged(night(5, 590_000), days), "data.min_rows_share")
    verdict = judged(night(5, 5_000_000), days)
    assert verdict.publish
    found = [check for check in verdict.checks if check.rule == "data.max_rows_share"]
    assert [check.result for check in found] == ["not_judged"]


def test_rows_of_several_days_count_per_day():
    week = (MONDAY + datetime.timedelta(days=7), MONDAY + datetime.timedelta(days=13))
    assert judged(night(7, 7_000_000, dates=week)).publish
    refused(judged(night(7, 4_000_000, dates=week)), "data.min_rows_share")


def test_a_floor_of_rows_holds_on_the_first_night_too():
    passed(judged(night(0, 1000), [], min_rows=1000), "data.min_rows")
    refused(judged(night(0, 999), [], min_rows=1000), "data.min_rows")
    check = refused(judged(night(0, 0), []), "data.min_rows")
    assert "look whether the log arrived" in check.sentence


@pytest.mark.parametrize(("nulls", "is_good"), [(59_000, True), (61_000, False)])
def test_nulls(nulls: int, is_good: bool):
    """One of the nights had 1 %, and 5 % more are allowed."""
    before = [*WEEK[:-1], with_column(night(6), "price", number(10.0, nulls=10_000))]
    verdict = judged(with_column(night(7), "price", number(10.0, nulls=nulls)), before)
    if is_good:
        passed(verdict, "data.max_null_rise")
    else:
        check = refused(verdict, "data.max_null_rise", "price")
        assert "column price: 6.1% of the rows have no value, at most 1.0%" in check.sentence


@pytest.mark.parametrize(
    ("rate", "is_good"), [(0.2216, True), (0.1786, True), (0.2218, False), (0.1783, False)]
)
def test_label_shift_beyond_sampling_noise(rate: float, is_good: bool):
    """10 % of .2, and 4 standard errors of .0004 each."""
    verdict = judged(night(7, labels={"ctr": label(rate)}))
    if is_good:
        passed(verdict, "data.max_label_shift")
    else:
        check = refused(verdict, "data.max_label_shift", "ctr")
        assert f"task ctr: share of positives {rate:.2%}, usually 20.00%" in check.sentence


def test_of_few_labels_a_shift_may_be_chance():
    before = [night(day, 1000) for day in range(7)]
    assert judged(night(7, 1000, labels={"ctr": label(0.25, 1000)}), before).publish
    refused(
        judged(night(7, 1000, labels={"ctr": label(0.3, 1000)}), before),
        "data.max_label_shift",
        "ctr",
    )


def test_a_label_that_moves_by_itself_may_move():
    rates = [0.16, 0.24, 0.2, 0.17, 0.23]
    before = [night(day, labels={"ctr": label(rate)}) for day, rate in enumerate(rates)]
    assert judged(night(5, labels={"ctr": label(0.3)}), before).publish
    refused(
        judged(night(5, labels={"ctr": label(0.3)}), before, label_spreads=2.0),
        "data.max_label_shift",
        "ctr",
    )


def test_one_night_says_nothing_of_how_labels_move():
    verdict = judged(night(1, labels={"ctr": label(0.5)}), WEEK[:1])
    assert verdict.publish
    assert [c.result for c in verdict.checks if c.rule == "data.max_label_shift"] == ["not_judged"]


def test_seconds_of_a_watch_time():
    def seconds(mean: float, day: int) -> Profile:
        watch = label(0.2, kind="duration", mean=mean, std=50.0, positives=None)
        return night(day, labels={"watch": watch})

    before = [seconds(100.0, day) for day in range(5)]
    assert judged(seconds(110.0, 5), before).publish
    check = refused(judged(seconds(111.0, 5), before), "data.max_label_shift", "watch")
    assert "mean label, s, 111.0, usually 100.0" in check.sentence


@pytest.mark.parametrize(("observed", "is_good"), [(760_000, True), (740_000, False)])
def test_labels_that_are_missing(observed: int, is_good: bool):
    verdict = judged(night(7, labels={"ctr": label(0.2, observed)}))
    if is_good:
        passed(verdict, "data.max_observed_shift")
    else:
        refused(verdict, "data.max_observed_shift", "ctr")


def test_a_task_without_labels_is_refused():
    check = refused(judged(night(7, labels={})), "data.labels", "ctr")
    assert "it had on 2024-01-07" in check.sentence
    none = label(0.2, 0, mean=None, std=None)
    refused(judged(night(0, labels={"ctr": none}), []), "data.labels", "ctr")


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_one_class_is_refused_even_on_the_first_night(rate: float):
    refused(judged(night(0, labels={"ctr": label(rate)}), []), "data.both_classes", "ctr")
    assert judged(night(0, labels={"ctr": label(rate)}), [], both_classes=False).publish


@pytest.mark.parametrize(("observed", "rate"), [(1000, 0.0), (0, 0.0)])
def test_invalid_labels_are_counted_and_shown_where_valid_ones_are_missing(
    observed: int, rate: float
):
    """A label of 0.9999999 is no 1: who reads of missing ones alone looks at the wrong place."""
    bad = label(rate, observed, invalid=618, invalid_example=0.9999999)
    verdict = judged(night(0, labels={"ctr": bad}), [])
    assert not verdict.publish
    assert any("618" in reason and "0.9999999" in reason for reason in verdict.reasons)
    fine = judged(night(0, labels={"ctr": label(rate, observed)}), [])
    assert not any("invalid" in reason for reason in fine.reasons)


def with_column(profile: Profile, name: str, column: Any) -> Profile:
    return profile.model_copy(update={"columns": {**profile.columns, name: column}})


def constant(verdict: Verdict) -> Check:
    return next(c for c in verdict.checks if c.rule == "data.constant" and c.result == "failed")


def test_a_column_that_became_constant():
    verdict = judged(with_column(night(7), "country", category({"BR": 1.0})))
    found = constant(verdict)
    assert found.about == "country"
    assert found.sentence == (
        "2024-01-08: column country is BR everywhere; it had at least 3 different values on the 7 "
        "nights before; look at the job that makes this column"
    )


def test_a_column_without_any_value_became_constant():
    empty = category({}, count=0, nulls=1_000_000, values=None)
    verdict = judged(with_column(night(7), "country", empty), max_null_rise=None)
    assert "column country is without a value everywhere" in constant(verdict).sentence


def test_a_column_that_is_constant_each_day_may_be():
    """The weekday, say."""
    before = [with_column(night(day), "country", category({str(day): 1.0})) for day in range(6)]
    assert judged(with_column(night(6), "country", category({"6": 1.0})), before).publish


@pytest.mark.parametrize(("rare", "result"), [(4e-5, "not_judged"), (6e-5, "failed")])
def test_a_rare_value_may_be_missing_by_chance(rare: float, result: str):
    """Of a million rows, 50 is what decides."""
    before = [
        with_column(night(day), "country", category({"no": 1 - rare, "yes": rare}))
        for day in range(7)
    ]
    verdict = judged(with_column(night(7), "country", category({"no": 1.0})), before)
    found = {c.about: c.result for c in verdict.checks if c.rule == "data.constant"}
    assert found["country"] == result


def test_types():
    check = refused(
        judged(with_column(night(7), "price", number(10.0, type="string"))), "data.types", "price"
    )
    assert "column price is string, and was float on 2024-01-07" in check.sentence
    assert judged(with_column(night(7), "price", number(10.0, type="string")), types=False).publish


def test_a_missing_column():
    columns = {"price": number(10.0)}
    refused(judged(night(7, columns=columns, missing=("country",))), "data.types", "country")


def test_a_new_column_is_not_held_against_nights_without_it():
    today = with_column(night(7), "fresh", category({"a": 1.0}))
    assert judged(today).publish


def test_each_limit_can_be_switched_off():
    off: dict[str, Any] = {
        name: None
        for name in DataLimits.model_fields
        if name.startswith(("min_rows_", "max_"))
    } | {"types": False, "constant": False, "both_classes": False}  # fmt: skip
    bad = with_column(
        night(7, 10, labels={"ctr": label(0.0, 10)}), "country", category({"BR": 1.0}, 10)
    )
    assert not judged(bad).publish
    assert judged(bad, **off).publish


def test_the_first_night_has_nothing_to_compare_with():
    verdict = judged(night(0), [])
    assert verdict.publish
    assert verdict.is_first
    assert "not_judged" in {check.result for check in verdict.checks}


def test_without_a_profile_nothing_is_judged():
    verdict = judge_data(GateConfig(), None, WEEK)
    assert verdict.publish
    assert [check.result for check in verdict.checks] == ["not_judged"]


def test_later_and_equal_days_are_no_nights_before():
    """A night that is judged again."""
    later = [night(7, 10_000), night(8, 10_000)]
    today = night(7, 1_500_000)
    assert judged(today, [*later, *reversed(WEEK)]).publish
    # Were one of them a night before, the usual would be half of a million rows.
    assert not judged(today, [night(0, 10_000), *WEEK[1:]]).publish


def test_without_dates_the_newest_given_count_and_tonights_own_does_not():
    old, new = ([night(day, rows, dates=None) for day in range(5)] for rows in (100_000, 1_000_000))
    today = night(9, dates=None)
    assert judged(today, [*old, *new, today], nights=5).publish
    again = night(9, 10, dates=None)  # of the same files, by their fingerprint
    assert judged(today, [*new[:1], again, again], nights=5).publish
    assert not judged(today, [*new, *old], nights=5).publish


def test_only_the_newest_nights_count():
    old = [night(day, 100_000) for day in range(0, 35, 7)]
    new = [night(day) for day in range(35, 49)]
    assert judged(night(49), [*old, *new]).publish
    refused(judged(night(49), [*old, *new], nights=30), "data.max_rows_share")
