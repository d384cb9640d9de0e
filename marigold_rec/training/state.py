"""Everything of a run that a checkpoint holds as tensors, under stable names."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor
from torchrec.distributed import DistributedModelParallel
from torchrec.distributed.model_parallel import get_unwrapped_module

from marigold_rec.checkpoint.finding import Found
from marigold_rec.checkpoint.store import CheckpointStore
from marigold_rec.distributed.ranks import Ranks
from marigold_rec.distributed.together import on_first_rank
from marigold_rec.training.objective import Objective
from marigold_rec.training.optimizer import Optimizers
from marigold_rec.training.probing.random_stream import random_state, set_random_state
from marigold_rec.training.row_sums import column_edges, stage
from marigold_rec.training.step_hook import StepHook
from marigold_rec.training.train_module import model_tensors


def load_model(model: DistributedModelParallel, store: CheckpointStore, found: Found) -> None:
    """Loads tables, dense part and balancer, whatever plan and number of ranks saved them.

    Collective. Raises CheckpointError when they don't fit.
    """
    store.load(found, model_tensors(model))


class TrainState:
    """Names the live tensors of model, optimizers, hooks and random streams; a load writes into
    them.

    The balancer's state is part of the model: its buffers lie inside the train wrapper.
    """

    def __init__(
        self,
        model: DistributedModelParallel,
        optimizers: Optimizers,
        hooks: StepHook,
        ranks: Ranks,
    ) -> None:
        self._model = model
        self._optimizers = optimizers
        self._hooks = hooks
        self._ranks = ranks

    def tensors(self, *, with_random: bool = True) -> dict[str, Tensor]:
        """Returns the live tensors; sharded ones are DTensors that share the tables' memory."""
        named = model_tensors(self._model)
        named |= {f"optimizer/{name}": t for name, t in self._optimizers.named_state()}
        named |= {f"hook/{name}": tensor for name, tensor in self._hooks.tensors().items()}
        if with_random:
            named |= {f"random/rank-{self._ranks.rank}": random_state(self._ranks.device)}
        return named

    def without_figure(self) -> frozenset[str]:
        """Scalars of balancer and prober, which say "no figure (yet)" as NaN or infinity."""
        objective = cast(Objective, get_unwrapped_module(self._model).objective)
        return frozenset(
            f"model/objective.{name}"
            for name, buffer in objective.named_buffers()
            if buffer.ndim == 0 and name.startswith(("balancer.", "prober."))
        )

    def load(self, store: CheckpointStore, found: Found, *, seed: int) -> None:
        """Loads all of it, whatever plan and number of ranks saved it.

        At another number of ranks the random streams begin anew, as a function of (seed, rank,
        step): what a rank drew before means nothing to others. Collective. Raises CheckpointError
        when the tensors don't fit.
        """
        is_same_world = found.manifest.world_size == self._ranks.world_size
        tensors = self.tensors(with_random=is_same_world)
        edges_then = on_first_rank(lambda: column_edges(found), self._ranks.control)
        staged = stage(tensors, edges_then)
        store.load(found, tensors | {name: sums.tensor for name, sums in staged.items()})
        for sums in staged.values():
            sums.write()
        if is_same_world:
            set_random_state(tensors[f"random/rank-{self._ranks.rank}"], self._ranks.device)
        else:
            key = (self._ranks.rank, found.manifest.step)
            stream = np.random.SeedSequence(seed, spawn_key=key)
            torch.manual_seed(int(stream.generate_state(1, np.uint64)[0]))
