"""Embedding tables, as the features that share them define them."""

from __future__ import annotations

from typing import Any

import pytest

from marigold_rec.config import Config, Table


def tables(*features: dict[str, Any]) -> tuple[Table, ...]:
    named = [{"name": f"f{i}", "kind": "hash", **feature} for i, feature in enumerate(features)]
    task = {"name": "ctr", "kind": "binary", "label": "click"}
    config = Config.model_validate({"features": named, "tasks": [task]})
    return config.tables


def test_a_feature_has_a_table_of_its_own_and_its_name():
    assert tables({"rows": 5}, {"rows": 6, "dim": 4, "pooling": "mean"}) == (
        Table("f0", 5, 16, "sum", ("f0",), (1.0,)),
        Table("f1", 6, 4, "mean", ("f1",), (1.0,)),
    )


def test_shared_tables_stand_in_order_of_first_mention():
    """Whichever of the features gives a figure, it holds for all of them."""
    found = tables(
        {"table": "b"},
        {"table": "a", "rows": 7},
        {"table": "b", "rows": 5, "pooling": "mean"},
        {"table": "b", "dim": 8},
        {"table": "b", "rows": 5, "dim": 8},
    )
    assert found == (
        Table(
            "b",
            5,
            8,
            "mean",
            ("f0", "f2", "f3", "f4"),
            (
                1.0,
                1.0,
                1.0,
                1.0,
            ),
        ),
        Table("a", 7, 16, "sum", ("f1",), (1.0,)),
    )


def test_a_feature_may_use_another_feature_s_own_table():
    assert tables({"rows": 5}, {"table": "f0"}) == (
        Table(
            "f0",
            5,
            16,
            "sum",
            ("f0", "f1"),
            (
                1.0,
                1.0,
            ),
        ),
    )


def test_rows_of_other_kinds():
    """bucketize: one more than boundaries; vocab: row 0 is for what is not known."""
    found = tables(
        {"kind": "bucketize", "boundaries": [1.0, 2.0]},
        {"kind": "vocab", "values": ["a", "b", "c"]},
        {"kind": "vocab", "values": ["a", "b", "c"], "table": "f1"},
    )
    assert [table.rows for table in found] == [3, 4]


CONTRADICTIONS: list[tuple[list[dict[str, Any]], str]] = [
    (
        [{"table": "t", "rows": 5}, {"table": "t", "rows": 6}],
        "table 't': features f0, f1 give different values of rows: [5, 6]; give it once, or alike",
    ),
    (
        [{"table": "t", "rows": 5, "dim": 8}, {"table": "t", "dim": 4}],
        "table 't': features f0, f1 give different values of dim: [4, 8]; give it once, or alike",
    ),
    (
        [{"table": "t", "rows": 5, "pooling": "sum"}, {"table": "t", "pooling": "mean"}],
        "table 't': features f0, f1 give different values of pooling: ['mean', 'sum']; give it "
        "once, or alike",
    ),
    (
        [{"table": "t"}, {"table": "t"}],
        "table 't': no feature gives its number of rows (f0, f1); add rows: N to one",
    ),
    (
        [{"table": "t", "rows": 5}, {"table": "t", "kind": "id"}],
        "table 't': features f0, f1 share it but are of kinds ['hash', 'id']; features that share "
        "a table must be of one kind",
    ),
    (
        [
            {"table": "t", "kind": "vocab", "values": ["a", "b"]},
            {"table": "t", "kind": "vocab", "values": ["b", "a"]},
        ],
        "table 't': features f0, f1 share it with different settings (boundaries, values): "
        "one row would mean several things; give them the same, or tables of their own",
    ),
    (
        [
            {"table": "t", "kind": "bucketize", "boundaries": [1.0]},
            {"table": "t", "kind": "bucketize", "boundaries": [1.0, 2.0]},
        ],
        "table 't': features f0, f1 share it with different settings (boundaries, values): "
        "one row would mean several things; give them the same, or tables of their own",
    ),
]


@pytest.mark.parametrize(("features", "message"), CONTRADICTIONS)
def test_contradictions(features: list[dict[str, Any]], message: str):
    with pytest.raises(ValueError, match="table 't'") as caught:
        tables(*features)
    assert str(caught.value) == message


def test_all_contradictions_of_all_tables_are_told():
    with pytest.raises(ValueError, match="table 'a'") as caught:
        tables(
            {"table": "a"},
            {"table": "b", "rows": 1, "dim": 4},
            {"table": "b", "rows": 2, "dim": 8},
            {"table": "c", "rows": 3},
        )
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in lines] == ["table 'a'", "table 'b'", "table 'b'"]
