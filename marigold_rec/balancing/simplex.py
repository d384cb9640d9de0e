"""Moving weights on the simplex, some of them, in logarithms and above a floor. T tasks."""

from __future__ import annotations

import torch
from torch import Tensor

TINY = 1e-30
"""Below this a sum counts as nothing to divide by."""


def masked_sum(values_T: Tensor, where_T: Tensor) -> Tensor:
    """The sum over the tasks of `where_T`, scalar; what stands elsewhere may be NaN."""
    return torch.where(where_T, values_T, 0.0).sum()


def shared_out(weights_T: Tensor, log_weights_T: Tensor, moves_T: Tensor, floor: float) -> Tensor:
    """The moving tasks' weight, shared out by `log_weights_T`, each at the floor or above.

    The others keep theirs to the bit. The floor holds the weight that the next move starts from: a
    floor under the result alone would let the log-weight run on below it, and the task would stay
    at the floor long after its turn has come again.
    """
    weight = 1.0 - masked_sum(weights_T, ~moves_T)
    share_T = torch.softmax(log_weights_T.masked_fill(~moves_T, -torch.inf), 0)
    above_T = (weight * share_T - floor).clamp_min(0.0)
    free = weight - moves_T.sum() * floor
    moved_T = floor + above_T * (free / above_T.sum().clamp_min(TINY))
    return torch.where(moves_T, moved_T, weights_T)
