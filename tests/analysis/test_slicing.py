"""Slices against pandas: categories by value_counts, numbers by quantiles; whatever the type."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marigold_rec.analysis.slicing import (
    MOST_VALUES,
    Slicing,
    by_training,
    deciles,
    new_or_known,
    slicing,
)


def _of(values: Any, kind: pa.DataType | None = None, chunk: int = 7) -> Slicing:
    array = pa.array(values, kind)
    pieces = [array[i : i + chunk] for i in range(0, len(array), chunk)]
    return slicing("column", pa.chunked_array(pieces, array.type))


def _names(found: Slicing) -> list[str]:
    """The slice of each row."""
    return [found.values[code] for code in found.code_N]


@given(st.lists(st.one_of(st.none(), st.sampled_from("abcdef")), max_size=60))
def test_categories_are_those_of_value_counts(values: list[str | None]) -> None:
    found = _of(values, pa.string())
    assert _names(found) == ["missing" if value is None else value for value in values]
    rows = pd.Series(_names(found), dtype=object).value_counts()
    assert [rows[name] for name in found.values] == sorted(rows, reverse=True)
    assert found.code_N.dtype == np.int32


_DAY = datetime.date(2024, 2, 29)


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([True, None, False], pa.bool_(), ["True", "missing", "False"]),
        ([_DAY, None], pa.date32(), ["2024-02-29", "missing"]),
        ([0, None], pa.timestamp("us"), ["1970-01-01 00:00:00", "missing"]),
        ([Decimal("1.20"), None], pa.decimal128(5, 2), ["1.20", "missing"]),
        ([0.1, np.nan, None, -np.inf], pa.float32(), ["0.1", "missing", "missing", "-inf"]),
        ([7, None], pa.uint8(), ["7", "missing"]),
        ([None] * 9, pa.null(), ["missing"] * 9),  # two chunks
        (["a", None], pa.large_string(), ["a", "missing"]),
        ([b"a", None], pa.binary(), ["a", "missing"]),
        ([b"\xff", None], pa.binary(), ["ff", "missing"]),
    ],
)
def test_types(values: list[Any], kind: pa.DataType, expected: list[str]) -> None:
    assert _names(_of(values, kind)) == expected


def test_dictionaries_with_values_of_their_own() -> None:
    pieces = [pa.array(texts).dictionary_encode() for texts in (["a", "b"], ["c", "a", None])]
    found = slicing("column", pa.chunked_array(pieces))
    assert _names(found) == ["a", "b", "c", "a", "missing"]


@pytest.mark.parametrize("kind", [pa.list_(pa.int64()), pa.struct([("a", pa.int8())])])
def test_refuses_what_has_no_values(kind: pa.DataType) -> None:
    with pytest.raises(ValueError, match="rows are sliced by a number, text or boolean"):
        _of([None], kind)


@pytest.mark.parametrize("kind", [pa.int64(), pa.float64(), pa.string()])
def test_no_row(kind: pa.DataType) -> None:
    assert len(slicing("column", pa.chunked_array([], kind)).code_N) == 0
    assert len(_of([], kind).code_N) == 0


@pytest.mark.parametrize("extra", [0, 1, 5])
def test_rare_values_share_a_slice(extra: int) -> None:
    num_values = MOST_VALUES + extra
    texts = [f"v{i:02}" for i in range(num_values) for _ in range(num_values - i)]
    found = _of(np.random.default_rng(0).permutation(texts).tolist())
    if extra == 0:
        assert found.values == tuple(f"v{i:02}" for i in range(num_values))
        return
    assert found.values == (*(f"v{i:02}" for i in range(MOST_VALUES)), f"other ({extra} values)")
    assert np.sum(found.code_N == MOST_VALUES) == extra * (extra + 1) // 2


def test_numbers_of_few_values_are_categories() -> None:
    assert len(_of(np.arange(MOST_VALUES)).values) == MOST_VALUES
    assert len(_of([*range(MOST_VALUES), None]).values) == MOST_VALUES + 1
    assert len(_of(np.arange(MOST_VALUES + 1)).values) == 11


@pytest.mark.parametrize("kind", [pa.int32(), pa.float32(), pa.float64()])
def test_deciles_are_those_of_pandas(kind: pa.DataType) -> None:
    values = np.random.default_rng(3).permutation(1000).tolist()
    found = _of([*values, None], kind)
    expected = pd.qcut(values, 10, labels=False)
    np.testing.assert_array_equal(found.code_N, [*expected, 10])
    assert found.values[0] == "0 to 99"
    assert found.values[1] == "above 99 to 199"
    assert found.values[9:] == ("above 899 to 999", "missing")


@given(
    st.lists(st.sampled_from([0.0, -1.5, 2.25, 1e9, 1e-9, np.inf, -np.inf, np.nan]), max_size=40)
)
def test_deciles_keep_ties_together_and_the_order(values: list[float]) -> None:
    value_N = np.array(values, np.float64)
    found = deciles("column", value_N)
    assert len(found.values) <= 11
    known = ~np.isnan(value_N)
    assert (found.code_N[~known] == len(found.values) - 1).all()
    assert found.values[len(found.values) - 1] == "missing"
    if known.any():
        assert (found.code_N[known] < len(found.values) - 1).all()
        order = np.argsort(value_N[known], kind="stable")
        sorted_codes, sorted_values = found.code_N[known][order], value_N[known][order]
        assert (np.diff(sorted_codes) >= 0).all()
        is_tie = sorted_values[1:] == sorted_values[:-1]
        assert (np.diff(sorted_codes)[is_tie] == 0).all()
    used = [found.values[code] for code in np.unique(found.code_N)]
    assert len(set(used)) == len(used), "two slices, two names"


def test_an_infinite_value_has_a_slice() -> None:
    found = _of([*np.arange(99.0), np.inf, -np.inf])
    assert found.values[0].startswith("-inf to ")
    assert found.values[9].endswith(" to inf")


def test_close_values_get_names_of_their_own() -> None:
    found = _of(1000 + np.random.default_rng(0).random(200) / 1000)
    assert len(set(found.values)) == 11
    assert _of(np.arange(0, 100_000, 10)).values[1] == "above 9,990 to 19,990"


@pytest.mark.parametrize("kind", [pa.int64(), pa.uint64()])
def test_large_ids_are_cut_too(kind: pa.DataType) -> None:
    """2**53 and more: not exact as float64, which is no reason to refuse a finished evaluation."""
    found = _of([2**62 + 2**30 * i for i in range(100)], kind)
    assert np.bincount(found.code_N).tolist() == [10] * 10


def test_by_training() -> None:
    counts = np.concatenate([np.zeros(5, np.int64), np.arange(1, 101)])
    found = by_training("item in training", counts)
    assert found.values[0] == "seen 1 to 10 times"
    assert found.values[-1] == "unseen"
    assert np.bincount(found.code_N).tolist() == [10] * 10 + [5]
    assert (found.code_N[:5] == 10).all()


def test_nothing_seen() -> None:
    found = by_training("item in training", np.zeros(4, np.int64))
    assert _names(found) == ["unseen"] * 4


def test_new_or_known() -> None:
    found = new_or_known("user in training", np.array([0, 3, 1, 0]))
    assert _names(found) == ["new", "known", "known", "new"]
