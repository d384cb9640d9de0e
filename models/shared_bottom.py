"""Shared bottom: one trunk for all tasks (Caruana 1997, "Multitask Learning").

Shapes: B rows, R width of the pooled embeddings, D dense features, K outputs of a head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from marigold_rec.config.models import SharedBottomModel
from marigold_rec.contracts import TaskHead
from models.dense_input import join_dense
from models.parameters import parameters_below
from models.stacked_mlp import StackedMLP
from models.towers import TaskTowers, tower_output_width


class SharedBottom(nn.Module):
    """[embeddings, dense] -> bottom -> one tower and head per task.

    Hard parameter sharing: the baseline that MMoE and PLE are measured against.
    """

    def __init__(
        self,
        section: SharedBottomModel,
        *,
        embedding_width: int,
        num_dense: int,
        heads: Sequence[TaskHead],
    ) -> None:
        super().__init__()
        in_width = embedding_width + num_dense
        self.bottom = StackedMLP(1, in_width, section.bottom_layers, section.dropout)
        self.towers = TaskTowers(
            self.bottom.out_width, section.tower_layers, section.dropout, heads
        )

    @staticmethod
    def head_width(section: SharedBottomModel) -> int:
        """Width of what a head reads."""
        return tower_output_width(section.tower_layers, section.bottom_layers[-1])

    @property
    def heads(self) -> list[TaskHead]:
        return self.towers.task_heads

    @property
    def shared_parameters(self) -> Mapping[str, nn.Parameter]:
        """The bottom's."""
        return parameters_below(self, ("bottom",))

    @property
    def input_parameters(self) -> Sequence[str]:
        return ("bottom.layers.0.weight",)

    @property
    def task_parameters(self) -> Sequence[str]:
        return tuple(parameters_below(self, ("towers.stack",)))

    def forward(self, z_BR: Tensor, dense_BD: Tensor) -> list[Tensor]:
        """Each task's raw output_BK, in the order of the heads."""
        return self.towers(self.bottom(join_dense(z_BR, dense_BD))[0])
