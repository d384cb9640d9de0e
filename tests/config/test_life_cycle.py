"""The section `life_cycle`: what is refused, in plain words."""

from __future__ import annotations

from pathlib import Path

import pytest

from marigold_rec.checkpoint import config_differences
from tests.config.trees import load, problems


def test_it_is_off_by_default_and_says_which_tables_it_touches(tmp_path: Path) -> None:
    life_cycle = load(tmp_path).life_cycle
    assert (life_cycle.tables, life_cycle.rows) == ({}, None)
    assert (life_cycle.evicting, life_cycle.admitting) == ((), ())
    life_cycle = load(tmp_path, "life_cycle.tables={user: {admit_after: 3}}").life_cycle
    assert (life_cycle.evicting, life_cycle.admitting) == ((), ("user",))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "life_cycle.tables={usr: {evict_after_days: 3}}",
            "life_cycle.tables.usr: no feature has this table; did you mean 'user'?",
        ),
        (
            "life_cycle.tables={goods: {evict_after_days: 3}}",
            "life_cycle.tables.goods: its ids are of kind id, whose rows have a meaning of their "
            "own; only tables of kind hash have a life cycle: remove it here",
        ),
        (
            "life_cycle.tables={country: {admit_after: 3}}",
            "life_cycle.tables.country: its ids are of kind vocab",
        ),
        ("life_cycle.tables.user.evict_after_days=0", "life_cycle.tables.user.evict_after_days"),
        ("life_cycle.tables.user.admit_after=1", "life_cycle.tables.user.admit_after"),
        ("life_cycle.tables.user.evict_after=3", "did you mean 'evict_after_days'?"),
    ],
)
def test_what_is_refused(tmp_path: Path, override: str, message: str) -> None:
    [problem] = problems(tmp_path, override)
    assert message in problem


def test_a_run_may_go_on_with_its_rows_elsewhere_but_not_under_other_rules(tmp_path: Path) -> None:
    config = load(tmp_path, "life_cycle.tables={user: {admit_after: 3}}", "life_cycle.rows=/a")
    saved = config.model_dump(mode="json")
    assert config_differences(saved, load(
        tmp_path, "life_cycle.tables={user: {admit_after: 3}}", "life_cycle.rows=/b"
    )) == []  # fmt: skip
    [difference] = config_differences(
        saved, load(tmp_path, "life_cycle.tables={user: {admit_after: 4}}", "life_cycle.rows=/a")
    )
    assert difference == "life_cycle.tables.user.admit_after: 3 then, 4 now"
    # A checkpoint of a version that knew no life cycle.
    del saved["life_cycle"]
    assert config_differences(saved, load(tmp_path)) == []
