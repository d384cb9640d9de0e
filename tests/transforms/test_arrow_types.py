"""Arrow's types by their meaning, and columns of types that newer writers use."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from marigold_rec.errors import DataError
from marigold_rec.transforms import cast_table, common_type, lone_array, plain_type, same_meaning
from marigold_rec.transforms.arrow_types import type_of_text

SAFE = [
    (pa.string(), pa.large_string(), pa.large_string()),
    (pa.int64(), pa.int32(), pa.int64()),
    (pa.uint32(), pa.int8(), pa.int64()),
    (pa.float32(), pa.float64(), pa.float64()),
    (pa.null(), pa.list_(pa.string()), pa.list_(pa.string())),
    (pa.list_(pa.int32()), pa.large_list(pa.int64()), pa.large_list(pa.int64())),
    (pa.list_(pa.null()), pa.list_(pa.string()), pa.list_(pa.string())),
    (pa.timestamp("ns"), pa.timestamp("us"), pa.timestamp("ns")),
    (pa.decimal128(38, 0), pa.int32(), pa.int64()),
    (pa.binary(16), pa.binary_view(), pa.binary()),
]
UNSAFE = [
    (pa.string(), pa.int64()),
    (pa.int64(), pa.float64()),
    (pa.int64(), pa.uint64()),
    (pa.bool_(), pa.int8()),
    (pa.string(), pa.binary()),
    (pa.int64(), pa.list_(pa.int64())),
    (pa.timestamp("us"), pa.timestamp("us", "UTC")),
    (pa.decimal128(9, 2), pa.decimal128(9, 3)),
]


@pytest.mark.parametrize(("one", "other", "wider"), SAFE, ids=str)
def test_types_that_mean_the_same(one: pa.DataType, other: pa.DataType, wider: pa.DataType):
    assert common_type(one, other) == common_type(other, one) == wider
    assert same_meaning(str(plain_type(one)), str(plain_type(other)))


@pytest.mark.parametrize(("one", "other"), UNSAFE, ids=str)
def test_types_that_do_not(one: pa.DataType, other: pa.DataType):
    assert common_type(one, other) is None
    assert common_type(other, one) is None
    assert not same_meaning(str(one), str(other))


@pytest.mark.parametrize("kind", sorted({str(k): k for pair in SAFE for k in pair}.items()))
def test_text_stands_for_its_type(kind: tuple[str, pa.DataType]):
    text, found = kind
    plain = plain_type(found)
    assert type_of_text(str(plain)) == plain, text


def _ids(values: list[int], kind: pa.DataType) -> pa.Array:
    return pa.array([Decimal(value) for value in values], kind)


WRITTEN = [
    (pa.array(["a", None, "b"], pa.string_view()), ["a", None, "b"]),
    (pa.array([b"a", None], pa.binary_view()), [b"a", None]),
    (pa.array([[1], None, [2, 3]], pa.list_view(pa.int64())), [[1], None, [2, 3]]),
    (pa.array([[1], [5], [2]], pa.list_(pa.int64()))[1:], [[5], [2]]),
    (pc.call_function("run_end_encode", [pa.array([7, 7, 8])]), [7, 7, 8]),
    (
        pa.DictionaryArray.from_arrays(
            pa.array([1, 0, None], pa.int8()), pa.array(["a", "b"], pa.string_view())
        ),
        ["b", "a", None],
    ),
    (_ids([5, -7], pa.decimal32(5, 0)), [5, -7]),
    (_ids([2**62], pa.decimal128(38, 0)), [2**62]),
    (_ids([9], pa.decimal256(60, 0)), [9]),
    (pa.array([b"0123456789abcdef"], pa.uuid()), [b"0123456789abcdef"]),
    (pa.array([[b"ab"], None], pa.list_(pa.binary(2))), [[b"ab"], None]),
]  # fmt: skip


@pytest.mark.parametrize(("column", "values"), WRITTEN, ids=lambda x: str(getattr(x, "type", "")))
def test_new_types_are_read_as_their_storage(column: pa.Array, values: list[Any]):
    found = lone_array(column)
    assert found.type == plain_type(column.type)
    assert found.to_pylist() == values


def test_dictionaries_of_many_chunks_need_not_fit_one_index():
    chunks = [
        pa.DictionaryArray.from_arrays(
            pa.array(np.arange(100), pa.int8()), pa.array([f"{i}/{n}" for n in range(100)])
        )
        for i in range(40)
    ]
    found = lone_array(pa.chunked_array(chunks))
    assert len(found) == 4000
    assert found[-1].as_py() == "39/99"


def test_what_does_not_fit_is_refused_by_its_column():
    table = pa.table({"item": _ids([2**63], pa.decimal128(38, 0))})
    with pytest.raises(DataError, match=r"'item' is decimal128.*int64"):
        cast_table(table, pa.schema([("item", pa.int64())]))
