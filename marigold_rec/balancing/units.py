"""What is balanced: losses or their logarithms, of tasks or of labels. Shapes: T tasks."""

from __future__ import annotations

import torch
from torch import Tensor

from marigold_rec.balancing.simplex import TINY


def balanced_units(
    losses_T: Tensor, present_T: Tensor, *, log: bool, labels_T: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """What turns a loss's gradient into the balanced quantity's, and where there is one.

    With `labels_T` (the numbers of labels whose mean the losses are) a task counts by its labels:
    the balanced quantities are sums over labels, so that at equal weights the combined loss is the
    log-likelihood of all that was observed.

    On log-losses the combined loss descends sum_i w_i log f_i, so that a task's weight does not
    depend on its loss's unit. Such losses have to be positive: one of exactly zero has no gradient,
    and dividing by it would drown the other tasks.
    """
    unit_T = torch.ones_like(losses_T)
    if labels_T is not None:
        unit_T = labels_T / labels_T.sum().clamp_min(TINY)
    if not log:
        return unit_T, present_T
    return unit_T / losses_T.clamp_min(TINY), present_T & (losses_T > TINY)
