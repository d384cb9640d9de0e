"""Runs one export: finds the checkpoint, loads it without sharding, writes the artefact."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from jobs.assembly.admitted_rows import admitted_in_checkpoint
from jobs.export.arguments import ExportArguments
from jobs.export.dense import export_dense
from jobs.export.description import describe
from marigold_rec.checkpoint.compatibility import config_differences
from marigold_rec.checkpoint.finding import Found, open_checkpoint
from marigold_rec.checkpoint.store import CheckpointStore
from marigold_rec.config.loading import config_from
from marigold_rec.config.schema import Config
from marigold_rec.config.tables import Table
from marigold_rec.distributed.ranks import start_ranks
from marigold_rec.errors import EXIT_DONE, ConfigError
from marigold_rec.network import Network
from marigold_rec.serving.writing import require_place, write_artefact
from marigold_rec.training.monitoring.run_log import LOGGER
from models.build import build_network


def export_checkpoint(arguments: ExportArguments) -> int:
    """Runs the whole export; returns the exit code. Writes `arguments.out` only.

    Raises CheckpointError, ConfigError.
    """
    require_place(arguments.out)
    found = open_checkpoint(arguments.checkpoint)
    config = _config(found, arguments.overrides)
    tables = config.tables
    with start_ranks(config) as ranks:
        if ranks.world_size != 1:
            raise ConfigError(
                f"an export is one process, found {ranks.world_size} ranks; run it as "
                "python launch/export.py, or with --nproc-per-node 1"
            )
        store = CheckpointStore(found.folder.parent, ranks, config)
        network = build_network(config)
        _load_network(network, store, found)
        program = export_dense(network)
        written = write_artefact(
            arguments.out,
            describe(config, found, network),
            program,
            {table: _values(table, store, found) for table in tables},
            precision=arguments.tables,
            quantize=torch.ops.fbgemm.FloatToFused8BitRowwiseQuantized,
            admitted=admitted_in_checkpoint(found, config),
        )
    table_bytes = sum(written.files[entry.file].bytes for entry in written.tables.values())
    LOGGER.info(
        "exported step %d of %s to %s: tables %s, %.1f MB",
        found.manifest.step,
        config.run.name,
        arguments.out,
        arguments.tables,
        table_bytes / 1e6,
    )
    return EXIT_DONE


def _config(found: Found, overrides: tuple[str, ...]) -> Config:
    """Applies overrides to the checkpoint's config. Raises ConfigError if they change the model."""
    where = f"config of {found.folder}"
    # Its own settings as this version reads them: a setting that is new since is no difference.
    own = config_from(found.manifest.config, (), where=where)
    saved = own.model_dump(mode="json")
    config = config_from(saved, (*overrides, "run.device=cpu"), where=where)
    if differences := config_differences(saved, config):
        raise ConfigError([f"an export can't change the model: {line}" for line in differences])
    return config


def _load_network(network: Network, store: CheckpointStore, found: Found) -> None:
    """Loads dense values straight from the checkpoint, without a plan or a sharded model."""
    state = network.state_dict()
    store.load(found, {f"model/objective.network.{name}": value for name, value in state.items()})


def _values(table: Table, store: CheckpointStore, found: Found) -> Callable[[], Tensor]:
    def load() -> Tensor:
        weight_ND = torch.empty(table.rows, table.dim)
        store.load(found, {f"model/{table.state_key}": weight_ND})
        return weight_ND

    return load
