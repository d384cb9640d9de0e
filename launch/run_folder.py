"""The run's folder: made, locked against a second writer, or moved aside for a new start."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from marigold_rec.config import Config
from marigold_rec.errors import ConfigError


def run_folder(config: Config) -> Path:
    return Path(config.run.dir) / config.run.name


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the folder's lock. Raises ConfigError when another process holds it.

    The lock is the kernel's: it goes with the process, so that no kill leaves a stale one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(
                f"run.name: another process is writing to {folder}; wait for it, or choose "
                "another run.name"
            ) from error
        file.write(str(os.getpid()))
        file.flush()
        yield


def move_aside(folder: Path) -> Path | None:
    """Moves an earlier run's files into folder/previous-N; None when there are none."""
    kept = [p for p in folder.iterdir() if p.name != ".lock" and not p.name.startswith("previous-")]
    if not kept:
        return None
    number = 1 + sum(1 for _ in folder.glob("previous-*"))
    target = folder / f"previous-{number}"
    target.mkdir()
    for path in kept:
        path.rename(target / path.name)
    return target
