"""MMoE: experts shared by all tasks, and a gate per task (Ma et al., KDD 2018).

"Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts", eq. 5-7.

Shapes: B rows, J width of the joined input, E experts, O outputs (tasks), H width of an expert's
output.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from marigold_rec.config.names import Width
from marigold_rec.config.section import Section
from models.gates import Gates, mix_shared
from models.stacked_mlp import StackedMLP
from models.views import Views


class MMoESettings(Section):
    name: Literal["mmoe"]
    experts: int = Field(default=4, ge=1)
    expert_layers: tuple[Width, ...] = Field(default=(64, 32), min_length=1)

    @property
    def out_width(self) -> int:
        return self.expert_layers[-1]


class MMoE(nn.Module):
    """h_o = sum_e softmax(W_o x)_e expert_e(x) for each output o.

    Differences from the paper: experts may have several layers (the paper's have one), and dropout
    may follow every hidden layer. The gates are the paper's: linear, without a bias. Where features
    are kept from tasks, there are so many experts for each set of features that is read, and a
    task's gate mixes those that read nothing which is kept from it.
    """

    Settings = MMoESettings

    def __init__(
        self,
        settings: MMoESettings,
        in_width: int,
        num_outputs: int,
        dropout: float,
        reads_OJ: Tensor | None = None,
    ) -> None:
        super().__init__()
        views = Views(reads_OJ, num_outputs)
        experts = [view for view in range(len(views)) for _ in range(settings.experts)]
        self.experts = StackedMLP(
            len(experts),
            in_width,
            settings.expert_layers,
            dropout,
            reads="input",
            columns_GI=views.columns(experts),
        )
        self.gates = Gates(
            num_outputs,
            in_width,
            len(experts),
            stack="output",
            reads="input",
            columns_TI=views.columns(views.of_output),
            experts_TE=views.may_use(experts),
        )
        self.out_width = settings.out_width

    def forward(self, x_BJ: Tensor) -> Tensor:
        """h_OBH."""
        return mix_shared(self.gates(x_BJ), self.experts(x_BJ))
