"""A night's model as it lies on the disk, known by its hashes.

A manifest vouches for every byte of a checkpoint and artefact.json for every byte of an artefact,
so that the hashes of these two files say which model training goes on from, and which one servers
load.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from jobs.nightly.folder import NightFolder
from jobs.nightly.plan import Model, NightPlan
from marigold_rec.errors import CheckpointError

# Not imported from their homes: those load torch, and `--status` should not wait for it.
_MANIFEST, _ARTEFACT = "manifest.json", "artefact.json"


def trained_model(folder: NightFolder, plan: NightPlan) -> Model:
    """The model that the night's training has just left. Whoever loads it verifies it.

    Raises CheckpointError.
    """
    found = sorted((folder.train / "checkpoints").glob("step-?????????"))
    if not found:
        raise CheckpointError(
            f"{folder.train}: no checkpoint; do the night again with --from train"
        )
    return Model(
        night=plan.night,
        trained_until=plan.train[1],
        origin=plan.origin,
        checkpoint=str(found[-1].relative_to(folder.root)),
        manifest_sha256=_digest(found[-1] / _MANIFEST),
    )


def candidate(folder: NightFolder) -> Model:
    """The night's model, which is still the one that its training left. Raises CheckpointError."""
    model = folder.model
    if model is None:
        raise CheckpointError(
            f"{folder.model_file}: missing: no model is trained; do the night again with "
            "--from train"
        )
    require_same(folder.root, model, "its training left; do the night again with --from train")
    return model


def candidate_or_none(folder: NightFolder) -> Model | None:
    """None where the night ended before its model was there, or lost it since."""
    try:
        return candidate(folder)
    except CheckpointError:
        return None


def require_same(root: Path, model: Model, which: str) -> None:
    """Raises CheckpointError: `is not the model that` `which`."""
    if _digest(root / model.checkpoint / _MANIFEST) != model.manifest_sha256:
        raise CheckpointError(f"{root / model.checkpoint}: is not the model that {which}")


def artefact_digest(folder: NightFolder) -> str | None:
    """None where there is no artefact."""
    if not folder.artefact.exists():
        return None
    return _digest(folder.artefact / _ARTEFACT)


def _digest(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise CheckpointError(f"{file}: can't be read ({error.strerror})") from error
