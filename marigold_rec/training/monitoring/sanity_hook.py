"""Shows the sanity guard each logging step's losses and window metrics."""

from __future__ import annotations

from marigold_rec.config.schema import Config
from marigold_rec.training.monitoring.large_inputs import describe_large_inputs, large_inputs
from marigold_rec.training.monitoring.sanity import SanityGuard
from marigold_rec.training.monitoring.window_metrics import WindowMetrics
from marigold_rec.training.objective import StepOutput
from marigold_rec.training.step_hook import Scalars, StepHook


class SanityHook(StepHook):
    """Reads the newest values of `window`, which has to come before it in the list of hooks."""

    def __init__(self, guard: SanityGuard, window: WindowMetrics, config: Config) -> None:
        self._guard = guard
        self._window = window
        self._tasks = config.tasks
        self._dense_names = [feature.name for feature in config.dense_features]

    def on_log(self, step: int, output: StepOutput) -> Scalars:
        losses = output.losses.global_T.tolist()
        dense_BD = output.batch.dense_BD
        self._guard.look_at_losses(
            step,
            {task.name: (task.kind, loss) for task, loss in zip(self._tasks, losses, strict=True)},
            lambda: describe_large_inputs(large_inputs(dense_BD, self._dense_names)),
        )
        self._guard.look(step, self._window.newest.tasks)
        return {}
