"""Begins the files of a run's folder; one that can't be written is a ConfigError of run.dir."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jobs.entrypoint.run_folder import move_aside
from jobs.training.summary import Summary
from marigold_rec.checkpoint.mirror import refuse_taken_mirror
from marigold_rec.config.dumping import config_hash, dump_config
from marigold_rec.config.schema import Config
from marigold_rec.distributed.ranks import Ranks
from marigold_rec.errors import ConfigError
from marigold_rec.training.monitoring.run_log import LOGGER, RunLog
from marigold_rec.versions import installed_versions


def start_anew(config: Config, folder: Path) -> None:
    refuse_taken_mirror(config)
    if (target := move_aside(folder)) is not None:
        LOGGER.info("--resume never: the earlier run's files are now in %s", target)


def begin_summary(folder: Path, summary: Summary) -> None:
    try:
        summary.begin()
    except OSError as error:
        raise _unwritable(folder, error) from error


def write_config(config: Config, folder: Path) -> None:
    try:
        (folder / "config.effective.yaml").write_text(dump_config(config))
    except OSError as error:
        raise _unwritable(folder, error) from error


def open_log(config: Config, folder: Path, ranks: Ranks, first_step: int) -> RunLog:
    try:
        return RunLog(
            folder,
            is_first=ranks.is_first,
            tensorboard=config.logging.tensorboard,
            first_step=first_step,
        )
    except OSError as error:
        raise _unwritable(folder, error) from error


def run_card(config: Config, ranks: Ranks) -> dict[str, Any]:
    return {
        "name": config.run.name,
        "config_hash": config_hash(config),
        "seed": config.run.seed,
        "world_size": ranks.world_size,
        "device": ranks.device.type,
        "versions": installed_versions(),
    }


def _unwritable(folder: Path, error: OSError) -> ConfigError:
    return ConfigError(f"run.dir: can't write below {folder} ({error}); choose another run.dir")
