"""From profiles and reports to one verdict: pure functions, no file and no clock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Literal

from marigold_rec.analysis.report import Report
from marigold_rec.config.gate import GateConfig
from marigold_rec.gating.data_checks import column_checks, row_checks
from marigold_rec.gating.drift_checks import drift_checks
from marigold_rec.gating.figure_checks import figure_checks
from marigold_rec.gating.label_checks import label_checks
from marigold_rec.gating.nights import nights_before
from marigold_rec.gating.own_day_checks import own_day_checks
from marigold_rec.gating.plausible_checks import plausible_checks
from marigold_rec.gating.score_checks import score_checks
from marigold_rec.gating.verdict import Check, Verdict, stated
from marigold_rec.profile import Profile
from marigold_rec.reporting.wording import shown


def judge_data(rules: GateConfig, today: Profile | None, before: Sequence[Profile]) -> Verdict:
    """Of the profiles alone, before the training: plainly bad data is not worth its time.

    `before`: profiles of earlier days in any order; those that do not end before `today` begins are
    left out. Leave out the days that the gate has refused: else they become the usual.
    """
    nights = () if today is None else nights_before(today, before, rules.data.nights)
    return _verdict("data", not nights, today, list(_data_checks(rules, today, nights)))


def judge_night(
    rules: GateConfig,
    evaluation: Report,
    holdout: Report | None,
    today: Profile | None,
    before: Sequence[Profile],
) -> Verdict:
    """Of everything; the data's checks are those of `judge_data`.

    `evaluation`, `holdout`: the candidate's reports, with the published model as their baseline;
    without one (the first night) only fixed limits hold.
    """
    nights = () if today is None else nights_before(today, before, rules.data.nights)
    checks = list(_data_checks(rules, today, nights))
    checks += figure_checks(rules, evaluation, "evaluation")
    checks += plausible_checks(rules, evaluation, "evaluation")
    checks += score_checks(rules.drift, evaluation, "evaluation")
    if holdout is not None:
        checks += figure_checks(rules, holdout, "holdout")
        checks += plausible_checks(rules, holdout, "holdout")
        checks += score_checks(rules.drift, holdout, "holdout")
    return _verdict("night", evaluation.baseline is None, today, checks)


def _data_checks(
    rules: GateConfig, today: Profile | None, nights: Sequence[Profile]
) -> Iterator[Check]:
    if today is None:
        yield stated("data", "data", None, "not_judged", "there is no profile of the new days")
        return
    yield from row_checks(rules.data, today, nights)
    if not today.rows:
        return  # nothing can be said of its columns, and rows are refused already
    for check in chain(
        own_day_checks(rules.data, today, nights),
        column_checks(rules.data, today, nights),
        label_checks(rules.data, today, nights),
        drift_checks(rules.drift, today, nights),
    ):
        # A night may judge several days, one after the other, and show all their checks together.
        yield check.model_copy(update={"sentence": f"{shown(today.name)}: {check.sentence}"})


def _verdict(
    stage: Literal["data", "night"],
    is_first: bool,
    today: Profile | None,
    checks: Sequence[Check],
) -> Verdict:
    reasons = tuple(check.sentence for check in checks if check.result == "failed")
    return Verdict(
        stage=stage,
        publish=not reasons,
        is_first=is_first,
        dates=None if today is None else today.dates,
        reasons=reasons,
        checks=tuple(checks),
    )
