"""The gate's place in a night: profiles of days, reports of models, and the verdict on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jobs.nightly.day_profiles import DayProfiles
from jobs.nightly.durable import read_durable, write_durably
from jobs.nightly.folder import NightFolder
from jobs.nightly.plan import NightPlan, days_between
from marigold_rec.analysis.report import Report
from marigold_rec.config import Config
from marigold_rec.errors import CheckpointError
from marigold_rec.gating import Verdict, judge_data, judge_night, verdict_html

_JUDGE_DATA = "look at the data again with --from data"


def judge_before_training(
    config: Config, plan: NightPlan, folder: NightFolder, profiles: DayProfiles
) -> None:
    """Holds each day that the night learns or is judged on against the days before it.

    Writes verdict.json where they are refused, and data.json in any case.
    """
    rules = config.nightly.gate
    verdicts: list[Verdict] = []
    for day in [*days_between(*plan.train), *days_between(*plan.evaluation)]:
        usual = profiles.usual(day, rules.data.nights)
        verdicts.append(judge_data(rules, profiles.of(day), usual))
        profiles.note(day, is_refused=not verdicts[-1].publish)
    verdict = merged(verdicts)
    write_durably(folder.data_verdict_file, verdict.json_text())
    if not verdict.publish:
        _write_verdict(folder, verdict)


def judge_the_model(config: Config, plan: NightPlan, folder: NightFolder) -> None:
    """Writes verdict.json: the rules on the reports, and those on the data once more."""
    holdout = None if plan.holdout is None else _report(folder.holdout)
    of_model = judge_night(config.nightly.gate, _report(folder.evaluation), holdout, None, [])
    # The days were judged one by one, each against those before it.
    checks = tuple(check for check in of_model.checks if check.rule != "data")
    of_model = of_model.model_copy(update={"checks": checks})
    of_data = read_durable(folder.data_verdict_file, Verdict, _JUDGE_DATA)
    if of_data is None:
        raise CheckpointError(f"{folder.data_verdict_file}: missing; {_JUDGE_DATA}")
    _write_verdict(folder, merged([of_model, of_data]))


def read_verdict(folder: NightFolder) -> Verdict | None:
    """None while there is none."""
    return read_durable(folder.verdict_file, Verdict, "judge the night again with --from gate")


def merged(found: Sequence[Verdict]) -> Verdict:
    """Every check of all; one refusal refuses."""
    dates = [each.dates for each in found if each.dates is not None]
    return found[0].model_copy(
        update={
            "publish": all(each.publish for each in found),
            "reasons": tuple(reason for each in found for reason in each.reasons),
            "checks": tuple(check for each in found for check in each.checks),
            "dates": (min(d[0] for d in dates), max(d[1] for d in dates)) if dates else None,
        }
    )


def _write_verdict(folder: NightFolder, verdict: Verdict) -> None:
    write_durably(folder.path / "verdict.html", verdict_html(verdict))
    write_durably(folder.verdict_file, verdict.json_text())


def _report(folder: Path) -> Report:
    remedy = f"judge the model again with --from {folder.name}"
    report = read_durable(folder / "report.json", Report, remedy)
    if report is None:
        raise CheckpointError(f"{folder / 'report.json'}: missing; {remedy}")
    return report
