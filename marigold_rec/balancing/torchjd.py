"""Any of TorchJD's aggregators as a rival: exact gradients at the representation, at their price.

TorchJD (torchjd.org, an optional package) turns the Gram matrix of the tasks' gradients into
weights. Here one backward per task goes down to the representation for it, and one fused backward
of the weighted sum trains the model. A task's own head hence gets its weight too.

Deliberate differences from TorchJD:

- The Gram matrix is divided by its mean diagonal. TorchJD takes a matrix of a trace below 1e-4 for
  zero, and the gradients of a mean over a large batch are that short. All of these methods give the
  same weights for it, FairGrad and Nash-MTL up to a common factor: theirs are scaled to sum to P.
  (On conflicting gradients their sum grows without bound; Nash-MTL's authors clip the step.)
- Negative weights, which IMTL-G and Aligned-MTL may give, count as 0: they would have the task's
  own head climb its loss.
- PCGrad's random order is drawn from the step's number, so that all ranks take the same one.
- Nash-MTL is FairGrad with alpha = 1. TorchJD's own NashMTL keeps state outside any checkpoint
  and, as its CAGrad, needs cvxpy; both are left out.

Waits for the device in each step, unlike the other balancers. Shapes: T tasks, P tasks present.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import cast

import torch
from torch import Tensor

from marigold_rec.balancing.balancer import Balancer
from marigold_rec.balancing.units import balanced_units
from marigold_rec.config.balancers import TorchJDBalancerConfig
from marigold_rec.errors import ConfigError

_PACKAGES = ("torchjd", "qpsolvers", "quadprog", "scipy")
_FAIR = {"fairgrad": 2.0, "nash_mtl": 1.0}
"""alpha."""
_MOST_ITERATIONS = 100
"""Of FairGrad's solver, where 20 do; with many opposed tasks it would run for seconds per step."""


class TorchJD(Balancer):
    """The weights are the aggregator's, those of a task's last step; their sum is up to it."""

    needs_gram = True

    def __init__(self, config: TorchJDBalancerConfig, task_names: tuple[str, ...]) -> None:
        num_tasks = len(task_names)
        super().__init__(num_tasks)
        self._config = config
        self._weighting = _weighting(config.aggregator)
        self._step = 0
        self._unit_T = torch.ones(num_tasks)
        self._counted_T = torch.ones(num_tasks, dtype=torch.bool)
        self.register_buffer("refused_grams", torch.zeros(()))

    def observe_losses(self, step: int, losses_T: Tensor, present_T: Tensor) -> None:
        self._step = step
        self._unit_T, self._counted_T = self._units(losses_T, present_T)

    @torch.no_grad()
    def observe_gram(self, gram_TT: Tensor) -> None:
        """A Gram matrix without usable weights is counted, and the last ones stay."""
        counted_T = self._counted_T.cpu()
        if not counted_T.any():
            return
        unit_P = self._unit_T.double().cpu()[counted_T]
        gram_PP = gram_TT.double().cpu()[counted_T][:, counted_T]
        found_P = self._solve(gram_PP * unit_P * unit_P[:, None])
        if found_P is None:
            cast(Tensor, self.refused_grams).add_(1)
            return
        weights_T = self.weights.double().cpu()
        weights_T[counted_T] = found_P
        self.weights.copy_(weights_T)

    def coefficients(self, losses_T: Tensor, present_T: Tensor) -> Tensor:
        unit_T, counted_T = self._units(losses_T, present_T)
        return torch.where(counted_T, self.weights * unit_T, 0.0)

    def diagnostics(self) -> dict[str, Tensor]:
        return {"refused_grams": cast(Tensor, self.refused_grams)}

    def _units(self, losses_T: Tensor, present_T: Tensor) -> tuple[Tensor, Tensor]:
        return balanced_units(losses_T, present_T, log=self._config.log_losses)

    def _solve(self, gram_PP: Tensor) -> Tensor | None:
        scale = gram_PP.diagonal().mean()
        if not torch.isfinite(gram_PP).all() or scale <= 0:
            return None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._step)
            try:
                weights_P = self._weighting(gram_PP / scale).clamp_min(0.0)
            except (ValueError, RuntimeError):  # a solver gave up
                return None
        if not torch.isfinite(weights_P).all() or not (weights_P > 0).any():
            return None
        is_fair = self._config.aggregator in _FAIR
        return weights_P * (len(weights_P) / weights_P.sum()) if is_fair else weights_P


def _weighting(aggregator: str) -> Callable[[Tensor], Tensor]:
    missing = [package for package in _PACKAGES if find_spec(package) is None]
    if missing:
        raise ConfigError(
            f"balancer: name torchjd needs {', '.join(missing)}, which is not installed; install "
            'it with .venv/bin/pip install -c launch/constraints.txt "marigold-rec[rivals]", or '
            "choose another balancer"
        )
    from torchjd import aggregation as jd

    if aggregator in _FAIR:
        return jd.FairGradWeighting(_FAIR[aggregator], max_iters=_MOST_ITERATIONS)
    makers: dict[str, Callable[[], Callable[[Tensor], Tensor]]] = {
        "aligned_mtl": jd.AlignedMTLWeighting,
        "dualproj": jd.DualProjWeighting,
        "imtl_g": jd.IMTLGWeighting,
        "mgda": jd.MGDAWeighting,
        "pcgrad": jd.PCGradWeighting,
        "upgrad": jd.UPGradWeighting,
    }
    return makers[aggregator]()
