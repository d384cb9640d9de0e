"""Compares the schemas of a split's files with that of its first file, or with a pinned one.

pyarrow's own dataset reader casts string to integer, fills a missing column with nulls and drops a
new one, all without a word.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pyarrow as pa

from marigold_rec.transforms import plain_type


def column_types(schema: pa.Schema) -> dict[str, str]:
    """Column -> type as text, without what is storage and not meaning (dictionaries, say)."""
    return {field.name: str(plain_type(field.type)) for field in schema}


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
        elif found[name] != wanted:
            lines.append(
                f"{path}: column {name!r} is {found[name]}, expected {wanted} as in {reference}"
            )
    for name in found:
        if name not in expected:
            is_read = needed is not None and name in needed
            then = "the config reads it all the same" if is_read else "it is not read"
            warnings.append(f"{path}: column {name!r} is new, {reference} does not have it; {then}")
    return errors, warnings
