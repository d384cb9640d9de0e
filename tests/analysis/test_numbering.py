"""Integers numbered by a sort of hashes, against pandas' factorize; ids whose hashes collide."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from marigold_rec.analysis import numbering, row_arrays
from marigold_rec.analysis.numbering import integer_codes


def _check(ids: NDArray, num_threads: Literal[1, 2], cuts: list[int]) -> None:
    column = pa.chunked_array([pa.array(piece) for piece in np.split(ids, sorted(cuts))])
    codes = integer_codes(column, num_threads)
    assert codes.dtype == np.int32
    np.testing.assert_array_equal(codes, pd.factorize(ids)[0])


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int32, np.int64, np.uint64])
@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("chunk", [1, 7, 1 << 16])
def test_any_integers_in_any_chunks(
    dtype: type[np.integer],
    num_threads: Literal[1, 2],
    chunk: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(row_arrays, "_CHUNK", chunk)
    generator = np.random.default_rng(0)
    limits = np.iinfo(dtype)
    ids = generator.integers(limits.min, limits.max, 90, dtype, endpoint=True)
    ids[:2] = limits.min, limits.max
    _check(ids[generator.integers(0, 90, 700)], num_threads, [0, 3, 400, 400, 700])


@given(st.lists(st.integers(0, 9), max_size=40), st.sampled_from([1, 2]), st.integers(0, 40))
def test_few_rows(ids: list[int], num_threads: Literal[1, 2], cut: int) -> None:
    _check(np.array(ids, np.int64), num_threads, [min(cut, len(ids))])


@pytest.mark.parametrize("num_threads", [1, 2])
def test_ids_whose_hashes_collide_keep_numbers_of_their_own(num_threads: Literal[1, 2]) -> None:
    # The hashes of these ids are 0 .. 49: they differ in no bit that a key has room for.
    inverse = pow(int(numbering._MULTIPLIER), -1, 2**64)
    ids = np.array([inverse * i % 2**64 for i in range(50)], np.uint64)
    hashes = ids * numbering._MULTIPLIER
    assert hashes.max() < 50
    generator = np.random.default_rng(0)
    _check(ids[generator.integers(0, 50, 1000)], num_threads, [200])
    # And among others: numbers go on by first appearance.
    others = generator.integers(0, 2**63, 50, np.uint64)
    _check(np.concatenate([ids, others])[generator.integers(0, 100, 1000)], num_threads, [1])


def test_half_a_million_rows() -> None:
    ids = np.random.default_rng(0).integers(0, 50_000, 500_000) * 2**40
    _check(ids, 2, [1 << 17])
