"""Sets the learning rate of each step."""

from __future__ import annotations

from marigold_rec.batch import Batch
from marigold_rec.config.schema import OptimizerConfig
from marigold_rec.training.objective import StepOutput
from marigold_rec.training.optimizer import Optimizers
from marigold_rec.training.step_hook import Scalars, StepHook


class LearningRate(StepHook):
    """Raises the dense rate linearly over the warm-up, then holds it; the tables' rate is constant.

    A rate is a function of the step's number alone, so that a resume needs no state.
    """

    def __init__(self, optimizers: Optimizers, config: OptimizerConfig) -> None:
        self._optimizers = optimizers
        self._config = config
        self._rate = 0.0

    def before_forward(self, batch: Batch) -> None:
        lr, warmup = self._config.dense.lr, self._config.dense.warmup_steps
        self._rate = lr * min(1.0, (batch.step + 1) / warmup) if warmup else lr
        self._optimizers.set_learning_rate(self._rate)

    def on_log(self, step: int, output: StepOutput) -> Scalars:
        return {"optim/lr/dense": self._rate, "optim/lr/sparse": self._config.sparse.lr}
