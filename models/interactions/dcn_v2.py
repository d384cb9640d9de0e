"""DCNv2's low-rank cross layers (Wang et al., WWW 2021, "DCN V2", eq. 1 and 2; no experts).

Shapes: B rows, I width of the input, K rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from marigold_rec.axes import state_axes
from marigold_rec.config.section import Section
from marigold_rec.inputs import Slot, width_of


class DCNv2Settings(Section):
    name: Literal["dcn_v2"]
    layers: int = Field(default=2, ge=1, le=16)
    rank: int = Field(default=64, ge=1)


class DCNv2(nn.Module):
    """x_{l+1} = x_0 * (U_l V_l x_l + b_l) + x_l; the output is as wide as the input.

    TorchRec's LowRankCrossNet computes the same; its parameters don't say what their axes mean,
    which a warm start under other features has to know.
    """

    Settings = DCNv2Settings

    def __init__(self, settings: DCNv2Settings, slots: Sequence[Slot]) -> None:
        super().__init__()
        self.slots = tuple(slots)
        width = width_of(slots)
        rank = min(settings.rank, width)
        self.layers = nn.ModuleList(_CrossLayer(width, rank) for _ in range(settings.layers))

    def forward(self, x_BI: Tensor) -> Tensor:
        """x_BI."""
        x0_BI = x_BI
        for layer in self.layers:
            x_BI = x0_BI * layer(x_BI) + x_BI
        return x_BI


class _CrossLayer(nn.Module):
    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.v = nn.Parameter(torch.empty(rank, width))
        self.u = nn.Parameter(torch.empty(width, rank))
        self.bias = nn.Parameter(torch.zeros(width))
        state_axes(self, "v", None, "input")
        state_axes(self, "u", "input", None)
        state_axes(self, "bias", "input")
        nn.init.xavier_uniform_(self.v)
        nn.init.xavier_uniform_(self.u)

    def forward(self, x_BI: Tensor) -> Tensor:
        return F.linear(F.linear(x_BI, self.v), self.u, self.bias)
