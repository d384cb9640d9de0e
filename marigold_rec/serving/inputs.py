"""What a caller hands over -> an Arrow table of the model's columns, checked in the caller's terms.

A null is legal where it was in training: an empty bag, or a dense feature's `missing`.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.types as pat

from marigold_rec.config.features import FeatureSettings
from marigold_rec.config.nearest import did_you_mean
from marigold_rec.errors import DataError
from marigold_rec.transforms.arrow_types import is_bytes, is_list, is_text, plain_type
from marigold_rec.transforms.columns import cast_table
from marigold_rec.transforms.feature_transforms import FeatureTransforms
from marigold_rec.transforms.kinds import kind_of

_LEAD = "the rows to predict: "


class Inputs:
    """Makes tables with every column that the features read."""

    def __init__(
        self,
        features: Sequence[FeatureSettings],
        transforms: FeatureTransforms,
        trained_on: Mapping[str, str] | None,
    ) -> None:
        """`trained_on`: column -> `column_kind` in training; None: not known."""
        self._transforms = transforms
        self._trained_on = dict(trained_on or {})
        self._if_all_null = {
            read.column: read.usual_type
            for f in reversed(features)
            for read in kind_of(f).inputs(f)
        }
        self._checked = (pa.schema([]), pa.schema([]))

    def table(self, rows: Any) -> pa.Table:
        """Raises DataError: a column is missing, of a wrong type, or of another length."""
        table = self._columns(rows)
        if not table.num_columns:
            wanted = ", ".join(self._transforms.columns)
            raise DataError(f"{_LEAD}none of the model's columns is there; expected {wanted}")
        # A service asks with the same types again and again, and a row's check takes as long as
        # its predictions. (Threads that write here at once write what is right for either.)
        found, schema = self._checked
        if table.schema != found:
            schema = self.check(table.schema)
            self._checked = (table.schema, schema)
        return table if table.schema == schema else cast_table(table, schema)

    def check(self, schema: pa.Schema) -> pa.Schema:
        """The columns' types as they are read: one without any value may have none of its own.

        Raises DataError with one line per column that is missing or of a wrong type.
        """
        _require_once(self._transforms.columns, schema.names)
        wanted = [name for name in self._transforms.columns if name in schema.names]
        schema = pa.schema([(name, self._type(name, schema.field(name).type)) for name in wanted])
        problems = self._transforms.check_types(schema)
        if problems:
            raise DataError([f"{_LEAD}{problem}" for problem in problems])
        for name, kind in self._trained_on.items():
            found = column_kind(schema.field(name).type)
            if found != kind:
                # It would be transformed without a complaint, and otherwise than in training:
                # the number 7 and the text "7" are different ids.
                problems.append(
                    f"{_LEAD}column {name!r} is {schema.field(name).type} ({found}); in training "
                    f"it was {kind}: convert it"
                )
        if problems:
            raise DataError(problems)
        return schema

    def _columns(self, rows: Any) -> pa.Table:
        """The columns that the features read, of those that are there."""
        wanted = self._transforms.columns
        if isinstance(rows, pa.RecordBatch):
            rows = pa.Table.from_batches([rows])
        if isinstance(rows, pa.Table):
            names = rows.column_names
            _require_once(wanted, names)
            return rows.select([name for name in wanted if name in names])
        pandas = sys.modules.get("pandas")  # whoever has a frame has imported it
        if pandas is not None and isinstance(rows, pandas.DataFrame):
            names = list(rows.columns)
            _require_once(wanted, names)
            return _table({name: rows[name] for name in wanted if name in names})
        if isinstance(rows, Mapping):
            return _table(self._of_mapping(rows))
        if isinstance(rows, list | tuple) and all(isinstance(row, Mapping) for row in rows):
            return _table(self._of_rows(rows))
        raise DataError(
            f"{_LEAD}found {type(rows).__name__}, expected a pyarrow.Table, a pandas.DataFrame, a "
            "dict of columns, or a list of dicts (one per row)"
        )

    def _of_mapping(self, rows: Mapping[str, Any]) -> dict[str, Any]:
        found = {name: rows[name] for name in self._transforms.columns if name in rows}
        scalars = [name for name, value in found.items() if _is_scalar(value)]
        if scalars and len(scalars) < len(found):
            # A list beside a number may be a bag of ids or a column: either guess could be wrong.
            others = [name for name in found if name not in scalars]
            raise DataError(
                f"{_LEAD}{scalars[0]!r} is one value and {others[0]!r} is a list; give one row as "
                "[{...}], a list of dicts, or every column as a list with an entry per row"
            )
        return {name: [value] for name, value in found.items()} if scalars else found

    def _of_rows(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        # A key that a row lacks must not be taken for a null: it may be misspelt.
        for number, row in enumerate(rows):
            for name in self._transforms.columns:
                if name not in row:
                    raise DataError(
                        f"{_LEAD}row {number} has no {name!r}; {did_you_mean(name, map(str, row))}"
                    )
        return {name: [row[name] for row in rows] for name in self._transforms.columns}

    def _type(self, name: str, kind: pa.DataType) -> pa.DataType:
        """`kind`, or where it is that of a column without a value, one that the feature knows."""
        plain = plain_type(kind)
        if pat.is_null(plain):
            known = self._if_all_null[name]
            in_lists = self._trained_on.get(name, "").startswith("lists")
            return _list_of(known) if in_lists else known
        if is_list(plain) and pat.is_null(plain.value_type):
            return _list_of(self._if_all_null[name])
        return plain


def _list_of(kind: pa.DataType) -> pa.DataType:
    return kind if is_list(kind) else pa.list_(kind)


def column_kinds(schema: pa.Schema, names: Iterable[str]) -> dict[str, str]:
    """`column_kind` of those of the columns that have one."""
    kinds = {name: column_kind(schema.field(name).type) for name in names}
    return {name: kind for name, kind in kinds.items() if kind is not None}


def column_kind(kind: pa.DataType) -> str | None:
    """What must be alike in training and serving: numbers, text, or lists of them. None: a column
    of nulls, which are neither.
    """
    kind = plain_type(kind)
    if pat.is_null(kind):
        return None
    if is_list(kind):
        inner = column_kind(kind.value_type)
        return None if inner is None else f"lists of {inner}"
    return "text" if is_text(kind) or is_bytes(kind) else "numbers"


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, str | bytes) or not hasattr(value, "__len__")


def _table(columns: Mapping[str, Any]) -> pa.Table:
    arrays = {name: _array(name, values) for name, values in columns.items()}
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"{_LEAD}the columns have different numbers of rows: {lengths}")
    return pa.table(arrays)


def _array(name: str, values: Any) -> pa.Array | pa.ChunkedArray:
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values
    try:
        return pa.array(values)
    except OverflowError:
        # Python's integers have no type; a table of ids beyond 2**63 holds uint64.
        with contextlib.suppress(pa.ArrowException, TypeError, ValueError, OverflowError):
            return _unsigned(values)
        raise DataError(
            f"{_LEAD}column {name!r} holds integers that don't fit 64 bits, or negative ones "
            "beside ones from 2**63 on; send them as they were in training"
        ) from None
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise DataError(f"{_LEAD}column {name!r} can't be read as one type: {error}") from error


def _unsigned(values: Any) -> pa.Array:
    """Ids, or lists of ids, from 2**63 on. Raises what pa.array raises."""
    try:
        return pa.array(values, pa.uint64())
    except (pa.ArrowException, TypeError):
        return pa.array(values, pa.list_(pa.uint64()))


def _require_once(wanted: Sequence[str], names: Sequence[Any]) -> None:
    twice = [name for name in wanted if names.count(name) > 1]
    if twice:
        raise DataError(f"{_LEAD}column {twice[0]!r} is there more than once")
