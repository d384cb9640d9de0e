"""The manifest: the last file of a checkpoint to be written, and the first to be read.

Only a folder whose manifest verifies is ever loaded. The tensors are in files of
torch.distributed.checkpoint beside it; everything else (step, cursors, versions) is here, as JSON.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import cast

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from marigold_rec.batch import Cursor
from marigold_rec.errors import CheckpointError

MANIFEST_NAME = "manifest.json"
FORMAT = 1
_STEP_FOLDER = re.compile(r"^step-(\d{9})$")
# A manifest grows with the number of ranks, by some hundred bytes for each.
_MOST_MANIFEST_BYTES = 1 << 26


class FileEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    bytes: int
    sha256: str


class Manifest(BaseModel):
    """What a checkpoint holds and where its run stood. `files` maps names inside the folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = FORMAT
    step: int
    """Steps taken."""
    saved_at: AwareDatetime | None = None
    """When the values were those of the run; None in checkpoints of earlier versions."""
    world_size: int
    cursors: tuple[Cursor, ...]
    """Per rank: the rows that have been trained on (not those that were read ahead)."""
    data: str
    """Fingerprint of the training files: a cursor means nothing over others."""
    schema_hash: str | None = None
    """Of the training files' columns; for people and tools: the fingerprint decides."""
    plan: dict[str, str] = Field(default_factory=dict)
    """Table -> how it was sharded; for people: any plan loads it."""
    figures: dict[str, float] = Field(default_factory=dict)
    """window_auc/ctr, ...: the newest before this step, of a full window (training metrics)."""
    config_hash: str
    config: dict[str, object]
    versions: dict[str, str]
    files: dict[str, FileEntry]

    @property
    def rows_per_step(self) -> int:
        """Of all ranks together."""
        return self.world_size * cast(dict[str, int], self.config["data"])["batch_size"]


def file_entry(path: Path) -> FileEntry:
    """Size and sha256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 22):
            digest.update(piece)
    return FileEntry(bytes=path.stat().st_size, sha256=digest.hexdigest())


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a checkpoint folder, every file of which has been verified against it.

    Raises CheckpointError that says which file is missing, foreign or changed.
    """
    path = folder / MANIFEST_NAME
    # A link could lead to what others can change, or out of the run.
    if path.is_symlink() or folder.is_symlink():
        raise CheckpointError(f"{path}: is reached through a symbolic link, which is not followed")
    try:
        size = path.stat().st_size
        if size > _MOST_MANIFEST_BYTES:
            raise CheckpointError(f"{path}: {size:,} bytes; not a manifest")
        manifest = Manifest.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: can't be read ({error}); not a checkpoint") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise CheckpointError(f"{path}: not a manifest: {first['loc']}: {first['msg']}") from error
    if manifest.format != FORMAT:
        raise CheckpointError(f"{path}: format {manifest.format}, this version reads {FORMAT}")
    if len(manifest.cursors) != manifest.world_size:
        raise CheckpointError(
            f"{path}: {len(manifest.cursors)} cursors for {manifest.world_size} ranks"
        )
    if len({(cursor.epoch, cursor.legs) for cursor in manifest.cursors}) > 1:
        raise CheckpointError(f"{path}: its ranks do not stand in one epoch: {manifest.cursors}")
    named = _STEP_FOLDER.match(folder.name)
    if named and int(named[1]) != manifest.step:
        raise CheckpointError(f"{path}: is of step {manifest.step}, not of its folder's name")
    for name, expected in manifest.files.items():
        # A name with a folder in it, or a link, could lead out of the checkpoint.
        if name != Path(name).name or name in ("", ".", "..") or (folder / name).is_symlink():
            raise CheckpointError(f"{path}: the file name {name!r} is not allowed")
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder / name}: missing, but listed in the manifest")
        if file_entry(folder / name) != expected:
            raise CheckpointError(f"{folder / name}: size or sha256 differs from the manifest's")
    present = {p.name for p in folder.iterdir()} - {MANIFEST_NAME}
    if unlisted := sorted(present - set(manifest.files)):
        raise CheckpointError(f"{folder}: holds files that its manifest does not list: {unlisted}")
    return manifest


def manifest_text(manifest: Manifest) -> str:
    return json.dumps(manifest.model_dump(mode="json"), indent=1)
