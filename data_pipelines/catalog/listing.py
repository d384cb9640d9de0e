"""Finds the Parquet files of a split: a file or a folder, with Hive-style dt=YYYY-MM-DD folders."""

from __future__ import annotations

import contextlib
import datetime
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote

from data_pipelines.catalog.storage import FileState, ListedFile, Storage
from marigold_rec.errors import DataError
from marigold_rec.parquet.names import SUFFIXES, day_folder, day_of, sort_by_name
from marigold_rec.parquet.table_formats import refuse_tables
from marigold_rec.parquet.walking import walk

_LOOKS_LIKE_A_DAY = re.compile(r"(\d{4})\D{0,7}(\d{1,2})\D{0,7}(\d{1,2})(?!\d)")
_NAMED_DAYS = 10
_NAMED_FOLDERS = 3

Dates = tuple[datetime.date, datetime.date]


@dataclass(frozen=True)
class Listing:
    files: tuple[ListedFile, ...]
    """In natural order of paths (hour=2 before hour=10), so that every process sees the same."""
    ignored: tuple[str, ...] = ()
    """Other files below the folder: not Parquet by name, or in no dt= folder when dates are asked
    for."""
    hidden: tuple[str, ...] = ()
    """Files that are passed over since a name on their path begins with . or _ (see is_hidden)."""
    warnings: tuple[str, ...] = ()
    """A line for each kind of data that is passed over."""


@dataclass
class _Below:
    """Everything at or below a root."""

    states: dict[str, FileState] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    repeated: list[str] = field(default_factory=list)
    roots: list[str] = field(default_factory=list)
    """The folders that were entered from outside, under all their names."""
    ids: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Path -> what is the same for two names of one file; local files only."""


def list_files(storage: Storage, dates: Dates | None) -> Listing:
    """The Parquet files at `storage.url`; with `dates`, those of the days from first to last.

    Raises DataError when there is no file, a day has none, or they belong to a table of a format
    that keeps a log of its own.
    """
    root, below = _all_below(storage)
    refuse_tables(storage.url, below.roots, below.states, storage)
    by_name = sort_by_name(root, [*below.states, *below.broken])
    files = [_listed(path, below) for path in by_name.data]
    ignored = by_name.others
    # Whatever has no other ending may be a folder of data.
    lost = [path for path in ignored if path in below.broken and not os.path.splitext(path)[1]]
    files += [_listed(path, below) for path in lost]
    ignored = [path for path in ignored if path not in set(lost)]
    if not files:
        rest = [*ignored, *by_name.hidden]
        said = f" ({len(rest)} other files, e.g. {rest[0]})" if rest else ""
        raise DataError(
            f"{storage.url}: no Parquet file ({', '.join('*' + s for s in SUFFIXES)}) is there"
            f"{said}; check data.path"
        )
    if dates is not None:
        files, undated = _of_days(storage.url, files, dates)
        ignored += undated
    files, doubled = _once(files, below)
    hidden_data = [path for path in by_name.hidden if path.endswith(SUFFIXES)]
    warnings = [
        *_passed_over(
            storage, hidden_data, "Parquet files or folders whose name begins with _ or ."
        ),
        *_passed_over(storage, below.repeated, "links to folders that are read already"),
        *_passed_over(storage, doubled, "links to files that are read already"),
    ]
    return Listing(tuple(files), tuple(ignored), tuple(by_name.hidden), tuple(warnings))


def _listed(path: str, below: _Below) -> ListedFile:
    problem = below.broken.get(path)
    # What can't be looked into may be a day's folder itself.
    day, folder = day_folder(path if problem is None else f"{path}/") or (None, None)
    if problem is not None:
        return ListedFile(path, 0, day, folder, problem=problem)
    state = below.states[path]
    return ListedFile(path, state.size, day, folder, state.modified)


def _passed_over(storage: Storage, paths: Sequence[str], what: str) -> list[str]:
    if not paths:
        return []
    return [f"{storage.url}: passed over: {len(paths):,} {what}, e.g. {paths[0]}"]


def _all_below(storage: Storage) -> tuple[str, _Below]:
    """The root, and what the file system tells of each file at or below it."""
    below = _Below()
    try:
        root = storage.root.rstrip("/")
        with contextlib.suppress(FileNotFoundError):
            below = _walked(root) if storage.is_local else _found(storage, root)
        is_there = bool(below.states) or bool(below.broken) or storage.exists(root)
    # Also an unknown protocol, or one whose library is not installed; and a storage library may
    # raise anything of its own.
    except Exception as error:
        raise DataError(
            f"{storage.url}: can't be listed ({type(error).__name__}: {error}); check data.path "
            "and the access to it"
        ) from error
    if not is_there:
        raise DataError(f"{storage.url}: there is no such file or folder; check data.path")
    return root, below


def _walked(root: str) -> _Below:
    found = walk(root)
    return _Below(
        {path: FileState.of_stat(state) for path, state in found.files.items()},
        found.broken,
        found.repeated,
        [root, os.path.realpath(root), *found.linked],
        {path: (state.st_dev, state.st_ino) for path, state in found.files.items()},
    )


def _found(storage: Storage, root: str) -> _Below:
    infos = storage.file_system.find(root, detail=True)
    return _Below({path: FileState.of(info) for path, info in infos.items()}, roots=[root])


def _once(files: Sequence[ListedFile], below: _Below) -> tuple[list[ListedFile], list[str]]:
    """`files` without the links to others of the same day, and the paths of those links."""
    names: defaultdict[object, list[str]] = defaultdict(list)
    for file in files:
        if file.path in below.ids:
            names[below.ids[file.path], file.day].append(file.path)
    doubled: set[str] = set()
    for paths in names.values():
        if len(paths) > 1:
            links = [path for path in paths if _is_behind_a_link(path, below.roots)]
            doubled.update(links if len(links) < len(paths) else links[1:])
    kept = [file for file in files if file.path not in doubled]
    return kept, [file.path for file in files if file.path in doubled]


def _is_behind_a_link(path: str, roots: Sequence[str]) -> bool:
    root, real_root = roots[:2]
    return os.path.realpath(path) != real_root + path[len(root) :]


def _of_days(url: str, files: list[ListedFile], dates: Dates) -> tuple[list[ListedFile], list[str]]:
    """The files of the days in `dates`, and the paths of those that are of no day."""
    first, last = dates
    days = sorted({file.day for file in files if file.day is not None})
    if not days:
        raise DataError(
            f"{url}: dates {first} to {last} are asked for, but no file lies in a folder named "
            f"dt=YYYY-MM-DD{_look_alikes(files, None)}; leave the dates out or partition the data "
            "by day"
        )
    wanted = [first + datetime.timedelta(days=n) for n in range((last - first).days + 1)]
    missing = sorted(set(wanted).difference(days))
    if missing:
        asked = f"{len(missing)} of the {len(wanted)} days from {first} to {last}: "
        there = "is 1 day" if len(days) == 1 else f"are {len(days)} days"
        raise DataError(
            f"{url}: no Parquet file for {asked if len(wanted) > 1 else ''}{_named(missing)}; "
            f"there {there}: {_named(days)}{_look_alikes(files, missing)}"
        )
    chosen = [file for file in files if file.day is not None and first <= file.day <= last]
    return chosen, [file.path for file in files if file.day is None]


def _look_alikes(files: Iterable[ListedFile], days: Sequence[datetime.date] | None) -> str:
    """Names folders that may be meant for one of `days` (None: any), but are not named like it."""
    found: dict[str, None] = {}
    for file in files:
        folder = file.path.rpartition("/")[0]
        for match in _LOOKS_LIKE_A_DAY.finditer(unquote(folder)) if file.day is None else ():
            day = day_of("{}-{:0>2}-{:0>2}".format(*match.groups()))
            if day is not None and (days is None or day in days):
                found[folder] = None
    names = list(found)
    more = f" and {len(names) - _NAMED_FOLDERS} more" if len(names) > _NAMED_FOLDERS else ""
    said = ", ".join(names[:_NAMED_FOLDERS])
    return f" (folders that look like it: {said}{more}; name them dt=YYYY-MM-DD)" if names else ""


def _named(days: list[datetime.date]) -> str:
    names = [str(day) for day in days]
    if len(names) <= _NAMED_DAYS:
        return ", ".join(names)
    half = _NAMED_DAYS // 2
    return ", ".join([*names[:half], "...", *names[-half:]])
