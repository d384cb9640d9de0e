"""The settings of features: from a column to ids of a table, or to a number of the dense part.

What each kind makes of values is in `marigold_rec.transforms`, see `kinds.py` there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from marigold_rec.config.names import Name
from marigold_rec.config.section import Section


class FeatureSettings(Section):
    """The base of every kind's settings."""

    kind: Any
    name: Name
    tasks: tuple[Name, ...] | None = None
    """Tasks that read it; null: all; []: none. It is kept from the others, and their gradients
    don't reach its table."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The Parquet columns that it reads."""
        raise NotImplementedError

    def with_parts(self, features: Mapping[str, FeatureSettings]) -> Self:
        """The same feature; of what it names it takes the settings from `features`, all of the
        config by name."""
        return self

    def part_problems(self) -> list[str]:
        """What is wrong with the parts that it is made of, as `<key>: <problem>`."""
        return []


class OneColumn(FeatureSettings):
    """The base of the kinds that read one column."""

    column: str | None = None
    """Parquet column; null: the feature's name."""

    @property
    def source(self) -> str:
        return self.column if self.column is not None else self.name

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.source,)


class Cut(NamedTuple):
    """At most `length` entries of a list count: those at one end of it."""

    length: int
    keep: Literal["first", "last"]


class ReadsList(FeatureSettings):
    """The base of the kinds that may read a list."""

    max_length: int | None = Field(default=None, ge=1)
    """At most so many entries of a list are read; the others are counted. null: all."""
    keep: Literal["first", "last"] = "first"
    """Which entries a list longer than max_length keeps."""

    @property
    def cut(self) -> Cut | None:
        return None if self.max_length is None else Cut(self.max_length, self.keep)


class SparseFeature(FeatureSettings):
    """The base of the kinds whose values become rows of an embedding table."""

    table: Name | None = None
    """Embedding table; null: one of its own."""
    # FBGEMM's kernels take no other width, and say so late and on one rank.
    dim: int | None = Field(default=None, ge=4, le=8192, multiple_of=4)
    """Width of an embedding row."""
    pooling: Literal["sum", "mean"] | None = None
    """How a list's rows are joined; null: as the table's other features, sum."""
    ids_per_row: float = Field(default=1.0, gt=0)
    """Average length of a list, for the sharding planner."""

    @property
    def table_rows(self) -> int | None:
        """Rows of its table, where it says how many."""
        return getattr(self, "rows", None)

    def lenient(self) -> SparseFeature:
        """The same feature, which counts bad ids and refuses none: for looking at a log."""
        return self

    @property
    def table_name(self) -> str:
        return self.table if self.table is not None else self.name

    @property
    def row_meaning(self) -> tuple[object, ...]:
        """What decides which row a value gets, beyond the number of rows: alike for all features
        of a table."""
        return ()

    def carried_rows(self, then: Any, rows_then: int, rows_now: int) -> list[tuple[int, int, int]]:
        """Where the rows of a table lie that was trained as `then` (settings of the same kind):
        (first row now, first row then, number of rows). Raises ValueError with the reason where
        they mean something else now."""
        if rows_now < rows_then:
            raise ValueError(f"it had {rows_then:,} rows and has only {rows_now:,}")
        return [(0, 0, rows_then)]


class LookupFeature(SparseFeature, OneColumn, ReadsList):
    """The base of the kinds that make a row of each value of one column."""

    @property
    def code_meaning(self) -> tuple[object, ...]:
        """What a value counts as in a cross: its row. Equal ones mean the same."""
        return ("row", self.kind, *self.row_meaning)


class HashFeature(LookupFeature):
    """Integers or strings, or lists of them: 64-bit mix, then modulo `rows`."""

    kind: Literal["hash"]
    rows: int | None = Field(default=None, ge=1)

    @property
    def code_meaning(self) -> tuple[object, ...]:
        return ("value",)

    def carried_rows(self, then: Any, rows_then: int, rows_now: int) -> list[tuple[int, int, int]]:
        super().carried_rows(then, rows_then, rows_now)
        return carried_hashes(rows_then, rows_now)


def carried_hashes(rows_then: int, rows_now: int) -> list[tuple[int, int, int]]:
    """As `carried_rows`, of a table whose rows are hashes modulo their number."""
    if rows_now % rows_then:
        raise ValueError(
            f"{rows_now:,} rows are no multiple of {rows_then:,}: its ids would hash into the "
            "rows of others"
        )
    # mix(id) mod kR, taken mod R, is mix(id) mod R: each row begins as what its ids shared.
    return [(first, 0, rows_then) for first in range(0, rows_now, rows_then)]


class IdFeature(LookupFeature):
    """Integers (or lists) already in [0, rows)."""

    kind: Literal["id"]
    rows: int | None = Field(default=None, ge=1)
    out_of_range: Literal["error", "drop", "clamp"] = "error"
    """drop: the id is left out of its bag; clamp: the last row. Counted."""

    @property
    def code_meaning(self) -> tuple[object, ...]:
        return ("value",)

    def lenient(self) -> IdFeature:
        return self.model_copy(update={"out_of_range": "drop"})


class BucketizeFeature(LookupFeature):
    """A number cut at `boundaries`: row i holds boundaries[i-1] <= x < boundaries[i]."""

    kind: Literal["bucketize"]
    boundaries: tuple[float, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _ascending(self) -> BucketizeFeature:
        for low, high in pairwise(self.boundaries):
            if low >= high:
                raise ValueError(f"boundaries must rise strictly: {low:g} is not below {high:g}")
        return self

    @property
    def rows(self) -> int:
        return len(self.boundaries) + 1

    @property
    def row_meaning(self) -> tuple[object, ...]:
        return self.boundaries

    def carried_rows(self, then: Any, rows_then: int, rows_now: int) -> list[tuple[int, int, int]]:
        if then.boundaries != self.boundaries:
            raise ValueError("its boundaries have changed, so that its rows mean something else")
        return super().carried_rows(then, rows_then, rows_now)


class VocabFeature(LookupFeature):
    """Known values get a row each, in the order given; any other value shares row 0."""

    kind: Literal["vocab"]
    values: tuple[str | int, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _unique(self) -> VocabFeature:
        if len({type(v) for v in self.values}) > 1:
            raise ValueError("values must be all text or all integers; put the numbers into quotes")
        twice = [value for value, count in Counter(self.values).items() if count > 1]
        if twice:
            raise ValueError(f"values must be unique: {twice[0]!r} stands there more than once")
        return self

    @property
    def rows(self) -> int:
        return len(self.values) + 1

    @property
    def row_meaning(self) -> tuple[object, ...]:
        return self.values

    def carried_rows(self, then: Any, rows_then: int, rows_now: int) -> list[tuple[int, int, int]]:
        if then.values != self.values[: len(then.values)]:
            raise ValueError("its values are not the old ones with others added at the end")
        return super().carried_rows(then, rows_then, rows_now)


class Standardize(Section):
    mean: float
    std: float = Field(gt=0)


class DenseSettings(FeatureSettings):
    """The base of the kinds whose values become numbers of the dense part."""

    missing: float = 0.0
    """Takes the place of null and NaN (raw units)."""


class NumberFeature(DenseSettings):
    """The base of the kinds that make one number: fill missing, log1p, clip, then standardize."""

    transform: Literal["none", "log1p"] = "none"
    """log1p: sign(x) log(1+|x|)."""
    clip: tuple[float, float] | None = None
    """Limits after the transform."""
    standardize: Standardize | None = None
    """(x - mean) / std, applied last."""

    @model_validator(mode="after")
    def _clip_ordered(self) -> Self:
        if self.clip is not None and self.clip[0] >= self.clip[1]:
            raise ValueError(f"clip must rise: {self.clip[0]:g} is not below {self.clip[1]:g}")
        return self


class DenseFeature(NumberFeature, OneColumn):
    """A column's number, fed to the dense part."""

    kind: Literal["dense"]
