"""Applies the gate in a nightly run: to the profiles of days, and to the candidate's reports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jobs.nightly.day_profiles import DayProfiles
from jobs.nightly.folder import NightlyFolder
from jobs.nightly.plan import NightlyPlan, days_between
from marigold_rec.analysis.report import Report
from marigold_rec.atomic_io import read_json, write_atomically
from marigold_rec.config.schema import Config
from marigold_rec.errors import CheckpointError
from marigold_rec.gating.judge import judge_data, judge_night
from marigold_rec.gating.page import verdict_html
from marigold_rec.gating.verdict import Verdict

_CHECK_DATA = "check the data again with --from data"


def gate_days(
    config: Config, plan: NightlyPlan, folder: NightlyFolder, profiles: DayProfiles
) -> None:
    """Gates each training and evaluation day against the days before it.

    Writes data.json, and verdict.json if the data is refused.
    """
    rules = config.nightly.gate
    verdicts: list[Verdict] = []
    for day in [*days_between(*plan.train), *days_between(*plan.evaluation)]:
        earlier = profiles.earlier(day, rules.data.nights)
        verdicts.append(judge_data(rules, profiles.get(day), earlier))
        profiles.record(day, is_refused=not verdicts[-1].publish)
    verdict = merge_verdicts(verdicts)
    write_atomically(folder.data_verdict_file, verdict.json_text())
    if not verdict.publish:
        _write_verdict(folder, verdict)


def gate_candidate(config: Config, plan: NightlyPlan, folder: NightlyFolder) -> None:
    """Gates the candidate's reports and writes verdict.json, which repeats the data's verdict."""
    holdout = None if plan.holdout is None else _report(folder.holdout)
    of_model = judge_night(config.nightly.gate, _report(folder.evaluation), holdout, None, [])
    # The days were gated one by one, each against those before it.
    checks = tuple(check for check in of_model.checks if check.rule != "data")
    of_model = of_model.model_copy(update={"checks": checks})
    of_data = read_json(folder.data_verdict_file, Verdict, _CHECK_DATA)
    if of_data is None:
        raise CheckpointError(f"{folder.data_verdict_file}: missing; {_CHECK_DATA}")
    _write_verdict(folder, merge_verdicts([of_model, of_data]))


def merge_verdicts(found: Sequence[Verdict]) -> Verdict:
    """Joins verdicts: all checks of all; one refusal refuses."""
    dates = [each.dates for each in found if each.dates is not None]
    return found[0].model_copy(
        update={
            "publish": all(each.publish for each in found),
            "reasons": tuple(reason for each in found for reason in each.reasons),
            "checks": tuple(check for each in found for check in each.checks),
            "dates": (min(d[0] for d in dates), max(d[1] for d in dates)) if dates else None,
        }
    )


def _write_verdict(folder: NightlyFolder, verdict: Verdict) -> None:
    write_atomically(folder.path / "verdict.html", verdict_html(verdict))
    write_atomically(folder.verdict_file, verdict.json_text())


def _report(folder: Path) -> Report:
    remedy = f"evaluate the model again with --from {folder.name}"
    report = read_json(folder / "report.json", Report, remedy)
    if report is None:
        raise CheckpointError(f"{folder / 'report.json'}: missing; {remedy}")
    return report
