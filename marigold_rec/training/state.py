"""Everything of a run that a checkpoint holds as tensors, under stable names."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torchrec.distributed import DistributedModelParallel

from marigold_rec.distributed import Ranks
from marigold_rec.training.optimizer import Optimizers


class TrainState:
    """Names the live tensors of model, optimizers and random streams; a load writes into them.

    The balancer's state is part of the model: its buffers lie inside the train wrapper.
    """

    def __init__(
        self, model: DistributedModelParallel, optimizers: Optimizers, ranks: Ranks
    ) -> None:
        self._model = model
        self._optimizers = optimizers
        self._ranks = ranks

    def tensors(self, *, with_random: bool = True) -> dict[str, Tensor]:
        """The live tensors; sharded ones are DTensors whose shards share the tables' memory."""
        named = {
            f"model/{name}": cast(Tensor, tensor)
            for name, tensor in self._model.state_dict().items()
        }
        named |= {f"optimizer/{name}": t for name, t in self._optimizers.named_state()}
        if with_random:
            named |= {f"random/rank-{self._ranks.rank}": self._random_state()}
        return named

    def restore_random(self, state: Tensor) -> None:
        if self._ranks.device.type == "cuda":
            torch.cuda.set_rng_state(state, self._ranks.device)
        else:
            torch.set_rng_state(state)

    def _random_state(self) -> Tensor:
        if self._ranks.device.type == "cuda":
            return torch.cuda.get_rng_state(self._ranks.device)
        return torch.get_rng_state()
