"""Recognises tables of Delta Lake, Iceberg and Hudi, which are more than their Parquet files.

Their folders hold dead files beside live ones: rows that were deleted, updated or compacted. Which
files live, only the table's own log says; who reads them all learns deleted users too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NoReturn, Protocol, TypeVar

from marigold_rec.errors import DataError

_Found = TypeVar("_Found")

_MARKS = {"_delta_log": "Delta Lake", ".hoodie": "Apache Hudi"}
"""A folder's name -> the format whose tables hold one."""
_ICEBERG = "metadata"
"""Holds Iceberg's own files, 00000-....metadata.json among them."""


class Look(Protocol):
    """A look at the file system on which a log stands."""

    def exists(self, path: str) -> bool: ...

    def ls(self, path: str) -> list[str]: ...


def refuse_tables(where: str, roots: Iterable[str], paths: Iterable[str], look: Look) -> None:
    """Raises DataError where the log `where` is such a table, holds one or lies in one.

    `roots`: the log's folder (or file), under all its names. `paths`: every file below, hidden ones
    too.
    """
    folders: dict[str, bool] = {}
    for path in paths:
        folder, _, name = path.rpartition("/")
        folders[folder] = folders.get(folder, False) or _is_iceberg(name)
    for folder, is_iceberg in folders.items():
        parts = folder.split("/")
        for i, part in enumerate(parts):
            if part in _MARKS:
                _refuse(where, "/".join(parts[:i]), _MARKS[part])
        if is_iceberg and parts[-1] == _ICEBERG:
            _refuse(where, "/".join(parts[:-1]), "Apache Iceberg")
    for folder in dict.fromkeys(above for root in roots for above in _above(root)):
        for mark, kind in _MARKS.items():
            if _told(look.exists, f"{folder}/{mark}", False):
                _refuse(where, folder, kind)
        inside = f"{folder}/{_ICEBERG}"
        if _told(look.exists, inside, False) and any(map(_is_iceberg, _told(look.ls, inside, []))):
            _refuse(where, folder, "Apache Iceberg")


def _above(root: str) -> Iterable[str]:
    """The folder itself and those that it lies in: there may be no file of the table below it."""
    folder = root.rstrip("/")
    while folder:
        yield folder
        folder = folder.rpartition("/")[0]


def _is_iceberg(name: str) -> bool:
    return ".metadata.json" in name


def _told(ask: Callable[[str], _Found], path: str, otherwise: _Found) -> _Found:
    try:
        return ask(path)
    except Exception:
        # A storage library may raise anything; who may read a log may not see above it.
        return otherwise


def _refuse(where: str, table: str, kind: str) -> NoReturn:
    raise DataError(
        f"{where}: {table} is a table of {kind}: beside its live files lie dead ones (deleted and "
        "replaced rows), and only the table's own log tells them apart; export its live rows, with "
        "a reader of that format, as plain Parquet files, and name their folder (data.path)"
    )
