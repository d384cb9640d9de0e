"""Which checkpoint to go on from: the newest that verifies, here or on the mirror."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from marigold_rec.checkpoint.folders import checkpoint_folders, folder_name
from marigold_rec.checkpoint.locks import shared_lock
from marigold_rec.checkpoint.manifest import MANIFEST_NAME, Manifest, read_manifest
from marigold_rec.checkpoint.mirror import Mirror
from marigold_rec.errors import CheckpointError


@dataclass(frozen=True)
class Found:
    """The newest checkpoint that verifies, and why newer ones were refused."""

    folder: Path
    manifest: Manifest
    refused: tuple[str, ...]
    fetched_from: str | None = None
    """The mirror's URL, where it did not lie here."""


def newest_good(root: Path, mirror: Mirror | None = None, keep: int = 1) -> Found | None:
    """The newest checkpoint below `root` that verifies; None when there is none at all.

    With a `mirror`, the newest of both: a copy is fetched only where nothing here is as new and
    good. Raises CheckpointError when there are some, and none verifies, or when there is none here
    and nobody can tell whether the mirror has one.
    """
    refused: list[str] = []
    here = {folder.name: folder for folder in checkpoint_folders(root)}
    copies: dict[str, int] = {}
    if mirror is not None:
        try:
            copies = {folder_name(step): step for step in mirror.steps()}
        except CheckpointError as error:
            refused.append(f"checkpoint.mirror can't be read: {error}")
    for name in sorted({*here, *copies}, reverse=True):
        if name in here:
            try:
                with shared_lock(here[name]):
                    return Found(here[name], read_manifest(here[name]), tuple(refused))
            except CheckpointError as error:
                refused.append(str(error))
        if mirror is not None and name in copies:
            try:
                folder = mirror.fetch(copies[name], root, keep)
                return Found(folder, read_manifest(folder), tuple(refused), mirror.url)
            except CheckpointError as error:
                refused.append(f"the mirror's copy: {error}")
    if refused:
        raise CheckpointError(
            "no checkpoint of this run is usable:\n"
            + "\n".join(refused)
            + "\nuse --resume never to start again"
        )
    return None


def open_checkpoint(path: Path) -> Found:
    """Finds and verifies a checkpoint; reads every byte. Raises CheckpointError if none is good."""
    if (path / MANIFEST_NAME).exists():
        return Found(path, read_manifest(path), ())
    found = newest_good(path / "checkpoints") if (path / "checkpoints").is_dir() else None
    if found is None:
        raise CheckpointError(
            f"{path}: no checkpoint; expected a run's folder with checkpoints/step-..., or one of "
            f"those step-... folders with its {MANIFEST_NAME}"
        )
    return found
