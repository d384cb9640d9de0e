"""What the training machinery asks of a model: a network over the shared representation, and heads.

Shapes: B rows, R width of the pooled embeddings, D dense features, H width of a tower's output,
K outputs of a head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor, nn


@runtime_checkable
class TaskHead(Protocol):
    """Turns a tower's output into one task's prediction and loss. A torch.nn.Module."""

    def __call__(self, tower_BH: Tensor) -> Tensor:
        """Raw output_BK, float32 (also under autocast)."""
        ...

    def loss(self, output_BK: Tensor, label_B: Tensor) -> Tensor:
        """Loss of each row, [B], float32. Finite for any finite output and valid label."""
        ...

    def target(self, label_B: Tensor) -> Tensor:
        """What the output is regressed on, [B]: its mean is what the best constant predicts."""
        ...

    def start_at(self, mean_target: float, num_rows: float) -> None:
        """Sets the bias so that an untrained head predicts the mean target of `num_rows` rows."""
        ...

    def predict(self, output_BK: Tensor) -> Tensor:
        """Prediction of each row, [B], in the label's own units (probability, seconds)."""
        ...


@runtime_checkable
class Network(Protocol):
    """The dense part of a model. A torch.nn.Module: trunk, experts, gates, towers and heads."""

    def __call__(self, z_BR: Tensor, dense_BD: Tensor) -> list[Tensor]:
        """Each head's raw output_BK, in the order of the config's tasks."""
        ...

    @property
    def heads(self) -> list[TaskHead]:
        """One head per task, in the order of the config's tasks."""
        ...

    @property
    def shared_parameters(self) -> Mapping[str, nn.Parameter]:
        """By their names in this module, the parameters through which more than one task's
        gradient flows: trunk and experts, not gates, towers and heads of one task."""
        ...

    @property
    def input_parameters(self) -> Sequence[str]:
        """Names of the parameters whose last axis is the network's input, z then dense: for a warm
        start under other features."""
        ...

    @property
    def task_parameters(self) -> Sequence[str]:
        """Names of the parameters whose first axis is the tasks, each with as many entries as the
        others (heads, of which each has one of its own, apart): for a warm start of other tasks."""
        ...
