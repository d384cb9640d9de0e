"""Which checkpoints stay, and what becomes of the others and of what a killed run has left.

A folder that goes is renamed first: a kill in the middle of a deletion leaves no half checkpoint
under a checkpoint's name.
"""

from __future__ import annotations

import json
import re
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from marigold_rec.checkpoint.manifest import MANIFEST_NAME

_STEP = re.compile(r"^step-(\d{9})$")
_STALE = re.compile(r"^step-\d{9}\.tmp-[0-9a-f]{8}$")
_ABANDONED = re.compile(r"^abandoned-(step-\d{9})-[0-9a-f]{8}$")
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Kept:
    """A checkpoint as far as retention is concerned."""

    step: int
    saved_at: datetime | None
    """None: it does not say (an earlier version's, or damaged)."""


@dataclass(frozen=True)
class Tidied:
    """How many leftovers were deleted, and what stood in the way."""

    stale: int = 0
    abandoned: int = 0
    problem: str | None = None


def folder_name(step: int) -> str:
    return f"step-{step:09d}"


def temporary_name(name: str) -> str:
    return f"{name}.tmp-{uuid.uuid4().hex[:8]}"


def checkpoint_folders(root: Path) -> list[Path]:
    """By step, never by time stamp; whether they are whole is for their manifests to say."""
    return sorted(path for path in root.glob("step-*") if _STEP.match(path.name))


def steps_to_keep(saved: Sequence[Kept], keep: int, every_n_hours: float | None) -> set[int]:
    """The last `keep`, and one of every `every_n_hours`. A further rule is a further set here.

    Of the hours, the first checkpoint counts, then each that was saved at least so much later than
    the one that counted before: what a prune keeps, every later prune keeps.
    """
    in_order = sorted(saved, key=lambda each: each.step)
    last = {each.step for each in in_order[-keep:]}
    if every_n_hours is None:
        return last
    hourly: set[int] = set()
    until: datetime | None = None
    for each in in_order:
        if each.saved_at is not None and (until is None or each.saved_at >= until):
            hourly.add(each.step)
            until = each.saved_at + timedelta(hours=every_n_hours)
    return last | hourly


def prune(root: Path, newest: Path, keep: int, every_n_hours: float | None) -> None:
    """Deletes what need not stay now that `newest` has become visible.

    Only of steps up to its own: later ones are of a run that went another way (a newer checkpoint
    was refused), and counted in they would push out what has just been saved. So the checkpoint
    that a run went on from stays until a newer one of that run is there.
    """
    until_now = [path for path in checkpoint_folders(root) if path.name <= newest.name]
    saved = [Kept(_step(path), _saved_at(path)) for path in until_now]
    stay = steps_to_keep(saved, keep, every_n_hours)
    for path in until_now:
        if _step(path) not in stay:
            delete(path)


def delete(path: Path) -> None:
    """Deletes a checkpoint; one that is half deleted counts as a killed save's leftover."""
    gone = path.rename(path.with_name(temporary_name(path.name)))
    shutil.rmtree(gone)


def abandon(path: Path) -> Path:
    """Hides a checkpoint from those who look for the newest; its files stay."""
    return path.rename(path.with_name(f"abandoned-{path.name}-{uuid.uuid4().hex[:8]}"))


def tidy(root: Path, keep: int) -> Tidied:
    """Deletes what killed saves have left, and all but the newest `keep` abandoned checkpoints.

    The caller holds the lock of the run's folder. It proves that no other process writes here: a
    temporary folder that is there before our own first save belongs to a process that is dead.
    """
    stale = [path for path in root.glob("step-*") if _STALE.match(path.name)]
    abandoned = [path for path in root.glob("abandoned-*") if _ABANDONED.match(path.name)]
    abandoned.sort(key=lambda path: (_saved_at(path) or _LONG_AGO, path.name))
    try:
        for path in (*stale, *abandoned[:-keep]):
            shutil.rmtree(path)
    except OSError as error:
        return Tidied(problem=f"{root}: what an earlier run has left can't be deleted ({error})")
    return Tidied(len(stale), len(abandoned[:-keep]))


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _saved_at(folder: Path) -> datetime | None:
    """From the manifest, never from the file's own times: copies and clocks of servers change."""
    try:
        manifest = json.loads((folder / MANIFEST_NAME).read_text(encoding="utf-8"))
        saved_at = datetime.fromisoformat(manifest["saved_at"])
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return saved_at if saved_at.tzinfo is not None else None
