"""`cross`: a tuple of values -> a row of a table, by hashing.

row = mix(... mix(mix(code_1 + salt) + code_2) ... + code_k) as unsigned 64 bit, mod rows
mix, salt: those of `hash`: a cross of one part would be the same as hashing it
code: of `hash` and `id` the 64 bits of the value (as `hash` counts it); of `vocab` and `bucketize`
      the row, since these say which values are to be one

Shapes: N rows of the log, V values of its list part.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, Self

import numpy as np
import pyarrow as pa
from pydantic import Field, PrivateAttr, SerializeAsAny, ValidationInfo, WrapValidator

from marigold_rec.config.components import FEATURES, OneOf
from marigold_rec.config.features import (
    Cut,
    FeatureSettings,
    HashFeature,
    LookupFeature,
    SparseFeature,
    carried_hashes,
)
from marigold_rec.transforms.arrow_types import is_list
from marigold_rec.transforms.columns import lone_array
from marigold_rec.transforms.hashing import mix64, modulo, salt_of
from marigold_rec.transforms.jagged import flatten
from marigold_rec.transforms.kinds import Input, SparseKind, kind_of
from marigold_rec.transforms.rows import Bags, BagTransform, RowLookup, Rows

_ONE_OF = OneOf(FEATURES, "kind")


def _part(value: Any, handler: Any, info: ValidationInfo) -> Any:
    """A part is text, or settings whose name may be left out."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and "column" in value:
        value = {"name": value["column"], **value}
    if not isinstance(value, dict | FeatureSettings):
        raise ValueError(f"found {value!r}; name a feature or a column, or give settings of one")
    return _ONE_OF.validate(value, handler, info)


Part = Annotated[str | SerializeAsAny[FeatureSettings], WrapValidator(_part), _ONE_OF]


class CrossFeature(SparseFeature):
    """Values of several columns together: their tuple is hashed, modulo `rows`."""

    kind: Literal["cross"]
    of: tuple[Part, ...] = Field(min_length=2)
    """Its parts: names of other features (hash, id, vocab, bucketize), columns of ids, or features
    given here, which have no table: {column: price, kind: bucketize, boundaries: [1, 10]}. One may
    be a list: each of its values is crossed. Where a part is missing, so is the cross."""
    rows: int | None = Field(default=None, ge=1)
    _parts: tuple[FeatureSettings, ...] = PrivateAttr(())

    def model_post_init(self, _: Any) -> None:
        self._parts = self._found({})

    @property
    def parts(self) -> tuple[FeatureSettings, ...]:
        """The settings of what `of` names."""
        return self._parts

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(column for part in self._parts for column in part.columns))

    def with_parts(self, features: Mapping[str, FeatureSettings]) -> Self:
        known = self.model_copy()
        known._parts = self._found(features)
        return known

    def _found(self, features: Mapping[str, FeatureSettings]) -> tuple[FeatureSettings, ...]:
        return tuple(self._settings(part, features) for part in self.of)

    def _settings(
        self, part: str | FeatureSettings, features: Mapping[str, FeatureSettings]
    ) -> FeatureSettings:
        if isinstance(part, FeatureSettings):
            return part
        if part in features and part != self.name:
            return features[part]
        return HashFeature(kind="hash", name=self.name, column=part)

    def part_problems(self) -> list[str]:
        lines: list[str] = []
        for place, (given, part) in enumerate(zip(self.of, self._parts, strict=True)):
            if not isinstance(part, LookupFeature):
                lines.append(
                    f"of: {part.name!r} is of kind {part.kind}, whose values have no rows to "
                    "cross: name a feature of kind hash, id, vocab or bucketize, or give one here, "
                    f"{{column: {part.columns[0]}, kind: bucketize, boundaries: [...]}}, say"
                )
            elif isinstance(given, LookupFeature):
                lines += [
                    f"of.{place}.{key}: a part that is given here is no feature; remove it, or "
                    "make the part a feature and name it"
                    for key in ("table", "dim", "pooling", "tasks")
                    if getattr(given, key) is not None
                ]
        given = Counter(part.name for part in self.of if isinstance(part, FeatureSettings))
        return lines + [
            f"of: two parts are called {name!r}; give one another name"
            for name, count in given.items()
            if count > 1
        ]

    @property
    def row_meaning(self) -> tuple[object, ...]:
        return tuple(p.code_meaning for p in self._parts if isinstance(p, LookupFeature))

    def carried_rows(self, then: Any, rows_then: int, rows_now: int) -> list[tuple[int, int, int]]:
        if [part.columns for part in then.parts] != [part.columns for part in self._parts]:
            raise ValueError("its parts were others, or stood in another order")
        for before, now in zip(then.parts, self._parts, strict=True):
            _require_same_codes(before, now)
        super().carried_rows(then, rows_then, rows_now)
        return carried_hashes(rows_then, rows_now)


def _require_same_codes(before: Any, now: Any) -> None:
    if before.code_meaning == now.code_meaning:
        return
    if before.kind != now.kind:
        raise ValueError(f"its part {now.name!r} was of kind {before.kind}, and is {now.kind}")
    try:
        now.carried_rows(before, 1, 1)  # a vocabulary may have grown
    except ValueError as error:
        raise ValueError(f"its part {now.name!r}: {error}") from error


@dataclass(frozen=True)
class PartCodes:
    """One part of a cross."""

    column: str
    cut: Cut | None
    codes: RowLookup

    def of_rows(self, array: pa.Array) -> tuple[np.ndarray, np.ndarray | None]:
        """(uint64 [N], bool [N] where there is a value; None: everywhere) of single values."""
        found = self.codes(array.drop_null() if array.null_count else array)
        codes, keep = found.rows_V.view(np.uint64), found.keep_V
        if not array.null_count:
            return codes, keep
        is_there_N = array.is_valid().to_numpy(zero_copy_only=False)
        codes_N = np.zeros(len(array), np.uint64)
        codes_N[is_there_N] = codes
        if keep is not None:
            is_there_N[is_there_N] = keep
        return codes_N, is_there_N


@dataclass(frozen=True)
class CrossRows:
    """Rows of table `table`, which has `rows` rows."""

    table: str
    rows: int
    parts: tuple[PartCodes, ...]

    def __call__(self, table: pa.Table) -> Bags:
        mixed: Any = salt_of(self.table)
        is_there_N = keep_V = lengths_N = row_of_V = None
        counts = Counter[str]()
        for part in self.parts:
            array = lone_array(table.column(part.column))
            if is_list(array.type):
                flat = flatten(array, part.cut)
                found = part.codes(flat.values)
                codes, keep_V = found.rows_V.view(np.uint64), found.keep_V
                lengths_N = flat.lengths
                counts.update(flat.counts)
                assert lengths_N is not None, "a list has a length"
                row_of_V = np.repeat(np.arange(table.num_rows), lengths_N)
                mixed = mixed if np.isscalar(mixed) else mixed[row_of_V]
            else:
                codes, found_N = part.of_rows(array)
                if found_N is not None:
                    is_there_N = found_N if is_there_N is None else is_there_N & found_N
                codes = codes if row_of_V is None else codes[row_of_V]
            mixed = mix64(codes + mixed)
        if keep_V is not None:
            counts["missing"] += int(np.count_nonzero(~keep_V))
        if is_there_N is not None:
            counts["missing"] += int(np.count_nonzero(~is_there_N))
            is_there = is_there_N if row_of_V is None else is_there_N[row_of_V]
            keep_V = is_there if keep_V is None else keep_V & is_there
        found = {what: count for what, count in counts.items() if count}
        return Bags(Rows(modulo(mixed, self.rows), keep_V), lengths_N, found)


class Cross(SparseKind):
    """`kind: cross`."""

    Settings = CrossFeature

    @classmethod
    def inputs(cls, feature: CrossFeature) -> tuple[Input, ...]:
        reads: list[Input] = []
        for given, part in zip(feature.of, feature.parts, strict=True):
            [read] = kind_of(part).inputs(part)
            if given == read.column and isinstance(part, HashFeature):
                cut = f"{{column: {given}, kind: bucketize, boundaries: [...]}}"
                read = replace(read, wants=f"{read.wants}, or of a number {cut}")
            reads.append(read)
        return tuple(reads)

    @classmethod
    def type_problems(cls, feature: CrossFeature, types: Mapping[str, pa.DataType]) -> list[str]:
        lists = [c for part in feature.parts for c in part.columns if is_list(types[c])]
        if len(lists) <= 1:
            return []
        return [
            f"of: columns {' and '.join(map(repr, lists))} hold lists; one part of a cross may, "
            "the others must hold single values"
        ]

    @classmethod
    def transform(cls, feature: CrossFeature, rows: int) -> BagTransform:
        parts: list[PartCodes] = []
        for part in feature.parts:
            assert isinstance(part, LookupFeature), "the config's checks refuse it"
            parts.append(PartCodes(part.source, part.cut, kind_of(part).codes(part)))
        return CrossRows(feature.table_name, rows, tuple(parts))
