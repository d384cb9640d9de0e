"""Finds the Parquet files of a split: a file or a folder, with Hive-style dt=YYYY-MM-DD folders."""

from __future__ import annotations

import contextlib
import datetime
import re
from dataclasses import dataclass
from typing import Any

from data_pipelines.storage import FileState, Storage
from marigold_rec.errors import DataError

_SUFFIXES = (".parquet", ".parq", ".pq")
_DAY = re.compile(r"(?:^|/)dt=(\d{4}-\d{2}-\d{2})(?=/|$)")
_NAMED_DAYS = 10

Dates = tuple[datetime.date, datetime.date]


@dataclass(frozen=True)
class ListedFile:
    path: str
    size: int
    day: datetime.date | None
    """Of the dt= folder that the file lies in."""
    modified: str | None = None
    """See FileState."""


@dataclass(frozen=True)
class Listing:
    files: tuple[ListedFile, ...]
    """Sorted by path, so that every process sees the same order."""
    ignored: tuple[str, ...]
    """Other files, below the folder: not Parquet by name, or in no dt= folder when dates are asked
    for. Hidden files and those whose name or folder starts with _ are not listed at all."""


def list_files(storage: Storage, dates: Dates | None) -> Listing:
    """The Parquet files at `storage.url`; with `dates`, those of the days from first to last.

    Raises DataError when there is no file, or a day has none.
    """
    found, ignored = _find(storage)
    if not found:
        rest = f" ({len(ignored)} other files, e.g. {ignored[0]})" if ignored else ""
        raise DataError(
            f"{storage.url}: no Parquet file ({', '.join('*' + s for s in _SUFFIXES)}) is there"
            f"{rest}; check data.path"
        )
    if dates is not None:
        found, undated = _of_days(storage.url, found, dates)
        ignored += undated
    return Listing(tuple(found), tuple(ignored))


def _find(storage: Storage) -> tuple[list[ListedFile], list[str]]:
    root, infos = _all_below(storage)
    found: list[ListedFile] = []
    ignored: list[str] = []
    for path in sorted(infos):
        below = path[len(root) :].strip("/")
        if any(part.startswith(("_", ".")) for part in below.split("/")):
            continue
        # A file that was named itself is taken whatever its name.
        if below and not path.endswith(_SUFFIXES):
            ignored.append(path)
            continue
        state = FileState.of(infos[path])
        found.append(ListedFile(path, state.size, _day(path), state.modified))
    return found, ignored


def _all_below(storage: Storage) -> tuple[str, dict[str, dict[str, Any]]]:
    """The root, and path -> what the file system tells of each file at or below it."""
    infos: dict[str, dict[str, Any]] = {}
    try:
        root = storage.root.rstrip("/")
        with contextlib.suppress(FileNotFoundError):
            infos = storage.file_system.find(root, detail=True)
        is_there = bool(infos) or storage.file_system.exists(root)
    # Also an unknown protocol, or one whose library is not installed; and a storage library may
    # raise anything of its own.
    except Exception as error:
        raise DataError(
            f"{storage.url}: can't be listed ({type(error).__name__}: {error}); check data.path "
            "and the access to it"
        ) from error
    if not is_there:
        raise DataError(f"{storage.url}: there is no such file or folder; check data.path")
    return root, infos


def _day(path: str) -> datetime.date | None:
    matches = _DAY.findall(path)
    try:
        return datetime.date.fromisoformat(matches[-1]) if matches else None
    except ValueError:
        return None


def _of_days(url: str, files: list[ListedFile], dates: Dates) -> tuple[list[ListedFile], list[str]]:
    """The files of the days in `dates`, and the paths of those that are of no day."""
    first, last = dates
    days = sorted({file.day for file in files if file.day is not None})
    if not days:
        raise DataError(
            f"{url}: dates {first} to {last} are asked for, but no file lies in a folder named "
            "dt=YYYY-MM-DD; leave the dates out or partition the data by day"
        )
    wanted = [first + datetime.timedelta(days=n) for n in range((last - first).days + 1)]
    missing = sorted(set(wanted).difference(days))
    if missing:
        asked = f"{len(missing)} of the {len(wanted)} days from {first} to {last}: "
        there = "is 1 day" if len(days) == 1 else f"are {len(days)} days"
        raise DataError(
            f"{url}: no Parquet file for {asked if len(wanted) > 1 else ''}{_named(missing)}; "
            f"there {there}: {_named(days)}"
        )
    chosen = [file for file in files if file.day is not None and first <= file.day <= last]
    return chosen, [file.path for file in files if file.day is None]


def _named(days: list[datetime.date]) -> str:
    names = [str(day) for day in days]
    if len(names) <= _NAMED_DAYS:
        return ", ".join(names)
    half = _NAMED_DAYS // 2
    return ", ".join([*names[:half], "...", *names[-half:]])
