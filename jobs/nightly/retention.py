"""Deletes the models of old nightly runs; their reports, which are small, stay."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from jobs.nightly.folder import NightlyFolder, nightly_folders
from jobs.nightly.plan import Day
from jobs.nightly.publishing import Published
from marigold_rec.errors import CheckpointError


def drop_old_models(
    root: Path,
    published: Published,
    *,
    keep_published: int,
    keep_nights: int,
    is_needed: Callable[[Day], bool] = lambda night: False,
) -> list[Path]:
    """Deletes checkpoints, artefacts and row histories; returns the folders of the runs that lost
    theirs.

    Those of the last `keep_published` published models and of the newest `keep_nights` runs stay,
    and so do published ones that are still needed.
    """
    folders = nightly_folders(root)
    in_use = published.in_use()
    stay = {*in_use[-keep_published:], *(night for night, _ in folders[-keep_nights:])}
    stay |= {night for night in in_use if is_needed(night)}
    dropped: list[Path] = []
    for night, folder in folders:
        heavy = [folder.train / "checkpoints", folder.artefact, folder.rows]
        heavy += folder.path.glob("train.previous-*/checkpoints")
        if night not in stay and _has_ended(folder) and any(p.exists() for p in heavy):
            for path in heavy:
                shutil.rmtree(path, ignore_errors=True)
            dropped.append(folder.path)
    return dropped


def _has_ended(folder: NightlyFolder) -> bool:
    try:
        return folder.ending is not None
    except CheckpointError:  # a damaged night.json tells nothing: keep the model
        return False
