"""MMoE: experts shared by all tasks, and a gate per task (Ma et al., KDD 2018).

"Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts", eq. 5-7.

Shapes: B rows, R width of the pooled embeddings, D dense features, E experts, T tasks, O width of
an expert's output, K outputs of a head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from marigold_rec.config.models import MMoEModel
from marigold_rec.contracts import TaskHead
from models.dense_input import join_dense
from models.gates import Gates, mix_shared
from models.parameters import parameters_below
from models.stacked_mlp import StackedMLP
from models.towers import TaskTowers, tower_output_width


class MMoE(nn.Module):
    """y_t = head_t(tower_t(sum_e softmax(W_t x)_e expert_e(x))), x = [embeddings, dense].

    Differences from the paper: experts may have several layers (the paper's have one), and dropout
    may follow every hidden layer. The gates are the paper's: linear, without a bias.
    """

    def __init__(
        self,
        section: MMoEModel,
        *,
        embedding_width: int,
        num_dense: int,
        heads: Sequence[TaskHead],
    ) -> None:
        super().__init__()
        in_width = embedding_width + num_dense
        self.experts = StackedMLP(section.experts, in_width, section.expert_layers, section.dropout)
        self.gates = Gates(len(heads), in_width, section.experts)
        self.towers = TaskTowers(
            self.experts.out_width, section.tower_layers, section.dropout, heads
        )

    @staticmethod
    def head_width(section: MMoEModel) -> int:
        """Width of what a head reads."""
        return tower_output_width(section.tower_layers, section.expert_layers[-1])

    @property
    def heads(self) -> list[TaskHead]:
        return self.towers.task_heads

    @property
    def shared_parameters(self) -> Mapping[str, nn.Parameter]:
        """The experts'. A gate belongs to its task."""
        return parameters_below(self, ("experts",))

    @property
    def input_parameters(self) -> Sequence[str]:
        return ("experts.layers.0.weight", "gates.select.weight")

    @property
    def task_parameters(self) -> Sequence[str]:
        return tuple(parameters_below(self, ("gates", "towers.stack")))

    def forward(self, z_BR: Tensor, dense_BD: Tensor) -> list[Tensor]:
        """Each task's raw output_BK, in the order of the heads."""
        x_BI = join_dense(z_BR, dense_BD)
        mixed_TBO = mix_shared(self.gates(x_BI), self.experts(x_BI))
        return self.towers(mixed_TBO)
