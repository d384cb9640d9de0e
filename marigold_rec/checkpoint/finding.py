"""Which checkpoint to go on from: the newest that verifies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from marigold_rec.checkpoint.manifest import Manifest, read_manifest
from marigold_rec.checkpoint.retention import checkpoint_folders
from marigold_rec.errors import CheckpointError


@dataclass(frozen=True)
class Found:
    """The newest checkpoint that verifies, and why newer ones were refused."""

    folder: Path
    manifest: Manifest
    refused: tuple[str, ...]


def newest_good(root: Path) -> Found | None:
    """The newest checkpoint below `root` that verifies; None when there is none at all.

    Raises CheckpointError when there are some, and none verifies.
    """
    refused: list[str] = []
    for folder in reversed(checkpoint_folders(root)):
        try:
            return Found(folder, read_manifest(folder), tuple(refused))
        except CheckpointError as error:
            refused.append(str(error))
    if refused:
        raise CheckpointError(
            "no checkpoint of this run is usable:\n"
            + "\n".join(refused)
            + "\nuse --resume never to start again"
        )
    return None
