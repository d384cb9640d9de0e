"""From the tables and the number of ranks to a sharding plan, without touching a device.

Small tables are never left to TorchRec's data-parallel default: its kernel is not fused and its
optimizer state has other keys, so that a checkpoint could not move to another plan.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from torchrec.distributed.embedding import EmbeddingCollectionSharder
from torchrec.distributed.embedding_types import EmbeddingComputeKernel
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.planner import EmbeddingShardingPlanner
from torchrec.distributed.planner.storage_reservations import FixedPercentageStorageReservation
from torchrec.distributed.planner.types import (
    HardwareConfig,
    KernelConfig,
    ParameterConstraints,
    PlannerError,
    TopologyFactory,
    TrainerConfig,
)
from torchrec.distributed.types import (
    EmbeddingModuleShardingPlan,
    ModuleSharder,
    ShardingPlan,
    ShardingType,
)

from marigold_rec.config.schema import ShardingConfig
from marigold_rec.config.tables import Table
from marigold_rec.errors import ConfigError

_ALLOWED = {
    "auto": ["table_wise", "row_wise", "column_wise"],
    "table_wise": ["table_wise"],
    "row_wise": ["row_wise"],
    "column_wise": ["column_wise"],
}
_GIB = 1024**3


class _Fused:
    """Offers row_wise on gloo too, which works but which TorchRec lists for CUDA only, and the
    fused kernel alone."""

    def sharding_types(self, compute_device_type: str) -> list[str]:
        return [t.value for t in ShardingType if t.value in _ALLOWED["auto"]]

    def compute_kernels(self, sharding_type: str, compute_device_type: str) -> list[str]:
        return [EmbeddingComputeKernel.FUSED.value]


class FusedBagSharder(_Fused, EmbeddingBagCollectionSharder):
    """Shards tables that are looked up pooled."""


class FusedSequenceSharder(_Fused, EmbeddingCollectionSharder):
    """Shards tables that are looked up unpooled."""


def sharders() -> list[ModuleSharder[nn.Module]]:
    """For every kind of module that holds tables."""
    return [FusedBagSharder(), FusedSequenceSharder()]  # pyright: ignore[reportReturnType]


@dataclass(frozen=True)
class TablePlacement:
    """Where one table lies: sharding type, and per shard its rank, rows and bytes of weights."""

    table: str
    sharding: str
    ranks: tuple[int, ...]
    rows_per_rank: tuple[int, ...]
    bytes_per_rank: tuple[int, ...]


def plan_sharding(
    module: nn.Module,
    tables: tuple[Table, ...],
    config: ShardingConfig,
    *,
    world_size: int,
    local_world_size: int,
    device_type: str,
    batch_size: int,
) -> ShardingPlan:
    """The plan for `module`'s tables. Local: let rank 0 plan and share the result.

    `batch_size` is per rank. Raises ConfigError when the tables don't fit.
    """
    topology = TopologyFactory.create_topology(
        TrainerConfig(
            world_size=world_size,
            local_world_size=local_world_size,
            hbm_cap_bytes=int(config.hbm_gib * _GIB) if device_type == "cuda" else None,
            ddr_cap_bytes=int(config.host_gib * _GIB),
        ),
        HardwareConfig(),
        KernelConfig(compute_device=device_type),
    )
    constraints = {
        table.name: ParameterConstraints(
            sharding_types=_ALLOWED[config.tables.get(table.name, config.default)],
            compute_kernels=[EmbeddingComputeKernel.FUSED.value],
            pooling_factors=list(table.ids_per_row),
            min_partition=min(table.dim, 4) if table.dim % 4 == 0 else None,
        )
        for table in tables
    }
    planner = EmbeddingShardingPlanner(
        topology=topology,
        batch_size=batch_size,
        constraints=constraints,
        # For the dense part, activations and the exchange of ids.
        storage_reservation=FixedPercentageStorageReservation(percentage=0.15),
        debug=False,
    )
    try:
        return planner.plan(module, sharders())
    except PlannerError as error:
        gib = sum(t.rows * t.dim * 4 for t in tables) / _GIB
        raise ConfigError(
            f"sharding: no plan fits {len(tables)} tables ({gib:.2f} GiB of fp32 weights) onto "
            f"{world_size} ranks: {str(error).splitlines()[0].rstrip(' .')}; add ranks, raise "
            "sharding.hbm_gib / host_gib to what a rank really has, or shrink tables"
        ) from error


def placements(plan: ShardingPlan) -> list[TablePlacement]:
    """The plan in plain words, in table order, for --dry-run and the logs."""
    found = []
    for module_plan in plan.plan.values():
        assert isinstance(module_plan, EmbeddingModuleShardingPlan)
        for table, sharding in module_plan.items():
            shards = sharding.sharding_spec.shards  # pyright: ignore[reportOptionalMemberAccess, reportAttributeAccessIssue]
            found.append(
                TablePlacement(
                    table,
                    sharding.sharding_type,
                    tuple(s.placement.rank() for s in shards),
                    tuple(s.shard_sizes[0] for s in shards),
                    tuple(s.shard_sizes[0] * s.shard_sizes[1] * 4 for s in shards),
                )
            )
    return found
