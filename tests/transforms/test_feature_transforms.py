"""Every kind of feature against the row-by-row oracle, and its policies and counts."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from marigold_rec.config import Config
from marigold_rec.errors import DataError
from marigold_rec.transforms import FeatureTransforms, Transformed
from tests.support.feature_oracle import expected_rows, hash_row
from tests.support.parquet import click_log, log_config

I64_MIN, I64_MAX = -(2**63), 2**63 - 1


def transforms_of(config: Config) -> FeatureTransforms:
    return FeatureTransforms(config.features, config.tables)


def transforms(*features: dict[str, Any]) -> FeatureTransforms:
    return transforms_of(log_config(features=features))


def bags(found: Transformed, index: int = 0) -> list[list[int]]:
    ids = found.sparse[index]
    lengths = np.ones(found.num_rows, np.int32) if ids.lengths is None else ids.lengths
    assert ids.values.dtype == np.int64
    assert lengths.dtype == np.int32
    assert lengths.sum() == len(ids.values)
    return [part.tolist() for part in np.split(ids.values, np.cumsum(lengths)[:-1])]


def apply(feature: dict[str, Any], values: list[Any], kind: pa.DataType) -> Transformed:
    return transforms(feature)(pa.table({feature["name"]: pa.array(values, kind)}))


def test_every_kind_equals_the_oracle():
    table, config = click_log(400, seed=3), log_config()
    found = transforms_of(config)(table)
    expected = expected_rows(table, config)
    for index, feature in enumerate(config.sparse_features):
        assert bags(found, index) == [row.bags[feature.name] for row in expected], feature.name
    assert found.dense_BD.dtype == np.float32
    assert found.dense_BD.flags.c_contiguous
    assert found.dense_BD.tolist() == [row.dense for row in expected]


def test_chunks_slices_and_dictionaries_change_nothing():
    table, config = click_log(100, seed=4), log_config()
    whole = transforms_of(config)(table)
    chunked = pa.concat_tables([table.slice(0, 13), table.slice(13, 0), table.slice(13)])
    index = table.schema.get_field_index("name")
    coded = chunked.set_column(index, "name", chunked.column("name").dictionary_encode())
    for other in (chunked, coded):
        found = transforms_of(config)(other)
        assert found.dense_BD.tobytes() == whole.dense_BD.tobytes()
        for a, b in zip(found.sparse, whole.sparse, strict=True):
            assert np.array_equal(a.values, b.values)
            assert (a.lengths is None) == (b.lengths is None)
            if a.lengths is not None and b.lengths is not None:
                assert np.array_equal(a.lengths, b.lengths)
        assert found.counts == whole.counts


def test_no_rows_are_legal():
    found = transforms_of(log_config())(click_log(5).slice(0, 0))
    assert found.num_rows == 0
    assert found.dense_BD.shape == (0, 5)
    assert found.counts == {}


@pytest.mark.parametrize("kind", [pa.int64(), pa.uint64()])
def test_hash_takes_every_64_bit_integer(kind: pa.DataType):
    values = [0, 1, I64_MAX] + ([-1, I64_MIN] if kind == pa.int64() else [2**64 - 1, 2**63])
    found = apply({"name": "u", "kind": "hash", "rows": 1009}, values, kind)
    assert bags(found) == [[hash_row(v, "u", 1009)] for v in values]
    assert found.sparse[0].lengths is None


def test_hash_is_the_same_in_every_release():
    found = apply({"name": "u", "kind": "hash", "rows": 10**9}, [0, 1, -1], pa.int64())
    text = apply({"name": "u", "kind": "hash", "rows": 10**9}, ["0", "é"], pa.string())
    assert bags(found) == [[640516740], [678729582], [304175370]]
    assert bags(text) == [[360077055], [319266842]]


def test_features_of_one_table_share_rows_and_tables_differ():
    found = transforms(
        {"name": "a", "kind": "hash", "rows": 10**6, "table": "t"},
        {"name": "b", "kind": "hash", "table": "t"},
        {"name": "c", "kind": "hash", "rows": 10**6},
    )(pa.table({name: pa.array(range(50)) for name in "abc"}))
    assert bags(found, 0) == bags(found, 1) != bags(found, 2)


def test_hash_spreads_evenly():
    found = apply({"name": "u", "kind": "hash", "rows": 16}, list(range(16_000)), pa.int64())
    counts = np.bincount(found.sparse[0].values, minlength=16)
    # 1000 expected per row, standard deviation 31.
    assert counts.min() > 850
    assert counts.max() < 1150


@pytest.mark.parametrize("bad", [-1, 5, I64_MAX, I64_MIN])
def test_id_out_of_range_is_an_error_with_its_figures(bad: int):
    message = rf"features\.u: 1 of 3 ids in column 'u' are outside \[0, 5\), the first is {bad};"
    with pytest.raises(DataError, match=message):
        apply({"name": "u", "kind": "id", "rows": 5}, [0, bad, 4], pa.int64())


@pytest.mark.parametrize(
    ("policy", "expected"), [("drop", [[0], [], []]), ("clamp", [[0], [4], [4]])]
)
def test_id_out_of_range_policies_are_counted(policy: str, expected: list[list[int]]):
    feature = {"name": "u", "kind": "id", "rows": 5, "out_of_range": policy}
    found = apply(feature, [0, 2**64 - 1, 5], pa.uint64())
    assert bags(found) == expected
    assert found.counts == {"out_of_range/u": 2}


def test_missing_and_unknown_are_counted():
    bucket = {"name": "u", "kind": "bucketize", "boundaries": [1.0]}
    found = apply(bucket, [[1.0, None, float("nan")], None, []], pa.list_(pa.float64()))
    assert (bags(found), found.counts) == ([[1], [], []], {"missing/u": 3})
    vocab = {"name": "u", "kind": "vocab", "values": [3, I64_MAX]}
    found = apply(vocab, [3, None, 4, 2**64 - 1, I64_MAX], pa.uint64())
    assert (bags(found), found.counts) == (
        [[1], [], [0], [0], [2]],
        {"missing/u": 1, "out_of_vocab/u": 2},
    )


@pytest.mark.parametrize(
    ("keep", "expected"), [("first", [[1], [], [4]]), ("last", [[2], [3], [4]])]
)
def test_lists_are_cut_at_one_end_and_counted(keep: str, expected: list[list[int]]):
    feature = {"name": "u", "kind": "id", "rows": 9, "max_length": 1, "keep": keep}
    found = apply(feature, [[1, None, 2], [None, 3], [4]], pa.list_(pa.int8()))
    missing = {"missing/u": 1} if keep == "first" else {}
    assert (bags(found), found.counts) == (expected, {"cut/u": 3, **missing})


def test_dense_fills_and_counts_what_is_not_finite():
    feature = {"name": "u", "kind": "dense", "missing": 2.0}
    found = apply(feature, [None, np.nan, np.inf, -np.inf, 1e300, -1.5], pa.float64())
    assert found.dense_BD[:, 0].tolist() == [2.0] * 5 + [-1.5]
    assert found.counts == {"missing/u": 2, "non_finite/u": 3}


def test_fixed_size_lists_are_lists():
    feature = {"name": "u", "kind": "id", "rows": 5}
    assert bags(apply(feature, [[1, 2], None, [3, 4]], pa.list_(pa.int8(), 2))) == [
        [1, 2],
        [],
        [3, 4],
    ]


def test_columns_are_named_once_and_the_object_travels():
    made = pickle.loads(pickle.dumps(transforms_of(log_config())))
    assert made.columns.count("amount") == 1
    assert len(made.columns) == 15
    assert made(click_log(3)).num_rows == 3


TYPE_PROBLEMS = [
    ("dense", {}, pa.string(), "is string; a dense feature needs a number"),
    ("dense", {}, pa.list_(pa.int8()), r"is list<item: int8>; a dense feature needs a number"),
    ("hash", {"rows": 3}, pa.float32(), "is float; a hash feature needs an integer, a string or"),
    ("id", {"rows": 3}, pa.float64(), "is double; an id feature needs an integer or a list"),
    ("id", {"rows": 3}, pa.string(), "is string; an id feature needs an integer"),
    ("bucketize", {"boundaries": [1]}, pa.string(), "is string; a bucketize feature needs a num"),
    ("vocab", {"values": ["a"]}, pa.int8(), "is int8; a vocab feature needs a string"),
    ("vocab", {"values": [1]}, pa.string(), "is string; a vocab feature needs an integer"),
    ("hash", {"rows": 3}, pa.list_(pa.list_(pa.int8())), "a hash feature needs an integer"),
    ("hash", {"rows": 3}, pa.timestamp("ms"), r"is timestamp\[ms\]; a hash feature needs"),
]


@pytest.mark.parametrize(("kind", "fields", "found", "message"), TYPE_PROBLEMS)
def test_wrong_column_types_are_told(
    kind: str, fields: dict[str, Any], found: pa.DataType, message: str
):
    feature = {"name": "x", "column": "c", "kind": kind, **fields}
    problems = transforms(feature).check_types(pa.schema([("c", found)]))
    assert len(problems) == 1
    assert problems[0].startswith("features.x: column 'c' ")
    with pytest.raises(ValueError, match=message):
        raise ValueError(problems[0])


def test_a_missing_column_is_told_with_the_nearest_name():
    problems = transforms({"name": "user_id", "kind": "hash", "rows": 3}).check_types(
        pa.schema([("userid", pa.int64()), ("z", pa.int8())])
    )
    assert problems == ["features.user_id: there is no column 'user_id'; did you mean 'userid'?"]


def test_good_types_have_no_problem():
    assert transforms_of(log_config()).check_types(click_log(1).schema) == []
