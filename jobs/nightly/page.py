"""night.html of a night, and the lines of --status."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

from jobs.nightly.durable import read_durable, write_durably
from jobs.nightly.folder import NightFolder, night_folders
from jobs.nightly.judging import read_verdict
from jobs.nightly.late_files import late_days
from jobs.nightly.plan import Days, Model, NightPlan
from jobs.nightly.publishing import Published
from jobs.nightly.recalibration import read_recalibration
from jobs.nightly.rows import read_facts, sentence
from marigold_rec.analysis.report import Report
from marigold_rec.config.life_cycle import LifeCycleConfig
from marigold_rec.errors import CheckpointError
from marigold_rec.reporting.night import NightSummary, NightView, night_html

_LINE = 160


def write_page(folder: NightFolder, plan: NightPlan, life_cycle: LifeCycleConfig) -> None:
    verdict = read_verdict(folder)
    assert verdict is not None, "the gate has judged"
    base = "nothing: the first night" if plan.base is None else _named(plan.base)
    summary = NightSummary(
        night=str(plan.night),
        is_published=verdict.publish,
        lede=f"Trained on {_days(plan.train)}, from {base}; judged on {_days(plan.evaluation)}.",
        reasons=verdict.reasons,
        facts=[
            ("Trained on", _days(plan.train)),
            ("From", base),
            ("Config hash", plan.config_hash),
            ("Artefact", "artefact/" if folder.artefact.exists() else "none"),
            *(("Late files", each.sentence) for each in late_days(folder)),
            *_recalibrated(folder),
            *_row_facts(folder, life_cycle),
        ],
        seconds=folder.seconds,
    )
    write_durably(folder.path / "night.html", night_html(summary, list(_views(folder, plan))))


def _recalibrated(folder: NightFolder) -> Iterator[tuple[str, str]]:
    made = read_recalibration(folder)
    for task, why in made.sentences.items() if made is not None else ():
        yield f"Late labels of {task}", why


def _row_facts(folder: NightFolder, life_cycle: LifeCycleConfig) -> Iterator[tuple[str, str]]:
    for name, facts in read_facts(folder).items():
        yield f"Rows of {name}", sentence(facts, life_cycle.tables[name])


def _views(folder: NightFolder, plan: NightPlan) -> Iterator[NightView]:
    for title, path, against in (
        ("On the newest days", folder.evaluation, plan.base),
        ("On the fixed days", folder.holdout, plan.base),
        ("Against yesterday's model, which was not published", folder.yesterday, plan.yesterday),
        (_of_served(plan), folder.served, None),
    ):
        remedy = f"judge again with --from {path.name}"
        report = read_durable(path / "report.json", Report, remedy)
        if report is not None:
            name = "" if against is None else _named(against)
            yield NightView(title, f"{path.name}/report.html", name, report)


def _of_served(plan: NightPlan) -> str:
    if plan.served is None:
        return ""
    return f"What the model of {plan.served.model.night} served, its late labels final"


def status_lines(root: Path, published: Published) -> Iterator[str]:
    """One line per night, the newest last, and what is in use.

    A night whose files are damaged says so in its line. Raises CheckpointError, after all these,
    where the history is.
    """
    current, damage = None, None
    try:
        published.check()
        current = published.current
    except CheckpointError as error:
        damage = error
    for night, folder in night_folders(root):
        mark = "*" if night == current else " "
        yield f"{mark} {night}  {one_line(_standing(folder))}"
    if damage is not None:
        raise damage
    yield f"in use: the model of {current}" if current else "nothing is published yet"


def _standing(folder: NightFolder) -> str:
    try:
        if (ending := folder.ending) is not None:
            return ending.sentence
        done = folder.seconds
    except CheckpointError as error:
        return f"{type(error).__name__}: {error}"
    return f"not finished; done: {', '.join(done) if done else 'nothing'}"


def one_line(text: str) -> str:
    """`text` cut to what a line of a terminal or a log holds."""
    return textwrap.shorten(text, _LINE, placeholder=" ...")


def _named(model: Model) -> str:
    return f"the model of {model.night} (learned until {model.trained_until})"


def _days(days: Days) -> str:
    return str(days[0]) if days[0] == days[1] else f"{days[0]} to {days[1]}"
