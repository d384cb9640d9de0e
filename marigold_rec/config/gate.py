"""What a night's data and model must pass before the model is published; see docs/gate.md.

Every limit can be null: then it is off. Shares and relative figures are fractions, 0.05 is 5 %.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from marigold_rec.config.label_kinds import LABEL_KINDS, Kind
from marigold_rec.config.section import Section
from marigold_rec.metrics import metrics_of


class FigureRule(Section):
    """Limits of one figure of the evaluation's report."""

    min: float | None = None
    """Of the figure itself."""
    max: float | None = None
    """Of the figure itself."""
    within: tuple[float, float] | None = None
    """[lowest, highest] of the figure itself: both limits at once."""
    min_delta: float | None = None
    """Of the candidate's figure - the published model's: for what should be high. -0.005: it may
    lose .005."""
    max_delta: float | None = None
    """Of the same difference: for what should be low."""
    by: Literal["interval", "value"] | None = None
    """See gate.by; null: as there."""
    on: Literal["both", "evaluation", "holdout"] = "both"
    """The report that is judged."""
    may_be_missing: bool = False
    """Whether a figure that does not exist passes."""

    @model_validator(mode="after")
    def _limits_agree(self) -> FigureRule:
        if self.within is not None and (self.min is not None or self.max is not None):
            raise ValueError("within gives both limits: leave min and max out")
        pairs = ((self.min, self.max), (self.min_delta, self.max_delta), self.within or (0, 0))
        for low, high in pairs:
            if low is not None and high is not None and low > high:
                raise ValueError(f"no figure passes: {low:g} is above {high:g}; swap them")
        limits = (self.min, self.max, self.within, self.min_delta, self.max_delta)
        if all(limit is None for limit in limits):
            raise ValueError(
                "has no limit; give min, max, within, min_delta or max_delta, or null for the "
                "whole rule"
            )
        return self


FigureRules = dict[str, FigureRule | None]
"""By the figure's name in report.json; null: no rule."""


def default_rules(kind: Kind) -> FigureRules:
    """The built-in rules of a kind of label: those of its metrics."""
    return {n: FigureRule(**metric.gate) for n, metric in metrics_of(kind).items() if metric.gate}


def _over_the_built_in(given: dict[Kind, FigureRules]) -> dict[Kind, FigureRules]:
    # Else a rule for one figure would silently take away those of the others.
    return {kind: default_rules(kind) | given.get(kind, {}) for kind in LABEL_KINDS}


class DataLimits(Section):
    """The new days' profile against those of the newest nights before."""

    nights: int = Field(default=14, ge=1)
    """The newest earlier nights that count."""
    min_rows: int = Field(default=1, ge=0)
    """Of all new days together."""
    min_rows_share: float | None = Field(default=0.6, gt=0)
    """Rows per day over those of a usual night: the median of the nights of the same weekday;
    without one, of the same part of the week (Mon-Fri or Sat-Sun); without one, of all."""
    max_rows_share: float | None = Field(default=2.0, gt=0)
    """The same the other way; only where a night of the same part of the week is known."""
    max_null_rise: float | None = Field(default=0.05, ge=0, le=1)
    """Share of nulls and NaN in a feature's column over the largest of the nights."""
    max_label_shift: float | None = Field(default=0.1, ge=0)
    """Of a task's mean label against the median of at least two nights, relative to it; see
    label_spreads."""
    label_spreads: float = Field(default=4.0, ge=0)
    """A shift of up to so many standard deviations of the nights' means passes too: some labels
    move by themselves."""
    max_observed_shift: float | None = Field(default=0.25, ge=0)
    """Of the share of rows that have a task's label, likewise."""
    sampling_errors: float = Field(default=4.0, ge=0)
    """A shift of up to so many standard errors more passes: it may be chance."""
    both_classes: bool = True
    """A yes/no task must have labels of both kinds."""
    constant: bool = True
    """Refuse a column that has one value only, and had more before."""
    types: bool = True
    """Refuse a column whose type has changed since the last night."""
    max_repeated_rows: float | None = Field(default=0.5, ge=0, le=1)
    """Share of the day's rows that a day before has, too, where rows tell days apart; a day of
    equal content is refused in any case, unless this is null."""
    max_outside_day: float | None = Field(default=0.05, ge=0, le=1)
    """Share of rows whose event time (data.time) lies outside their dt= folder's day by more than
    day_slack_h."""
    day_slack_h: int = Field(default=14, ge=0, le=48)
    """Days may begin at midnight in any time zone; event times count in UTC."""


class DriftLimits(Section):
    """Distributions: of features against the nights before, of scores against the published."""

    max_psi: float | None = Field(default=0.25, gt=0)
    """Population stability index of a feature's column, to the nearest of at least two nights
    before; a larger one passes up to times_usual."""
    times_usual: float = Field(default=3.0, ge=0)
    """A drift of up to so many times the largest that the nights before had, each to the nearest
    other, passes: some columns change every day."""
    min_values: int = Field(default=1000, ge=1)
    """With fewer values on either side nothing is said."""
    ignore: tuple[str, ...] = ()
    """Columns that may drift."""
    max_score_ratio: float | None = Field(default=1.5, gt=1)
    """Of the candidate's mean score to the published model's on the same rows, and the other way
    round; yes/no tasks."""
    max_score_psi: float | None = Field(default=1.0, gt=0)
    """Population stability index of the candidate's scores to the published model's on the same
    rows; yes/no tasks."""


class PlausibleLimits(Section):
    """What no sound night shows. Rules of a figure, however wide, don't lift these limits; `null`
    for the figure does: nobody looks at it then."""

    max_gain: float | None = Field(default=0.1, gt=0)
    """Of AUC and XAUC over the published model's: more in one night is rather a judged day that was
    learned, or a feature that knows the label."""
    min_auc: float | None = Field(default=0.5, ge=0, lt=1)
    """Of AUC and XAUC: a constant has 0.5."""
    max_ne: float | None = Field(default=1.25, ge=1)
    """Of NE, yes/no tasks that are shown to rank better than a constant: young models rank well and
    are too sure. For others 1, which a constant at the judged days' mean label has."""


class GateConfig(Section):
    by: Literal["interval", "value"] = "interval"
    """interval: a figure fails where its whole confidence interval lies beyond the limit, so that
    only what is shown to be worse is refused; value: where the figure does."""
    defaults: Annotated[dict[Kind, FigureRules], AfterValidator(_over_the_built_in)] = Field(
        default_factory=lambda: _over_the_built_in({})
    )
    """Rules for every task of a kind of label, by figure, laid over the built-in ones. A task's own
    rules are laid over them."""
    tasks: dict[str, FigureRules] = Field(default={})
    """A task's own rules, by figure: laid over the defaults of its kind."""
    data: DataLimits = DataLimits()
    drift: DriftLimits = DriftLimits()
    plausible: PlausibleLimits = PlausibleLimits()
