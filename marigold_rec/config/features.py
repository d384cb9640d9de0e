"""The kinds of feature: from a column to ids of a table, or to a number of the dense part."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator

from marigold_rec.config.names import Name
from marigold_rec.config.section import Section


class _Feature(Section):
    name: Name
    column: str | None = Field(
        default=None, description="Parquet column; null: the feature's name."
    )

    @property
    def source(self) -> str:
        return self.column if self.column is not None else self.name


class _SparseFeature(_Feature):
    table: Name | None = Field(default=None, description="Embedding table; null: one of its own.")
    dim: int | None = Field(
        default=None,
        ge=4,
        le=8192,
        multiple_of=4,  # FBGEMM's kernels take no other, and say so late and on one rank
        description="Width of an embedding row.",
    )
    pooling: Literal["sum", "mean"] | None = Field(
        default=None,
        description="How a list's rows are joined; null: as the table's other features, sum.",
    )

    ids_per_row: float = Field(
        default=1.0, gt=0, description="Average length of a list, for the sharding planner."
    )

    @property
    def table_name(self) -> str:
        return self.table if self.table is not None else self.name


class HashFeature(_SparseFeature):
    """Integers or strings, or lists of them: 64-bit mix, then modulo `rows`."""

    kind: Literal["hash"]
    rows: int | None = Field(default=None, ge=1)


class IdFeature(_SparseFeature):
    """Integers (or lists) already in [0, rows)."""

    kind: Literal["id"]
    rows: int | None = Field(default=None, ge=1)
    out_of_range: Literal["error", "drop", "clamp"] = Field(
        default="error",
        description="drop: the id is left out of its bag; clamp: the last row. Counted.",
    )


class BucketizeFeature(_SparseFeature):
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


class VocabFeature(_SparseFeature):
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


class Standardize(Section):
    mean: float
    std: float = Field(gt=0)


class DenseFeature(_Feature):
    """A number fed to the dense part: fill missing, then log1p, then clip, then standardize."""

    kind: Literal["dense"]
    missing: float = Field(default=0.0, description="Takes the place of null and NaN (raw units).")
    transform: Literal["none", "log1p"] = Field(
        default="none", description="log1p: sign(x) log(1+|x|)."
    )
    clip: tuple[float, float] | None = Field(
        default=None, description="Limits after the transform."
    )
    standardize: Standardize | None = Field(
        default=None, description="(x - mean) / std, applied last."
    )

    @model_validator(mode="after")
    def _clip_ordered(self) -> DenseFeature:
        if self.clip is not None and self.clip[0] >= self.clip[1]:
            raise ValueError(f"clip must rise: {self.clip[0]:g} is not below {self.clip[1]:g}")
        return self


SparseFeature = HashFeature | IdFeature | BucketizeFeature | VocabFeature
Feature = Annotated[SparseFeature | DenseFeature, Field(discriminator="kind")]
