"""A day must hold its own rows: not those of a day before, and of its own time."""

from __future__ import annotations

from typing import Any

import pytest

from marigold_rec.config.gate import DataLimits
from marigold_rec.gating import Check
from marigold_rec.gating.own_day_checks import own_day_checks
from marigold_rec.profile import Content, EventHours, Profile
from tests.gating.made import night


def content(first: int, count: int = 100, distinct: int = 1_000_000) -> Content:
    """A day whose rows hash to `first`, `first` + 1, ..."""
    hashes = tuple(range(first, first + count))
    return Content(digest=f"of-{first}", distinct=distinct, smallest_hashes=hashes)


def judged(today: Profile, before: list[Profile], **limits: Any) -> dict[str, Check]:
    return {check.rule: check for check in own_day_checks(DataLimits(**limits), today, before)}


def test_a_day_with_the_content_of_another_is_refused_and_named():
    before = [night(day, content=content(1000 * day)) for day in range(3)]
    check = judged(night(3, content=content(1000)), before)["data.max_repeated_rows"]
    assert check.result == "failed"
    assert "2024-01-02" in check.sentence
    # Also where rows are too alike to tell a share.
    dull = [night(0, content=content(0, 4, distinct=4))]
    assert judged(night(1, content=content(0, 4, distinct=4)), dull)[
        "data.max_repeated_rows"
    ].result == "failed"  # fmt: skip


@pytest.mark.parametrize(("shared", "result"), [(49, "passed"), (51, "failed")])
def test_a_share_of_repeated_rows(shared: int, result: str):
    # All of both below the end of the shorter sketch: `shared` of the 100.
    today = tuple(range(0, 200, 2))
    other = tuple(sorted([*today[:shared], *(value + 1 for value in today[shared:])]))
    before = night(0, content=content(0).model_copy(update={"smallest_hashes": other}))
    now = Content(digest="x", distinct=1_000_000, smallest_hashes=today)
    check = judged(night(1, content=now), [before])["data.max_repeated_rows"]
    assert check.result == result
    assert check.found == pytest.approx(shared / 100, abs=0.01)


def test_rows_that_are_often_alike_by_themselves_say_nothing():
    dull = content(0, distinct=500_000)  # every row twice
    other = content(0, distinct=500_000).model_copy(update={"digest": "other"})
    check = judged(night(1, content=dull), [night(0, content=other)])["data.max_repeated_rows"]
    assert check.result == "not_judged"


def test_older_profiles_and_a_switch():
    assert not judged(night(1), [night(0, content=content(0))])
    twins = night(1, content=content(0)), [night(0, content=content(0))]
    assert not judged(*twins, max_repeated_rows=None)


@pytest.mark.parametrize(
    ("rows", "result"),
    [
        (((0, 500), (23, 500)), "passed"),
        (((-14, 500), (37, 500)), "passed"),  # a day of Kiritimati or of Hawaii
        (((-15, 49), (12, 951)), "passed"),
        (((-15, 51), (12, 949)), "failed"),
        (((12, 949), (38, 51)), "failed"),
        (((-100, 1000),), "failed"),  # another unit
    ],
)
def test_rows_of_another_time(rows: tuple[tuple[int, int], ...], result: str):
    today = night(1, event_hours=EventHours(column="ts", rows=rows))
    check = judged(today, [])["data.max_outside_day"]
    assert (check.result, check.about) == (result, "ts")
    assert not judged(today, [], max_outside_day=None)
