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
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor

from marigold_rec.balancing.balancer import Balancer, Probe
from marigold_rec.config.schema import MarigoldBalancerConfig

_TINY = 1e-30


class Marigold(Balancer):
    """The weights sum to 1; the coefficients sum to the number of tasks present.

    On log-losses the combined loss descends sum_i w_i log f_i, so that a task's weight does not
    depend on its loss's unit.
    """

    def __init__(self, config: MarigoldBalancerConfig, task_names: tuple[str, ...]) -> None:
        num_tasks = len(task_names)
        super().__init__(num_tasks)
        self._config = config
        self._exponent = 1.0 if config.alpha is None else 1.0 - 1.0 / config.alpha
        # The floor is mixed in, so it must leave room for the rest.
        self._floor = min(config.min_weight, 0.5 / num_tasks)
        self.weights.fill_(1.0 / num_tasks)
        self.register_buffer("log_weights_T", torch.zeros(num_tasks))
        self.register_buffer("descent_T", torch.zeros(num_tasks))
        self.register_buffer("seen_T", torch.zeros(num_tasks, dtype=torch.bool))
        self.register_buffer("self_check", torch.ones(()))
        self.register_buffer("refused_probes", torch.zeros(()))
        self.register_buffer("conflict", torch.zeros(()))
        preference = [config.preference.get(name, 1.0) for name in task_names]
        self.register_buffer("preference_T", torch.tensor(preference), persistent=False)

    def coefficients(self, losses_T: Tensor, present_T: Tensor) -> Tensor:
        scale_T = self._relative(losses_T)
        # A loss of exactly zero has no gradient; dividing by it would drown the other tasks.
        counts_T = present_T & (losses_T > _TINY)
        raw_T = torch.where(counts_T, self.weights * scale_T, 0.0)
        return raw_T * (counts_T.sum() / raw_T.sum().clamp_min(_TINY))

    def wants_probe(self, step: int) -> bool:
        return step % self._config.every_n_steps == 0

    def probe_norm(self) -> float:
        return self._config.probe_norm

    @torch.no_grad()
    def observe(self, probe: Probe) -> None:
        """One update of the weights; no host sync, so every choice is a `where`."""
        log_weights_T, ema_T, seen_T = self._state()
        # In units in which the whole step's descent sum_i w_i h_i is 1 whatever the batch.
        scale_T = self._relative(probe.losses_T)
        counted_T = probe.coefficients_T > 0
        raw_T = torch.where(counted_T, self.weights * scale_T, 0.0)
        unit = probe.coefficients_T.sum() / raw_T.sum()
        fresh_T = probe.descent_T * scale_T * unit / probe.direction_norm2
        usable = torch.isfinite(fresh_T).all() & (probe.direction_norm2 > _TINY)
        update_T = counted_T & usable
        decay_T = torch.where(seen_T, self._config.ema, 0.0)
        new_T = decay_T * ema_T + (1.0 - decay_T) * torch.where(update_T, fresh_T, 0.0)
        ema_T.copy_(torch.where(update_T, new_T, ema_T))
        seen_T.logical_or_(update_T)

        shares_T = torch.where(seen_T, self.weights * ema_T, 0.0)
        total = shares_T.sum()
        wanted_T = torch.where(
            seen_T, cast(Tensor, self.preference_T) * self.weights.pow(self._exponent), 0.0
        )
        gap_T = shares_T / total - wanted_T / wanted_T.sum()
        # No descent left to share out (a Pareto-stationary point, or noise): leave the weights.
        moves = usable & (total > _TINY)
        step_T = torch.where(moves & update_T, self._config.lr * gap_T.clamp(-1.0, 1.0), 0.0)
        log_weights_T.sub_(step_T)
        log_weights_T.sub_(log_weights_T.mean())
        # Past the floor a log-weight would only wind up, and take as long to come back.
        limit = -math.log(max(self._floor, 1e-6))
        log_weights_T.clamp_(-limit, limit)
        free = 1.0 - len(log_weights_T) * self._floor
        self.weights.copy_(free * torch.softmax(log_weights_T, 0) + self._floor)

        cast(Tensor, self.self_check).copy_(torch.where(usable, probe.self_check, torch.nan))
        cast(Tensor, self.conflict).copy_((update_T & (probe.descent_T < 0)).any())
        cast(Tensor, self.refused_probes).add_((~usable).to(torch.float32))

    def diagnostics(self) -> dict[str, Tensor]:
        return {
            "descent": cast(Tensor, self.descent_T),
            "self_check": cast(Tensor, self.self_check),
            "conflict": cast(Tensor, self.conflict),
            "refused_probes": cast(Tensor, self.refused_probes),
        }

    def _relative(self, losses_T: Tensor) -> Tensor:
        """Factor from the gradient of f_i to that of what is balanced: 1/f_i for log f_i, or 1."""
        if not self._config.log_losses:
            return torch.ones_like(losses_T)
        return 1.0 / losses_T.clamp_min(_TINY)

    def _state(self) -> tuple[Tensor, Tensor, Tensor]:
        return (
            cast(Tensor, self.log_weights_T),
            cast(Tensor, self.descent_T),
            cast(Tensor, self.seen_T),
        )
