"""Writes a whole log, day after day, into one folder."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from data_pipelines.synthetic.causal import Memory
from data_pipelines.synthetic.columns import day_date, log_table, truth_table
from data_pipelines.synthetic.exposures import draw_exposures
from data_pipelines.synthetic.outcomes import WATCH_SIGMA, draw_outcomes
from data_pipelines.synthetic.population import Population, factor_correlation
from data_pipelines.synthetic.preferences import (
    Coefficients,
    draw_coefficients,
    true_probabilities,
)
from marigold_rec.config.data import SyntheticConfig
from marigold_rec.errors import DataError

GENERATOR_VERSION = 1  # raise it with every change of the content: ensured logs are made anew
_ROW_GROUP_ROWS = 20_000  # small enough that a few ranks share a day, as in production


def write_log(config: SyntheticConfig, folder: Path) -> None:
    """Writes the log and its truth into `folder`, which must not exist or be empty.

    Not atomic: see `ensure_log` for a log that is there whole or not at all. Raises DataError when
    the folder holds anything.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(
            f"{folder}: a synthetic log needs a new or empty folder, found files; "
            "give another folder or remove this one"
        )
    population, memory = Population(config), Memory()
    coefficients = draw_coefficients(config, population)
    for day in range(config.days):
        if day:
            population.advance()
        log, truth = _one_day(config, population, memory, coefficients)
        _write(log, folder / f"dt={day_date(day)}")
        _write(truth, folder / "_truth" / f"dt={day_date(day)}")
    meta = {
        "generator_version": GENERATOR_VERSION,
        "config": config.model_dump(mode="json"),
        "factor_correlation": factor_correlation(config.conflict),
        "watch_sigma": WATCH_SIGMA,
        "coefficients": coefficients.as_lists(),
    }
    (folder / "_truth" / "meta.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")


def _one_day(
    config: SyntheticConfig, population: Population, memory: Memory, coefficients: Coefficients
) -> tuple[pa.Table, pa.Table]:
    shown = draw_exposures(population, config)
    truth = true_probabilities(population, shown, coefficients)
    duration_s_B = population.items.duration_s_N[shown.item_B]
    outcomes = draw_outcomes(config, population.day, truth, duration_s_B)
    known = memory.live_through(shown, outcomes.click_B, len(population.users.id_N))
    return log_table(population, shown, known, outcomes), truth_table(population, shown, truth)


def _write(table: pa.Table, folder: Path) -> None:
    folder.mkdir(parents=True)
    pq.write_table(
        table,
        folder / "part-00000.parquet",
        row_group_size=_ROW_GROUP_ROWS,
        compression="zstd",
        write_page_checksum=True,
    )
