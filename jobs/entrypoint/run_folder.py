"""Makes and locks the run's folder, or moves an earlier run's files aside."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from marigold_rec.config.schema import Config
from marigold_rec.errors import ConfigError


def run_folder(config: Config) -> Path:
    return Path(config.run.dir) / config.run.name


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Makes the folder and holds its lock. Raises ConfigError if it can't, or if another process
    holds the lock.

    The kernel releases the lock with the process: a kill leaves no stale lock.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise ConfigError(
            f"run.dir: can't write to the run's folder {folder} ({error.strerror}); "
            "choose another run.dir"
        ) from error
    with lock as file:
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
    # The other ranks may have their logs open already; these only grow.
    stay = (".lock", "logs")
    kept = [
        p for p in folder.iterdir() if p.name not in stay and not p.name.startswith("previous-")
    ]
    if not kept:
        return None
    number = 1
    while (target := folder / f"previous-{number}").exists():
        number += 1
    target.mkdir()
    for path in kept:
        path.rename(target / path.name)
    return target
