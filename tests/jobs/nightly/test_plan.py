"""A plan names the days that a nightly run trains and evaluates on."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence

import pytest

from jobs.nightly.plan import DataWindow, Model, NightlyPlan, days_of, plan_night
from marigold_rec.config.nightly import NightlyConfig
from marigold_rec.config.tasks import BinaryTask, Task
from marigold_rec.errors import ConfigError, DataError


def day(number: int) -> datetime.date:
    return datetime.date(2024, 1, number)


CTR = BinaryTask(name="ctr", kind="binary", label="click")
CVR = BinaryTask(name="cvr", kind="binary", label="conversion", observed_if="click", matures_h=30)


def model(night: int, trained_until: int, origin: int = 1) -> Model:
    return Model(
        night=day(night),
        trained_until=day(trained_until),
        origin=day(origin),
        checkpoint="a",
        manifest_sha256="b",
    )


BASE = model(5, 4)


def plan(
    number: int,
    config: NightlyConfig,
    base: Model | None,
    there: Iterable[int] = range(1, 20),
    tasks: Sequence[Task] = (CTR,),
) -> NightlyPlan:
    return plan_night(
        day(number),
        config,
        tasks,
        config_hash="c",
        complete=[day(n) for n in there],
        base=base,
        previous_candidate=None,
    )


def test_a_night_learns_what_its_base_has_not_and_keeps_the_newest_day_to_judge() -> None:
    found = plan(6, NightlyConfig(), BASE)
    assert (found.train, found.evaluation) == ((day(5), day(5)), (day(6), day(6)))


def test_nights_that_were_left_out_are_learned_by_the_next() -> None:
    found = plan(9, NightlyConfig(eval_days=2), BASE)
    assert (found.train, found.evaluation) == ((day(5), day(7)), (day(8), day(9)))


def test_each_day_is_learned_once_over_consecutive_nights() -> None:
    learned: list[datetime.date] = []
    base: Model | None = None
    for number in (4, 5, 7, 8):
        found = plan(number, NightlyConfig(), base)
        learned += [d for d in days_of(found) if found.train[0] <= d <= found.train[1]]
        base = model(number, found.train[1].day)
    assert learned == [day(n) for n in range(1, 8)]


def test_the_first_night_takes_the_days_that_follow_each_other() -> None:
    assert plan(10, NightlyConfig(first_days=3), None).train == (day(7), day(9))
    assert plan(10, NightlyConfig(first_days=30), None).train == (day(1), day(9))
    found = plan(10, NightlyConfig(first_days=30), None, [*range(1, 5), *range(6, 12)])
    assert found.train == (day(6), day(9))


def test_train_from_leaves_a_bad_day_out() -> None:
    config = NightlyConfig(train_from=day(6))
    assert plan(8, config, BASE).train == (day(6), day(7))
    assert plan(8, config, None).train == (day(6), day(7))
    # Days that were learned are not learned again.
    assert plan(8, NightlyConfig(train_from=day(2)), BASE).train == (day(5), day(7))


def test_nothing_to_learn_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"2024-01-05: nothing .*2024-01-04; choose a later --d"):
        plan(5, NightlyConfig(), BASE)
    with pytest.raises(ConfigError, match=r"2024-01-08: nothing .*train_from is 2024-01-09"):
        plan(8, NightlyConfig(train_from=day(9)), BASE)
    with pytest.raises(DataError, match="there is none"):
        plan(1, NightlyConfig(), None)


def test_the_holdout_is_never_learned() -> None:
    config = NightlyConfig(holdout=(day(1), day(2)))
    assert plan(6, config, BASE).holdout == (day(1), day(2))
    with pytest.raises(ConfigError, match=r"nightly\.holdout \(2024-01-01 to 2024-01-02\)"):
        plan(4, config, None)
    kept = NightlyConfig(holdout=(day(1), day(2)), train_from=day(3))
    assert plan(6, kept, None).train == (day(3), day(5))


def test_labels_that_mature_later_are_read_when_they_are_due() -> None:
    found = plan(7, NightlyConfig(), BASE, tasks=(CTR, CVR))
    assert found.train == (day(5), day(6))
    midnight = [datetime.datetime(2024, 1, n, tzinfo=datetime.UTC) for n in (5, 7, 8)]
    assert found.train_window == DataWindow(dates=(day(3), day(6)), due=(midnight[0], midnight[1]))
    assert found.evaluation_window == DataWindow(
        dates=(day(5), day(7)), due=(midnight[1], midnight[2])
    )
    assert days_of(found) == [day(n) for n in range(3, 8)]


def test_no_day_before_the_first_nights_is_read() -> None:
    first = plan(4, NightlyConfig(first_days=2), None, tasks=(CTR, CVR))
    assert first.train_window.dates == first.train == (day(2), day(3))
    later = plan(5, NightlyConfig(), model(4, 3, origin=2), tasks=(CTR, CVR))
    assert later.train == (day(4), day(4))
    assert later.train_window.dates == (day(2), day(4))
    assert later.origin == day(2)


def test_a_plan_is_read_back_as_it_was() -> None:
    found = plan(6, NightlyConfig(), BASE)
    assert NightlyPlan.model_validate_json(found.model_dump_json()) == found
