"""Locks checkpoints, so that nobody deletes one that somebody else reads.

The lock is the kernel's, on the manifest: it goes with the process that holds it. Where a file
system has no such locks, nothing is held, and nothing waits.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from marigold_rec.checkpoint.manifest import MANIFEST_NAME
from marigold_rec.errors import CheckpointError


@contextmanager
def shared_lock(folder: Path) -> Iterator[None]:
    """Keeps every prune from deleting `folder`. Raises CheckpointError if it is gone."""
    try:
        manifest = (folder / MANIFEST_NAME).open("rb")
    except OSError as error:
        raise CheckpointError(
            f"{folder / MANIFEST_NAME}: can't be read ({error.strerror}); if it was there, has its "
            "run deleted it? look for a newer one, or raise checkpoint.keep"
        ) from error
    with manifest:
        with contextlib.suppress(OSError):  # no locks here
            fcntl.flock(manifest, fcntl.LOCK_SH)
        yield


@contextmanager
def try_exclusive_lock(folder: Path) -> Iterator[bool]:
    """Yields True if nobody holds `folder`; then nobody can as long as this lasts."""
    try:
        manifest = (folder / MANIFEST_NAME).open("r+b")
    except OSError:  # not a checkpoint (any more), so that nobody can read it
        yield True
        return
    with manifest:
        try:
            fcntl.flock(manifest, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        except OSError:
            pass  # no locks here
        yield True
