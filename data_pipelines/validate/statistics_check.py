"""Holds decoded values against the footer's statistics of them: two witnesses of the same rows.

A damaged footer or page header can make good bytes into other values, and no checksum covers it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from data_pipelines.reading.list_slots import num_slots
from marigold_rec.parquet.column_chunks import ColumnChunk


class StatisticsCheck:
    """Of one row group, fed by pieces of it."""

    def __init__(self, chunks: Sequence[ColumnChunk], schema: pa.Schema) -> None:
        """`schema`: the file's own, in whose types the statistics are written. Of lists only the
        number of values is looked at."""
        self._schema = schema
        self._chunks = {chunk.path: chunk for chunk in chunks if chunk.path == chunk.column}
        self._lists = {
            chunk.column: chunk
            for chunk in chunks
            if chunk.path.removeprefix(f"{chunk.column}.").count(".") == 1
            and chunk.path != chunk.column
        }
        self._slots: dict[str, int] = {}
        self._nulls: dict[str, int] = {}
        self._least: dict[str, float] = {}
        self._greatest: dict[str, float] = {}
        self._kinds: dict[str, pa.DataType] = {}

    def add(self, table: pa.Table) -> None:
        for name in table.column_names:
            slots = num_slots(table.column(name)) if name in self._lists else None
            if slots is not None:
                self._slots[name] = self._slots.get(name, 0) + slots
            if name not in self._chunks:
                continue
            column = table.column(name)
            self._nulls[name] = self._nulls.get(name, 0) + column.null_count
            kind = self._kinds[name] = _written(self._schema.field(name).type)
            if not (pat.is_signed_integer(kind) or pat.is_float32(kind) or pat.is_float64(kind)):
                continue
            extremes = cast(dict[str, Any], pc.call_function("min_max", [column]).as_py())
            least, greatest = extremes["min"], extremes["max"]
            # NaN: Parquet's writers leave them out, min_max does so only where others are.
            if least is None or least != least:
                continue
            self._least[name] = min(least, self._least.get(name, least))
            self._greatest[name] = max(greatest, self._greatest.get(name, greatest))

    def problems(self) -> list[str]:
        """One line per column whose values can't be those that were written."""
        lines = [
            f"column {name!r} holds {slots:,} values, written were {self._lists[name].num_values:,}"
            for name, slots in self._slots.items()
            if slots != self._lists[name].num_values
        ]
        for name, nulls in self._nulls.items():
            chunk = self._chunks[name]
            if chunk.nulls is not None and chunk.nulls != nulls:
                lines.append(f"column {name!r} has {nulls:,} nulls, written were {chunk.nulls:,}")
            least = _number(chunk.least, self._kinds[name])
            greatest = _number(chunk.greatest, self._kinds[name])
            if least is None or greatest is None or name not in self._least:
                continue
            if self._least[name] < least or self._greatest[name] > greatest:
                lines.append(
                    f"column {name!r} holds {self._least[name]:g} to {self._greatest[name]:g}, "
                    f"written were {least:g} to {greatest:g}"
                )
        return lines


def _written(kind: pa.DataType) -> pa.DataType:
    """Without dictionaries, which Parquet writes as their values; a decimal stays one."""
    return kind.value_type if pat.is_dictionary(kind) else kind


def _number(plain: bytes | None, kind: pa.DataType) -> float | None:
    if plain is None:
        return None
    if pat.is_signed_integer(kind):
        code = {4: "<i", 8: "<q"}.get(len(plain))
    else:
        code = {"float": "<f", "double": "<d"}.get(str(kind))
    if code is None or struct.calcsize(code) != len(plain):
        return None
    return struct.unpack(code, plain)[0]
