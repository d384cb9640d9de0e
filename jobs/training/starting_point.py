"""Loads what a training starts from: its own checkpoint (--resume) or an older model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from jobs.assembly.model import network_layout
from marigold_rec.checkpoint.compatibility import config_differences
from marigold_rec.checkpoint.finding import Found, open_checkpoint
from marigold_rec.checkpoint.store import CheckpointStore
from marigold_rec.config.loading import config_from
from marigold_rec.config.schema import Config
from marigold_rec.distributed.ranks import Ranks
from marigold_rec.distributed.together import on_first_rank
from marigold_rec.errors import CheckpointError
from marigold_rec.training.monitoring.run_log import LOGGER
from marigold_rec.training.trainer import Trainer
from marigold_rec.training.warm_start import plan_lines
from marigold_rec.transforms.row_bits import ADMITTED_NAME


def load_starting_point(
    trainer: Trainer, store: CheckpointStore, config: Config, ranks: Ranks, resume: str
) -> dict[str, int]:
    """Resumes, starts warm, or leaves the initial values. Collective. Raises CheckpointError.

    Returns how many rows of each table a warm start has reset.
    """
    if (found := store.find(resume)) is not None:
        _require_same_rows(found, store.files)
        _resume(trainer, found, config, ranks)
    elif config.warm_start.path is not None:
        return _warm_start(trainer, Path(config.warm_start.path), ranks)
    return {}


def _resume(trainer: Trainer, found: Found, config: Config, ranks: Ranks) -> None:
    is_same_world = found.manifest.world_size == ranks.world_size
    if differences := config_differences(
        found.manifest.config, config, is_same_world=is_same_world
    ):
        raise CheckpointError(
            f"{found.folder} was saved under another config:\n" + "\n".join(differences) +
            "\nuse the old settings, another run.name, or --resume never"
        )  # fmt: skip
    for refused in found.refused:
        LOGGER.warning("refused: %s", refused)
    trainer.resume(found)
    if found.fetched_from is not None:
        LOGGER.info("fetched %s from the mirror %s", found.folder.name, found.fetched_from)
    LOGGER.info("resumed from %s at step %d", found.folder, trainer.step)


def _require_same_rows(found: Found, files: Mapping[str, bytes]) -> None:
    """Raises CheckpointError if ids would be looked up in other rows than they were trained in."""
    now = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    then = found.manifest.files.get(ADMITTED_NAME)
    if (None if then is None else then.sha256) != now.get(ADMITTED_NAME):
        raise CheckpointError(
            f"{found.folder}: was saved with other admitted rows than those of life_cycle.rows: "
            "restore the old folder, or use another run.name or --resume never"
        )


def _warm_start(trainer: Trainer, path: Path, ranks: Ranks) -> dict[str, int]:
    """Loads the older model's values; returns how many rows of each table were reset."""
    found = on_first_rank(lambda: open_checkpoint(path), ranks.control)
    for refused in found.refused:
        LOGGER.warning("refused: %s", refused)
    then = config_from(found.manifest.config, (), where=f"config of {found.folder}")
    plan = trainer.warm_start(found, then, network_layout(then))
    LOGGER.info("warm start from %s (its step %d)", found.folder, found.manifest.step)
    for line in plan_lines(plan):
        LOGGER.info("%s", line)
    return dict(plan.reset)
