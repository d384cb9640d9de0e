"""Shards a model's tables with fused optimizers and replicates its dense part.

The one way in which CPU (gloo) and CUDA (nccl) runs are built: the same plan, the same fused
RowWiseAdagrad inside the backward, the same DDP around the dense part.
"""

from __future__ import annotations

from torch import Tensor, nn
from torchrec.distributed import DistributedModelParallel
from torchrec.distributed.types import ShardingEnv, ShardingPlan
from torchrec.optim.apply_optimizer_in_backward import apply_optimizer_in_backward
from torchrec.optim.rowwise_adagrad import RowWiseAdagrad

from marigold_rec.config.schema import SparseOptimizerConfig
from marigold_rec.config.tables import Table
from marigold_rec.distributed.ranks import Ranks
from marigold_rec.sharding.initialize import initialize_tables
from marigold_rec.sharding.planner import sharders


def shard_model(
    module: nn.Module,
    embeddings: nn.Module,
    plan: ShardingPlan,
    ranks: Ranks,
    *,
    tables: tuple[Table, ...],
    optimizer: SparseOptimizerConfig,
    seed: int,
) -> DistributedModelParallel:
    """`module` with the tables of `embeddings` (a part of it, on `meta`) sharded by `plan`.

    Collective: call on every rank with the same plan.
    """
    # A fresh kwargs dict per call: sharing one between two calls breaks the second.
    apply_optimizer_in_backward(
        RowWiseAdagrad, embeddings.parameters(), {"lr": optimizer.lr, "eps": optimizer.eps}
    )
    env = ShardingEnv.from_process_group(ranks.group)
    env.output_dtensor = True  # what asynchronous distributed checkpoints need
    model = DistributedModelParallel(
        module, env=env, device=ranks.device, plan=plan, sharders=sharders()
    )
    initialize_tables(table_weights(model, tables), tables, seed)
    return model


def table_weights(
    model: DistributedModelParallel, tables: tuple[Table, ...]
) -> list[tuple[str, Tensor]]:
    """(table name, sharded weight) of every table of the model."""
    state = model.state_dict()
    return [(table.name, state[table.state_key]) for table in tables]
