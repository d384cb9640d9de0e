"""Limits that a task's own rules don't lift: a floor against a constant, and gains too good."""

from __future__ import annotations

from typing import Any

import pytest

from marigold_rec.config.gate import GateConfig
from marigold_rec.gating import Verdict, judge_night
from tests.gating.made import figure, night, report
from tests.reporting.example import example

# As wide as anybody has made them.
OWN = {"ctr": {"auc": {"min_delta": -1}, "ne": {"max_delta": 9}, "calibration": None}}


def judged(
    is_first: bool = False, plausible: dict[str, Any] | None = None, **figures: Any
) -> Verdict:
    rules = GateConfig.model_validate({"tasks": OWN, "plausible": plausible or {}})
    return judge_night(rules, report(is_first, **figures), None, night(7), [])


def failed(verdict: Verdict) -> list[str]:
    return [check.rule for check in verdict.checks if check.result == "failed"]


@pytest.mark.parametrize(
    ("figures", "rules"),
    [
        ({"auc": figure(0.9, 0.18, 0.01)}, ["plausible.max_gain"]),
        ({"auc": figure(0.8, 0.105, 0.01)}, []),
        ({"auc": figure(0.8, 0.09)}, []),
        ({"auc": figure(0.47, -0.1, 0.02)}, ["plausible.min_auc"]),
        ({"auc": figure(0.49, -0.1, 0.02)}, []),
        ({"ne": figure(1.05, 0.1, 0.02), "auc": figure(0.505, 0.0, 0.01)}, ["plausible.max_ne"]),
        ({"ne": figure(1.01, 0.1, 0.02), "auc": figure(0.505, 0.0, 0.01)}, []),
        ({"ne": figure(1.2, 0.1, 0.02), "auc": figure(0.52, 0.0, 0.01)}, []),  # it ranks
        ({"ne": figure(1.3, 0.1, 0.02)}, ["plausible.max_ne"]),
    ],
)
def test_what_no_sound_night_shows(figures: dict[str, Any], rules: list[str]):
    verdict = judged(**figures)
    assert failed(verdict) == rules
    assert verdict.publish == (not rules)
    left_out = GateConfig.model_validate({"tasks": {"ctr": {"auc": None, "ne": None}}})
    assert judge_night(left_out, report(**figures), None, night(7), []).publish


def test_the_first_night_has_the_floor_too():
    assert failed(judged(True, auc=figure(0.45, half=0.01))) == ["plausible.min_auc"]
    assert failed(judged(True, ne=figure(1.3, half=0.01))) == ["plausible.max_ne"]


def test_watch_times_rank_better_than_a_constant():
    watch = next(task for task in example().tasks if task.kind == "duration")
    flat = watch.model_copy(update={"figures": {"xauc": figure(0.45, 0.0, 0.01)}})
    verdict = judge_night(GateConfig(), example(tasks=(flat,), slices=()), None, night(7), [])
    assert failed(verdict) == ["plausible.min_auc"]


def test_each_limit_can_be_switched_off():
    off = {"max_gain": None, "min_auc": None, "max_ne": None}
    bad: dict[str, Any] = {"auc": figure(0.4, 0.3, 0.01), "ne": figure(2.0, 1.0, 0.01)}
    assert not failed(judged(plausible=off, **bad))
