"""A log that is there whole or not at all, made once and found again by its config."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_pipelines.synthetic.writing import GENERATOR_VERSION, write_log
from marigold_rec.config.data import SyntheticConfig


def log_name(config: SyntheticConfig) -> str:
    """The folder name of a config's log: the same for the same content."""
    text = json.dumps([GENERATOR_VERSION, config.model_dump(mode="json")], sort_keys=True)
    return f"synthetic-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def ensure_log(config: SyntheticConfig, parent: Path) -> tuple[Path, bool]:
    """The folder below `parent` with the log of `config`, and whether it was made just now.

    A kill at any moment leaves no half-made log under the final name: the log is written beside it
    and renamed. Processes that ask at the same time wait for the one that writes.
    """
    folder = parent / log_name(config)
    return folder, publish_log(config, folder)


def publish_log(config: SyntheticConfig, folder: Path) -> bool:
    """Writes the log to `folder` as a whole, unless it is there; returns whether it wrote."""
    if folder.exists():
        return False
    folder.parent.mkdir(parents=True, exist_ok=True)
    # hidden names: a reader of `parent` as one big data set must not see them
    partial = folder.parent / f".{folder.name}.partial"
    with _locked(folder.parent / f".{folder.name}.lock"):
        if folder.exists():  # made while this process waited
            return False
        shutil.rmtree(partial, ignore_errors=True)  # left over from a kill: the lock is ours
        try:
            write_log(config, partial)
            partial.rename(folder)
        finally:  # a full disk must not stay full
            shutil.rmtree(partial, ignore_errors=True)
    return True


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Holds an exclusive lock, which the kernel takes back from a killed process.

    The file stays: were it removed, a waiter and a newcomer could lock two different files.
    """
    with file.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
