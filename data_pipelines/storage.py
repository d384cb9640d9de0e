"""Opens Parquet files: local paths directly, any other fsspec URL through its file system."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow.parquet as pq
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem


@dataclass(frozen=True)
class Storage:
    """The file system that `url` (a local path or an fsspec URL) stands on. Picklable."""

    url: str

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        return url_to_fs(self.url)

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

    def size(self, path: str) -> int:
        """Bytes of the file now. Raises FileNotFoundError."""
        if self.is_local:
            return os.stat(path).st_size
        return int(self.file_system.size(path))

    @contextmanager
    def open_parquet(
        self,
        path: str,
        *,
        verify_checksums: bool = False,
        metadata: pq.FileMetaData | None = None,
    ) -> Generator[pq.ParquetFile, None, None]:
        """The file with its footer read, unless `metadata` is that footer.

        Remote column chunks are fetched in few large requests (pre_buffer); on a local disk that
        would only cost memory.
        """
        with ExitStack() as opened:
            # ParquetFile closes only what it has opened itself, which a remote file is not.
            source = (
                path if self.is_local else opened.enter_context(self.file_system.open(path, "rb"))
            )
            yield opened.enter_context(
                pq.ParquetFile(
                    source,
                    metadata=metadata,
                    page_checksum_verification=verify_checksums,
                    pre_buffer=not self.is_local,
                )
            )

    def __getstate__(self) -> dict[str, str]:
        # An open connection must not travel to another process.
        return {"url": self.url}

    def __setstate__(self, state: dict[str, str]) -> None:
        object.__setattr__(self, "url", state["url"])
