"""Reads a synthetic log for the tests."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipelines.synthetic import write_log
from marigold_rec.config.data import SyntheticConfig


class Log(NamedTuple):
    """A log's rows and their truth, in the same order; `day` counts from 0."""

    config: SyntheticConfig
    folder: Path
    rows: pd.DataFrame
    truth: pd.DataFrame


def made_log(config: SyntheticConfig, folder: Path) -> Log:
    write_log(config, folder)
    rows = read(folder).to_pandas()
    rows["day"] = rows.row_id // config.rows_per_day
    return Log(config, folder, rows, read(folder / "_truth").to_pandas())


def files(folder: Path) -> list[Path]:
    """The day files of a log, or of its truth, in order."""
    return sorted(folder.glob("dt=*/part-00000.parquet"))


def read(folder: Path) -> pa.Table:
    return pa.concat_tables([pq.ParquetFile(file).read() for file in files(folder)])


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below `folder` with its bytes."""
    found = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in found}
