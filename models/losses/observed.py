"""The default loss term: a head's own loss on the rows where its task's label is observed.

Shapes: B rows, K raw numbers of a head.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from marigold_rec.config.section import Section
from marigold_rec.config.tasks import Task
from marigold_rec.contracts import Head, Labels, StopGradient


class ObservedSettings(Section):
    name: Literal["observed"]


class Observed:
    """f = sum(weight * observed * loss) / sum(weight * observed)."""

    Settings = ObservedSettings

    def __init__(self, settings: ObservedSettings, task: Task, heads: Mapping[str, Head]) -> None:
        self._task = task.name
        self._head = heads[task.name]

    @staticmethod
    def extra_heads(task: Task, width: int) -> Mapping[str, Head]:
        """None: it reads the task's own output."""
        return {}

    def rows(
        self, outputs: Mapping[str, Tensor], labels: Labels, stop_gradient: StopGradient
    ) -> tuple[Tensor, Tensor]:
        """(loss_B, weight_B)."""
        loss_B = self._head.loss(outputs[self._task], labels.value(self._task))
        return loss_B, labels.weights_B * labels.observed(self._task)
