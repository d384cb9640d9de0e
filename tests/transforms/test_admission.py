"""Bits of rows, and rare ids that share row 0."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from marigold_rec.config.loading import config_from
from marigold_rec.config.tables import Table
from marigold_rec.errors import CheckpointError
from marigold_rec.transforms import FeatureTransforms
from marigold_rec.transforms.row_bits import RowBits, read_row_bits, row_bits_bytes
from tests.support.runs import click_log, config_tree


def table(rows: int, name: str = "user") -> Table:
    return Table(name, rows, 8, "sum", (name,), (1.0,))


@pytest.mark.parametrize("rows", [1, 7, 8, 9, 401])
def test_bits_are_the_bools_they_were_made_of(rows: int, tmp_path: Path) -> None:
    bools = np.random.default_rng(rows).random(rows) < 0.4
    bits = RowBits.of(bools)
    ids = np.random.default_rng(1).integers(0, rows, 300)
    assert np.array_equal(bits.at(ids), bools[ids])
    assert bits.count == bools.sum()
    for first in range(0, rows, 3):
        for stop in (first, min(first + 11, rows), rows):
            assert np.array_equal(bits.span(first, stop), bools[first:stop])
    file = tmp_path / "bits.npz"
    file.write_bytes(row_bits_bytes({"user": bits, "file": bits}))
    again = read_row_bits(file, [table(rows), table(rows, "file")])
    assert np.array_equal(again["user"].span(0, rows), bools)
    assert row_bits_bytes(again) == file.read_bytes()


def test_bits_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "admitted.npz"
    with pytest.raises(CheckpointError, match=r"can't be read.*--from rows"):
        read_row_bits(file, [table(9)])
    content = row_bits_bytes({"user": RowBits.of(np.ones(9, bool))})
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match="table 'user' has 9 rows there and 10 in the config"):
        read_row_bits(file, [table(10)])
    with pytest.raises(CheckpointError, match="table 'user' has 9 rows there and 0 in the config"):
        read_row_bits(file, [table(9, "item")])
    with pytest.raises(CheckpointError, match="has nothing of table item"):
        read_row_bits(file, [table(9), table(9, "item")], needed=["user", "item"])
    for broken in (content[:-30], content[:-200], b"", b"x" * 100):
        file.write_bytes(broken)
        with pytest.raises(CheckpointError, match="can't be read"):
            read_row_bits(file, [table(9)])


def test_rare_ids_share_row_0_and_are_counted(tmp_path: Path) -> None:
    tree = config_tree(tmp_path, tmp_path)
    tree["features"] += [
        {"name": "thing", "kind": "hash", "rows": 50, "column": "item", "table": "things"},
        {"name": "before", "kind": "hash", "column": "history", "table": "things"},
    ]
    config = config_from(tree, (), where="a test")
    tables = config.tables
    log = click_log(600)
    log = log.set_column(1, "user", pa.array([None, *log["user"].to_pylist()[1:]]))
    plain = FeatureTransforms(config.features, tables)(log)
    admitted = np.random.default_rng(3).random(50) < 0.5
    admitted[0] = False  # as nobody's own row: it must not count itself
    found = FeatureTransforms(config.features, tables, {"things": RowBits.of(admitted)})(log)
    names = [feature.name for feature in config.sparse_features]
    for name, was, ids in zip(names, plain.sparse, found.sparse, strict=True):
        if name in ("thing", "before"):
            rare = ~admitted[was.values] & (was.values != 0)
            assert np.array_equal(ids.values, np.where(rare, 0, was.values))
            assert found.counts[f"rare/{name}"] == rare.sum() > 50
        else:
            assert np.array_equal(ids.values, was.values)
            assert f"rare/{name}" not in found.counts
        assert (ids.lengths is None) == (was.lengths is None)
        assert ids.lengths is None or np.array_equal(ids.lengths, was.lengths)  # pyright: ignore
    assert found.counts["missing/user"] == plain.counts["missing/user"] == 1
    everyone = {"things": RowBits.of(np.ones(50, bool))}
    assert FeatureTransforms(config.features, tables, everyone)(log).counts == plain.counts
