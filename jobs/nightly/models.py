"""Identifies a nightly run's model on disk by its hashes.

A manifest holds the hashes of all files of a checkpoint, and artefact.json those of an artefact: so
the hashes of these two files identify the model that training continues, and the one that servers
load.
"""

from __future__ import annotations

from pathlib import Path

from jobs.nightly.folder import NightlyFolder
from jobs.nightly.plan import Model, NightlyPlan
from marigold_rec.errors import CheckpointError
from marigold_rec.file_entry import file_sha256

# Not imported from their modules: those import torch, and `--status` should not wait for it.
_MANIFEST, _ARTEFACT = "manifest.json", "artefact.json"


def trained_model(folder: NightlyFolder, plan: NightlyPlan) -> Model:
    """Identifies the model that the run's training has just saved; loading it verifies it.

    Raises CheckpointError.
    """
    found = sorted((folder.train / "checkpoints").glob("step-?????????"))
    if not found:
        raise CheckpointError(f"{folder.train}: no checkpoint; train again with --from train")
    return Model(
        night=plan.night,
        trained_until=plan.train[1],
        origin=plan.origin,
        checkpoint=str(found[-1].relative_to(folder.root)),
        manifest_sha256=_digest(found[-1] / _MANIFEST),
    )


def candidate(folder: NightlyFolder) -> Model:
    """Returns the run's model, if it is still the one that its training saved.

    Raises CheckpointError.
    """
    model = folder.model
    if model is None:
        raise CheckpointError(
            f"{folder.model_file}: missing: no model is trained; train again with --from train"
        )
    require_same(folder.root, model, "its training saved; train again with --from train")
    return model


def candidate_or_none(folder: NightlyFolder) -> Model | None:
    """Returns the run's model; None if the run ended before it was trained, or it was deleted."""
    try:
        return candidate(folder)
    except CheckpointError:
        return None


def require_same(root: Path, model: Model, which: str) -> None:
    """Raises CheckpointError ("is not the model that `which`") if the hashes differ."""
    if _digest(root / model.checkpoint / _MANIFEST) != model.manifest_sha256:
        raise CheckpointError(f"{root / model.checkpoint}: is not the model that {which}")


def artefact_digest(folder: NightlyFolder) -> str | None:
    """Hashes artefact.json; None if there is no artefact."""
    if not folder.artefact.exists():
        return None
    return _digest(folder.artefact / _ARTEFACT)


def _digest(file: Path) -> str:
    try:
        return file_sha256(file)
    except OSError as error:
        raise CheckpointError(f"{file}: can't be read ({error.strerror})") from error
