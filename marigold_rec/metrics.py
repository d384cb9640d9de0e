"""The metrics: what each is called and means, for which labels it is, and which function computes
it. Nothing else lists them.

A new metric is one function from `analysis.rows.Rows` to estimates by name, and one entry here.
It is then in reports and in their tables, in summary.json (`is_main`), in studies and comparisons,
and can have a rule of the gate. A function may return names with a suffix, `ndcg@10`, and leaves
out what it can't compute of these rows (a head without the prediction column that it reads).
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

LOG_LOSS_CLIP = 2.0**-24
"""Probabilities count as within [clip, 1 - clip] in the log loss: half the step of float32 below 1.
A float32 score of exactly 1 stands for anything closer to 1 than that, and a wrong one costs
16.6 nats instead of infinity. Both ends alike, so that swapping the classes changes nothing."""

Scale = Literal["logit", "log", "plain"]
Direction = Literal["higher", "lower", "one"]
Needs = Literal["rows", "positives", "classes", "spread"]


@dataclass(frozen=True)
class Metric:
    name: str
    """For people, without its unit."""
    meaning: str = ""
    kinds: tuple[str, ...] = ()
    """The kinds of label that it is of, see `config.label_kinds`."""
    function: str = ""
    """module:name of the function that computes it, perhaps with others."""
    better: Direction | None = None
    """one: the nearer to 1 the better. None: unknown, and nothing is called better or worse."""
    scale: Scale = "plain"
    """Where its distribution is closest to normal, and its interval stays within its range."""
    decimals: int = 4
    unit: str = ""
    is_main: bool = False
    """Has a column in the table of tasks; the others stand in the task's own table."""
    within: Literal["user", "slate"] | None = None
    """Compares rows only within a user or a slate: needs their column."""
    needs: Needs = "rows"
    """Labels without which there is no such figure: any, one of 1, both classes, two amounts."""
    clips: bool = False
    """Takes probabilities as within LOG_LOSS_CLIP of 0 and 1 at the nearest."""
    window: str | None = None
    """module:name of TorchRec's metric, where it is also computed of the newest training rows."""
    constant: float | None = None
    """What predicting one number for all rows gets, where that is a floor for a model."""
    gate: Mapping[str, Any] = field(default_factory=dict)
    """Its default rule in the gate: the settings of a FigureRule."""
    suffix: str = ""
    """What a suffix of the name means: `{}` stands for it."""

    @property
    def label(self) -> str:
        return f"{self.name}, {self.unit}" if self.unit else self.name

    @property
    def is_summarized(self) -> bool:
        """Stands in summary.json: main, and of a training's evaluation, which knows no users."""
        return self.is_main and self.within is None

    def loss(self, value: float) -> float:
        """What is smaller for the better of two values; 0 for both where that is unknown. What
        should be 1 counts by its ratio to 1, so that twice is as bad as half."""
        match self.better:
            case "higher":
                return -value
            case "lower":
                return value
            case "one":
                return abs(math.log(value)) if value > 0 else math.inf
            case None:
                return 0.0


_CLASSES, _SECONDS = ("binary",), ("duration",)
_BINARY = "marigold_rec.analysis.binary:binary_estimates"
_BY_USER = "marigold_rec.analysis.by_user:gauc_estimates"
_SLATES = "marigold_rec.analysis.slates:slate_estimates"
_DURATION = "marigold_rec.analysis.watch_time:watch_time_estimates"
_DURATION_BY_USER = "marigold_rec.analysis.by_user:gxauc_estimates"

# In the order of the columns; the first that a task has is its headline: slices, detectable
# differences and studies are about it.
METRICS: dict[str, Metric] = {
    "auc": Metric(
        "AUC", "Chance that a positive row scores above a negative one; 0.5 is guessing.",
        _CLASSES, _BINARY, "higher", "logit", is_main=True, needs="classes",
        window="torchrec.metrics.auc:AUCMetric", constant=0.5, gate={"min_delta": -0.005},
    ),
    "xauc": Metric(
        "XAUC", "Share of row pairs that the predictions order as the labels do; 0.5 is guessing.",
        _SECONDS, _DURATION, "higher", "logit", is_main=True, needs="spread",
        constant=0.5, gate={"min_delta": -0.005},
    ),
    "gauc": Metric(
        "GAUC", "AUC within each user, mean over users weighted by their rows.",
        _CLASSES, _BY_USER, "higher", "logit", is_main=True, within="user", needs="classes",
    ),
    "gauc_unweighted": Metric(
        "GAUC, plain", "AUC within each user, plain mean.",
        _CLASSES, _BY_USER, "higher", "logit", within="user", needs="classes",
    ),
    "gauc_user_share": Metric(
        "GAUC users", "Share of the users with both classes: GAUC's.",
        _CLASSES, _BY_USER, scale="logit", within="user",
    ),
    "gauc_row_share": Metric(
        "GAUC rows", "Share of the rows that GAUC's users have.",
        _CLASSES, _BY_USER, scale="logit", within="user",
    ),
    "pr_auc": Metric(
        "PR AUC", "Area under precision over recall.",
        _CLASSES, _BINARY, "higher", "logit", needs="classes",
    ),
    "ne": Metric(
        "NE", "Log loss over that of always predicting the base rate; below 1 it has learned.",
        _CLASSES, _BINARY, "lower", "log", is_main=True, needs="classes", clips=True,
        window="torchrec.metrics.ne:NEMetric", constant=1.0, gate={"max_delta": 0.03},
    ),
    "log_loss": Metric(
        "log loss", "Mean cross-entropy per row, in nats.",
        _CLASSES, _BINARY, "lower", "log", is_main=True, clips=True,
    ),
    "calibration": Metric(
        "calibration", "Sum of predictions over sum of labels; above 1 it predicts too much.",
        _CLASSES, _BINARY, "one", "log", decimals=3, is_main=True, needs="positives",
        window="torchrec.metrics.calibration:CalibrationMetric",
        gate={"within": (0.67, 1.5), "on": "evaluation"},
    ),
    "ece": Metric(
        "ECE", "Mean distance of predicted and actual rate over score bins.",
        _CLASSES, _BINARY, "lower", "log",
    ),
    "rig": Metric(
        "RIG", "1 less NE: the explained share of the base rate's entropy.",
        _CLASSES, _BINARY, "higher", needs="classes", clips=True,
    ),
    "ndcg": Metric(
        "NDCG", "Discounted gain of the ranking within a slate; 1 is ideal.",
        _CLASSES, _SLATES, "higher", "logit", within="slate", suffix="First {} places only.",
    ),
    "mrr": Metric(
        "MRR", "Mean of 1 / rank of the first positive in a slate.",
        _CLASSES, _SLATES, "higher", "logit", within="slate",
    ),
    "slates_share": Metric(
        "slates", "Share of the slates with a positive: NDCG's and MRR's.",
        _CLASSES, _SLATES, scale="logit", within="slate",
    ),
    "mae_s": Metric(
        "MAE", "Mean absolute error in seconds.",
        _SECONDS, _DURATION, "lower", "log", decimals=1, unit="s", is_main=True,
        window="torchrec.metrics.mae:MAEMetric",
    ),
    "rmse_s": Metric(
        "RMSE", "Root of the mean squared error in seconds.",
        _SECONDS, _DURATION, "lower", "log", decimals=1, unit="s", is_main=True,
    ),
    "r2_log": Metric(
        "R² of log", "Explained variance of log(1 + seconds); 1 at most.",
        _SECONDS, _DURATION, "higher", is_main=True, needs="spread",
    ),
    "spearman": Metric(
        "Spearman", "Correlation of the ranks: 1 alike, 0 unrelated.",
        _SECONDS, _DURATION, "higher", is_main=True, needs="spread",
    ),
    "gxauc": Metric(
        "GXAUC", "XAUC within each user, mean weighted by their rows.",
        _SECONDS, _DURATION_BY_USER, "higher", "logit", within="user",
    ),
}  # fmt: skip


def metric_of(name: str) -> Metric:
    """Also of `ndcg@10` and `ndcg_at_10`: that of `ndcg` under its own label. A figure that is not
    listed is shown under its own name, without a verdict."""
    if name in METRICS:
        return METRICS[name]
    stem, suffix = _stem(name)
    if stem not in METRICS:
        return Metric(name)
    base = METRICS[stem]
    meaning = f"{base.meaning} {base.suffix.format(suffix)}".rstrip()
    return replace(base, name=f"{base.name}@{suffix}", meaning=meaning)


def metrics_of(kind: str) -> dict[str, Metric]:
    """Those of a kind of label, the headline first."""
    return {name: metric for name, metric in METRICS.items() if kind in metric.kinds}


def headline_of(kind: str) -> str:
    return next(iter(metrics_of(kind)))


def computed_by(function: str) -> tuple[str, ...]:
    """The metrics whose function it is (module:name)."""
    return tuple(name for name, metric in METRICS.items() if metric.function == function)


def functions_of(kind: str) -> dict[str, Callable[[Any], Mapping[str, Any]]]:
    """module:name -> function of `Rows`, of all metrics of a kind of label."""
    paths = dict.fromkeys(metric.function for metric in metrics_of(kind).values())
    return {path: imported(path) for path in paths}


def imported(path: str) -> Any:
    """What `module:name` names."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def in_order(names: Iterable[str]) -> list[str]:
    """Each name once: known ones in the table's order, then the others as they come."""
    given = list(dict.fromkeys(names))
    place = {name: i for i, name in enumerate(METRICS)}
    return sorted(given, key=lambda name: place.get(_stem(name)[0], len(place)))


def headline_metric(names: Iterable[str]) -> str | None:
    """The figure that stands for a task; None where there are none."""
    return next(iter(in_order(names)), None)


def main_metrics(names: Iterable[str]) -> list[str]:
    """What the table of tasks has columns for: never nothing where there is a figure."""
    ordered = in_order(names)
    return [name for name in ordered if metric_of(name).is_main] or ordered[:4]


def _stem(name: str) -> tuple[str, str]:
    """(ndcg, 10) of `ndcg@10` and `ndcg_at_10`; (the name, "") of a listed metric."""
    if name in METRICS:
        return name, ""
    stem, _, suffix = name.replace("_at_", "@").partition("@")
    return stem, suffix
