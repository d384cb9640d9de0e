"""The last part of every network: one tower per task, then the task's head.

Shapes: B rows, T tasks, I width of a tower's input, H width of its output, K outputs of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from marigold_rec.contracts import TaskHead
from models.stacked_mlp import StackedMLP


class TaskTowers(nn.Module):
    """T towers of one shape, stacked, and the heads that read them.

    With no `widths` the heads read their inputs directly.
    """

    def __init__(
        self, in_width: int, widths: Sequence[int], dropout: float, heads: Sequence[TaskHead]
    ) -> None:
        super().__init__()
        self.stack = StackedMLP(len(heads), in_width, widths, dropout)
        self.heads = nn.ModuleList(cast("Sequence[nn.Module]", heads))

    @property
    def task_heads(self) -> list[TaskHead]:
        return cast("list[TaskHead]", list(self.heads))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Each head's output_BK from x_BI (all towers read it) or x_TBI (one input each)."""
        towers_TBH = self.stack(x)
        return [
            head(tower_BH) for head, tower_BH in zip(self.heads, towers_TBH.unbind(), strict=True)
        ]


def tower_output_width(tower_layers: Sequence[int], in_width: int) -> int:
    """H: what a head must be built for."""
    return tower_layers[-1] if tower_layers else in_width
