"""The optimizers: Adam(W) with warm-up for the dense part, RowWiseAdagrad inside the tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor
from torchrec.distributed import DistributedModelParallel
from torchrec.optim.keyed import CombinedOptimizer, KeyedOptimizer, KeyedOptimizerWrapper
from torchrec.optim.optimizers import in_backward_optimizer_filter

from marigold_rec.config.schema import DenseOptimizerConfig


class Optimizers:
    """Both optimizers of a sharded model, as the pipeline and the checkpoint need them."""

    def __init__(self, model: DistributedModelParallel, config: DenseOptimizerConfig) -> None:
        self._config = config
        kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
        self._dense_parameters = dict(in_backward_optimizer_filter(model.named_parameters()))
        self._dense = KeyedOptimizerWrapper(
            self._dense_parameters,
            lambda params: kind(params, lr=config.lr, weight_decay=config.weight_decay, fused=True),
        )
        # Adam makes its state on the first step; make it now, so that a load finds its place. A
        # step at rate zero moves no parameter; what weight decay leaves in the moments is cleared.
        self.set_learning_rate(0.0)
        self._dense.init_state()
        for state in self._dense.state.values():
            for tensor in state.values():
                cast(Tensor, tensor).zero_()
        self._dense.zero_grad()
        sparse = cast(KeyedOptimizer, model.fused_optimizer)
        self.combined = CombinedOptimizer([("dense", self._dense), ("sparse", sparse)])

    def set_learning_rate(self, rate: float) -> None:
        """Sets the dense learning rate from the next optimizer step on."""
        for group in cast(list[dict[str, Any]], self._dense.param_groups):
            group["lr"] = rate

    def clip_dense(self) -> Tensor:
        """The global norm of the dense gradients, which are clipped if the config says so.

        The gradients are equal on all ranks, so each computes the same norm by itself.
        """
        gradients = [p.grad for p in self._dense_parameters.values() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if self._config.clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(
                self._dense_parameters.values(), self._config.clip_norm, norm
            )
        return norm

    def named_state(self) -> Iterator[tuple[str, Tensor]]:
        """Every state tensor by a stable name; a checkpoint stores these and nothing else.

        Rates and other settings come from the config, not from a checkpoint.
        """
        state: dict[str, dict[str, Any]] = self.combined.state_dict()["state"]
        for parameter, tensors in state.items():
            for key, tensor in tensors.items():
                if isinstance(tensor, Tensor):
                    yield f"{parameter}/{key}", tensor
