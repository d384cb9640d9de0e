"""Nightly training where conversions come late: naive labels against labels that mature.

    python benchmarks/delayed_conversions.py

A synthetic log whose conversions come 12 hours after the click on average. Each night trains, warm,
on the log as it was known at midnight: conversions to come are not in it. `naive` learns the new
day's labels as they stand; `matured` learns the new day's clicks, and the conversions of the clicks
whose attribution window has just ended (data.train.due). What each night's model predicts of the
next day's clicks is held against their true conversion probabilities.

Writes benchmarks/results/delayed_conversions.json and .md.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

_ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(_ROOT))

from benchmarks.delayed_conversions_report import report  # noqa: E402
from data_pipelines.synthetic import FIRST_DATE, ensure_log  # noqa: E402
from data_pipelines.synthetic.known import write_known_at  # noqa: E402
from launch.nights.recalibration import Finding, offset_of  # noqa: E402
from launch.run import train_and_evaluate  # noqa: E402
from launch.studies.machine import commit, describe_cpu  # noqa: E402
from marigold_rec.config import load_config  # noqa: E402
from marigold_rec.config.data import SyntheticConfig  # noqa: E402
from marigold_rec.config.due import days_for_due  # noqa: E402
from marigold_rec.config.nightly import RecalibrationConfig  # noqa: E402
from marigold_rec.distributed import start_ranks  # noqa: E402

_CONFIG = _ROOT / "configs/ctr_cvr.yaml"
_RESULTS = Path(__file__).resolve().parent / "results"
# Over configs/ctr_cvr.yaml. Its learning rates are those of a first training: after a night of so
# few rows the last steps' noise moves the mean prediction by 10 % either way, with any labels. And
# counts since the log began grow from day to day while it is young: they'd hide what labels do.
# Rows are shuffled over the whole night: with smaller windows a model ends at the evening's rates.
_STEADY = (
    "optimizer.dense.lr=2e-4",
    "optimizer.sparse.lr=0.02",
    "data.batch_size=512",
    "data.shuffle_rows=1000000",
    "tasks=[{name: ctr, kind: binary, label: click}, "
    "{name: cvr, kind: binary, label: conversion, given: ctr}]",
    "features=[{name: user, kind: hash, column: user_id, rows: 50_000, dim: 16}, "
    "{name: age_group, kind: id, rows: 12, dim: 16}, "
    "{name: country, kind: vocab, values: [BR, DE, ES, FR, GB, IN, JP, MX, PT, US], dim: 16}, "
    "{name: item, kind: hash, column: item_id, rows: 20_000, dim: 16}, "
    "{name: category, kind: id, rows: 24, dim: 16}, "
    "{name: device, kind: vocab, values: [desktop, phone, tablet, tv], dim: 16}, "
    "{name: hour, kind: id, rows: 24, dim: 16}, {name: pos, kind: id, rows: 5, dim: 16}, "
    "{name: duration_s, kind: dense, transform: log1p, standardize: {mean: 5.2, std: 0.7}}]",
)
# Some 50 rows a day of each user. With few items the popular ones' own rates, which drift, would be
# most of what the figures show.
_USERS, _ITEMS = 2_000, 5_000
_DELAY_H = 12.0
_DAY = datetime.timedelta(days=1)
_MIDNIGHT = datetime.time(tzinfo=datetime.UTC)


@dataclass(frozen=True)
class Arm:
    """A way to train a night: on labels that mature, or on the new day's as they stand."""

    name: str
    matures_h: float | None = None
    knows_the_end: bool = False
    """The new day's labels as they will be: what no night can know."""
    is_recalibrated: bool = False
    """Predictions are moved as launch/nightly.py does it (launch/nights/recalibration.py)."""


@dataclass(frozen=True)
class Night:
    """What the model of one night says of the day after it."""

    arm: str
    seed: int
    day: str
    """The newest day that was trained on."""
    rows: int
    """Of the night: read, and taken through forward and backward."""
    calibration: float
    """Sum of predicted conversion rates over that of the true ones, on the next day's clicks."""
    of_labels: float | None
    """The same of the mean of the labels that the night has learned: what a model without an error
    of its own would show. None: it has learned none."""
    ctr_auc: float
    cvr_auc: float
    seconds: float
    finding: Finding | None = None
    """What recalibration learns from this night's model, once the labels are final."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help="of the config")
    parser.add_argument("--nights", type=int, default=14)
    parser.add_argument("--rows-per-day", type=int, default=100_000)
    parser.add_argument("--matures-h", type=float, nargs="*", default=[72.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--work", type=Path, default=_ROOT / "runs/delayed_conversions")
    parser.add_argument("--results", type=Path, default=_RESULTS)
    arguments = parser.parse_intermixed_args()
    arms = [Arm("naive"), *(Arm(f"matured {h:g} h", h) for h in arguments.matures_h)]
    arms += [
        Arm(f"matured {h:g} h, recalibrated", h, is_recalibrated=True) for h in arguments.matures_h
    ]
    arms.append(Arm("hindsight", knows_the_end=True))
    started = time.time()
    nights = [
        night
        for seed in arguments.seeds
        for night in replay(
            arguments.work,
            arms,
            seed,
            arguments.nights,
            arguments.rows_per_day,
            *arguments.overrides,
        )
    ]
    result = {
        "command": shlex.join(["python", "benchmarks/delayed_conversions.py", *sys.argv[1:]]),
        "machine": describe_cpu(),
        "commit": commit(),
        "date": datetime.date.today().isoformat(),
        "seconds": round(time.time() - started),
        "rows_per_day": arguments.rows_per_day,
        "matures_h": arguments.matures_h,
        "delay_h": _DELAY_H,
        "nights": [_plain(night) for night in nights],
    }
    arguments.results.mkdir(parents=True, exist_ok=True)
    target = arguments.results / "delayed_conversions"
    target.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    target.with_suffix(".md").write_text(report(result))
    print(report(result))


def _plain(night: Night) -> dict[str, Any]:
    found = asdict(night) | {"finding": None}
    return found if night.finding is None else found | {"offset": night.finding.offset}


def replay(
    work: Path, arms: list[Arm], seed: int, nights: int, rows_per_day: int, *overrides: str
) -> list[Night]:
    """Every night of every arm on one log; the log's seed is that of the models too.

    Writes below `work`, and deletes the runs and the nights' views of the log when it is done.
    """
    synthetic = SyntheticConfig(
        days=nights + 1,
        rows_per_day=rows_per_day,
        seed=seed,
        users=_USERS,
        items=_ITEMS,
        conversion_delay_h=_DELAY_H,
    )
    log, _ = ensure_log(synthetic, work / "logs")
    scratch = work / f"seed-{seed}"
    shutil.rmtree(scratch, ignore_errors=True)
    found: list[Night] = []
    for number in range(nights):
        day = FIRST_DATE + number * _DAY
        known = scratch / f"known-{day}"
        longest = max(math.ceil((arm.matures_h or 0.0) / 24) for arm in arms)
        first = max(FIRST_DATE, day - longest * _DAY)
        days = [str(first + i * _DAY) for i in range((day - first).days + 1)]
        write_known_at(log, days, _ms(day + _DAY), known)
        for arm in arms:
            runs = scratch / arm.name.replace(",", "").replace(" ", "-")
            own = [night.finding for night in found if night.arm == arm.name]
            offset = _offset(arm, day, own) if arm.is_recalibrated else 0.0
            found.append(_night(arm, seed, day, log, known, runs, offset, overrides))
        shutil.rmtree(known)
    shutil.rmtree(scratch)
    return found


def _night(
    arm: Arm,
    seed: int,
    day: datetime.date,
    log: Path,
    known: Path,
    runs: Path,
    offset: float,
    overrides: tuple[str, ...],
) -> Night:
    """Trains one night from the model of the one before, and looks at the next day."""
    settings = [
        f"run.name=night-{day}",
        f"run.dir={runs}",
        f"run.seed={seed}",
        "run.device=cpu",
        f"data.train.path={log if arm.knows_the_end else known}",
        f"data.eval.path={log}",
        f"data.eval.dates=[{day + _DAY}, {day + _DAY}]",
        "data.eval_batch_size=4096",
        "data.time=event_time_ms",
        "data.time_unit=ms",
        "distributed.threads_per_rank=1",
        "logging.tensorboard=false",
        "logging.window_rows=null",
        *_STEADY,
        *overrides,
    ]
    if arm.matures_h is not None:
        settings += [
            f"tasks.cvr.matures_h={arm.matures_h}",
            "tasks.cvr.event_time=conversion_time_ms",
            f"data.train.due=[{day}, {day + _DAY}]",
            f"tasks.cvr.logit_offset={offset:.6f}",
        ]
    if (runs / f"night-{day - _DAY}").exists():
        settings.append(f"warm_start.path={runs / f'night-{day - _DAY}'}")
    config = load_config(_CONFIG, [*settings, f"data.train.dates=[{day}, {day}]"])
    since = datetime.datetime.combine(day, _MIDNIGHT)
    first, last = days_for_due(config.tasks, since, since + _DAY) if arm.matures_h else (day, day)
    dates = f"data.train.dates=[{max(first, FIRST_DATE)}, {last}]"
    config = load_config(_CONFIG, [*settings, dates])
    started = time.time()
    with start_ranks(config) as ranks:
        assert train_and_evaluate(config, ranks, "never") == 0
    summary = json.loads((runs / f"night-{day}" / "summary.json").read_text())
    calibration = summary["eval/calibration/cvr"]
    finding = None
    if arm.is_recalibrated and day - FIRST_DATE >= math.ceil((arm.matures_h or 0) / 24) * _DAY:
        finding = _finding(arm, day, log, calibration, offset)
    return Night(
        arm=arm.name,
        seed=seed,
        day=str(day),
        rows=int(summary["step"]) * config.data.batch_size,
        calibration=_against_truth(calibration, log, day + _DAY, arm),
        of_labels=_of_labels(log if arm.knows_the_end else known, log, day, arm),
        ctr_auc=summary["eval/auc/ctr"],
        cvr_auc=summary["eval/auc/cvr"],
        seconds=time.time() - started,
        finding=finding,
    )


def _offset(arm: Arm, day: datetime.date, findings: Sequence[Finding | None]) -> float:
    """What the night of `day` knows: launch/nightly.py runs at the end of the day after it, which
    judges; labels of the days until `matures_h` before that are final."""
    judges = day + _DAY
    rules = RecalibrationConfig()
    final = judges - math.ceil((arm.matures_h or 0) / 24) * _DAY
    known = [each for each in findings if each is not None and each.days[1] <= final]
    return offset_of(rules, known)[0]


def _finding(arm: Arm, day: datetime.date, log: Path, calibration: float, offset: float) -> Finding:
    """Of the model that has learned until `day`, on the day after it; of the drawn labels."""
    judged = day + _DAY
    rows, conversions = _clicks_and_conversions(arm, log, judged)
    return Finding(
        task="cvr",
        night=judged,
        days=(judged, judged),
        rows=rows,
        positives=conversions,
        calibration=calibration,
        offset=offset,
    )


def _against_truth(calibration: float, log: Path, day: datetime.date, arm: Arm) -> float:
    """From "predicted / conversions that were drawn" to "predicted / expected conversions".

    The drawn ones would bring the noise of some thousand coins into the figure.
    """
    clicks, conversions = _clicks_and_conversions(arm, log, day)
    return float(calibration * conversions / (clicks * _true_rate(log, day)))


def _clicks_and_conversions(arm: Arm, log: Path, day: datetime.date) -> tuple[int, int]:
    """Of a day, in the end."""
    columns = ["click", "conversion", "event_time_ms", "conversion_time_ms"]
    rows = _read(log / f"dt={day}", columns).to_pandas()
    rows = rows[rows["click"] == 1]
    if arm.matures_h is None:
        return len(rows), int(rows["conversion"].sum())
    # Evaluation, too, counts only those within the window.
    delay_ms = rows["conversion_time_ms"] - rows["event_time_ms"]
    return len(rows), int((delay_ms <= arm.matures_h * 3_600_000).sum())


def _of_labels(learned_from: Path, log: Path, day: datetime.date, arm: Arm) -> float | None:
    """Mean label of the night's clicks, over the true rate of the next day's."""
    window_ms = int((arm.matures_h or 0.0) * 3_600_000)
    columns = ["click", "conversion", "event_time_ms", "conversion_time_ms"]
    folders = sorted(learned_from.glob("dt=*"))
    rows = pa.concat_tables([_read(folder, columns) for folder in folders]).to_pandas()
    due_ms = rows["event_time_ms"] + window_ms
    rows = rows[(due_ms >= _ms(day)) & (due_ms < _ms(day + _DAY)) & (rows["click"] == 1)]
    if not len(rows):
        return None
    label = rows["conversion"] == 1
    if arm.matures_h is not None:
        label &= rows["conversion_time_ms"] - rows["event_time_ms"] <= window_ms
    return float(label.mean() / _true_rate(log, day + _DAY))


def _true_rate(log: Path, day: datetime.date) -> float:
    """Mean conversion probability of a day's clicks."""
    is_click = _read(log / f"dt={day}", ["click"]).column("click").to_numpy() == 1
    truth = _read(log / "_truth" / f"dt={day}", ["p_conversion_given_click"])
    return float(truth.column(0).to_numpy()[is_click].mean())


def _read(folder: Path, columns: list[str]) -> pa.Table:
    return pa.concat_tables(
        [pq.ParquetFile(file).read(columns) for file in sorted(folder.glob("*.parquet"))]
    )


def _ms(day: datetime.date) -> int:
    return int(datetime.datetime.combine(day, _MIDNIGHT).timestamp() * 1000)


if __name__ == "__main__":
    main()
