"""Which files of a split can't be used, and what to do about them: `data.on_bad_file`.

Bad is a file whose footer can't be read, or whose schema does not fit the others. Damage inside a
row group shows only when it is read: by then every rank's rows are fixed, and the run fails.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import pyarrow as pa

from data_pipelines.catalog.footers import Footer
from data_pipelines.catalog.pinned_schema import PinnedSchema
from data_pipelines.catalog.schema_drift import column_types, common_schema, schema_drift, twice
from data_pipelines.catalog.storage import ListedFile
from marigold_rec.errors import DataError

OnBadFile = Literal["fail", "skip", "collect"]
"""collect: leave out however many there are, and go on as long as one is whole (validation)."""


@dataclass
class Judged:
    """What the footers say of a split's files."""

    good: list[tuple[ListedFile, Footer]] = field(default_factory=list)
    broken: dict[str, list[str]] = field(default_factory=dict)
    """Path -> why: no readable footer."""
    drifted: dict[str, list[str]] = field(default_factory=dict)
    """Path -> how its schema does not fit."""
    warnings: list[str] = field(default_factory=list)

    @property
    def bad(self) -> dict[str, list[str]]:
        return self.broken | self.drifted


def judge_files(
    files: Sequence[ListedFile],
    footers: Sequence[Footer | str],
    needed: Collection[str] | None,
    pinned: PinnedSchema | None,
) -> Judged:
    """Drift is judged by the pinned schema and, where that is silent, by the first whole file."""
    judged = Judged()
    notes: dict[str, list[str]] = {}
    first: tuple[str, Mapping[str, str]] | None = None
    schemas: list[pa.Schema] = []
    for file, footer in zip(files, footers, strict=True):
        if isinstance(footer, str):
            judged.broken[file.path] = [footer]
            continue
        types = column_types(footer.schema)
        errors, warnings = _doubled(file.path, footer.schema, needed)
        if pinned is not None:
            found = schema_drift(file.path, types, pinned.path, pinned.types, needed)
            errors += found[0]
            warnings += found[1]
        if first is not None:
            known = {} if pinned is None else pinned.types
            mine, others = (
                {n: t for n, t in x.items() if n not in known} for x in (types, first[1])
            )
            found = schema_drift(file.path, mine, first[0], others, needed)
            errors += found[0]
            # A column that is new to the pinned schema has been told of already.
            warnings += found[1] if pinned is None else []
        if errors:
            judged.drifted[file.path] = errors
            continue
        if first is None:
            first, schemas = (file.path, types), [footer.schema]
        elif types != first[1]:
            # What later files are held against: an int64 behind an int32 or a null.
            schemas = [common_schema([*schemas, footer.schema])]
            first = (first[0], column_types(schemas[0]))
        judged.good.append((file, footer))
        for warning in warnings:
            notes.setdefault(warning.removeprefix(f"{file.path}: "), []).append(file.path)
    judged.warnings = [
        f"{paths[0]}{f' and {len(paths) - 1} more files' if len(paths) > 1 else ''}: {text}"
        for text, paths in notes.items()
    ]
    return judged


def _doubled(
    path: str, schema: pa.Schema, needed: Collection[str] | None
) -> tuple[list[str], list[str]]:
    """(errors, warnings): names that more than one column has, an error where it is read."""
    errors: list[str] = []
    warnings: list[str] = []
    for name in twice(schema):
        is_read = needed is not None and name in needed
        line = f"{path}: column {name!r} is there {schema.names.count(name)} times"
        if is_read:
            errors.append(f"{line}: which of them is meant is not known; write it once")
        else:
            warnings.append(f"{line}; it is not read")
    return errors, warnings


def refuse_or_skip(
    judged: Judged, files: Sequence[ListedFile], policy: OnBadFile, max_skipped: float
) -> None:
    """Raises DataError that lists the bad files, unless few enough of them may be skipped."""
    bad = judged.bad
    if not bad:
        return
    lines = [line for reasons in bad.values() for line in reasons]
    if policy == "fail":
        if judged.broken:
            raise DataError(
                f"{len(judged.broken)} of {len(files)} files are broken:\n"
                + "\n".join(line for reasons in judged.broken.values() for line in reasons)
                + "\nwrite them again or move them away"
            )
        raise DataError([*lines, "write these files again alike, or move them away"])
    if policy == "collect" and judged.good:
        return
    if len(bad) > max_skipped * len(files) or not judged.good:
        raise DataError(
            [
                f"{len(bad)} of {len(files)} files would be skipped, more than "
                f"data.max_skipped_files ({max_skipped:.2%}) allows:",
                *lines,
                "write them again, move them away or raise the share",
            ]
        )
    # A day that is gone must be as loud as one that never came.
    lost = {file.day for file in files if file.path in bad} - {file.day for file, _ in judged.good}
    if days := sorted(str(day) for day in lost if day is not None):
        raise DataError(
            [f"every file of {', '.join(days)} would be skipped:", *lines, "write them again"]
        )
