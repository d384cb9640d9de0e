"""Writes night.html, and the lines of --status."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

from jobs.nightly.folder import NightlyFolder, nightly_folders
from jobs.nightly.late_files import late_days
from jobs.nightly.plan import Days, Model, NightlyPlan
from jobs.nightly.publishing import Published
from jobs.nightly.recalibration import read_recalibration
from jobs.nightly.rows import describe_facts, read_facts
from marigold_rec.analysis.report import Report
from marigold_rec.atomic_io import read_json, write_atomically
from marigold_rec.config.life_cycle import LifeCycleConfig
from marigold_rec.errors import CheckpointError
from marigold_rec.reporting.night import NightSummary, NightView, night_html

_LINE = 160


def write_page(folder: NightlyFolder, plan: NightlyPlan, life_cycle: LifeCycleConfig) -> None:
    verdict = folder.verdict
    assert verdict is not None, "the gate has run"
    base = "scratch: the first nightly run" if plan.base is None else _describe(plan.base)
    summary = NightSummary(
        night=str(plan.night),
        is_published=verdict.publish,
        lede=f"Trained on {_days(plan.train)}, from {base}; evaluated on {_days(plan.evaluation)}.",
        reasons=verdict.reasons,
        facts=[
            ("Trained on", _days(plan.train)),
            ("From", base),
            ("Config hash", plan.config_hash),
            ("Artefact", "artefact/" if folder.artefact.exists() else "none"),
            *(("Late files", each.sentence) for each in late_days(folder)),
            *_recalibration_facts(folder),
            *_row_facts(folder, life_cycle),
        ],
        seconds=folder.seconds,
    )
    write_atomically(folder.path / "night.html", night_html(summary, list(_views(folder, plan))))


def _recalibration_facts(folder: NightlyFolder) -> Iterator[tuple[str, str]]:
    made = read_recalibration(folder)
    for task, why in made.sentences.items() if made is not None else ():
        yield f"Late labels of {task}", why


def _row_facts(folder: NightlyFolder, life_cycle: LifeCycleConfig) -> Iterator[tuple[str, str]]:
    for name, facts in read_facts(folder).items():
        yield f"Rows of {name}", describe_facts(facts, life_cycle.tables[name])


def _views(folder: NightlyFolder, plan: NightlyPlan) -> Iterator[NightView]:
    for title, path, against in (
        ("On the newest days", folder.evaluation, plan.base),
        ("On the hold-out days", folder.holdout, plan.base),
        (
            "Against the previous candidate, which was not published",
            folder.previous_candidate,
            plan.previous_candidate,
        ),
        (_matured_title(plan), folder.matured_evaluation, None),
    ):
        remedy = f"evaluate again with --from {path.name}"
        report = read_json(path / "report.json", Report, remedy)
        if report is not None:
            name = "" if against is None else _describe(against)
            yield NightView(title, f"{path.name}/report.html", name, report)


def _matured_title(plan: NightlyPlan) -> str:
    if plan.matured_evaluation is None:
        return ""
    night = plan.matured_evaluation.model.night
    return f"The model of {night} on its evaluation days, whose labels are final now"


def status_lines(root: Path, published: Published) -> Iterator[str]:
    """Yields one line per nightly run, the newest last, and the model in use.

    The line of a run whose files are damaged reports it. Raises CheckpointError, after all lines,
    if the history is damaged.
    """
    current, damage = None, None
    try:
        published.check()
        current = published.current
    except CheckpointError as error:
        damage = error
    for night, folder in nightly_folders(root):
        mark = "*" if night == current else " "
        yield f"{mark} {night}  {one_line(_describe_state(folder))}"
    if damage is not None:
        raise damage
    yield f"in use: the model of {current}" if current else "nothing is published yet"


def _describe_state(folder: NightlyFolder) -> str:
    try:
        if (ending := folder.ending) is not None:
            return ending.sentence
        done = folder.seconds
    except CheckpointError as error:
        return f"{type(error).__name__}: {error}"
    return f"not finished; done: {', '.join(done) if done else 'nothing'}"


def one_line(text: str) -> str:
    """Cuts `text` to one line of a terminal or a log."""
    return textwrap.shorten(text, _LINE, placeholder=" ...")


def _describe(model: Model) -> str:
    return f"the model of {model.night} (trained until {model.trained_until})"


def _days(days: Days) -> str:
    return str(days[0]) if days[0] == days[1] else f"{days[0]} to {days[1]}"
