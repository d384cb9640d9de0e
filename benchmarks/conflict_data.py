"""The synthetic log at a setting of its conflict dial, in other units too; and what can be learned.

A unit changes the numbers of a loss, not what can be learned: the decibels hold the same ranks, and
the same log1p times a factor; the minutes change the log's bend at 1 a little.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from data_pipelines.synthetic import ensure_log, expected_auc
from data_pipelines.synthetic.outcomes import WATCH_SIGMA
from data_pipelines.synthetic.watch_time import watch_log1p_moments
from marigold_rec.config.data import SyntheticConfig

SECONDS, MINUTES, DECIBELS = "watch_time_s", "watch_time_min", "watch_time_db"
MAX_LABEL = 1e18  # the decibels' powers stay below
_DB_PER_NAT = 10 / np.log(10)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ConflictLog:
    path: Path
    """With a column per unit of watch time."""
    best: dict[str, float]
    """Figure of the true probabilities (and means) on the last day's own labels: AUC of ctr and
    cvr, R2 of log1p by unit."""
    closed_form: dict[str, float]
    """The same AUCs in expectation over the labels."""


def conflict_log(config: SyntheticConfig, parent: Path) -> ConflictLog:
    """Made on first use, by whichever one process calls it."""
    log, _ = ensure_log(config, parent)
    path = parent / f"{log.name}-units"
    if not path.exists():
        partial = parent / f".{path.name}.partial"
        shutil.rmtree(partial, ignore_errors=True)  # left over from a kill
        for file in sorted(log.glob("dt=*/*.parquet")):
            _write_with_units(file, partial / file.parent.name / file.name)
        partial.rename(path)
    last = max(log.glob("dt=*/*.parquet"))
    truth = log / "_truth" / last.parent.name / last.name
    return ConflictLog(path, *_best(_columns(last), _columns(truth)))


def _write_with_units(source: Path, target: Path) -> None:
    table = pq.ParquetFile(source).read()
    seconds_B = table["watch_time_s"].to_numpy().astype(np.float64)  # NaN where not clicked
    for name, label_B in (
        (MINUTES, seconds_B / 60),
        # What log1p turns into 10 log10(1 + s): the head then learns the seconds' decibels.
        (DECIBELS, np.expm1(_DB_PER_NAT * np.log1p(seconds_B))),
    ):
        column = pa.array(label_B.astype(np.float32), mask=np.isnan(seconds_B))
        table = table.append_column(name, column)
    target.parent.mkdir(parents=True)
    pq.write_table(table, target, row_group_size=20_000)


def _columns(file: Path) -> dict[str, Floats]:
    table = pq.ParquetFile(file).read()
    return {
        name: table[name].to_numpy().astype(np.float64)
        for name in table.column_names
        if pa.types.is_integer(table[name].type) or pa.types.is_floating(table[name].type)
    }


def _best(
    log: dict[str, Floats], truth: dict[str, Floats]
) -> tuple[dict[str, float], dict[str, float]]:
    clicked_B = log["click"] == 1
    pairs = {
        "ctr": (truth["p_click"], log["click"]),
        "cvr": (
            truth["p_conversion_given_click"][clicked_B],
            log["conversion"][clicked_B],
        ),
    }
    # Labels are probabilities that have come true: the expected AUC given them is the plain AUC.
    best = {task: expected_auc(p_B, label_B) for task, (p_B, label_B) in pairs.items()}
    closed_form = {task: expected_auc(p_B, p_B) for task, (p_B, _) in pairs.items()}
    seconds_B = log["watch_time_s"][clicked_B]
    for unit, per_second in ((SECONDS, 1.0), (MINUTES, 1 / 60)):
        mean_B, _ = watch_log1p_moments(
            truth["watch_log_mean"][clicked_B] + np.log(per_second),
            WATCH_SIGMA,
            log["duration_s"][clicked_B] * per_second,
        )
        target_B = np.log1p(seconds_B * per_second)
        best[unit] = float(1 - np.mean((target_B - mean_B) ** 2) / target_B.var())
    best[DECIBELS] = best[SECONDS]  # a factor on the target, and on its best prediction
    return best, closed_form
