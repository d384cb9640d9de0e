"""Which checkpoint to go on from: the newest that verifies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from marigold_rec.checkpoint.manifest import MANIFEST_NAME, Manifest, read_manifest
from marigold_rec.checkpoint.retention import checkpoint_folders
from marigold_rec.errors import CheckpointError

# A manifest grows with the number of ranks, by some hundred bytes for each.
_MOST_MANIFEST_BYTES = 1 << 26


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
            return Found(folder, verified(folder), tuple(refused))
        except CheckpointError as error:
            refused.append(str(error))
    if refused:
        raise CheckpointError(
            "no checkpoint of this run is usable:\n"
            + "\n".join(refused)
            + "\nuse --resume never to start again"
        )
    return None


def verified(folder: Path) -> Manifest:
    """As read_manifest, but looks at the manifest's size before it reads it into memory."""
    path = folder / MANIFEST_NAME
    try:
        size = path.stat().st_size
    except OSError:
        return read_manifest(folder)  # says what is wrong
    if size > _MOST_MANIFEST_BYTES:
        raise CheckpointError(f"{path}: {size:,} bytes; not a manifest")
    return read_manifest(folder)
