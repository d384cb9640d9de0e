"""Logs each task's loss and weight, and what the balancer says of itself."""

from __future__ import annotations

from collections.abc import Sequence

from marigold_rec.balancing.balancer import Balancer
from marigold_rec.training.monitoring.run_log import LOGGER
from marigold_rec.training.objective import StepOutput
from marigold_rec.training.step_hook import Scalars, StepHook


class TaskScalars(StepHook):
    """Adds train/loss/<task>, train/weight/<task> and the balancer's diagnostics to the log."""

    def __init__(self, balancer: Balancer, task_names: Sequence[str]) -> None:
        self._balancer = balancer
        self._task_names = task_names
        self._refused_probes = 0

    def on_log(self, step: int, output: StepOutput) -> Scalars:
        values: Scalars = {"train/epoch": float(output.batch.cursor.epoch)}
        by_task = {"loss": output.losses.global_T, "weight": output.coefficients_T}
        for key, tensor in (by_task | self._balancer.diagnostics()).items():
            if tensor.ndim == 0:
                values[f"train/{key}"] = tensor.item()
            else:
                pairs = zip(self._task_names, tensor.tolist(), strict=True)
                values |= {f"train/{key}/{task}": value for task, value in pairs}
        self._warn_of_refused_probes(step, int(values.get("train/refused_probes") or 0))
        return values

    def _warn_of_refused_probes(self, step: int, refused: int) -> None:
        if refused > self._refused_probes:
            LOGGER.warning(
                "step %d: %d more of the balancer's probes were not finite; the task weights stay "
                "as they are (docs/marigold.md says what to do)",
                step,
                refused - self._refused_probes,
            )
        self._refused_probes = refused
