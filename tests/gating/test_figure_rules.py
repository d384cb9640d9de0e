"""Rules on the report: just inside, just outside, by value and by interval; missing figures."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from marigold_rec.analysis.report import Figure
from marigold_rec.config.gate import FigureRule, GateConfig
from marigold_rec.gating import Check, Verdict, judge_night
from tests.gating.made import figure, night, report, task
from tests.reporting.example import example, no_figure

BEFORE = [night(day) for day in range(7)]


def judged(rule: dict[str, Any] | None = None, metric: str = "auc", *, is_first: bool = False,
           by: str = "interval", holdout: Any = None, **figures: Figure) -> Verdict:  # fmt: skip
    """With this rule for ctr's `metric` and the defaults."""
    tasks = {} if rule is None else {"ctr": {metric: rule}}
    rules = GateConfig.model_validate({"by": by, "tasks": tasks})
    return judge_night(rules, report(is_first, **figures), holdout, night(7), BEFORE)


def refused(verdict: Verdict, rule: str) -> Check:
    failed = [check for check in verdict.checks if check.result == "failed"]
    assert [check.rule for check in failed] == [rule]
    assert not verdict.publish
    return failed[0]


def test_a_good_night_is_published_and_says_what_it_passed():
    verdict = judged()
    assert verdict.publish
    assert verdict.stage == "night"
    rules = {check.rule for check in verdict.checks}
    assert {"tasks.ctr.auc.min_delta", "tasks.ctr.ne.max_delta"} < rules
    assert {"tasks.ctr.calibration.within", "drift.max_score_psi", "data.min_rows_share"} < rules


# Limit, value, half of the interval, judged by -> passes?
OWN = [
    ({"min": 0.7}, 0.701, 0.0, "value", True),
    ({"min": 0.7}, 0.699, 0.0, "value", False),
    ({"min": 0.7}, 0.699, 0.002, "value", False),
    ({"min": 0.7}, 0.699, 0.002, "interval", True),
    ({"min": 0.7}, 0.697, 0.002, "interval", False),
    ({"min": 0.7}, 0.699, 0.0, "interval", False),  # no interval: the value
    ({"max": 0.7}, 0.699, 0.0, "value", True),
    ({"max": 0.7}, 0.703, 0.004, "interval", True),
    ({"max": 0.7}, 0.703, 0.002, "interval", False),
    ({"within": [0.6, 0.8]}, 0.599, 0.0, "value", False),
    ({"within": [0.6, 0.8]}, 0.801, 0.0, "value", False),
    ({"within": [0.6, 0.8]}, 0.801, 0.002, "interval", True),
    ({"within": [0.6, 0.8]}, 0.601, 0.0, "value", True),
    ({"min": 0.7, "by": "value"}, 0.699, 0.002, "interval", False),
]


@pytest.mark.parametrize(("rule", "value", "half", "by", "is_good"), OWN)
@pytest.mark.parametrize("is_first", [False, True])
def test_fixed_limits(
    rule: dict[str, Any], value: float, half: float, by: str, is_good: bool, is_first: bool
):
    verdict = judged(rule, by=by, is_first=is_first, auc=figure(value, half=half))
    # Its delta has no value, hence is not judged.
    assert verdict.is_first == is_first
    if is_good:
        assert verdict.publish, verdict.reasons
        return
    what = next(key for key in ("within", "min", "max") if key in rule)
    check = refused(verdict, f"tasks.ctr.auc.{what}")
    assert check.found == value
    assert check.on == "evaluation"
    assert "ctr: AUC is 0." in check.sentence


DELTAS = [
    ({"min_delta": -0.005}, -0.004, 0.0, "value", True),
    ({"min_delta": -0.005}, -0.006, 0.0, "value", False),
    ({"min_delta": -0.005}, -0.006, 0.002, "interval", True),
    ({"min_delta": -0.005}, -0.008, 0.002, "interval", False),
    ({"max_delta": 0.01}, 0.011, 0.002, "interval", True),
    ({"max_delta": 0.01}, 0.013, 0.002, "interval", False),
    ({"max_delta": 0.01}, 0.011, 0.002, "value", False),
    ({"max_delta": 0.01}, -0.5, 0.002, "value", True),
]


@pytest.mark.parametrize(("rule", "delta", "half", "by", "is_good"), DELTAS)
def test_differences_to_the_published_model(
    rule: dict[str, Any], delta: float, half: float, by: str, is_good: bool
):
    verdict = judged(rule, by=by, auc=figure(0.7, delta, half))
    if is_good:
        assert verdict.publish, verdict.reasons
        return
    what = next(iter(rule))
    check = refused(verdict, f"tasks.ctr.auc.{what}")
    assert check.found == delta
    assert "against the published model's 0." in check.sentence
    # Without a published model nothing can be worse.
    assert judged(rule, by=by, is_first=True, auc=figure(0.7, None, half)).publish


def test_what_a_person_reads():
    verdict = judged(auc=figure(0.7012, -0.0213, 0.0028))
    assert verdict.reasons == (
        "ctr: AUC 0.7012 is \u22120.0213 (\u22120.0241 to \u22120.0185) against the published "
        "model's 0.7225 on the next days; \u22120.0050 is allowed; look at the report's slices, "
        "and at what is new in these days",
    )


def test_a_figure_that_does_not_exist_is_refused_with_its_reason():
    check = refused(judged(auc=no_figure("all 7 labels are 0")), "tasks.ctr.auc")
    assert "ctr has no AUC on the next days: all 7 labels are 0" in check.sentence
    may = {"min": 0.5, "may_be_missing": True}
    assert judged(may, auc=no_figure("all 7 labels are 0")).publish


def test_a_figure_that_nobody_has():
    check = refused(judged({"min": 0.5}, metric="uac"), "tasks.ctr.uac")
    assert "the report has no such figure; it has auc, calibration, ne" in check.sentence


def test_a_task_that_nobody_has():
    rules = GateConfig.model_validate({"tasks": {"crt": {"auc": {"min": 0.5}}}})
    check = refused(judge_night(rules, report(), None, night(7), BEFORE), "tasks.crt.auc")
    assert "there is no such task in the report" in check.sentence


def test_a_task_that_the_published_model_does_not_have():
    """A task that came yesterday has figures and no differences."""
    verdict = judged(auc=figure(0.7))
    assert verdict.publish
    found = [c for c in verdict.checks if c.rule == "tasks.ctr.auc.min_delta"]
    assert [c.result for c in found] == ["not_judged"]


def test_own_rules_lie_over_the_defaults_figure_by_figure():
    bad: dict[str, Any] = {"auc": figure(0.7, -0.1), "ne": figure(0.9, 0.1)}
    failed = {c.rule for c in judged({"min": 0.5}, **bad).checks if c.result == "failed"}
    assert failed == {"tasks.ctr.ne.max_delta"}
    rules = GateConfig.model_validate({"tasks": {"ctr": {"auc": None, "ne": None}}})
    assert judge_night(rules, report(**bad), None, night(7), BEFORE).publish
    rules = GateConfig.model_validate({"defaults": {"binary": {"auc": None}}})
    failed = {
        c.rule
        for c in judge_night(rules, report(**bad), None, night(7), BEFORE).checks
        if c.result == "failed"
    }
    assert failed == {"tasks.ctr.ne.max_delta"}


def test_defaults_leave_out_what_is_over_all_rows_but_own_rules_do_not():
    whole = task(example(), name="cvr over all rows", space="all")
    worse = {"auc": figure(0.7, -0.1), "calibration": figure(3.0, 0.0)}
    found = example(tasks=(whole.model_copy(update={"figures": worse}),), slices=())
    assert judge_night(GateConfig(), found, None, night(7), BEFORE).publish
    rules = GateConfig.model_validate({"tasks": {"cvr over all rows": {"auc": {"min": 0.8}}}})
    refused(judge_night(rules, found, None, night(7), BEFORE), "tasks.cvr over all rows.auc.min")


def test_watch_times_have_their_own_defaults():
    watch = next(t for t in example().tasks if t.kind == "duration")
    worse = watch.model_copy(update={"figures": {"xauc": figure(0.6, -0.01, 0.001)}})
    found = example(tasks=(worse,), slices=())
    refused(
        judge_night(GateConfig(), found, None, night(7), BEFORE), "tasks.watch_time.xauc.min_delta"
    )


def test_the_holdout_is_judged_too():
    worse = report(auc=figure(0.7, -0.1))
    check = refused(judged(holdout=worse), "tasks.ctr.auc.min_delta")
    assert check.on == "holdout"
    assert "on the hold-out" in check.sentence
    assert judged({"min_delta": -0.005, "on": "evaluation"}, holdout=worse).publish
    # Its labels are of other days: the calibration there is no rule of the defaults.
    assert judged(holdout=report(calibration=figure(1.6, 0.0))).publish
    refused(judged(calibration=figure(1.6, 0.2)), "tasks.ctr.calibration.within")


@pytest.mark.parametrize(
    ("ratio", "is_good"), [(1.49, True), (1.51, False), (0.67, True), (0.66, False)]
)
def test_the_mean_score_against_the_published_models(ratio: float, is_good: bool):
    new = 1.0
    verdict = judged(calibration=figure(new, new - new / ratio))
    if is_good:
        assert verdict.publish, verdict.reasons
    else:
        assert refused(verdict, "drift.max_score_ratio").found == pytest.approx(ratio)


@pytest.mark.parametrize(("limit", "is_good"), [(0.2, False), (50.0, True), (None, True)])
def test_the_distribution_of_scores(limit: float | None, is_good: bool):
    whole = example()
    moved = task(whole, baseline_curves=whole.tasks[3].curves)
    moved = moved.model_copy(update={"figures": report().tasks[0].figures})
    rules = GateConfig.model_validate({"drift": {"max_score_psi": limit}})
    found = example(tasks=(moved,), slices=())
    verdict = judge_night(rules, found, None, night(7), BEFORE)
    if is_good:
        assert verdict.publish, verdict.reasons
    else:
        refused(verdict, "drift.max_score_psi")


def test_data_and_figures_end_up_in_one_verdict():
    verdict = judge_night(
        GateConfig(), report(auc=figure(0.7, -0.1)), None, night(7, 400_000), BEFORE
    )
    failed = [check.rule for check in verdict.checks if check.result == "failed"]
    assert failed == ["data.min_rows_share", "tasks.ctr.auc.min_delta"]
    assert len(verdict.reasons) == 2
    assert Verdict.model_validate_json(verdict.json_text()) == verdict


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({}, "has no limit"),
        ({"min": 0.5, "within": [0.4, 0.6]}, "leave min and max out"),
        ({"min": 0.6, "max": 0.5}, "0.6 is above 0.5"),
        ({"within": [0.6, 0.5]}, "0.6 is above 0.5"),
        ({"min_delta": 0.1, "max_delta": 0.0}, "0.1 is above 0"),
    ],
)
def test_rules_that_make_no_sense(rule: dict[str, Any], message: str):
    with pytest.raises(ValidationError, match=message):
        FigureRule.model_validate(rule)
