"""MARIGOLD: bi-level gradient balancing with a zeroth-order probe.

Reimplemented from the abstract of "Feed m Birds with One Scone: Accelerating Multi-task Gradient
Balancing via Bi-level Optimization" (arXiv:2603.07389), which is all that is known to us of it; the
estimator and the update below are ours (derivation in docs/marigold.md).

Lower level: one fused backward of sum_i c_i f_i gives the step direction d. Upper level: a single
extra dense forward at z - mu d tells for all tasks at once how fast each descends along d,
h_i ~ <g_i, d>. With the shares

    p_i = w_i h_i / sum_j w_j h_j          task i's share of the descent
    q_i = pi_i w_i^(1 - 1/alpha) / sum_j pi_j w_j^(1 - 1/alpha)

the update u <- u - lr (p - q), w = softmax(u) has Nash-MTL's (alpha = 1), FairGrad's (2) and
MGDA's (infinity) balance as its fixed points. pi is the preference.

Three deliberate details:

- The tasks of a batch share out their own weight among themselves, and an absent one keeps its
  weight to the bit. Among all tasks, the weight of an absent one would drift away on its old h for
  as long as it is absent. The running mean of h is in units in which w_i h_i = q_i at balance,
  whichever tasks are there.
- The floor holds the log-weight itself. A floor under the weight alone would let the log-weight run
  on below it, and the task would stay at the floor long after its turn has come again.
- q is computed in logarithms: w^(1 - 1/alpha) overflows for a small alpha.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from marigold_rec.balancing.balancer import Balancer, Probe
from marigold_rec.config.schema import MarigoldBalancerConfig

_TINY = 1e-30
_LOWEST_FLOOR = 1e-6
"""Even with min_weight 0: a weight of exactly 0 would never come back."""


class Marigold(Balancer):
    """The weights sum to 1; the coefficients sum to the number of tasks present.

    On log-losses the combined loss descends sum_i w_i log f_i, so that a task's weight does not
    depend on its loss's unit. Such losses have to be positive.
    """

    def __init__(self, config: MarigoldBalancerConfig, task_names: tuple[str, ...]) -> None:
        num_tasks = len(task_names)
        super().__init__(num_tasks)
        self._config = config
        self._exponent = 1.0 if config.alpha is None else 1.0 - 1.0 / config.alpha
        # Half of the weight at least stays free to move.
        self._floor = min(max(config.min_weight, _LOWEST_FLOOR), 0.5 / num_tasks)
        self.weights.fill_(1.0 / num_tasks)
        self.register_buffer("descent_T", torch.zeros(num_tasks))
        self.register_buffer("seen_T", torch.zeros(num_tasks, dtype=torch.bool))
        self.register_buffer("self_check", torch.ones(()))
        self.register_buffer("refused_probes", torch.zeros(()))
        self.register_buffer("conflict", torch.zeros(()))
        preference = [config.preference.get(name, 1.0) for name in task_names]
        self.register_buffer("log_preference_T", torch.tensor(preference).log(), persistent=False)

    def coefficients(self, losses_T: Tensor, present_T: Tensor) -> Tensor:
        counted_T, raw_T = present_T, self.weights
        if self._config.log_losses:
            # A loss of exactly zero has no gradient; dividing by it would drown the other tasks.
            counted_T = present_T & (losses_T > _TINY)
            raw_T = self.weights / losses_T.clamp_min(_TINY)
        raw_T = torch.where(counted_T, raw_T, 0.0)
        return raw_T * (counted_T.sum() / raw_T.sum().clamp_min(_TINY))

    def wants_probe(self, step: int) -> bool:
        return step % self._config.every_n_steps == 0

    def probe_norm(self) -> float:
        return self._config.probe_norm

    @torch.no_grad()
    def observe(self, probe: Probe) -> None:
        """One update of the weights; no host sync, so every choice is a `where`."""
        weights_T = self.weights
        ema_T, seen_T = cast(Tensor, self.descent_T), cast(Tensor, self.seen_T)
        log_wanted_T = cast(Tensor, self.log_preference_T) + self._exponent * weights_T.log()
        wanted_T = torch.softmax(log_wanted_T, 0)
        counted_T = probe.coefficients_T > 0
        wanted = _sum(wanted_T, counted_T)
        share_T = probe.coefficients_T * probe.descent_T / probe.direction_norm2
        fresh_T = share_T * wanted / weights_T
        usable = torch.isfinite(fresh_T).all() & (probe.direction_norm2 > _TINY)
        update_T = counted_T & usable
        decay_T = torch.where(seen_T, self._config.ema, 0.0)
        ema_T.copy_(torch.where(update_T, decay_T * ema_T + (1.0 - decay_T) * fresh_T, ema_T))
        seen_T.logical_or_(update_T)

        total = _sum(weights_T * ema_T, update_T)
        gap_T = weights_T * ema_T / total - wanted_T / wanted
        # No descent left to share out (a Pareto-stationary point, or noise): leave the weights.
        moves_T = update_T & (total > _TINY)
        log_weights_T = weights_T.log() - self._config.lr * gap_T.clamp(-1.0, 1.0)
        weights_T.copy_(self._shared_out(log_weights_T, moves_T))

        cast(Tensor, self.self_check).copy_(torch.where(usable, probe.self_check, torch.nan))
        cast(Tensor, self.conflict).copy_((update_T & (probe.descent_T < 0)).any())
        cast(Tensor, self.refused_probes).add_(~usable)

    def diagnostics(self) -> dict[str, Tensor]:
        return {
            "share": self.weights,
            "descent": cast(Tensor, self.descent_T),
            "self_check": cast(Tensor, self.self_check),
            "conflict": cast(Tensor, self.conflict),
            "refused_probes": cast(Tensor, self.refused_probes),
        }

    def _shared_out(self, log_weights_T: Tensor, moves_T: Tensor) -> Tensor:
        """The moving tasks' weight, shared out by `log_weights_T`, each at the floor or above."""
        weight = 1.0 - _sum(self.weights, ~moves_T)
        share_T = torch.softmax(log_weights_T.masked_fill(~moves_T, -torch.inf), 0)
        above_T = (weight * share_T - self._floor).clamp_min(0.0)
        free = weight - moves_T.sum() * self._floor
        moved_T = self._floor + above_T * (free / above_T.sum().clamp_min(_TINY))
        return torch.where(moves_T, moved_T, self.weights)


def _sum(values_T: Tensor, where_T: Tensor) -> Tensor:
    return torch.where(where_T, values_T, 0.0).sum()
