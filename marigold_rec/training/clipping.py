"""Clips the dense gradients, and vouches for the last one."""

from __future__ import annotations

import torch

from marigold_rec.errors import NumericsError
from marigold_rec.training.objective import StepOutput
from marigold_rec.training.optimizer import Optimizers
from marigold_rec.training.step_hook import Scalars, StepHook


class GradientClipping(StepHook):
    """Measures the global norm of the dense gradients and clips them if the config says so."""

    def __init__(self, optimizers: Optimizers) -> None:
        self._optimizers = optimizers
        self.norm = torch.zeros(())
        """The norm of the last step's dense gradients before clipping; equal on all ranks."""

    def before_optimizer(self, output: StepOutput) -> None:
        self.norm = self._optimizers.clip_dense()

    def on_log(self, step: int, output: StepOutput) -> Scalars:
        return {"optim/dense_gradient_norm": self.norm.item()}

    def on_save(self, step: int) -> dict[str, float]:
        # The state itself is looked at before anything is written. This says more of the cause:
        # the loss can be finite while a gradient is not.
        if not bool(torch.isfinite(self.norm)):
            raise NumericsError(
                f"step {step}: the last gradient of the dense part is not finite, so that the "
                "tables may hold such values too: no checkpoint is made of them. Go on from an "
                "earlier one with a lower optimizer.*.lr or with optimizer.dense.clip_norm"
            )
        return {}
