"""The linear layer that heads begin with.

Shapes: B rows, H width of a tower, K raw numbers of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LinearHead(nn.Module):
    """H -> K in the parameters' precision: losses and probabilities are wrong in bfloat16."""

    kinds: tuple[str, ...] = ()
    columns: tuple[str, ...] = ("",)

    def __init__(self, width: int, num_raw: int = 1) -> None:
        super().__init__()
        self.linear = nn.Linear(width, num_raw)
        nn.init.xavier_uniform_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, tower_BH: Tensor) -> Tensor:
        """output_BK in the parameters' dtype (float32), also under autocast."""
        with torch.autocast(device_type=tower_BH.device.type, enabled=False):
            return self.linear(tower_BH.to(self.linear.weight.dtype))
