"""Runs the probes that a balancer asks for, at its scope. One class per scope.

A prober is called at a step in three places, always in this order, on every rank: `is_due(step)` in
the forward, and, if it is due, `before_optimizer(context)` when all gradients are there and
`after_optimizer(context, lookup)`. It holds two tiny collectives per probe. Parameters and tables
are only read; a moved point is a copy.

Shapes: R width of the representation, B rows of this rank, T tasks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from marigold_rec.balancing.balancer import Balancer
from marigold_rec.balancing.probe import Probe
from marigold_rec.batch import Batch
from marigold_rec.config.balancers import ProbeConfig
from marigold_rec.inputs import Inputs
from marigold_rec.network import Network
from marigold_rec.training.probing.context import ProbeContext
from marigold_rec.training.probing.estimators import ESTIMATORS
from marigold_rec.training.probing.point import ProbePoint
from marigold_rec.training.probing.step_size import StepSize

_TINY = 1e-30

Lookup = Callable[[Batch], Inputs]
"""The inputs of a batch from the tables as they are now. Collective."""


class Prober(nn.Module):
    """No probes at all, and the base of those that probe."""

    def __init__(self, balancer: Balancer, group: dist.ProcessGroup) -> None:
        super().__init__()
        # Both are parts of the objective already; registered here again, they would be saved twice.
        self._balancer = (balancer,)
        self._group = group

    def is_due(self, step: int) -> bool:
        """Returns whether the forward of this step (counted from 0) leaves a ProbeContext."""
        return False

    def before_optimizer(self, context: ProbeContext) -> None:
        """Runs after the backward, before the dense optimizer moves a parameter. Collective."""

    def after_optimizer(self, context: ProbeContext, lookup: Lookup) -> None:
        """Runs after the optimizers' step. Collective."""

    def _sum_over_ranks(self, value: Tensor) -> Tensor:
        if self._group.size() > 1:
            dist.all_reduce(value, group=self._group)
        return value

    def _report(
        self,
        context: ProbeContext,
        loss_decrease_T: Tensor,
        norm2: Tensor | None,
        coefficients_T: Tensor,
    ) -> Probe:
        """Tells the balancer; `loss_decrease_T`: this rank's, before the losses' denominators."""
        decrease_2T = self._sum_over_ranks(torch.stack([loss_decrease_T, context.weight_T]))
        descent_T = decrease_2T[0] / context.losses.weight_T.clamp_min(_TINY)
        probe = Probe(
            descent_T=descent_T,
            direction_norm2=(coefficients_T * descent_T).sum() if norm2 is None else norm2,
            losses_T=context.losses.global_T,
            coefficients_T=coefficients_T,
            present_T=decrease_2T[1] > 0,
        )
        self._balancer[0].observe(probe)
        return probe


class _DerivativeProber(Prober):
    """Measures the descent along a gradient by one of ESTIMATORS."""

    def __init__(self, settings: ProbeConfig, balancer: Balancer, group: dist.ProcessGroup) -> None:
        super().__init__(balancer, group)
        self._settings = settings
        self._estimator = ESTIMATORS[settings.estimator]
        is_difference = settings.estimator in ("forward_difference", "central_difference")
        # On another batch r is how alike two batches' gradients are, and says nothing of the step.
        adapts = settings.adapt_step and is_difference and settings.batch == "same"
        self.step_size = StepSize(adapts=adapts)

    def is_due(self, step: int) -> bool:
        return self._settings.is_due(step)

    def _probe(
        self,
        context: ProbeContext,
        point: ProbePoint,
        length: float | Tensor,
        coefficients_T: Tensor,
    ) -> None:
        mu = self.step_size.mu(length, point.norm2)
        loss_decrease_T = self._estimator(point, mu)
        probe = self._report(context, loss_decrease_T, point.norm2, coefficients_T)
        self.step_size.observe(probe.self_check, point.norm2)


class RepresentationProber(_DerivativeProber):
    """Moves all that comes from the tables (pooled embeddings and the vectors of sequences): no
    lookup, no all-to-all, no table is read."""

    def before_optimizer(self, context: ProbeContext) -> None:
        # The backward ran on world_size * (this rank's part), see global_losses.
        gradient = context.inputs.with_embedded(
            [_gradient(leaf) for leaf in context.inputs.embedded]
        )
        direction = tuple(
            leaf / self._group.size() for leaf in gradient.rows(context.num_rows).embedded
        )
        # One mu for all ranks, though they may hold different numbers of rows.
        norm2, num_rows = self._sum_over_ranks(
            torch.stack(
                [
                    torch.stack([d.square().sum() for d in direction]).sum(),
                    direction[0].new_full((), context.num_rows),
                ]
            )
        )
        here = context.probed_inputs
        point = ProbePoint(
            variables=here.embedded,
            direction=direction,
            norm2=norm2,
            rows_at=lambda variables: context.rows(here.with_embedded(variables)),
            base_losses_TB=context.base_losses_TB,
        )
        rms = 0.002 if self._settings.step is None else self._settings.step
        self._probe(context, point, rms * num_rows.sqrt(), context.coefficients_T)


def _gradient(leaf: Tensor) -> Tensor:
    """Zeros where the backward has not reached the leaf: nothing depends on it."""
    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad


class SharedParametersProber(_DerivativeProber):
    """Moves copies of the dense parameters that several tasks share; their gradients are equal on
    all ranks."""

    def __init__(
        self, settings: ProbeConfig, balancer: Balancer, group: dist.ProcessGroup, network: Network
    ) -> None:
        super().__init__(settings, balancer, group)
        self._shared = dict(network.shared_parameters)

    def before_optimizer(self, context: ProbeContext) -> None:
        self._probe_along(context, self._gradient(), context.coefficients_T)

    def _gradient(self) -> tuple[Tensor, ...]:
        return tuple(_gradient(p) for p in self._shared.values())

    def _probe_along(
        self, context: ProbeContext, direction: tuple[Tensor, ...], coefficients_T: Tensor
    ) -> None:
        inputs, names = context.probed_inputs, list(self._shared)
        point = ProbePoint(
            variables=tuple(p.detach() for p in self._shared.values()),
            direction=direction,
            norm2=torch.stack([d.square().sum() for d in direction]).sum(),
            rows_at=lambda variables: context.rows(
                inputs, dict(zip(names, variables, strict=True))
            ),
            base_losses_TB=context.base_losses_TB,
        )
        length = 0.01 if self._settings.step is None else self._settings.step
        self._probe(context, point, length, coefficients_T)


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

    def is_due(self, step: int) -> bool:
        return self._is_directing(step) or self._is_measuring(step)

    def before_optimizer(self, context: ProbeContext) -> None:
        step, direction = context.batch.step, cast(Tensor, self.waiting_direction)
        coefficients_T = cast(Tensor, self.waiting_coefficients_T)
        if self._is_measuring(step):
            shapes = [p.shape for p in self._shared.values()]
            parts = direction.split([s.numel() for s in shapes])
            along = tuple(d.view(s) for d, s in zip(parts, shapes, strict=True))
            # A copy: the probe may outlive the next direction.
            self._probe_along(context, along, coefficients_T.clone())
        if self._is_directing(step):
            direction.copy_(torch.cat([g.flatten() for g in self._gradient()]))
            coefficients_T.copy_(context.coefficients_T)

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

    def is_due(self, step: int) -> bool:
        return self._settings.is_due(step)

    @torch.no_grad()
    def before_optimizer(self, context: ProbeContext) -> None:
        # A forward in lower precision is one more dense forward from float32: the rounding of its
        # losses is larger than what a step changes. The tables have moved, z_BR has not.
        base_losses_TB = context.base_losses_TB
        self._before_TB = (
            context.rows(context.probed_inputs) if base_losses_TB is None else base_losses_TB
        )

    @torch.no_grad()
    def after_optimizer(self, context: ProbeContext, lookup: Lookup) -> None:
        before_TB, self._before_TB = self._before_TB, None
        assert before_TB is not None, "before_optimizer was not called"
        inputs = lookup(context.batch).rows(context.num_rows)
        loss_decrease_T = (before_TB - context.rows(inputs)).sum(1)
        self._report(context, loss_decrease_T, None, context.coefficients_T)


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
