"""What an evaluation found, for people: report.html, report.md and report.json; runs compared."""

from marigold_rec.reporting.write import write_report

__all__ = ["write_report"]
