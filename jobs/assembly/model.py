"""Builds the sharded model that a config describes, for every command."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torchrec.distributed import DistributedModelParallel
from torchrec.distributed.types import ShardingPlan

from marigold_rec.balancing import build_balancer
from marigold_rec.config.schema import Config
from marigold_rec.config.tables import Table
from marigold_rec.distributed.ranks import Ranks
from marigold_rec.distributed.together import on_first_rank
from marigold_rec.errors import ConfigError
from marigold_rec.network import NetworkLayout
from marigold_rec.sharding.model import shard_model
from marigold_rec.sharding.planner import plan_sharding
from marigold_rec.training.objective import Objective
from marigold_rec.training.train_module import TrainModule
from models.build import build_embeddings, build_network


@dataclass(frozen=True)
class BuiltModel:
    model: DistributedModelParallel
    objective: Objective
    plan: ShardingPlan
    tables: tuple[Table, ...]


def build_model(config: Config, ranks: Ranks) -> BuiltModel:
    """Builds the sharded model with its fused table optimizers. Collective.

    The same seed gives the same initial values at any number of ranks and under any plan.
    """
    torch.manual_seed(config.run.seed)
    tables = config.tables
    try:
        embeddings = build_embeddings(config, torch.device("meta"))
    except ValueError as error:  # a table name that TorchRec can't hold
        raise ConfigError(f"features: {error}") from error
    objective = Objective(
        build_network(config),
        build_balancer(config),
        ranks.group,
        config.run.precision,
        takes_snapshots=config.numerics.on_non_finite == "skip_batch",
    )
    task = TrainModule(embeddings, objective.to(ranks.device))
    # Rank 0 plans and the others take its plan or its error: TorchRec's own collective plan leaves
    # them waiting when it fails.
    plan = on_first_rank(
        lambda: plan_sharding(
            task,
            tables,
            config.sharding,
            world_size=ranks.world_size,
            local_world_size=ranks.local_world_size,
            device_type=ranks.device.type,
            batch_size=config.data.batch_size,
        ),
        ranks.control,
    )
    model = shard_model(
        task,
        embeddings,
        plan,
        ranks,
        tables=tables,
        optimizer=config.optimizer.sparse,
        seed=config.run.seed,
    )
    # From here on each rank draws dropout masks of its own.
    torch.manual_seed(config.run.seed + 1 + ranks.rank)
    return BuiltModel(model, objective, plan, tables)


def network_layout(config: Config) -> NetworkLayout:
    """Returns what the axes of the network's parameters mean, without memory or random numbers."""
    with torch.device("meta"):
        return build_network(config).layout
