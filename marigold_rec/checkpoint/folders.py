"""Folders of checkpoints: their names, and how they appear and go.

A folder that goes is renamed first: a kill in the middle of a deletion leaves no half checkpoint
under a checkpoint's name.
"""

from __future__ import annotations

import re
import shutil
import uuid
from pathlib import Path

from marigold_rec.atomic_io import fsync
from marigold_rec.errors import CheckpointError

STEP_FOLDER = re.compile(r"^step-(\d{9})$")

_GIB = 1024**3


def folder_name(step: int) -> str:
    return f"step-{step:09d}"


def temporary_name(name: str) -> str:
    return f"{name}.tmp-{uuid.uuid4().hex[:8]}"


def step_of(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def checkpoint_folders(root: Path) -> list[Path]:
    """By step, never by time stamp; whether they are whole is for their manifests to say."""
    return sorted(path for path in root.glob("step-*") if STEP_FOLDER.match(path.name))


def require_space(root: Path, num_bytes: int, keep: int) -> None:
    """Raises CheckpointError when about `num_bytes` more can't fit on the disk of `root`."""
    folder = next(path for path in (root, *root.parents) if path.exists())
    total, _, free = shutil.disk_usage(folder)
    if total and free < num_bytes:  # some network file systems don't tell: 0 of 0
        raise CheckpointError(
            f"{root}: a checkpoint needs about {num_bytes / _GIB:.3g} GiB, {free / _GIB:.3g} GiB "
            f"are free: nothing was written. There must be room for one more than "
            f"checkpoint.keep ({keep}): free some, or choose another run.dir"
        )


def sync_all(folder: Path) -> None:
    """Files and folder are on the disk when this returns."""
    for path in (*folder.iterdir(), folder):
        fsync(path)


def make_visible(temporary: Path, final: Path) -> None:
    # The same step again, reached on another way. Not deleted first: the old one must come back if
    # the new one can't take its place.
    replaced = abandon(final) if final.exists() else None
    try:
        temporary.rename(final)
    except OSError:
        if replaced is not None:
            replaced.rename(final)
        raise
    fsync(final.parent)
    if replaced is not None:
        shutil.rmtree(replaced, ignore_errors=True)


def delete(path: Path) -> None:
    """Deletes a checkpoint; one that is half deleted counts as a killed save's leftover."""
    gone = path.rename(path.with_name(temporary_name(path.name)))
    shutil.rmtree(gone)


def abandon(path: Path) -> Path:
    """Hides a checkpoint from those who look for the newest; its files stay."""
    return path.rename(path.with_name(f"abandoned-{path.name}-{uuid.uuid4().hex[:8]}"))
