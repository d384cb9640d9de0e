"""Finds the complete days of the log, and waits for those that are not complete yet."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterable, Sequence

from data_pipelines.catalog.listing import list_files
from data_pipelines.catalog.storage import Storage
from marigold_rec.errors import DataError

Day = datetime.date


def newest(complete: Sequence[Day], today: Day) -> tuple[Day | None, list[Day]]:
    """Returns the newest day up to tomorrow, and the days after tomorrow.

    Tomorrow has begun in some time zone. A later day was written by a wrong clock or a test, and a
    nightly run on it would skip the real new day.
    """
    stray = [day for day in complete if day > today + datetime.timedelta(days=1)]
    return max(set(complete) - set(stray), default=None), stray


class Partitions:
    """The dt=YYYY-MM-DD partitions below a path or fsspec URL."""

    def __init__(self, url: str, marker: str | None) -> None:
        """`marker`: a file that makes a day's folder complete; None: any Parquet file does."""
        self._storage = Storage(url)
        self._marker = marker

    def complete(self) -> list[Day]:
        """Lists the complete days, oldest first. Raises DataError when there is no data at all."""
        folders: dict[Day, set[str]] = {}
        for file in list_files(self._storage, None).files:
            if file.day is not None and file.day_folder is not None:
                folders.setdefault(file.day, set()).add(file.day_folder)
        return sorted(day for day, found in folders.items() if all(map(self._is_complete, found)))

    def files(self) -> dict[Day, dict[str, tuple[int, str | None]]]:
        """Maps day -> path below the log's folder -> size, and time or version.

        Raises DataError.
        """
        found: dict[Day, dict[str, tuple[int, str | None]]] = {}
        for file in list_files(self._storage, None).files:
            if file.day is not None:
                path = file.path.removeprefix(self._storage.root).lstrip("/")
                found.setdefault(file.day, {})[path] = (file.size, file.modified)
        return found

    def rows(self, path: str) -> int:
        """Counts the rows of one of the `files`; 0 if it can't be read."""
        try:
            whole = f"{self._storage.root.rstrip('/')}/{path}"
            with self._storage.open_parquet(whole) as parquet:
                return parquet.metadata.num_rows
        except Exception:  # a storage library may raise anything of its own
            return 0

    def state(self, day: Day) -> str:
        """Returns a text that changes whenever one of the day's files is rewritten."""
        files = [file for file in list_files(self._storage, (day, day)).files if file.day == day]
        return str([(file.path, file.size, file.modified) for file in files])

    def wait_for(
        self,
        days: Iterable[Day],
        *,
        wait_s: float,
        poll_s: float,
        is_stopped: Callable[[], bool],
        log: Callable[[str], None],
    ) -> None:
        """Waits until all `days` are complete, or `is_stopped`.

        Raises DataError if they are not complete after `wait_s`.
        """
        wanted = sorted(set(days))
        until = time.monotonic() + wait_s
        has_logged = False
        while not is_stopped():
            complete = set(self.complete())
            missing = [day for day in wanted if day not in complete]
            if not missing:
                return
            if time.monotonic() >= until:
                raise DataError(self._missing(missing, wait_s, max(complete, default=None)))
            if not has_logged:
                log(f"waiting for {_join(missing)} (at most {wait_s:.0f} s)")
                has_logged = True
            _sleep(min(poll_s, until - time.monotonic()), is_stopped)

    def _is_complete(self, folder: str) -> bool:
        if self._marker is None:
            return True
        try:
            return bool(self._storage.file_system.exists(f"{folder}/{self._marker}"))
        except Exception as error:  # a storage library may raise anything of its own
            raise DataError(
                f"{folder}: can't be listed ({type(error).__name__}: {error})"
            ) from error

    def _missing(self, missing: list[Day], wait_s: float, newest: Day | None) -> str:
        what = "no Parquet file" if self._marker is None else f"no {self._marker}"
        waited = f" after {wait_s:.0f} s" if wait_s else ""
        there = "no day is complete" if newest is None else f"the newest complete day is {newest}"
        return (
            f"{self._storage.url}: {what} for {_join(missing)}{waited}; {there}. Run the command "
            "again when the partition is complete, wait longer with nightly.wait_s, or skip a lost "
            "day with nightly.train_from"
        )


def _join(days: list[Day]) -> str:
    names = ", ".join(map(str, days[:5]))
    return names if len(days) <= 5 else f"{names} and {len(days) - 5} more"


def _sleep(seconds: float, is_stopped: Callable[[], bool]) -> None:
    """Sleeps in short intervals, so that a signal is noticed."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not is_stopped():
        time.sleep(min(0.5, left))
