"""What the trunk reads: pooled embeddings and dense features side by side.

Shapes: B rows, R width of the pooled embeddings, D dense features, I = R + D.
"""

from __future__ import annotations

import torch
from torch import Tensor


def join_dense(z_BR: Tensor, dense_BD: Tensor) -> Tensor:
    """x_BI; z_BR itself where there are no dense features."""
    if dense_BD.shape[1] == 0:
        return z_BR
    return torch.cat([z_BR, dense_BD.to(z_BR.dtype)], dim=1)
