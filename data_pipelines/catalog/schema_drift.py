"""Compares the schemas of a split's files with that of its first file, or with a pinned one.

pyarrow's own dataset reader casts string to integer, fills a missing column with nulls and drops a
new one, all without a word.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import pyarrow as pa

from marigold_rec.transforms.arrow_types import common_type, plain_type, same_meaning


def column_types(schema: pa.Schema) -> dict[str, str]:
    """Column -> type as text, without what is storage and not meaning (dictionaries, say).

    A name that is there twice has no type.
    """
    doubled = set(twice(schema))
    return {f.name: str(plain_type(f.type)) for f in schema if f.name not in doubled}


def twice(schema: pa.Schema) -> list[str]:
    """Names that more than one column has."""
    names = schema.names
    return [name for name in dict.fromkeys(names) if names.count(name) > 1]


def common_schema(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """The first one's columns, of types that hold the values of all; names that are there twice
    are left out. Where a column has no common type (nobody reads it then), it keeps its first."""
    joined = {f.name: f.type for f in schemas[0] if f.name not in twice(schemas[0])}
    for schema in schemas[1:]:
        if schema.equals(schemas[0]):
            continue
        for name in set(joined) & (set(schema.names) - set(twice(schema))):
            kind = schema.field(name).type
            if kind != joined[name]:
                joined[name] = common_type(joined[name], kind) or joined[name]
    return pa.schema(list(joined.items()))


def schema_drift(
    path: str,
    found: Mapping[str, str],
    reference: str,
    expected: Mapping[str, str],
    needed: Collection[str] | None,
) -> tuple[list[str], list[str]]:
    """(errors, warnings), one line each, about the file at `path`, by `column_types`.

    A column that is missing or of another type is an error if it is in `needed` (None: all are),
    else a warning; a new column is a warning. `reference` is the path of what holds `expected`.
    """
    errors: list[str] = []
    warnings: list[str] = []
    for name, wanted in expected.items():
        lines = errors if needed is None or name in needed else warnings
        if name not in found:
            lines.append(f"{path}: column {name!r} is missing; {reference} has it as {wanted}")
        elif not same_meaning(found[name], wanted):
            lines.append(
                f"{path}: column {name!r} is {found[name]}, expected {wanted} as in {reference}"
            )
    for name in found:
        if name not in expected:
            is_read = needed is not None and name in needed
            then = "the config reads it all the same" if is_read else "it is not read"
            warnings.append(f"{path}: column {name!r} is new, {reference} does not have it; {then}")
    return errors, warnings
