"""PLE: levels of task-specific and shared experts (Tang et al., RecSys 2020).

"Progressive Layered Extraction (PLE): A Novel Multi-Task Learning Model for Personalized
Recommendations": a level is a CGC block (section 4.1), the levels are stacked as in section 4.2.

Shapes: B rows, J width of the joined input, O outputs (tasks), I and H widths of a level's input
and output, N experts of one output, M shared experts.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from marigold_rec.axes import Axis, ExpertsOf
from marigold_rec.config.names import Width
from marigold_rec.config.section import Section
from models.gates import Gates, mix_own, mix_shared
from models.stacked_mlp import StackedMLP
from models.views import Views


class PLESettings(Section):
    name: Literal["ple"]
    levels: int = Field(default=2, ge=1)
    shared_experts: int = Field(default=2, ge=1)
    task_experts: int = Field(default=1, ge=1)
    """Experts of each task, per level."""
    expert_layers: tuple[Width, ...] = Field(default=(64, 32), min_length=1)

    @property
    def out_width(self) -> int:
        return self.expert_layers[-1]


class PLE(nn.Module):
    """`levels` CGC blocks, one after the other.

    Differences from the paper: experts may have several layers, each level's with the same widths,
    and dropout may follow every hidden layer. Shared experts read what no task is kept from, and
    the shared gate mixes no expert that reads more. As in the paper, the last level has no gate for
    the shared experts (nothing would read it), and gates are linear, without a bias.
    """

    Settings = PLESettings

    def __init__(
        self,
        settings: PLESettings,
        in_width: int,
        num_outputs: int,
        dropout: float,
        reads_OJ: Tensor | None = None,
    ) -> None:
        super().__init__()
        views = Views(reads_OJ, num_outputs)
        width = in_width
        levels: list[CGC] = []
        for level in range(settings.levels):
            levels.append(
                CGC(
                    settings,
                    width,
                    views,
                    dropout,
                    is_first=level == 0,
                    is_last=level == settings.levels - 1,
                )
            )
            width = settings.out_width
        self.levels = nn.ModuleList(levels)
        self.out_width = settings.out_width

    def forward(self, x_BJ: Tensor) -> Tensor:
        """h_OBH."""
        own = shared = x_BJ
        for level in self.levels:
            own, shared = level(own, shared)
        return own


class CGC(nn.Module):
    """Customized Gate Control: one level of experts and gates.

    Output o's gate mixes the N experts of output o and the M shared ones, and reads output o's
    input; the shared gate mixes all O*N + M experts and reads the shared input. In `task_experts`
    the experts of output o are number o*N to (o+1)*N - 1.
    """

    def __init__(
        self,
        settings: PLESettings,
        in_width: int,
        views: Views,
        dropout: float,
        *,
        is_first: bool,
        is_last: bool,
    ) -> None:
        super().__init__()
        self.num_outputs = num_outputs = len(views.of_output)
        self.per_output = settings.task_experts
        num_shared, layers = settings.shared_experts, settings.expert_layers
        own_views = [view for view in views.of_output for _ in range(self.per_output)]
        reads: Axis = "input" if is_first else None  # later levels read the level before
        common = views.common if is_first else None
        # The next level's shared experts read what one task's experts say, and so does every task.
        self.task_experts = StackedMLP(
            num_outputs * self.per_output,
            in_width,
            layers,
            dropout,
            stack="output",
            reads=reads,
            is_shared=not is_last,
            columns_GI=views.columns(own_views) if is_first else None,
        )
        self.shared_experts = StackedMLP(
            num_shared,
            in_width,
            layers,
            dropout,
            reads=reads,
            columns_GI=None if common is None else common.expand(num_shared, -1),
        )
        self.task_gates = Gates(
            num_outputs,
            in_width,
            self.per_output + num_shared,
            stack="output",
            reads=reads,
            columns_TI=views.columns(views.of_output) if is_first else None,
        )
        everyone = num_outputs * self.per_output + num_shared
        mixes = ExpertsOf(self.per_output, num_shared)
        may_mix = views.reads_only_common(own_views)
        if may_mix is not None:
            may_mix = torch.cat([may_mix, torch.ones(num_shared, dtype=torch.bool)])[None]
        self.shared_gate = (
            None
            if is_last
            else Gates(
                1,
                in_width,
                everyone,
                reads=reads,
                mixes=mixes,
                columns_TI=common,
                experts_TE=may_mix,
            )
        )

    def forward(self, own: Tensor, shared_BI: Tensor) -> tuple[Tensor, Tensor | None]:
        """(own_OBH, shared_BH; None at the last level).

        `own` is x_BI at the first level, where all read the same, else x_OBI.
        """
        own_input = own if own.dim() == 2 else own.repeat_interleave(self.per_output, dim=0)
        experts = self.task_experts(own_input)
        common_MBH = self.shared_experts(shared_BI)
        own_ONBH = experts.unflatten(0, (self.num_outputs, self.per_output))
        gates_OBE = self.task_gates(own)
        own_gates_OBN, common_gates_OBM = gates_OBE.tensor_split([self.per_output], dim=-1)
        mixed_OBH = mix_own(own_gates_OBN, own_ONBH) + mix_shared(common_gates_OBM, common_MBH)
        if self.shared_gate is None:
            return mixed_OBH, None
        shared_1BH = mix_shared(self.shared_gate(shared_BI), torch.cat([experts, common_MBH]))
        return mixed_OBH, shared_1BH[0]
