"""Which checkpoints stay, and what becomes of the others and of what a killed run has left."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from marigold_rec.checkpoint.folders import STEP_FOLDER, checkpoint_folders, delete, step_of
from marigold_rec.checkpoint.locks import try_exclusive_lock
from marigold_rec.checkpoint.manifest import MANIFEST_NAME
from marigold_rec.config.window_figures import badness
from marigold_rec.sealed import unsealed

_STALE = re.compile(r"^step-\d{9}\.tmp-[0-9a-f]{8}$")
_ABANDONED = re.compile(r"^abandoned-(step-\d{9})-[0-9a-f]{8}$")
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Kept:
    """A checkpoint as far as retention is concerned."""

    step: int
    saved_at: datetime | None
    """None: it does not say (an earlier version's, or damaged)."""
    figures: Mapping[str, float] = field(default_factory=dict)
    """window_auc/ctr, ...: as far as it says."""


@dataclass(frozen=True)
class Cleanup:
    """How many leftovers were deleted, and what stood in the way."""

    stale: int = 0
    abandoned: int = 0
    problem: str | None = None


def steps_to_keep(
    saved: Sequence[Kept], keep: int, every_n_hours: float | None, best_by: str | None = None
) -> set[int]:
    """The last `keep`, one of every `every_n_hours`, and the best by the figure `best_by`.

    A further rule is a further set here. What a prune keeps by the hours, every later prune keeps;
    the best stays until a better one is there.
    """
    in_order = sorted(saved, key=lambda each: each.step)
    last = {each.step for each in in_order[-keep:]}
    return last | _hourly(in_order, every_n_hours) | _best(in_order, best_by)


def _hourly(in_order: Sequence[Kept], every_n_hours: float | None) -> set[int]:
    """The first counts, then each that was saved at least so much later than the one before."""
    hourly: set[int] = set()
    if every_n_hours is None:
        return hourly
    until: datetime | None = None
    for each in in_order:
        if each.saved_at is not None and (until is None or each.saved_at >= until):
            hourly.add(each.step)
            until = each.saved_at + timedelta(hours=every_n_hours)
    return hourly


def _best(in_order: Sequence[Kept], figure: str | None) -> set[int]:
    """Of equally good ones the newest, which has learned more. Empty where none has the figure."""
    having = [each for each in in_order if figure is not None and figure in each.figures]
    if figure is None or not having:
        return set()
    best = min(having, key=lambda each: (badness(figure, each.figures[figure]), -each.step))
    return {best.step}


def prune(
    root: Path, newest: Path, keep: int, every_n_hours: float | None, best_by: str | None = None
) -> None:
    """Deletes what need not stay now that `newest` has become visible, and nobody reads.

    Only of steps up to its own: later ones are of a run that went another way (a newer checkpoint
    was refused), and counted in they would push out what has just been saved. So the checkpoint
    that a run went on from stays until a newer one of that run is there.
    """
    until_now = [path for path in checkpoint_folders(root) if path.name <= newest.name]
    stay = steps_to_keep([_kept(path) for path in until_now], keep, every_n_hours, best_by)
    for path in until_now:
        if step_of(path) not in stay:
            with try_exclusive_lock(path) as is_free:
                if is_free:  # else the next prune deletes it
                    delete(path)


def cleanup_stale(root: Path, keep: int) -> Cleanup:
    """Deletes what killed saves have left, and all but the newest `keep` abandoned checkpoints.

    The caller holds the lock of the run's folder. It proves that no other process writes here: a
    temporary folder that is there before our own first save belongs to a process that is dead.
    """
    stale = [path for path in root.glob("step-*") if _STALE.match(path.name)]
    abandoned = [path for path in root.glob("abandoned-*") if _ABANDONED.match(path.name)]
    abandoned.sort(key=lambda path: (_kept(path).saved_at or _LONG_AGO, path.name))
    try:
        for path in (*stale, *abandoned[:-keep]):
            shutil.rmtree(path)
    except OSError as error:
        return Cleanup(problem=f"{root}: what an earlier run has left can't be deleted ({error})")
    return Cleanup(len(stale), len(abandoned[:-keep]))


def _kept(folder: Path) -> Kept:
    step = STEP_FOLDER.match(folder.name)
    try:
        content = (folder / MANIFEST_NAME).read_bytes()
    except OSError:
        content = b""
    return kept_of(0 if step is None else int(step[1]), content)


def kept_of(step: int, content: bytes) -> Kept:
    """What a manifest says that retention asks, of one that may be damaged or of another version.

    The time is the manifest's, never the file's own: copies and clocks of servers change.
    """
    try:
        manifest = json.loads(unsealed(content))
    except (ValueError, RecursionError):
        manifest = None
    if not isinstance(manifest, dict):
        return Kept(step, None)
    try:
        saved_at = datetime.fromisoformat(manifest["saved_at"])
    except (ValueError, TypeError, KeyError):
        saved_at = None
    figures = manifest.get("figures")
    return Kept(
        step,
        saved_at if saved_at is not None and saved_at.tzinfo is not None else None,
        {
            name: float(value)
            for name, value in (figures if isinstance(figures, dict) else {}).items()
            if isinstance(value, (int, float)) and math.isfinite(value)
        },
    )
