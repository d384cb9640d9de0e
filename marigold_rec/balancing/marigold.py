"""MARIGOLD: bi-level gradient balancing with a zeroth-order probe.

Reimplemented from the abstract of "Feed m Birds with One Scone: Accelerating Multi-task Gradient
Balancing via Bi-level Optimization" (arXiv:2603.07389), which is all that is known to us of it; the
estimator and the update below are ours (derivation in docs/marigold.md).

Lower level: one fused backward of sum_i c_i f_i gives the step direction d. Upper level: a single
extra dense forward along d tells for all tasks at once how fast each descends, h_i ~ <g_i, d>. With

    p_i = w_i h_i / sum_j w_j h_j          task i's share of the descent
    q_i = pi_i w_i^(1 - 1/alpha) / sum_j pi_j w_j^(1 - 1/alpha)

the update u <- u - lr (p - q), w = softmax(u) has Nash-MTL's (alpha = 1), FairGrad's (2) and
MGDA's (infinity) balance as its fixed points. pi is the preference. A regulariser or a primary task
changes the direction d = sum_i k_i g_i (plainly k = w), not the update.

The tasks of a batch share out their own weight among themselves, and an absent one keeps its weight
to the bit. Among all tasks, the weight of an absent one would drift away on its old h for as long
as it is absent. Shapes: T tasks.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from marigold_rec.balancing.balancer import Balancer
from marigold_rec.balancing.directions import build_directions
from marigold_rec.balancing.directions.direction import Along, Direction
from marigold_rec.balancing.probe import Probe
from marigold_rec.balancing.running_descent import RunningDescent
from marigold_rec.balancing.simplex import TINY, masked_sum, shared_out
from marigold_rec.balancing.units import balanced_units
from marigold_rec.config.balancers import MarigoldBalancerConfig

_LOWEST_FLOOR = 1e-6
"""Even with min_weight 0: a weight of exactly 0 would never come back."""


class Marigold(Balancer):
    """The weights sum to 1; the coefficients sum to the number of tasks present."""

    def __init__(self, config: MarigoldBalancerConfig, task_names: tuple[str, ...]) -> None:
        num_tasks = len(task_names)
        super().__init__(num_tasks)
        self.probing = config.probe
        self._config = config
        # Half of the weight at least stays free to move.
        self._floor = min(max(config.min_weight, _LOWEST_FLOOR), 0.5 / num_tasks)
        self._directions = nn.ModuleList(build_directions(config, task_names))
        self._step = 0
        self._labels_T: Tensor | None = None
        self.weights.fill_(1.0 / num_tasks)
        self.descent = RunningDescent(num_tasks, config.ema)
        for name in ("self_check", "frank_wolfe_gap", "conflict", "refused_probes"):
            self.register_buffer(name, torch.zeros(()))
        preference = [config.preference.get(name, 1.0) for name in task_names]
        self.register_buffer("log_preference_T", torch.tensor(preference).log(), persistent=False)

    def observe_losses(self, step: int, losses_T: Tensor, present_T: Tensor) -> None:
        self._step = step

    def observe_labels(self, labels_T: Tensor) -> None:
        if self._config.prior == "labels":
            self._labels_T = labels_T

    def coefficients(self, losses_T: Tensor, present_T: Tensor) -> Tensor:
        unit_T, counted_T = self._units(losses_T, present_T)
        raw_T = torch.where(counted_T, self._mix() * unit_T, 0.0)
        return raw_T * (counted_T.sum() / raw_T.sum().clamp_min(TINY))

    @torch.no_grad()
    def observe(self, probe: Probe) -> None:
        weights_T, mix_T, wanted_T = self.weights, self._mix(), self._wanted()
        counted_T = probe.present_T & (probe.coefficients_T > 0)
        wanted = masked_sum(wanted_T, counted_T)
        # Of the balanced quantity along d, in units in which sum_i k_i h_i = 1.
        relative_T = probe.coefficients_T * probe.descent_T / (probe.direction_norm2 * mix_T)
        usable = torch.isfinite(relative_T).all() & (probe.direction_norm2 > TINY)
        update_T = counted_T & usable
        weighs = all(cast(Direction, d).weighs(self._step) for d in self._directions)
        weighed_T = update_T if weighs else torch.zeros_like(update_T)
        # In these units w_i h_i = q_i at balance, whichever tasks are there.
        descent_T = self.descent.update(relative_T * wanted, weighed_T)

        total = masked_sum(mix_T * descent_T, update_T)
        weighted = masked_sum(weights_T * descent_T, update_T)
        gap_T = (weights_T * descent_T - wanted_T / wanted * weighted) / total
        # No descent left to share out (a Pareto-stationary point, or noise): leave the weights.
        moves_T = weighed_T & (total > TINY)
        log_weights_T = weights_T.log() - self._config.lr * gap_T.clamp(-1.0, 1.0)
        unit_T, _ = self._units(probe.losses_T, probe.present_T)
        along = Along.of(probe, mix_T, unit_T, update_T)
        for direction in self._directions:
            cast(Direction, direction).observe(along, weights_T, self._step)
        weights_T.copy_(shared_out(weights_T, log_weights_T, moves_T, self._floor))

        lowest = torch.where(update_T, descent_T, torch.inf).min()
        gap = torch.where(update_T.any(), (weighted - lowest) / total, torch.nan)
        cast(Tensor, self.frank_wolfe_gap).copy_(gap)
        cast(Tensor, self.self_check).copy_(torch.where(usable, probe.self_check, torch.nan))
        cast(Tensor, self.conflict).copy_((update_T & (probe.descent_T < 0)).any())
        cast(Tensor, self.refused_probes).add_(~usable)

    def diagnostics(self) -> dict[str, Tensor]:
        names = ("self_check", "frank_wolfe_gap", "conflict", "refused_probes")
        state = {name: cast(Tensor, getattr(self, name)) for name in names}
        return {"share": self.weights, "descent": self.descent.mean, **state}

    def _units(self, losses_T: Tensor, present_T: Tensor) -> tuple[Tensor, Tensor]:
        log = self._config.log_losses
        return balanced_units(losses_T, present_T, log=log, labels_T=self._labels_T)

    def _wanted(self) -> Tensor:
        """q_T, in logarithms: w^(1 - 1/alpha) overflows for a small alpha."""
        exponent = 1.0 if self._config.alpha is None else 1.0 - 1.0 / self._config.alpha
        log_preference_T = cast(Tensor, self.log_preference_T)
        return torch.softmax(log_preference_T + exponent * self.weights.log(), 0)

    def _mix(self) -> Tensor:
        """k_T: how the balanced quantities' gradients make up d."""
        mix_T = self.weights
        for direction in self._directions:
            mix_T = cast(Direction, direction).mix(mix_T, self._step)
        return mix_T
