"""Finds the checkpoint that a path names, and the config that it was trained with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from marigold_rec.checkpoint.finding import Found, open_checkpoint
from marigold_rec.checkpoint.manifest import MANIFEST_NAME, parse_manifest
from marigold_rec.config.loading import config_from
from marigold_rec.config.schema import Config
from marigold_rec.errors import CheckpointError, ConfigError


def run_folder_of(found: Found) -> Path | None:
    """Returns the run's folder, with its logs, if the checkpoint is still inside its run."""
    run = found.folder.resolve().parent.parent
    return run if (run / "config.effective.yaml").is_file() else None


def peek_config(path: Path, overrides: Sequence[str]) -> Config:
    """Reads the config of the checkpoint that `path` seems to name, before anything is verified.

    The ranks need it to start: device, timeout, threads. Raises CheckpointError or ConfigError.
    """
    folders = [path, *sorted((path / "checkpoints").glob("step-*"), reverse=True)]
    for folder in folders:
        try:
            path = folder / MANIFEST_NAME
            tree = parse_manifest(path.read_bytes(), path).config
        except (OSError, CheckpointError):
            continue
        return evaluated_config(tree, overrides, folder)
    open_checkpoint(path)  # raises with the reason
    raise CheckpointError(f"{path}: no checkpoint with a readable {MANIFEST_NAME}")


def evaluated_config(tree: dict[str, object], overrides: Sequence[str], folder: Path) -> Config:
    """Applies overrides to a manifest's config. Raises ConfigError."""
    config = config_from(tree, overrides, where=f"config of {folder}")
    if config.data.eval is None:
        raise ConfigError(
            f"{folder}: its config has no data.eval; name a log with --data, or the days with "
            "data.eval.dates='[first, last]'"
        )
    return config
