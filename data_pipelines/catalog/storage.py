"""Opens Parquet files: local paths directly, any other fsspec URL through its file system."""

from __future__ import annotations

import datetime
import os
from collections.abc import Collection, Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow.parquet as pq
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from marigold_rec.parquet.opening import ReadPlan, plan_reading

# What file systems call a file's version, the surest first.
_VERSIONS = ("ETag", "etag", "version_id", "generation", "md5Hash", "checksum", "mtime",
             "LastModified", "last_modified", "updated", "created")  # fmt: skip


@dataclass(frozen=True)
class FileState:
    """What tells one state of a file from another without reading it."""

    size: int
    modified: str | None
    """Changes whenever the file is written: a local file's time of change, an object's ETag. None
    where the file system tells no such thing."""

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> FileState:
        """From what an fsspec file system tells of a file."""
        for key in _VERSIONS:
            if (found := info.get(key)) is not None:
                # A listing may tell a number where a look at the file tells a date.
                is_date = isinstance(found, datetime.datetime)
                found = found.timestamp() if is_date else found
                return cls(int(info["size"]), f"{key}={found}")
        return cls(int(info["size"]), None)

    @classmethod
    def of_stat(cls, state: os.stat_result) -> FileState:
        """Of a local file, behind all links that lead to it."""
        return cls.of({"size": state.st_size, "mtime": state.st_mtime})

    def differs_from(self, modified: str | None) -> bool:
        """Whether this is another state than the one `modified` then. No, where nobody can tell."""
        if self.modified is None or modified is None:
            return False
        same_kind = self.modified.partition("=")[0] == modified.partition("=")[0]
        return same_kind and self.modified != modified


@dataclass(frozen=True)
class ListedFile:
    path: str
    size: int
    day: datetime.date | None
    """Of the dt= folder that the file lies in."""
    day_folder: str | None = None
    """Path of that folder."""
    modified: str | None = None
    """See FileState."""
    problem: str | None = None
    """Why the file can't be read, as far as its name tells: a link to nowhere, say."""


@dataclass(frozen=True)
class Storage:
    """The file system that `url` (a local path or an fsspec URL) stands on. Picklable."""

    url: str

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        # Listings are not kept: a look at a file must see it as it is now.
        return url_to_fs(self.url, use_listings_cache=False)

    @property
    def file_system(self) -> Any:
        return self._opened[0]

    @property
    def root(self) -> str:
        """`url` as a path on `file_system`."""
        return self._opened[1]

    @property
    def is_local(self) -> bool:
        return isinstance(self.file_system, LocalFileSystem)

    def state(self, path: str) -> FileState:
        """The file as it is now, by one look. Raises FileNotFoundError."""
        if self.is_local:
            return FileState.of_stat(os.stat(path))
        return FileState.of(self.file_system.info(path))

    def exists(self, path: str) -> bool:
        return bool(self.file_system.exists(path))

    def ls(self, path: str) -> list[str]:
        """Paths of what lies in a folder."""
        return list(self.file_system.ls(path, detail=False))

    def read(self, path: str, start: int, size: int) -> bytes:
        """At most `size` bytes from `start` on."""
        with self.file_system.open(path, "rb") as file:
            file.seek(start)
            return file.read(size)

    def plan_reading(self, path: str, columns: Collection[str]) -> ReadPlan:
        """See marigold_rec.parquet.opening."""
        if self.is_local:
            return plan_reading(path, columns)
        with self.file_system.open(path, "rb") as file:
            return plan_reading(file, columns)

    @contextmanager
    def open_parquet(
        self,
        path: str,
        *,
        verify_checksums: bool = False,
        plan: ReadPlan | None = None,
        buffer_size: int = 0,
    ) -> Generator[pq.ParquetFile, None, None]:
        """The file with its footer read, unless `plan` holds that footer.

        Without a plan nothing but the footer must be read (see marigold_rec.parquet.limits). Remote
        column chunks are fetched in few large requests (pre_buffer); on a local disk that would
        only cost memory. With `buffer_size`, chunks are read in pieces of that many bytes and never
        held whole.
        """
        with ExitStack() as opened:
            # ParquetFile closes only what it has opened itself, which a remote file is not.
            source = (
                path if self.is_local else opened.enter_context(self.file_system.open(path, "rb"))
            )
            yield opened.enter_context(
                pq.ParquetFile(
                    source,
                    **({} if plan is None else plan.arguments),
                    page_checksum_verification=verify_checksums,
                    pre_buffer=not self.is_local and not buffer_size,
                    buffer_size=buffer_size,
                )
            )

    def __getstate__(self) -> dict[str, str]:
        # An open connection must not travel to another process.
        return {"url": self.url}

    def __setstate__(self, state: dict[str, str]) -> None:
        object.__setattr__(self, "url", state["url"])
