"""A report as a real evaluation makes it: four tasks, a baseline, sixty slices. Made-up numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import norm

from marigold_rec.analysis.report import (
    Bin,
    Curves,
    Data,
    Detectable,
    Figure,
    Histogram,
    Model,
    Report,
    Slice,
    TaskReport,
    Training,
)

_VERSIONS = {
    "marigold-rec": "0.1.0",
    "torch": "2.13.0+cpu",
    "torchrec": "1.8.0",
    "fbgemm-gpu-cpu": "1.8.0",
    "pyarrow": "26.0.1",
    "numpy": "2.4.6",
}


def example(**changes: Any) -> Report:
    """The whole report; `changes` replace its fields, and are checked."""
    tasks = (
        _binary("ctr", 442_323, 0.19, 1.05, 0.0021, 0.0007, observed_if=None),
        _binary("cvr", 110_581, 0.046, 0.80, -0.0004, 0.0016, observed_if="click"),
        _watch_time(),
        _binary("return_24h", 110_581, 0.31, 0.95, -0.0042, 0.0012, observed_if="click"),
        _binary("cvr over all rows", 442_323, 0.0087, 1.3, 0.0051, 0.0024, space="all"),
    )
    fields: dict[str, Any] = {
        "created": "2017-10-13T05:12:44Z",
        "revision": "05c1d7d3a9",
        "versions": _VERSIONS,
        "world_size": 2,
        "confidence": 0.95,
        "user": "user_id",
        "group": None,
        "model": Model(
            checkpoint="runs/globo-marigold/checkpoints/step-1232",
            name="globo-marigold",
            step=1232,
            config_hash="c465f30d9608f3f3",
            seed=2,
            train_dates=("2017-10-01", "2017-10-10"),
            versions=_VERSIONS,
        ),
        "baseline": Model(
            checkpoint="runs/globo-equal/checkpoints/step-1232",
            name="globo-equal",
            step=1232,
            config_hash="09be11c0aa71d5e2",
            seed=2,
            train_dates=("2017-10-01", "2017-10-10"),
            versions=_VERSIONS | {"numpy": "2.4.4"},
        ),
        "data": Data(
            path="/data/globo",
            dates=("2017-10-11", "2017-10-12"),
            rows=442_323,
            files=8,
            fingerprint="9f2c5b7de0a41c33",
            counts={
                "dense/item_age_h/missing": 1204,
                "id/country/out_of_range": 31,
                "label/watch_s/clamped": 2,
                "label/click/invalid": 0,
                "rows/dropped": 0,
            },
        ),
        "tasks": tasks,
        "slices": _slices(),
        "training": _training(),
        "warnings": (
            "return_24h: calibration 1.43 is far from 1; labels of the last day may not be ripe.",
            "3,120 of 12,455 items were never seen in training (25 % of the rows).",
        ),
    }
    return Report(**fields | changes)


def figure(value: float, error: float, delta: float, delta_error: float) -> Figure:
    """With 95 % intervals and a p value that fit."""
    return Figure(
        value=value,
        standard_error=error,
        low=value - 1.96 * error,
        high=value + 1.96 * error,
        baseline=value - delta,
        delta=delta,
        delta_low=delta - 1.96 * delta_error,
        delta_high=delta + 1.96 * delta_error,
        p_value=float(2 * norm.sf(abs(delta) / delta_error)),
    )


def no_figure(reason: str) -> Figure:
    return Figure(value=None, reason=reason)


def _binary(
    name: str, rows: int, rate: float, distance: float, delta: float, error: float, **fields: Any
) -> TaskReport:
    auc = float(norm.cdf(distance / np.sqrt(2)))
    figures = {
        "auc": figure(auc, 1.2 * error, delta, error),
        "gauc": figure(auc - 0.06, 2 * error, delta / 2, 1.5 * error),
        "pr_auc": figure(2.2 * rate, error, delta, 2 * error),
        "log_loss": figure(0.6 * rate + 0.2, error, -delta / 4, error / 2),
        "ne": figure(0.93, error, -delta, error),
        "calibration": figure(1.43 if name == "return_24h" else 0.987, 0.006, 0.004, 0.003),
        "ece": figure(0.0042, 0.0004, -0.00002, 0.0003),
        "ndcg": no_figure("no group column: data.group is not set"),
    }
    return TaskReport(
        name=name,
        kind="binary",
        label={"ctr": "click", "return_24h": "return_24h"}.get(name, "conversion"),
        rows=rows,
        users=58_112,
        positives=int(rate * rows),
        figures=figures,
        detectable=Detectable(metric="auc", difference=2.8 * error, is_paired=True),
        curves=_curves(rate, distance, rows),
        baseline_curves=_curves(rate, distance - 6 * delta - 0.04, rows),
        **{"space": "observed", "observed_if": None} | fields,
    )


def _curves(rate: float, distance: float, rows: int) -> Curves:
    """Of two normal distributions of scores."""
    threshold = np.linspace(5, -4, 160)
    true, false = norm.sf(threshold - distance), norm.sf(threshold)
    precision = rate * true / (rate * true + (1 - rate) * false)
    z = norm.ppf((np.arange(10) + 0.5) / 10)
    predicted = 1 / (1 + np.exp(-(np.log(rate / (1 - rate)) + distance * z)))
    actual = predicted * (1 + 0.12 * np.sin(2 * z))
    spread = 1.96 * np.sqrt(actual * (1 - actual) / (rows / 10))
    edges = np.linspace(0, min(1.0, 5 * rate), 41)
    middle = (edges[1:] + edges[:-1]) / 2 / rate
    return Curves(
        roc=((0.0, 0.0), *zip(false.tolist(), true.tolist(), strict=True), (1.0, 1.0)),
        pr=(*zip(true.tolist(), precision.tolist(), strict=True), (1.0, rate)),
        bins=tuple(
            Bin(rows=rows // 10, predicted=p, actual=a, low=max(0.0, a - s), high=a + s)
            for p, a, s in zip(predicted.tolist(), actual.tolist(), spread.tolist(), strict=True)
        ),
        histogram=Histogram(
            edges=tuple(edges.tolist()),
            positives=tuple((rows * rate * middle**2.2 * np.exp(-1.6 * middle)).tolist()),
            negatives=tuple((rows * middle * np.exp(-2 * middle)).tolist()),
        ),
    )


def _watch_time() -> TaskReport:
    def bins(scale: float) -> tuple[Bin, ...]:
        predicted = scale * 40 * np.exp(0.28 * np.arange(10))
        actual = 55 * np.exp(0.24 * np.arange(10))
        return tuple(
            Bin(rows=5082, predicted=p, actual=a, low=0.95 * a, high=1.05 * a)
            for p, a in zip(predicted.tolist(), actual.tolist(), strict=True)
        )

    return TaskReport(
        name="watch_time",
        kind="duration",
        space="observed",
        label="watch_s",
        observed_if="click",
        rows=50_825,
        users=31_007,
        positives=None,
        figures={
            "xauc": figure(0.6123, 0.0014, 0.0008, 0.0009),
            "mae_s": figure(290.4, 2.1, -1.7, 0.6),
            "rmse_s": figure(531.4, 4.4, 0.3, 1.1),
            "r2_log": no_figure("all labels are 30 s"),
            "spearman": Figure(value=0.3243, baseline=0.3229, delta=0.0014),
        },
        detectable=Detectable(metric="xauc", difference=0.0025, is_paired=True),
        curves=Curves(bins=bins(1.0)),
        baseline_curves=Curves(bins=bins(0.9)),
    )


def _slices() -> tuple[Slice, ...]:
    random = np.random.default_rng(0)
    names = [("country", f"{a}{b}") for a in "BDFJ" for b in "REK"]
    names += [("device", value) for value in ("phone", "tablet", "desktop", "tv")]
    names += [("item_age", value) for value in ("under 1 h", "1 to 24 h", "1 to 7 d", "older")]
    made = []
    for task, metric in (("ctr", "auc"), ("return_24h", "auc"), ("watch_time", "xauc")):
        for name, value in names:
            error = float(np.exp(random.normal(-6.0, 0.6)))
            made.append(_slice(name, value, task, metric, random.normal(0, 1.8) * error, error))
    made.sort(key=lambda of: of.difference / (of.difference_high - of.difference_low))
    return tuple(made)


def _slice(name: str, value: str, task: str, metric: str, difference: float, error: float) -> Slice:
    p = float(2 * norm.sf(abs(difference) / error))
    return Slice(
        name=name,
        value=value,
        task=task,
        rows=int(0.3 / error**2),
        users=int(0.1 / error**2),
        positives=None if task == "watch_time" else int(0.05 / error**2),
        figures={metric: Figure(value=0.7, low=0.69, high=0.71)},
        metric=metric,
        against="baseline",
        difference=difference,
        difference_low=difference - 1.96 * error,
        difference_high=difference + 1.96 * error,
        p_value=p,
        q_value=min(1.0, 3 * p),
    )


def _training() -> Training:
    random = np.random.default_rng(1)
    steps = np.arange(10, 12_330, 10)
    decay = np.exp(-steps / 2500)
    levels = {"ctr": 0.51, "cvr": 0.19, "watch_time": 2.4, "return_24h": 0.59}
    losses = {
        task: tuple((level * (1 + 0.25 * decay + random.normal(0, 0.03, len(steps)))).tolist())
        for task, level in levels.items()
    }
    # Steps without an observed label have no loss.
    losses["cvr"] = tuple(None if i % 17 == 0 else v for i, v in enumerate(losses["cvr"]))
    ends = {"ctr": 1.3, "cvr": 0.9, "watch_time": 0.5, "return_24h": 1.3}
    return Training(
        steps=tuple(steps.tolist()),
        losses=losses,
        weights={task: tuple((e + (1 - e) * decay).tolist()) for task, e in ends.items()},
    )
