"""Runs the probes that a balancer asks for, at its scope. One class per scope.

A prober is told of a step in four places, always in this order, on every rank: `keeps(step)` in
the forward, `keep(...)` and `before_optimizer(step)` when all gradients are there, and
`after_optimizer(lookup)`. It holds two tiny collectives per probe. Parameters and tables are only
read; a moved point is a copy.

Shapes: R width of the representation, B rows of this rank, T tasks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from marigold_rec.balancing import Balancer, Probe
from marigold_rec.batch import Batch
from marigold_rec.config.balancers import ProbeConfig
from marigold_rec.contracts import Network
from marigold_rec.training.probing.kept import Kept
from marigold_rec.training.probing.oracles import ORACLES
from marigold_rec.training.probing.point import Point
from marigold_rec.training.probing.step_size import StepSize

_TINY = 1e-30

Lookup = Callable[[Batch], Tensor]
"""Pooled embeddings z_BR of a batch from the tables as they are now. Collective."""


class Prober(nn.Module):
    """No probes at all, and the base of those that probe."""

    def __init__(self, balancer: Balancer, group: dist.ProcessGroup) -> None:
        super().__init__()
        # Both are parts of the objective already; registered here again, they would be saved twice.
        self._balancer = (balancer,)
        self._group = group
        self._kept: Kept | None = None

    def keeps(self, step: int) -> bool:
        """Whether the forward of this step (counted from 0) has to leave a Kept."""
        return False

    def keep(self, kept: Kept) -> None:
        self._kept = kept

    def before_optimizer(self, step: int) -> None:
        """After the backward, before the dense optimizer moves a parameter. Collective."""

    def after_optimizer(self, lookup: Lookup) -> None:
        """After the step. Collective."""

    def _take(self) -> Kept | None:
        kept, self._kept = self._kept, None
        return kept

    def _sum_over_ranks(self, value: Tensor) -> Tensor:
        if self._group.size() > 1:
            dist.all_reduce(value, group=self._group)
        return value

    def _report(
        self, kept: Kept, fall_T: Tensor, norm2: Tensor | None, coefficients_T: Tensor
    ) -> Probe:
        """Tells the balancer; `fall_T` is this rank's part, before the losses' denominators."""
        fall_2T = self._sum_over_ranks(torch.stack([fall_T, kept.observed_weight_T]))
        descent_T = fall_2T[0] / kept.losses.observed_weight_T.clamp_min(_TINY)
        probe = Probe(
            descent_T=descent_T,
            direction_norm2=(coefficients_T * descent_T).sum() if norm2 is None else norm2,
            losses_T=kept.losses.global_T,
            coefficients_T=coefficients_T,
            present_T=fall_2T[1] > 0,
        )
        self._balancer[0].observe(probe)
        return probe


class _DerivativeProber(Prober):
    """Measures the descent along a gradient by one of ORACLES."""

    def __init__(self, settings: ProbeConfig, balancer: Balancer, group: dist.ProcessGroup) -> None:
        super().__init__(balancer, group)
        self._settings = settings
        self._oracle = ORACLES[settings.oracle]
        is_difference = settings.oracle in ("forward_difference", "central_difference")
        # On another batch r is how alike two batches' gradients are, and says nothing of the step.
        adapts = settings.adapt_step and is_difference and settings.batch == "same"
        self.step_size = StepSize(adapts=adapts)

    def keeps(self, step: int) -> bool:
        return self._settings.is_due(step)

    def _probe(
        self, kept: Kept, point: Point, length: float | Tensor, coefficients_T: Tensor
    ) -> None:
        mu = self.step_size.mu(length, point.norm2)
        fall_T = self._oracle(point, mu)
        probe = self._report(kept, fall_T, point.norm2, coefficients_T)
        self.step_size.observe(probe.self_check, point.norm2)


class RepresentationProber(_DerivativeProber):
    """Moves the pooled embeddings: no lookup, no all-to-all, no table is read."""

    def before_optimizer(self, step: int) -> None:
        kept = self._take()
        if kept is None:
            return
        assert kept.z_BR.grad is not None, "a probe before the backward"
        n, world_size = kept.num_rows, self._group.size()
        # The backward ran on world_size * (this rank's part), see masked_losses.
        direction_BR = kept.z_BR.grad[:n] / world_size
        # One mu for all ranks, though they may hold different numbers of rows.
        norm2, num_rows = self._sum_over_ranks(
            torch.stack([direction_BR.square().sum(), direction_BR.new_full((), n)])
        )
        point = Point(
            variables=(kept.z_BR.detach()[:n],),
            direction=(direction_BR,),
            norm2=norm2,
            rows_at=lambda variables: kept.rows(variables[0]),
            here_TB=kept.here_TB,
        )
        rms = 0.002 if self._settings.step is None else self._settings.step
        self._probe(kept, point, rms * num_rows.sqrt(), kept.coefficients_T)


class SharedParametersProber(_DerivativeProber):
    """Moves copies of the dense parameters that several tasks share; their gradients are equal on
    all ranks."""

    def __init__(
        self, settings: ProbeConfig, balancer: Balancer, group: dist.ProcessGroup, network: Network
    ) -> None:
        super().__init__(settings, balancer, group)
        self._shared = dict(network.shared_parameters)

    def before_optimizer(self, step: int) -> None:
        kept = self._take()
        if kept is not None:
            self._probe_along(kept, self._gradient(), kept.coefficients_T)

    def _gradient(self) -> tuple[Tensor, ...]:
        return tuple(
            torch.zeros_like(p) if p.grad is None else p.grad for p in self._shared.values()
        )

    def _probe_along(
        self, kept: Kept, direction: tuple[Tensor, ...], coefficients_T: Tensor
    ) -> None:
        z_BR, names = kept.z_BR.detach()[: kept.num_rows], list(self._shared)
        point = Point(
            variables=tuple(p.detach() for p in self._shared.values()),
            direction=direction,
            norm2=torch.stack([d.square().sum() for d in direction]).sum(),
            rows_at=lambda variables: kept.rows(z_BR, dict(zip(names, variables, strict=True))),
            here_TB=kept.here_TB,
        )
        length = 0.01 if self._settings.step is None else self._settings.step
        self._probe(kept, point, length, coefficients_T)


class NextBatchProber(SharedParametersProber):
    """Keeps a step's direction and measures along it on the next step's rows.

    On its own rows a direction descends faster than on fresh ones, by its share of their noise.
    The direction waits in buffers, so that a checkpoint between the two steps loses nothing.
    """

    def __init__(
        self, settings: ProbeConfig, balancer: Balancer, group: dist.ProcessGroup, network: Network
    ) -> None:
        super().__init__(settings, balancer, group, network)
        numel = sum(p.numel() for p in self._shared.values())
        self.register_buffer("waiting_direction", torch.zeros(numel))
        self.register_buffer("waiting_coefficients_T", torch.zeros(len(balancer.weights)))
        self._directed: Tensor | None = None

    def keeps(self, step: int) -> bool:
        return self._is_directing(step) or self._is_measuring(step)

    def before_optimizer(self, step: int) -> None:
        kept = self._take()
        if kept is None:
            return
        direction = cast(Tensor, self.waiting_direction)
        coefficients_T = cast(Tensor, self.waiting_coefficients_T)
        if self._is_measuring(step):
            shapes = [p.shape for p in self._shared.values()]
            parts = direction.split([s.numel() for s in shapes])
            along = tuple(d.view(s) for d, s in zip(parts, shapes, strict=True))
            # A copy: the probe may outlive the next direction.
            self._probe_along(kept, along, coefficients_T.clone())
        if self._is_directing(step):
            direction.copy_(torch.cat([g.flatten() for g in self._gradient()]))
            coefficients_T.copy_(kept.coefficients_T)

    def _is_directing(self, step: int) -> bool:
        return self._settings.is_due(step)

    def _is_measuring(self, step: int) -> bool:
        return step > 0 and self._is_directing(step - 1)


class UpdateProber(Prober):
    """Compares the losses before and after the optimizers' real step, tables and all.

    It costs a full forward, lookups included, and sees what the optimizers make of the gradients.
    """

    def __init__(self, settings: ProbeConfig, balancer: Balancer, group: dist.ProcessGroup) -> None:
        super().__init__(balancer, group)
        self._settings = settings
        self._before_TB: Tensor | None = None

    def keeps(self, step: int) -> bool:
        return self._settings.is_due(step)

    @torch.no_grad()
    def before_optimizer(self, step: int) -> None:
        kept = self._kept
        if kept is not None:
            # A forward in lower precision is one more dense forward from float32: the rounding of
            # its losses is larger than what a step changes. The tables have moved, z_BR has not.
            here_TB = kept.here_TB
            self._before_TB = kept.rows(kept.z_BR.detach()) if here_TB is None else here_TB

    @torch.no_grad()
    def after_optimizer(self, lookup: Lookup) -> None:
        kept, before_TB = self._take(), self._before_TB
        self._before_TB = None
        if kept is not None and before_TB is not None:
            fall_T = (before_TB - kept.rows(lookup(kept.batch))).sum(1)
            self._report(kept, fall_T, None, kept.coefficients_T)


def build_prober(network: Network, balancer: Balancer, group: dist.ProcessGroup) -> Prober:
    """The prober for what `balancer.probing` asks."""
    settings = balancer.probing
    if settings is None:
        return Prober(balancer, group)
    if settings.scope == "representation":
        return RepresentationProber(settings, balancer, group)
    if settings.scope == "update":
        return UpdateProber(settings, balancer, group)
    kind = NextBatchProber if settings.batch == "next" else SharedParametersProber
    return kind(settings, balancer, group, network)
