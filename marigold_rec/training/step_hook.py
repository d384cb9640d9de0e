"""Defines a step hook: an object that does one thing around each training step.

The pipeline and the trainer know hooks only by these methods. Which hooks a training has, and in
which order they are called, is written down in one place: `hooks.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from marigold_rec.batch import Batch
from marigold_rec.training.objective import StepOutput

Scalars = dict[str, float | None]
"""Name in the log -> value; None where there is no such value (null in JSON)."""


class StepHook:
    """Does nothing; a hook overrides the methods that it needs.

    Every rank calls the same methods of the same hooks in the same order, so that each may be
    collective. What one raises, it raises on all ranks alike.
    """

    def before_forward(self, batch: Batch) -> None:
        """Runs before the forward of `batch`, whose step (from 0) is `batch.step`."""

    def before_backward(self, output: StepOutput) -> bool:
        """Returns False to leave the step out: no backward, no optimizer, no later hook is asked.

        The tables are written inside the backward: only here can a step still be stopped.
        """
        return True

    def before_optimizer(self, output: StepOutput) -> None:
        """Runs when the tables are updated and the dense gradients are there."""

    def after_optimizer(self, output: StepOutput) -> None:
        """Runs when the dense parameters are updated, too."""

    def on_log(self, step: int, output: StepOutput) -> Scalars:
        """Returns what this hook adds to the log at a logging step; may wait for the device.

        `step` counts the steps taken. It is called after a step that was left out, too.
        """
        return {}

    def on_save(self, step: int) -> dict[str, float]:
        """Returns metrics for the manifest of the checkpoint that is about to be made.

        Raises NumericsError if the state after `step` steps must not be saved.
        """
        return {}

    def tensors(self) -> dict[str, Tensor]:
        """Returns the live tensors that a checkpoint has to hold, equal on all ranks, by name.

        A resume writes into them in place.
        """
        return {}

    def summary(self) -> dict[str, float]:
        """Returns what this hook adds to the summary at the end of the training."""
        return {}


class StepHooks(StepHook):
    """Calls several hooks, one after the other in their order."""

    def __init__(self, *hooks: StepHook) -> None:
        self._hooks = hooks

    def __iter__(self) -> Iterator[StepHook]:
        return iter(self._hooks)

    def before_forward(self, batch: Batch) -> None:
        for hook in self._hooks:
            hook.before_forward(batch)

    def before_backward(self, output: StepOutput) -> bool:
        return all(hook.before_backward(output) for hook in self._hooks)

    def before_optimizer(self, output: StepOutput) -> None:
        for hook in self._hooks:
            hook.before_optimizer(output)

    def after_optimizer(self, output: StepOutput) -> None:
        for hook in self._hooks:
            hook.after_optimizer(output)

    def on_log(self, step: int, output: StepOutput) -> Scalars:
        return {k: v for hook in self._hooks for k, v in hook.on_log(step, output).items()}

    def on_save(self, step: int) -> dict[str, float]:
        return {k: v for hook in self._hooks for k, v in hook.on_save(step).items()}

    def tensors(self) -> dict[str, Tensor]:
        return {
            f"{type(hook).__name__}/{name}": tensor
            for hook in self._hooks
            for name, tensor in hook.tensors().items()
        }

    def summary(self) -> dict[str, float]:
        return {k: v for hook in self._hooks for k, v in hook.summary().items()}
