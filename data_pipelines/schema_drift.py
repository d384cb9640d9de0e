"""Compares the schemas of a split's files with that of its first file.

pyarrow's own dataset reader casts string to integer, fills a missing column with nulls and drops a
new one, all without a word.
"""

from __future__ import annotations

from collections.abc import Collection

import pyarrow as pa

from marigold_rec.transforms import plain_type


def schema_drift(
    path: str,
    found: pa.Schema,
    first_path: str,
    expected: pa.Schema,
    needed: Collection[str] | None,
) -> tuple[list[str], list[str]]:
    """(errors, warnings), one line each, about the file at `path`.

    A column that is missing or of another type is an error if it is in `needed` (None: all are),
    else a warning; a new column is a warning. Dictionary encoding is no difference.
    """
    errors: list[str] = []
    warnings: list[str] = []
    found_types = {field.name: plain_type(field.type) for field in found}
    for field in expected:
        wanted = plain_type(field.type)
        lines = errors if needed is None or field.name in needed else warnings
        if field.name not in found_types:
            lines.append(
                f"{path}: column {field.name!r} is missing; {first_path} has it as {wanted}"
            )
        elif found_types[field.name] != wanted:
            lines.append(
                f"{path}: column {field.name!r} is {found_types[field.name]}, expected {wanted} as "
                f"in {first_path}"
            )
    known = set(expected.names)
    warnings += [
        f"{path}: column {name!r} is new, {first_path} does not have it; it is not read"
        for name in found_types
        if name not in known
    ]
    return errors, warnings
