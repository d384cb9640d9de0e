"""From the shared representation to one scalar: network, heads, masked losses, balancer.

This is the hook that the project exists for. It runs inside the wrapped forward, so that the one
backward of its scalar drives DDP and the tables' fused optimizers alike, and it keeps what a probe
of the step direction needs: the representation, its gradient, and the state of the random stream.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from marigold_rec.balancing import Balancer, Probe
from marigold_rec.batch import Batch
from marigold_rec.contracts import Network
from marigold_rec.training.losses import TaskLosses, masked_losses, masked_rows

_TINY = 1e-30


@dataclass(frozen=True)
class StepOutput:
    """What a training forward leaves for the step: everything but `losses.local_T` is detached."""

    losses: TaskLosses
    coefficients_T: Tensor
    batch: Batch


@dataclass(frozen=True)
class _Probed:
    """The forward that a probe repeats at a moved point."""

    z_BR: Tensor
    batch: Batch
    output: StepOutput
    random_state: Tensor


class Objective(nn.Module):
    """In training: (scalar, StepOutput). In evaluation: predictions_BT in the labels' units."""

    def __init__(self, network: Network, balancer: Balancer, group: dist.ProcessGroup) -> None:
        super().__init__()
        self.network = network
        self.balancer = balancer
        self.step = 0
        """Counted from 0; set by the trainer before each forward."""
        self._group = group
        self._pending: _Probed | None = None

    def forward(self, z_BR: Tensor, batch: Batch) -> tuple[Tensor, StepOutput] | Tensor:
        if not self.training:
            outputs = self.network(z_BR, batch.dense_BD)
            heads = self.network.heads
            return torch.stack([h.predict(o) for h, o in zip(heads, outputs, strict=True)], dim=1)
        probed = self.balancer.wants_probe(self.step)
        random_state = _random_state(z_BR.device) if probed else None
        outputs = self.network(z_BR, batch.dense_BD)
        losses = masked_losses(self.network.heads, outputs, batch, self._group)
        coefficients_T = self.balancer.coefficients(losses.global_T, losses.present_T)
        output = StepOutput(losses, coefficients_T, batch)
        if random_state is not None:
            z_BR.retain_grad()
            self._pending = _Probed(z_BR, batch, output, random_state)
        return (coefficients_T * losses.local_T).sum(), output

    @torch.no_grad()
    def probe(self) -> None:
        """Runs the probe that this step's forward prepared, if any, and tells the balancer.

        Call after the backward and before the dense optimizer's step, on every rank: it holds two
        tiny collectives. Only the representation moves; no parameter is touched, no table is read.
        """
        pending, self._pending = self._pending, None
        if pending is None:
            return
        output, z_BR = pending.output, pending.z_BR
        assert z_BR.grad is not None, "probe() before the backward"
        # The backward ran on world * (this rank's part), see masked_losses.
        direction_BR = z_BR.grad / self._group.size()
        norm2 = self._sum_over_ranks(direction_BR.pow(2).sum())
        mu = self.balancer.probe_norm() / norm2.sqrt().clamp_min(_TINY)
        with _replayed(pending.random_state, z_BR.device):
            outputs = self.network(z_BR.detach() - mu * direction_BR, pending.batch.dense_BD)
        # Row by row, then summed: the rounding of two whole sums, which depends on how the rows lie
        # on the ranks, would be large beside their difference.
        moved_TB = masked_rows(self.network.heads, outputs, pending.batch)
        fall_T = self._sum_over_ranks((output.losses.rows_TB - moved_TB).sum(1))
        self.balancer.observe(
            Probe(
                descent_T=fall_T / output.losses.observed_weight_T.clamp_min(_TINY) / mu,
                direction_norm2=norm2,
                losses_T=output.losses.global_T,
                coefficients_T=output.coefficients_T,
                present_T=output.losses.present_T,
            )
        )

    def _sum_over_ranks(self, value: Tensor) -> Tensor:
        if self._group.size() > 1:
            dist.all_reduce(value, group=self._group)
        return value


def _random_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _set_random_state(state: Tensor, device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)


@contextmanager
def _replayed(state: Tensor, device: torch.device) -> Iterator[None]:
    """The random stream as it was, so that both points of the difference see one dropout mask."""
    after = _random_state(device)
    _set_random_state(state, device)
    try:
        yield
    finally:
        _set_random_state(after, device)
