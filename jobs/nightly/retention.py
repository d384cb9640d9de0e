"""Which nights keep their model; the others keep their reports, which are small."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from jobs.nightly.folder import NightFolder, night_folders
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
    """Deletes checkpoints, artefacts and histories of rows; returns the folders of the nights that
    lost theirs.

    Those of the last `keep_published` published models and of the newest `keep_nights` nights stay,
    and so do published ones that are needed.
    """
    folders = night_folders(root)
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


def _has_ended(folder: NightFolder) -> bool:
    try:
        return folder.ending is not None
    except CheckpointError:  # of a damaged night.json nobody knows: nothing is dropped
        return False
