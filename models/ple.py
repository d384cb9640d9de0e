"""PLE: levels of task-specific and shared experts (Tang et al., RecSys 2020).

"Progressive Layered Extraction (PLE): A Novel Multi-Task Learning Model for Personalized
Recommendations": a level is a CGC block (section 4.1), the levels are stacked as in section 4.2.

Shapes: B rows, R width of the pooled embeddings, D dense features, T tasks, I and O widths of a
level's input and output, N experts of one task, M shared experts, K outputs of a head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from marigold_rec.config.models import PLEModel
from marigold_rec.contracts import TaskHead
from models.dense_input import join_dense
from models.gates import Gates, mix_own, mix_shared
from models.parameters import parameters_below
from models.stacked_mlp import StackedMLP
from models.towers import TaskTowers, tower_output_width

_READ_BY_SHARED = ("task_experts", "shared_experts", "shared_gate")
"""Parts of a level whose outputs go into the next level's shared input. The task gates' don't."""


class PLE(nn.Module):
    """[embeddings, dense] -> `levels` CGC blocks -> one tower and head per task.

    Differences from the paper: experts may have several layers, each level's with the same widths,
    and dropout may follow every hidden layer. As in the paper, the last level has no gate for the
    shared experts (nothing would read it), and gates are linear, without a bias.
    """

    def __init__(
        self,
        section: PLEModel,
        *,
        embedding_width: int,
        num_dense: int,
        heads: Sequence[TaskHead],
    ) -> None:
        super().__init__()
        width = embedding_width + num_dense
        levels: list[CGC] = []
        for level in range(section.levels):
            last = level == section.levels - 1
            levels.append(CGC(section, len(heads), width, mixes_shared=not last))
            width = levels[-1].out_width
        self.levels = nn.ModuleList(levels)
        self.towers = TaskTowers(width, section.tower_layers, section.dropout, heads)

    @staticmethod
    def head_width(section: PLEModel) -> int:
        """Width of what a head reads."""
        return tower_output_width(section.tower_layers, section.expert_layers[-1])

    @property
    def heads(self) -> list[TaskHead]:
        return self.towers.task_heads

    @property
    def shared_parameters(self) -> Mapping[str, nn.Parameter]:
        """The shared experts', and all of a level that the next level's shared experts read."""
        last = len(self.levels) - 1
        everything = [f"levels.{i}.{part}" for i in range(last) for part in _READ_BY_SHARED]
        return parameters_below(self, [*everything, f"levels.{last}.shared_experts"])

    @property
    def input_parameters(self) -> Sequence[str]:
        names = parameters_below(self, ("levels.0",))
        parts = ("experts.layers.0.weight", "select.weight")
        return tuple(name for name in names if name.endswith(parts))

    @property
    def task_parameters(self) -> Sequence[str]:
        """Not the shared gates, of which each mixes the experts of all tasks."""
        parts = [
            f"levels.{i}.{p}"
            for i in range(len(self.levels))
            for p in ("task_experts", "task_gates")
        ]
        return tuple(parameters_below(self, [*parts, "towers.stack"]))

    def forward(self, z_BR: Tensor, dense_BD: Tensor) -> list[Tensor]:
        """Each task's raw output_BK, in the order of the heads."""
        tasks = shared = join_dense(z_BR, dense_BD)
        for level in self.levels:
            tasks, shared = level(tasks, shared)
        return self.towers(tasks)


class CGC(nn.Module):
    """Customized Gate Control: one level of experts and gates.

    Task t's gate mixes the N experts of task t and the M shared ones, and reads task t's input;
    the shared gate mixes all T*N + M experts and reads the shared input. In `task_experts` the
    experts of task t are number t*N to (t+1)*N - 1.
    """

    def __init__(
        self, section: PLEModel, num_tasks: int, in_width: int, *, mixes_shared: bool
    ) -> None:
        super().__init__()
        self.num_tasks = num_tasks
        self.per_task = section.task_experts
        num_shared = section.shared_experts
        layers, dropout = section.expert_layers, section.dropout
        self.task_experts = StackedMLP(num_tasks * self.per_task, in_width, layers, dropout)
        self.shared_experts = StackedMLP(num_shared, in_width, layers, dropout)
        self.task_gates = Gates(num_tasks, in_width, self.per_task + num_shared)
        self.shared_gate = (
            Gates(1, in_width, num_tasks * self.per_task + num_shared) if mixes_shared else None
        )
        self.out_width = self.task_experts.out_width

    def forward(self, tasks: Tensor, shared_BI: Tensor) -> tuple[Tensor, Tensor | None]:
        """(tasks_TBO, shared_BO; None at the last level).

        `tasks` is x_BI at the first level, where all read the same, else x_TBI.
        """
        own_input = tasks if tasks.dim() == 2 else tasks.repeat_interleave(self.per_task, dim=0)
        own = self.task_experts(own_input)
        common_MBO = self.shared_experts(shared_BI)
        own_TNBO = own.unflatten(0, (self.num_tasks, self.per_task))
        gates_TBE = self.task_gates(tasks)
        own_gates_TBN, common_gates_TBM = gates_TBE.tensor_split([self.per_task], dim=-1)
        mixed_TBO = mix_own(own_gates_TBN, own_TNBO) + mix_shared(common_gates_TBM, common_MBO)
        if self.shared_gate is None:
            return mixed_TBO, None
        shared_1BO = mix_shared(self.shared_gate(shared_BI), torch.cat([own, common_MBO]))
        return mixed_TBO, shared_1BO[0]
