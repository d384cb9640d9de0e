"""An object store for tests: folders exist by their files, nothing can be renamed, puts may fail.

Its files lie on the local disk, so that several processes see them: bucket:///tmp/...
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

PUTS: list[str] = []
"""Names of what this process has put, in their order."""


class BucketFileSystem(LocalFileSystem):
    protocol = "bucket"
    cachable = False
    fault: Fault | None = None

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return LocalFileSystem._strip_protocol(str(path).removeprefix("bucket://"))

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """An object store has none."""

    def put_file(self, path1: Any, path2: Any, callback: Any = None, **kwargs: Any) -> None:
        self._put(path2)
        super().put_file(path1, path2)

    def pipe_file(self, path: Any, value: Any, mode: str = "overwrite", **kwargs: Any) -> None:
        self._put(path)
        Path(self._strip_protocol(path)).write_bytes(value)

    def mv(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError("an object store can't rename")

    mv_file = rename = move = mv

    def _put(self, path: Any) -> None:
        target = Path(self._strip_protocol(path))
        PUTS.append(f"{target.parent.name}/{target.name}")
        if self.fault is not None:
            self.fault(target, len(PUTS))
        target.parent.mkdir(parents=True, exist_ok=True)


@dataclass(frozen=True)
class Fault:
    """What happens at the `at_put`-th put, or at every one of a name that ends so."""

    kind: str
    at_put: int | None = None
    name: str = ""

    def __call__(self, path: Path, puts: int) -> None:
        if puts != self.at_put and not (self.name and str(path).endswith(self.name)):
            return
        if self.kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.kind == "pause":
            time.sleep(1.5)
        if self.kind == "fail":
            raise ConnectionError(f"503 Slow Down: {path.name}")


@dataclass(frozen=True)
class Bucket:
    """A tests.support.launches.Fault: this process knows bucket://, with a fault."""

    fault: Fault | None = None

    def install(self) -> None:
        BucketFileSystem.fault = self.fault
        PUTS.clear()
        fsspec.register_implementation("bucket", BucketFileSystem, clobber=True)
