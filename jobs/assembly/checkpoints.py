"""Finds the checkpoint that a path names, and the config that it was trained with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from marigold_rec.checkpoint import Found, newest_good
from marigold_rec.checkpoint.manifest import MANIFEST_NAME, parse_manifest, read_manifest
from marigold_rec.config import Config
from marigold_rec.config.loading import config_from
from marigold_rec.errors import CheckpointError, ConfigError
from marigold_rec.transforms.row_bits import ADMITTED_NAME, RowBits, read_row_bits


def run_folder_of(found: Found) -> Path | None:
    """Returns the run's folder, with its logs, if the checkpoint is still inside its run."""
    run = found.folder.resolve().parent.parent
    return run if (run / "config.effective.yaml").is_file() else None


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


def admitted_rows(found: Found, config: Config) -> dict[str, RowBits]:
    """Reads the rows that the checkpoint's training admitted, by table; empty: all rows."""
    if ADMITTED_NAME not in found.manifest.files:
        return {}
    return read_row_bits(found.folder / ADMITTED_NAME, config.tables)


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
