"""report.json, report.md and report.html of one report: whole files or none."""

from __future__ import annotations

from pathlib import Path

from marigold_rec.analysis.report import Report
from marigold_rec.atomic_io import write_together
from marigold_rec.reporting.markdown import report_markdown


def write_report(report: Report, folder: Path) -> None:
    """Writes the three files into `folder` (made if need be); the same report, the same bytes.

    Raises ValueError when the report holds NaN or infinity. First rank only.
    """
    # Not above: matplotlib takes its time, and who only reads reports need not wait for it.
    from marigold_rec.reporting.html import report_html

    # Copies of a model (`model_copy`) are not checked when made, and pydantic writes NaN as null.
    report = Report.model_validate(report.model_dump())
    folder.mkdir(parents=True, exist_ok=True)
    write_together(
        folder,
        {
            "report.json": report.json_text(),
            "report.md": report_markdown(report),
            "report.html": report_html(report),
        },
    )
