"""The manifest: the last file of a checkpoint to be written, and the first to be read.

Only a folder whose manifest verifies is ever loaded. The tensors are in files of
torch.distributed.checkpoint beside it; everything else (step, cursors, versions) is here, as JSON
that vouches for itself (`sealed.py`).
"""

from __future__ import annotations

from pathlib import Path

from pydantic import AwareDatetime, Field, ValidationError

from marigold_rec.batch import Cursor
from marigold_rec.checkpoint.folders import STEP_FOLDER
from marigold_rec.errors import CheckpointError
from marigold_rec.file_entry import FileEntry, file_entry
from marigold_rec.record import Record
from marigold_rec.sealed import sealed, unsealed

MANIFEST_NAME = "manifest.json"
FORMAT = 2
# A manifest grows with the number of ranks, by some hundred bytes for each.
_MOST_MANIFEST_BYTES = 1 << 26


class Manifest(Record):
    """What a checkpoint holds and where its run stood. `files` maps names inside the folder."""

    format: int = FORMAT
    step: int
    """Steps taken."""
    saved_at: AwareDatetime | None = None
    """When the values were those of the run; None in checkpoints of earlier versions."""
    world_size: int
    cursors: tuple[Cursor, ...]
    """Per rank: the rows that have been trained on (not those that were read ahead)."""
    has_begun: bool
    """What a run does once, before its first step, is done: the heads' start."""
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
    def batch_size(self) -> int:
        """Rows of a rank in a step. Raises ValueError where the config has none."""
        data = self.config.get("data")
        found = data.get("batch_size") if isinstance(data, dict) else None
        if type(found) is not int or found < 1:
            raise ValueError(f"its config's data.batch_size is {found!r:.40}")
        return found

    @property
    def rows_per_step(self) -> int:
        """Of all ranks together."""
        return self.world_size * self.batch_size


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
        manifest = parse_manifest(path.read_bytes(), path)
    except OSError as error:
        raise CheckpointError(f"{path}: can't be read ({error}); not a checkpoint") from error
    named = STEP_FOLDER.match(folder.name)
    if named and int(named[1]) != manifest.step:
        raise CheckpointError(f"{path}: is of step {manifest.step}, not of its folder's name")
    try:
        _verify_files(folder, manifest)
    except OSError as error:  # deleted under us, or a disk that fails
        raise CheckpointError(
            f"{folder}: can't be read ({error}); if it was there, has its run deleted it? look for "
            "a newer one, or raise checkpoint.keep"
        ) from error
    return manifest


def _verify_files(folder: Path, manifest: Manifest) -> None:
    path = folder / MANIFEST_NAME
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


def parse_manifest(content: bytes, where: Path | str) -> Manifest:
    """The manifest of a file's bytes, all of which have been vouched for by its seal.

    Raises CheckpointError for what is no manifest of this version, or contradicts itself. The files
    that it lists have yet to be verified.
    """
    try:
        manifest = Manifest.model_validate_json(unsealed(content))
    except ValidationError as error:
        first = error.errors()[0]
        raise CheckpointError(f"{where}: not a manifest: {first['loc']}: {first['msg']}") from error
    except ValueError as error:
        raise CheckpointError(
            f"{where}: not a manifest: {error}; use another checkpoint, or begin anew with "
            "--resume never"
        ) from error
    if manifest.format != FORMAT:
        raise CheckpointError(f"{where}: format {manifest.format}, this version reads {FORMAT}")
    try:
        problem = _contradiction(manifest)
    except ValueError as error:
        problem = str(error)
    if problem is not None:
        raise CheckpointError(f"{where}: {problem}")
    return manifest


def _contradiction(manifest: Manifest) -> str | None:
    """How the ranks' places contradict each other or the step, if they do."""
    cursors, batch_size = manifest.cursors, manifest.batch_size
    if not cursors or len(cursors) != manifest.world_size:
        return f"{len(cursors)} cursors for {manifest.world_size} ranks"
    if len({(cursor.epoch, cursor.legs) for cursor in cursors}) > 1:
        return f"its ranks do not stand in one epoch: {cursors}"
    rows = [cursor.rows for cursor in cursors]
    numbers = [manifest.step, cursors[0].epoch, *rows]
    numbers += [number for leg in cursors[0].legs for number in (leg.world_size, leg.rows)]
    if min(numbers) < 0:
        return f"a number below 0: step {manifest.step}, {cursors}"
    # All take the same steps: one that has no rows left stands at its end, or counts filling.
    if max(rows) - min(rows) > batch_size:
        return f"its ranks' rows differ by more than a batch of {batch_size}: {rows}"
    steps = -(-max(rows) // batch_size)
    is_all = cursors[0].epoch == 0 and not cursors[0].legs
    if steps > manifest.step or (is_all and steps != manifest.step):
        return (
            f"step {manifest.step}, but {max(rows):,} rows of a rank are {steps} steps of "
            f"{batch_size}"
        )
    return None


def manifest_bytes(manifest: Manifest) -> bytes:
    """The file's content."""
    return sealed(manifest.model_dump(mode="json"))
