"""Turns the inputs of the dense part into one scalar: network, heads, weighted losses, balancer.

The project exists for what happens here. It runs inside the wrapped forward, so that the one
backward of its scalar drives DDP and the tables' fused optimizers alike, and it leaves what a probe
of the step direction needs: the representation, its gradient, and the state of the random stream.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from marigold_rec.balancing.balancer import Balancer
from marigold_rec.batch import Batch
from marigold_rec.inputs import Inputs
from marigold_rec.network import Network
from marigold_rec.training.forward_snapshot import ForwardSnapshot
from marigold_rec.training.losses import TaskLosses, global_losses
from marigold_rec.training.probing.context import ProbeContext
from marigold_rec.training.probing.gram import representation_gram
from marigold_rec.training.probing.prober import build_prober
from marigold_rec.training.probing.random_stream import random_state


@dataclass(frozen=True)
class StepOutput:
    """Holds what a training forward leaves for the step and its hooks.

    Everything but `losses.local_T` is detached.
    """

    losses: TaskLosses
    coefficients_T: Tensor
    batch: Batch
    outputs: tuple[Tensor, ...]
    """Each head's output_BK; `network.predict` makes predictions of them where somebody looks."""
    probe_context: ProbeContext | None = None
    """What a probe of this step needs; None if the step is not probed, and after the step."""
    snapshot: ForwardSnapshot | None = None
    """Undoes the forward; None if the objective takes none, and after the step."""
    was_skipped: bool = False
    """The step ended before its backward: a hook has left the batch out."""


class Objective(nn.Module):
    """Computes (scalar, StepOutput) in training, predictions_BP in the labels' units otherwise."""

    def __init__(
        self,
        network: Network,
        balancer: Balancer,
        group: dist.ProcessGroup,
        precision: Literal["fp32", "bf16"] = "fp32",
        *,
        takes_snapshots: bool = False,
    ) -> None:
        """With `takes_snapshots` each training forward can be undone, for a copy of all buffers."""
        super().__init__()
        self.network = network
        self.balancer = balancer
        self.prober = build_prober(network, balancer, group)
        self._group = group
        self._is_float32 = precision == "fp32"
        self._takes_snapshots = takes_snapshots

    def forward(self, inputs: Inputs, batch: Batch) -> tuple[Tensor, StepOutput] | Tensor:
        if not self.training:
            return self.network.predict(self.network(inputs))
        snapshot = None
        if self._takes_snapshots:
            snapshot = ForwardSnapshot.take(self.buffers(), inputs.device)
        balancer, is_probed = self.balancer, self.prober.is_due(batch.step)
        state = random_state(inputs.device) if is_probed else None
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=not self._is_float32):
            outputs = self.network(inputs)
        losses = global_losses(self.network, outputs, batch, self._group)
        with torch.no_grad():
            balancer.observe_losses(batch.step, losses.global_T, losses.present_T)
            balancer.observe_labels(losses.weight_T)
        if balancer.needs_gram:
            balancer.observe_gram(representation_gram(losses.local_T, inputs, self._group))
        coefficients_T = balancer.coefficients(losses.global_T, losses.present_T)
        context = None
        if state is not None:
            context = self._probe_context(inputs, batch, losses, coefficients_T, state)
        output = StepOutput(
            losses,
            coefficients_T,
            batch,
            tuple(output_BK.detach() for output_BK in outputs),
            context,
            snapshot,
        )
        return (coefficients_T * losses.local_T).sum(), output

    def _probe_context(
        self,
        inputs: Inputs,
        batch: Batch,
        losses: TaskLosses,
        coefficients_T: Tensor,
        state: Tensor,
    ) -> ProbeContext:
        for leaf in inputs.embedded:
            if leaf.requires_grad:
                leaf.retain_grad()
        probing = self.balancer.probing
        assert probing is not None
        return ProbeContext(
            self.network,
            inputs,
            batch,
            losses,
            coefficients_T,
            state,
            is_float32=self._is_float32,
            num_rows=math.ceil(probing.rows * inputs.num_rows),
        )
