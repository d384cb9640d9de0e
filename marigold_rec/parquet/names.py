"""What the names of a log's files and folders say: which are data, of which day, in which order."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import unquote

SUFFIXES = (".parquet", ".parq", ".pq")
DAY_KEY = "dt"
"""Folders named dt=YYYY-MM-DD hold a day."""
_NULL = "__HIVE_DEFAULT_PARTITION__"
_DIGITS = re.compile("([0-9]+)")
_DAY = re.compile(
    r"(\d{4})(-?)(\d{2})\2(\d{2})"
    # A day written by a column of timestamps: 2024-01-01 00:00:00, 2024-01-01T00:00:00.000Z, ...
    r"(?:[T ]\d{2}(?:[:.-]?\d{2}){0,2}(?:\.\d+)?(?: ?(?:Z|UTC|[+-]\d{2}:?\d{2}))?)?"
)


def is_hidden(name: str) -> bool:
    """Tells names that no reader takes for data: .part.crc, _SUCCESS, _temporary, _delta_log.

    `_region=eu` is a partition by a column whose name begins with _, so it is data.
    """
    return name.startswith(".") or (name.startswith("_") and "=" not in name)


def natural_order(path: str) -> tuple[list[str | int], str]:
    """A sort key that counts: hour=2 comes before hour=10, part-9 before part-10."""
    parts = _DIGITS.split(path)
    # Names without digits stand at even places, numbers at odd ones: they never meet.
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], path


def day_folder(path: str) -> tuple[datetime.date, str] | None:
    """The day that a file lies in and the path of that folder; the deepest one, if several."""
    folder = path.rpartition("/")[0]
    while folder:
        above, _, name = folder.rpartition("/")
        key, equals, value = name.partition("=")
        if equals and unquote(key) == DAY_KEY:
            day = day_of(unquote(value))
            return None if day is None else (day, folder)
        folder = above
    return None


def day_of(text: str) -> datetime.date | None:
    """The day in `text`: 2024-01-01 or 20240101, with or without a time of day."""
    found = _DAY.fullmatch(text)
    try:
        return None if found is None else datetime.date(*map(int, found.group(1, 3, 4)))
    except ValueError:
        return None


def partition_values(path: str) -> dict[str, str | None]:
    """Column -> value, from the folders named column=value in which a file lies.

    Names and values are percent-decoded, Hive's name for a null is one, and so is an empty value.
    """
    found: dict[str, str | None] = {}
    for folder in path.split("/")[:-1]:
        key, equals, value = folder.partition("=")
        if key and equals:
            found[unquote(key)] = None if value in ("", _NULL) else unquote(value)
    return found


@dataclass
class Sorted:
    """The files of a log, by their names; each list in natural order."""

    data: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    """Not Parquet by name."""


def sort_by_name(root: str, paths: Iterable[str]) -> Sorted:
    """A file that is `root` itself is data whatever its name."""
    found = Sorted()
    for path in sorted(paths, key=natural_order):
        below = path[len(root) :].strip("/")
        if any(map(is_hidden, below.split("/"))):
            found.hidden.append(path)
        elif below and not path.endswith(SUFFIXES):
            found.others.append(path)
        else:
            found.data.append(path)
    return found
