"""night.html: how a night ended, on one page, with links to its reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from marigold_rec.analysis.report import Report
from marigold_rec.reporting.page import environment
from marigold_rec.reporting.verdicts import Verdict, verdicts


@dataclass(frozen=True)
class NightSummary:
    night: str
    is_published: bool
    lede: str
    """One sentence below the heading."""
    reasons: Sequence[str]
    """Why it is not published."""
    facts: Sequence[tuple[str, str]]
    seconds: Mapping[str, float]
    """By stage."""


@dataclass(frozen=True)
class NightView:
    """One of the night's evaluations."""

    title: str
    link: str
    """To its report.html, from the night's folder."""
    against: str
    report: Report

    @property
    def verdicts(self) -> Sequence[Verdict]:
        return verdicts(self.report)


def night_html(night: NightSummary, views: Sequence[NightView]) -> str:
    return environment().get_template("night.html.j2").render(night=night, views=views)
