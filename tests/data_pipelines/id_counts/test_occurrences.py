"""Counts of ids against pandas' value_counts, in pieces of any size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_pipelines.catalog.scan import scan
from data_pipelines.id_counts import occurrences
from data_pipelines.id_counts.occurrences import count_ids
from marigold_rec.errors import DataError


def _write(folder: Path, *files: pa.Array) -> Path:
    for i, values in enumerate(files):
        pq.write_table(pa.table({"x": values}), folder / f"{i}.parquet", row_group_size=7)
    return folder


@pytest.mark.parametrize("piece_rows", [1, 20, 1 << 20])
@pytest.mark.parametrize("as_text", [False, True])
def test_counts_are_those_of_pandas(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece_rows: int, as_text: bool
) -> None:
    monkeypatch.setattr(occurrences, "_PIECE_ROWS", piece_rows)
    generator = np.random.default_rng(0)
    numbers = generator.integers(-(2**62), 2**62, 30)[generator.integers(0, 30, 200)]
    values: Sequence[Any] = [f"ü{n}" for n in numbers] if as_text else numbers.tolist()
    is_null = generator.random(200) < 0.1
    column = pa.array(values, mask=is_null)
    catalog = scan(str(_write(tmp_path, column[:90], column[90:90], column[90:])))
    counted = pd.Series(values)[~is_null].value_counts()
    ids = [*counted.index[3:], "never" if as_text else 7]
    found = count_ids(catalog, "x", pa.array(ids))
    assert found.tolist() == [*counted[3:], 0]
    assert found.dtype == np.int64


def test_no_ids_and_no_rows(tmp_path: Path) -> None:
    catalog = scan(str(_write(tmp_path, pa.array([1, 2]))))
    assert count_ids(catalog, "x", pa.array([], pa.int64())).tolist() == []
    (tmp_path / "none").mkdir()
    nothing = scan(str(_write(tmp_path / "none", pa.array([], pa.int64()))))
    assert count_ids(nothing, "x", pa.array([1, 2])).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("trained", "evaluated"),
    [
        (pa.array([7, 7, 2**40]), pa.array([7, 8], pa.int32())),
        (pa.array([7, 7, 8], pa.int32()), pa.array([7, 2**40])),
        (pa.array(["7", "7", "x"]), pa.array([7, 8])),
        (pa.array([7, 7, 9]), pa.array(["7", "x"])),
        (pa.array([7, 7], pa.uint64()), pa.array([7, -7])),
        (pa.array(["7", "7"], pa.large_string()), pa.array(["7", "x"])),
        (pa.array(["7", "7", "y"]).dictionary_encode(), pa.array(["7", "x"])),
        (pa.array([None, None], pa.null()), pa.array(["7", "x"])),
    ],
)
def test_types_may_differ(tmp_path: Path, trained: pa.Array, evaluated: pa.Array) -> None:
    found = count_ids(scan(str(_write(tmp_path, trained))), "x", evaluated)
    assert found.tolist() == [0 if trained.type == pa.null() else 2, 0]


def test_files_that_can_not_be_read(tmp_path: Path) -> None:
    catalog = scan(str(_write(tmp_path, pa.array([1, 2]), pa.array([1, 2]))))
    pq.write_table(pa.table({"y": [1, 2]}), tmp_path / "1.parquet")
    with pytest.raises(DataError, match=r"1\.parquet: column 'x' can't be read \("):
        count_ids(catalog, "x", pa.array([1]))
    (tmp_path / "1.parquet").unlink()
    with pytest.raises(DataError, match=r"1\.parquet: column 'x' can't be read \(FileNotFound"):
        count_ids(catalog, "x", pa.array([1]))
