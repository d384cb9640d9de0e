"""Codes against pandas' factorize; walks by whole codes whatever the size of a block."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marigold_rec.analysis import row_arrays
from marigold_rec.analysis.codes import (
    blocks_of_whole_codes,
    code_keys,
    columns_by_code,
    float_bits,
    num_codes,
    user_codes,
)


def _ids(kind: str) -> Any:
    ids = np.random.default_rng(0).integers(-(2**62), 2**62, 40)[
        np.random.default_rng(1).integers(0, 40, 500)
    ]
    texts = [f"ü{i}" for i in ids]
    return {
        "numpy integers": ids,
        "numpy strings": np.array(texts),
        "numpy objects": np.array(texts, object),
        "arrow integers": pa.array(ids),
        "arrow strings": pa.array(texts),
        "arrow large strings": pa.array(texts, pa.large_string()),
        "chunks": pa.chunked_array([pa.array(ids[:7]), pa.array(ids[7:7]), pa.array(ids[7:])]),
        "slice": pa.array(np.concatenate([[0, 1], ids]))[2:],
        "dictionary": pa.array(texts).dictionary_encode(),
        "chunks with dictionaries of their own": pa.chunked_array(
            [pa.array(texts[:100]).dictionary_encode(), pa.array(texts[100:]).dictionary_encode()]
        ),
    }[kind]


@pytest.mark.parametrize(
    "kind",
    [
        "numpy integers",
        "numpy strings",
        "numpy objects",
        "arrow integers",
        "arrow strings",
        "arrow large strings",
        "chunks",
        "slice",
        "dictionary",
        "chunks with dictionaries of their own",
    ],
)
def test_numbers_the_values_as_they_appear(kind: str) -> None:
    ids = _ids(kind)
    expected, _ = pd.factorize(np.asarray(ids.to_pylist() if hasattr(ids, "to_pylist") else ids))
    codes = user_codes(ids)
    assert codes.dtype == np.int32
    np.testing.assert_array_equal(codes, expected)


def test_small_indices_of_a_dictionary_are_widened() -> None:
    column = pa.DictionaryArray.from_arrays(pa.array([1, 0, 1], pa.int8()), pa.array(["a", "b"]))
    codes = user_codes(column)
    assert codes.dtype == np.int32
    assert codes.tolist() == [1, 0, 1]
    full = pa.DictionaryArray.from_arrays(pa.array([127, None], pa.int8()), pa.array(range(128)))
    assert user_codes(full).tolist() == [127, 128]


def test_no_row() -> None:
    assert len(user_codes(np.empty(0, np.int64))) == 0
    assert num_codes(user_codes([])) == 0


@pytest.mark.parametrize("encode", [False, True])
def test_each_null_is_a_user_of_its_own(encode: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_arrays, "_CHUNK", 2)
    column = pa.array([3, None, 3, None, 4, None])
    codes = user_codes(column.dictionary_encode() if encode else column)
    assert codes.tolist() == [0, 2, 0, 3, 1, 4]


@pytest.mark.parametrize("values", [np.ones(3), pa.array([1.5]).dictionary_encode()])
def test_refuses_what_is_no_id(values: Any) -> None:
    with pytest.raises(TypeError, match=r"ids must be .*; found double"):
        user_codes(values)


@given(st.lists(st.integers(0, 9), max_size=60), st.integers(1, 70))
def test_a_walk_sees_each_row_once_and_each_code_in_one_block(
    codes: list[int], block_rows: int
) -> None:
    code_N = np.array(codes, np.int32)
    blocks = list(columns_by_code(code_N, [np.arange(len(codes))], block_rows))
    seen = [set(code.tolist()) for code, _ in blocks]
    assert sum(len(codes) for codes in seen) == len(set(codes)), "no code in two blocks"
    rows = np.concatenate([row for _, row in blocks] or [np.empty(0, np.intp)])
    np.testing.assert_array_equal(rows, np.argsort(code_N, kind="stable"))
    for code, row in blocks:
        np.testing.assert_array_equal(code, code_N[row])


def test_the_largest_code() -> None:
    keys = code_keys(np.array([2**31 - 1] * 3, np.int32), np.arange(3, dtype=np.uint32))
    assert [len(block) for block in blocks_of_whole_codes(keys, 2)] == [3]


def test_bits_are_ordered_as_the_values() -> None:
    values = np.array([0.0, 1e-45, 0.1, 1.0, 3e38, np.inf], np.float32)
    assert (np.diff(float_bits(values).astype(np.int64)) > 0).all()
    assert float_bits(np.array([-0.0], np.float32)) == float_bits(np.zeros(1, np.float32))


@pytest.mark.parametrize("bad", [-1.0, np.nan])
def test_refuses_values_whose_bits_are_not_ordered(bad: float) -> None:
    with pytest.raises(ValueError, match=f"must be >= 0; found {bad}"):
        float_bits(np.array([0.5, bad], np.float32))
