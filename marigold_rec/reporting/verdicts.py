"""Better, worse or not told apart: what the intervals and tests of a report come down to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from marigold_rec.analysis.report import Figure, Report, Slice, TaskReport
from marigold_rec.metrics import headline_metric, metric_of
from marigold_rec.reporting.wording import figure_sentence, shown, signed

Word = Literal["better", "worse", "changed", "same", "untested", "none"]

_SAID: dict[Word, str] = {
    "better": "better than the baseline",
    "worse": "worse than the baseline",
    "changed": "differs from the baseline",
    "same": "no clear difference from the baseline",
    "untested": "difference not tested",
    "none": "",
}


@dataclass(frozen=True)
class Verdict:
    """Of one task, by its headline metric."""

    task: TaskReport
    metric: str | None
    figure: Figure | None
    word: Word

    @property
    def said(self) -> str:
        return _SAID[self.word]

    @property
    def said_briefly(self) -> str:
        """Where "against baseline" stands above it."""
        return self.said.removesuffix(" the baseline").removesuffix(" than").removesuffix(" from")

    @property
    def sentence(self) -> str:
        """`ctr AUC 0.7123 (0.7098 to 0.7148), +0.0021 against baseline, p = .003: better ...`."""
        if self.metric is None or self.figure is None:
            return f"{shown(self.task.name)}: no figures"
        name, found = shown(self.task.name), figure_sentence(self.figure, self.metric)
        whole = f"{name}: {found}" if self.figure.value is None else f"{name} {found}"
        return f"{whole}: {self.said}" if self.said else whole


def verdicts(report: Report) -> list[Verdict]:
    return [_verdict(task, 1 - report.confidence) for task in report.tasks]


def _verdict(task: TaskReport, alpha: float) -> Verdict:
    metric = headline_metric(task.figures)
    if metric is None:
        return Verdict(task, None, None, "none")
    figure = task.figures[metric]
    return Verdict(task, metric, figure, figure_word(figure, metric, alpha))


def figure_word(figure: Figure, metric: str, alpha: float) -> Word:
    return difference_word(figure.value, figure.delta, figure.p_value, metric, alpha)


def difference_word(
    value: float | None, delta: float | None, p_value: float | None, metric: str, alpha: float
) -> Word:
    """`p_value` or q value; `delta` = value - what it is compared with."""
    if delta is None:
        return "none"
    if p_value is None:
        return "untested"
    if p_value >= alpha:
        return "same"
    of_metric = metric_of(metric)
    if of_metric.better is None or (of_metric.better == "one" and value is None):
        return "changed"
    after = delta if value is None else value
    new, old = of_metric.loss(after), of_metric.loss(after - delta)
    return "changed" if new == old else "worse" if new > old else "better"


def slice_word(of: Slice, alpha: float) -> Word:
    """By the q value: of all slices called different, a share of `alpha` are so by chance.

    Without a baseline a slice is harder or easier than all rows, and never worse: that says
    something of the rows (a position, say, that alone tells most), and nothing of the model.
    """
    figure = of.figures.get(of.metric)
    value = None if figure is None else figure.value
    word = difference_word(value, of.difference, of.q_value, of.metric, alpha)
    is_verdict = word in ("better", "worse")
    return "changed" if is_verdict and of.against != "baseline" else word


def slices_sentence(report: Report) -> str:
    """How many slices lose, and the worst; empty without slices."""
    if not report.slices:
        return ""
    alpha = 1 - report.confidence
    if report.baseline is None:
        return _differing_slices(report, alpha)
    worse = [of for of in report.slices if slice_word(of, alpha) == "worse"]
    better = sum(slice_word(of, alpha) == "better" for of in report.slices)
    total = len(report.slices)
    if not worse:
        return f"None of {total} slices is clearly worse; {better} are clearly better."
    return (
        f"{len(worse)} of {total} slices {'is' if len(worse) == 1 else 'are'} clearly worse, "
        f"{better} clearly better. The worst: {_shown_slice(worse[0])}."
    )


def slices_title(report: Report) -> str:
    """What stands first in their table."""
    return "Slices that differ most surely" if report.baseline is None else "Worst slices"


def _differing_slices(report: Report, alpha: float) -> str:
    differing = [of for of in report.slices if slice_word(of, alpha) == "changed"]
    total = len(report.slices)
    if not differing:
        return f"None of {total} slices differs clearly from all rows."
    return (
        f"{len(differing)} of {total} slices {'differs' if len(differing) == 1 else 'differ'} "
        "clearly from all rows: harder or easier to rank, which is no fault of the model (a "
        f"baseline would tell). The surest: {_shown_slice(differing[0])}."
    )


def _shown_slice(of: Slice) -> str:
    return (
        f"{shown(of.name)} = {shown(of.value)} ({shown(of.task)} {metric_of(of.metric).label} "
        f"{signed(of.difference, of.metric)} against {of.against})"
    )
