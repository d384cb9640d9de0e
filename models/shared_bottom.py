"""Shared bottom: one trunk for all tasks (Caruana 1997, "Multitask Learning").

Shapes: B rows, J width of the joined input, H width of the bottom's output.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from marigold_rec.config.names import Width
from marigold_rec.config.section import Section
from models.stacked_mlp import StackedMLP
from models.views import Views


class SharedBottomSettings(Section):
    name: Literal["shared_bottom"]
    bottom_layers: tuple[Width, ...] = Field(default=(128, 64), min_length=1)

    @property
    def out_width(self) -> int:
        return self.bottom_layers[-1]


class SharedBottom(nn.Module):
    """One multi-layer perceptron that all towers read.

    Hard parameter sharing: the baseline that MMoE and PLE are measured against. Where features are
    kept from tasks, there is one for each set of features that is read.
    """

    Settings = SharedBottomSettings

    def __init__(
        self,
        settings: SharedBottomSettings,
        in_width: int,
        num_outputs: int,
        dropout: float,
        reads_OJ: Tensor | None = None,
    ) -> None:
        super().__init__()
        views = Views(reads_OJ, num_outputs)
        self.bottom = StackedMLP(
            len(views),
            in_width,
            settings.bottom_layers,
            dropout,
            reads="input",
            columns_GI=views.columns(range(len(views))),
        )
        self._view_of_output = views.of_output
        self.out_width = settings.out_width

    def forward(self, x_BJ: Tensor) -> Tensor:
        """h_BH; h_OBH where outputs read different features."""
        bottoms_VBH = self.bottom(x_BJ)
        return bottoms_VBH[0] if len(bottoms_VBH) == 1 else bottoms_VBH[self._view_of_output]
