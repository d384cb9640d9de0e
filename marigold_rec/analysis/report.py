"""report.json as types: what an offline evaluation found. Every key is documented here.

`null` stands for a figure that does not exist; its `reason` says why. Keys are only added within a
format number; what changes its meaning gets a new one.
"""

from __future__ import annotations

from typing import Literal

from marigold_rec.config.label_kinds import Kind
from marigold_rec.record import Record

FORMAT = 1


class _Part(Record, allow_inf_nan=False):
    """Figures are finite or null: JSON knows neither NaN nor infinity."""


class Figure(_Part):
    """One metric, with its confidence interval, and against the baseline where there is one."""

    value: float | None
    reason: str | None = None
    """Why there is no value."""
    standard_error: float | None = None
    low: float | None = None
    """Of the confidence interval."""
    high: float | None = None
    baseline: float | None = None
    """The baseline's value."""
    delta: float | None = None
    """value - baseline."""
    delta_low: float | None = None
    delta_high: float | None = None
    p_value: float | None = None
    """Two-sided, of delta = 0, paired."""


class Bin(_Part):
    """Rows of neighbouring scores: mean prediction against mean label."""

    rows: int
    predicted: float
    actual: float
    low: float | None = None
    """Of the interval of `actual`."""
    high: float | None = None


class Histogram(_Part):
    edges: tuple[float, ...]
    positives: tuple[float, ...]
    """Weight of the rows per bin."""
    negatives: tuple[float, ...]


class Curves(_Part):
    """What the pictures show; thinned out, while the figures are exact."""

    roc: tuple[tuple[float, float], ...] = ()
    """(false positive rate, true positive rate), rising."""
    pr: tuple[tuple[float, float], ...] = ()
    """(recall, precision), recall rising."""
    bins: tuple[Bin, ...] = ()
    """Reliability of a binary task; deciles of seconds of a watch time."""
    histogram: Histogram | None = None


class Detectable(_Part):
    """The smallest true difference that this evaluation finds in 80 % of the cases."""

    metric: str
    difference: float
    is_paired: bool
    """Against the baseline; else against another evaluation."""


class TaskReport(_Part):
    name: str
    kind: Kind
    space: Literal["observed", "all"]
    """all: p(click) * p(conversion | click) over all rows (CTCVR), say."""
    label: str
    observed_if: str | None
    rows: int
    users: int | None
    positives: int | None
    """null for a watch time."""
    figures: dict[str, Figure]
    detectable: Detectable | None
    curves: Curves
    baseline_curves: Curves | None


class Slice(_Part):
    """Some of the rows of one task. Sorted: the most significant loss first."""

    name: str
    """Of the column or built-in slice."""
    value: str
    """As text; never markup."""
    task: str
    rows: int
    users: int | None
    positives: int | None
    figures: dict[str, Figure]
    metric: str
    """The one that is compared."""
    against: Literal["baseline", "all rows"]
    difference: float | None
    difference_low: float | None
    difference_high: float | None
    p_value: float | None
    q_value: float | None
    """p after Benjamini and Hochberg's correction for the number of slices."""


class Model(_Part):
    checkpoint: str
    name: str
    step: int
    config_hash: str
    seed: int
    train_dates: tuple[str, str] | None
    versions: dict[str, str]
    """Of the packages that trained it."""


class Data(_Part):
    path: str
    dates: tuple[str, str] | None
    rows: int
    files: int
    fingerprint: str
    counts: dict[str, int]
    """What was missing, dropped, clamped or invalid."""


class Training(_Part):
    """Of the logged steps."""

    steps: tuple[int, ...]
    losses: dict[str, tuple[float | None, ...]]
    weights: dict[str, tuple[float | None, ...]]


class Report(_Part):
    format: Literal[1] = FORMAT
    created: str
    """UTC, ISO 8601."""
    revision: str | None
    """git commit of this program, if known."""
    versions: dict[str, str]
    """Of the packages that evaluated."""
    world_size: int
    confidence: float
    """Of all intervals."""
    user: str | None
    """Column of the clusters: rows of one user are not alone."""
    group: str | None
    """Column of the slates that NDCG and MRR rank within."""
    model: Model
    baseline: Model | None
    data: Data
    tasks: tuple[TaskReport, ...]
    slices: tuple[Slice, ...]
    training: Training | None
    warnings: tuple[str, ...]
