"""FAMO: the tasks' log-losses shall fall at one rate; asks for the losses after the step.

Source: Liu, Feng, Stone, Liu, "FAMO: Fast Adaptive Multitask Optimization" (2306.03792),
algorithm 1, and its authors' code. With w = softmax(logits):

    c_i = (w_i / f_i) / sum_j (w_j / f_j)       the step descends sum_i w_i log f_i
    delta_i = log f_i - log f_i after the step
    Adam on the logits, with gradient J delta, J the Jacobian of the softmax, and weight decay

Deliberate differences: c is multiplied by the number of tasks present, so that the step is as long
as with equal weights (to Adam and Adagrad it is all the same; a limit on the gradient's norm or a
plain SGD would tell). With absent tasks, everything is as if there were only the others, and these
share out their own weight among themselves; the lowest loss is taken to be 0.

Shapes: T tasks.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from marigold_rec.balancing.adam import VectorAdam
from marigold_rec.balancing.balancer import Balancer
from marigold_rec.balancing.probe import Probe
from marigold_rec.balancing.simplex import TINY, masked_sum
from marigold_rec.config.balancers import FamoBalancerConfig, ProbeConfig

_EPS = 1e-8


class Famo(Balancer):
    """The weights sum to 1; the losses have to be positive."""

    def __init__(self, config: FamoBalancerConfig, task_names: tuple[str, ...]) -> None:
        num_tasks = len(task_names)
        super().__init__(num_tasks)
        self.probing = ProbeConfig(
            scope="update", every_n_steps=config.every_n_steps, warmup_steps=0
        )
        self.weights.fill_(1.0 / num_tasks)
        self.register_buffer("logits_T", torch.zeros(num_tasks))
        self.register_buffer("delta_T", torch.zeros(num_tasks))
        self.register_buffer("refused_probes", torch.zeros(()))
        self._adam = VectorAdam(num_tasks, config.lr, config.weight_decay)

    def coefficients(self, losses_T: Tensor, present_T: Tensor) -> Tensor:
        # A loss of exactly zero has no gradient; dividing by it would drown the other tasks.
        counted_T = present_T & (losses_T > TINY)
        raw_T = torch.where(counted_T, self.weights / (losses_T + _EPS), 0.0)
        return raw_T * (counted_T.sum() / raw_T.sum().clamp_min(TINY))

    @torch.no_grad()
    def observe(self, probe: Probe) -> None:
        logits_T = cast(Tensor, self.logits_T)
        usable = torch.isfinite(probe.descent_T).all() & torch.isfinite(probe.losses_T).all()
        moves_T = probe.present_T & (probe.coefficients_T > 0) & usable
        after_T = (probe.losses_T - probe.descent_T).clamp_min(0.0)
        delta_T = (probe.losses_T + _EPS).log() - (after_T + _EPS).log()
        total = masked_sum(self.weights, moves_T)
        share_T = self.weights / total
        mean_delta = masked_sum(share_T * delta_T, moves_T)
        before_T = logits_T.clone()
        self._adam.step(logits_T, share_T * (delta_T - mean_delta), moves_T)
        # Where some are absent, the others' logits are shifted to keep the sum of their weights.
        outside_T = ~moves_T
        shift = before_T.masked_fill(outside_T, -torch.inf).logsumexp(0)
        shift = shift - logits_T.masked_fill(outside_T, -torch.inf).logsumexp(0)
        logits_T.add_(torch.where(moves_T & outside_T.any(), shift, 0.0))
        moved_T = total * torch.softmax(logits_T.masked_fill(outside_T, -torch.inf), 0)
        self.weights.copy_(torch.where(moves_T, moved_T, self.weights))
        cast(Tensor, self.delta_T).copy_(torch.where(moves_T, delta_T, cast(Tensor, self.delta_T)))
        cast(Tensor, self.refused_probes).add_(~usable)

    def diagnostics(self) -> dict[str, Tensor]:
        names = ("delta_T", "logits_T", "refused_probes")
        return {name.removesuffix("_T"): cast(Tensor, getattr(self, name)) for name in names}
