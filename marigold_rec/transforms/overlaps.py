"""`overlap`: how an item stands to the ids of a list, as a number.

An id of the list matches the item where it is equal, or no further from it than `within`.
  count    how many ids match
  recency  1 / place of the most recent id that matches, counted from 1; 0: none does
  nearest  |item - id| of the nearest id, exact to 64 bits before it becomes a float64

Shapes: N rows of the log, V ids of their lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.types as pat
from pydantic import Field, model_validator

from marigold_rec.config.features import NumberFeature
from marigold_rec.transforms.arrow_types import common_type, is_hashable, is_list
from marigold_rec.transforms.columns import lone_array
from marigold_rec.transforms.dense import NumberKind
from marigold_rec.transforms.jagged import flatten, lengths_after, places
from marigold_rec.transforms.kinds import Input


class OverlapFeature(NumberFeature):
    """How often, how recently or how nearly an item occurs in a list, as one number."""

    kind: Literal["overlap"]
    item: str
    """Column of an id."""
    list: str
    """Column of a list of such ids; null: an empty one."""
    gives: Literal["count", "recency", "nearest"] = "count"
    """count: of the ids that match. recency: 1 / place of the most recent one (1, 1/2, ...), or 0.
    nearest: distance of the nearest id; `missing` where the list is empty. Without an item:
    `missing`."""
    within: int = Field(default=0, ge=0)
    """Ids match that differ by at most so much, for ids that are numbered by content; 0: equal
    ones."""
    newest: Literal["first", "last"] = "first"
    """The end of the list from which recency counts."""

    @model_validator(mode="after")
    def _has_a_distance_for_no_list(self) -> OverlapFeature:
        if self.gives == "nearest" and "missing" not in self.model_fields_set:
            raise ValueError(
                "missing: give a value with gives: nearest, the distance to an empty list (the 0 "
                "that would take its place means that the item is in it)"
            )
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.item, self.list)


class Overlap(NumberKind):
    """`kind: overlap`."""

    Settings = OverlapFeature

    @classmethod
    def inputs(cls, feature: OverlapFeature) -> tuple[Input, ...]:
        by_distance = feature.gives == "nearest" or feature.within > 0
        accepts = pat.is_integer if by_distance else is_hashable
        what = "an integer" if by_distance else "an integer or a string"

        def accepts_list(kind: pa.DataType) -> bool:
            return is_list(kind) and (pat.is_null(kind.value_type) or accepts(kind.value_type))

        return (
            Input(feature.item, what, accepts, pa.int64()),
            Input(feature.list, f"a list, each entry {what}", accepts_list, pa.list_(pa.int64())),
        )

    @classmethod
    def type_problems(cls, feature: OverlapFeature, types: Mapping[str, pa.DataType]) -> list[str]:
        item, ids = types[feature.item], types[feature.list]
        if not is_list(ids) or common_type(item, ids.value_type) is not None:
            return []
        return [
            f"list: column {feature.list!r} is {ids} and column {feature.item!r} is {item}: ids of "
            "the two can never be equal; write them alike"
        ]

    @staticmethod
    def numbers(feature: OverlapFeature, table: pa.Table) -> np.ndarray:
        item, flat = lone_array(table.column(feature.item)), flatten(table.column(feature.list))
        lengths_N = np.zeros(len(item), np.int32) if flat.lengths is None else flat.lengths
        item_N, ids_V = _comparable(item, flat.values)
        item_V = np.repeat(item_N, lengths_N)
        if feature.gives == "nearest":
            found_N = _least(_distances(item_V, ids_V), lengths_N, np.nan)
        else:
            matches_V = item_V == ids_V
            if feature.within:
                matches_V = _distances(item_V, ids_V) <= np.uint64(feature.within)
            of_matches = _count if feature.gives == "count" else _recency
            found_N = of_matches(matches_V, lengths_N, feature)
        if item.null_count:
            found_N[item.is_null().to_numpy(zero_copy_only=False)] = np.nan
        return found_N


def _comparable(item: pa.Array, ids: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Integers that are equal where the values are, and as far apart where these are integers.
    What stands for a null does not matter."""
    kind = common_type(item.type, ids.type)
    if kind is None or pat.is_null(kind):  # a column without any value has no type of its own
        return np.zeros(len(item), np.int64), np.zeros(len(ids), np.int64)
    both = pa.concat_arrays([item.cast(kind), ids.cast(kind)])
    if pat.is_integer(kind) or pat.is_boolean(kind):
        both = both.cast(pa.uint64() if pat.is_uint64(kind) else pa.int64())
    else:
        both = both.dictionary_encode().indices
    numbers = both.fill_null(0).to_numpy(zero_copy_only=False)
    return numbers[: len(item)], numbers[len(item) :]


def _distances(a_V: np.ndarray, b_V: np.ndarray) -> np.ndarray:
    """uint64: of 64-bit integers, also where the difference needs all 64 bits."""
    is_below_V = a_V < b_V
    distances_V = a_V.view(np.uint64) - b_V.view(np.uint64)
    return np.negative(distances_V, out=distances_V, where=is_below_V)


def _count(matches_V: np.ndarray, lengths_N: np.ndarray, _: OverlapFeature) -> np.ndarray:
    return lengths_after(matches_V, lengths_N).astype(np.float64)


def _recency(matches_V: np.ndarray, lengths_N: np.ndarray, feature: OverlapFeature) -> np.ndarray:
    place_V = places(lengths_N) + 1
    if feature.newest == "last":
        place_V = np.repeat(lengths_N, lengths_N) + 1 - place_V
    return 1.0 / _least(np.where(matches_V, place_V, np.inf), lengths_N, np.inf)


def _least(values_V: np.ndarray, lengths_N: np.ndarray, of_none: float) -> np.ndarray:
    """float64 [N]: each row's least value; `of_none` for a row without one."""
    least_N = np.full(len(lengths_N), of_none)
    has_some_N = lengths_N > 0
    if len(values_V):
        starts_N = np.cumsum(lengths_N) - lengths_N
        least_N[has_some_N] = np.minimum.reduceat(values_V, starts_N[has_some_N])
    return least_N
