"""From the inputs of the dense part to one scalar: network, heads, weighted losses, balancer.

This is the hook that the project exists for. It runs inside the wrapped forward, so that the one
backward of its scalar drives DDP and the tables' fused optimizers alike, and it keeps what a probe
of the step direction needs: the representation, its gradient, and the state of the random stream.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from marigold_rec.balancing import Balancer
from marigold_rec.batch import Batch
from marigold_rec.inputs import Inputs
from marigold_rec.network import Network
from marigold_rec.training.head_start import start_heads
from marigold_rec.training.held_state import HeldState
from marigold_rec.training.losses import TaskLosses, global_losses
from marigold_rec.training.probing import (
    Lookup,
    ProbeContext,
    build_prober,
    random_state,
    representation_gram,
)


@dataclass(frozen=True)
class StepOutput:
    """What a training forward leaves for the step: everything but `losses.local_T` is detached."""

    losses: TaskLosses
    coefficients_T: Tensor
    batch: Batch
    outputs: tuple[Tensor, ...]
    """Each head's output_BK; `network.predict` makes predictions of them where somebody looks."""


class Objective(nn.Module):
    """In training: (scalar, StepOutput). In evaluation: predictions_BP in the labels' units."""

    def __init__(
        self,
        network: Network,
        balancer: Balancer,
        group: dist.ProcessGroup,
        precision: Literal["fp32", "bf16"] = "fp32",
        *,
        starts_heads: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self.balancer = balancer
        self.prober = build_prober(network, balancer, group)
        self.step = 0
        """Counted from 0; set by the trainer before each forward."""
        self.starts_heads = starts_heads
        """The next training forward sets the heads' biases from its labels, once; set False by
        whoever loads a model."""
        self.can_forget = False
        """Whether `forget` may be called after a forward: set by the trainer, for what it costs."""
        self._held: HeldState | None = None
        self._context: ProbeContext | None = None
        self._group = group
        self._is_float32 = precision == "fp32"

    def forward(self, inputs: Inputs, batch: Batch) -> tuple[Tensor, StepOutput] | Tensor:
        if not self.training:
            return self.network.predict(self.network(inputs))
        if self.starts_heads:
            self.starts_heads = False
            start_heads(self.network.task_heads, batch, self._group)
        if self.can_forget:
            self._held = HeldState.of(self.buffers(), inputs.device)
        balancer, keeps = self.balancer, self.prober.keeps(self.step)
        state = random_state(inputs.device) if keeps else None
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=not self._is_float32):
            outputs = self.network(inputs)
        losses = global_losses(self.network, outputs, batch, self._group)
        with torch.no_grad():
            balancer.observe_losses(self.step, losses.global_T, losses.present_T)
            balancer.observe_labels(losses.weight_T)
        if balancer.needs_gram:
            balancer.observe_gram(representation_gram(losses.local_T, inputs, self._group))
        coefficients_T = balancer.coefficients(losses.global_T, losses.present_T)
        if state is not None:
            for leaf in inputs.embedded:
                if leaf.requires_grad:
                    leaf.retain_grad()
            self._context = self._probe_context(inputs, batch, losses, coefficients_T, state)
        output = StepOutput(
            losses, coefficients_T, batch, tuple(output_BK.detach() for output_BK in outputs)
        )
        return (coefficients_T * losses.local_T).sum(), output

    def before_optimizer(self) -> None:
        """Call after the backward and before the dense optimizer's step, on every rank."""
        if self._context is not None:
            self.prober.keep(self._context)
            self._context = None
        self.prober.before_optimizer(self.step)

    def after_optimizer(self, lookup: Lookup) -> None:
        """Call after the optimizers' step, on every rank."""
        self.prober.after_optimizer(lookup)

    def forget(self) -> None:
        """Call instead of the backward, on every rank: as if the last forward had not been.

        Balancer, network and random stream are as before it, and its probe is not made. Two traces
        stay: biases of heads that began at this batch's labels, and, where the probe would have
        left a direction for the next batch, that one is probed along the direction before.
        """
        assert self._held is not None, "can_forget was not set before the forward"
        self._held.restore()
        self._held = self._context = None

    def _probe_context(
        self,
        inputs: Inputs,
        batch: Batch,
        losses: TaskLosses,
        coefficients_T: Tensor,
        state: Tensor,
    ) -> ProbeContext:
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
