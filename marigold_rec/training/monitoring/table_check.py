"""Looks at a few rows of each table now and then: a bad row shows in no loss until it is read.

A row that has become NaN spoils each batch that reads it, and no other; a checkpoint reads all
rows, but may be hours away.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor
from torchrec.distributed import DistributedModelParallel

from marigold_rec.checkpoint.staging import live_shards
from marigold_rec.config.tables import table_of_key
from marigold_rec.distributed.ranks import Ranks
from marigold_rec.errors import NumericsError
from marigold_rec.training.objective import StepOutput
from marigold_rec.training.step_hook import Scalars, StepHook
from marigold_rec.training.train_module import model_tensors

_ROWS = 4096
"""Rows of each shard that a check samples."""


class TableCheck(StepHook):
    """Checks that sampled rows of each table shard are finite; later checks sample other rows."""

    def __init__(
        self, model: DistributedModelParallel, ranks: Ranks, every_n_steps: int | None
    ) -> None:
        """With `every_n_steps` None it checks nothing."""
        self._model = model
        self._ranks = ranks
        self._every = every_n_steps
        self._last_step = 0
        self._num_checks = 0

    def on_log(self, step: int, output: StepOutput) -> Scalars:
        """Checks if `every_n_steps` steps have passed since the last check. Collective.

        Raises NumericsError on all ranks alike, naming the tables.
        """
        if self._every is None or step // self._every == self._last_step // self._every:
            return {}
        self._last_step = step
        bad: list[list[str]] = [[] for _ in range(self._ranks.world_size)]
        dist.all_gather_object(bad, self._bad_tables(), group=self._ranks.control)
        self._num_checks += 1
        where = [f"{table} (rank {rank})" for rank, tables in enumerate(bad) for table in tables]
        if where:
            raise NumericsError(
                f"step {step}: tables with values that are not finite: {', '.join(where)}. The "
                "earlier checkpoints are good. Go on from there with a lower optimizer.sparse.lr "
                "or with optimizer.dense.clip_norm"
            )
        return {}

    def _bad_tables(self) -> list[str]:
        tensors = model_tensors(self._model)
        tables = {name: tensor for name, tensor in tensors.items() if isinstance(tensor, DTensor)}
        return sorted(
            {
                table_of_key(index.fqn.removeprefix("model/")) or index.fqn
                for index, shard in live_shards(tables).items()
                if not bool(torch.isfinite(self._sample(shard)).all())
            }
        )

    def _sample(self, shard_RD: Tensor) -> Tensor:
        """Returns every n-th row, beginning with another one each time: n checks see all rows."""
        stride = max(1, -(-len(shard_RD) // _ROWS))
        return shard_RD[self._num_checks % stride :: stride]
