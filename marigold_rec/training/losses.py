"""Masked losses over the global batch.

f_i = sum(weight * observed * loss) / sum(weight * observed), both over the rows of all ranks.
A task with nothing observed contributes exactly zero, in value and in gradient.

Shapes: B rows of this rank, T tasks, K outputs of a head.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from marigold_rec.batch import Batch
from marigold_rec.contracts import TaskHead

_TINY = 1e-30


@dataclass(frozen=True)
class TaskLosses:
    """One batch's losses; all but `local_T` are detached, all but it and `rows_TB` global."""

    local_T: Tensor
    """This rank's part, with gradient, scaled by the world size (see `masked_losses`)."""
    global_T: Tensor
    """f_T over the global batch."""
    rows_TB: Tensor
    """This rank's weight * observed * loss of each row."""
    observed_weight_T: Tensor
    """Sum over ranks of weight * observed: the losses' common denominators."""

    @property
    def present_T(self) -> Tensor:
        return self.observed_weight_T > 0


def masked_rows(
    heads: list[TaskHead],
    outputs: list[Tensor],
    labels_BT: Tensor,
    observed_BT: Tensor,
    weights_B: Tensor,
) -> Tensor:
    """weight * observed * loss of each row, [T, B], float32, with gradient."""
    return torch.stack(
        [
            # where, not a product: what is not observed must not let inf * 0 = NaN through.
            torch.where(
                observed_BT[:, i] > 0, weights_B * head.loss(output_BK, labels_BT[:, i]), 0.0
            )
            for i, (head, output_BK) in enumerate(zip(heads, outputs, strict=True))
        ]
    )


def masked_losses(
    heads: list[TaskHead], outputs: list[Tensor], batch: Batch, group: dist.ProcessGroup
) -> TaskLosses:
    """The losses of the global batch. Collective: call on every rank.

    DDP and TorchRec both average gradients over ranks; multiplied by the world size, the mean of
    the ranks' gradients is the gradient of the global loss.
    """
    rows_TB = masked_rows(heads, outputs, batch.labels_BT, batch.observed_BT, batch.weights_B)
    sums_T = rows_TB.sum(1)
    observed_weight_T = (batch.observed_BT * batch.weights_B[:, None]).sum(0)
    totals_2T = torch.stack([sums_T.detach(), observed_weight_T])
    if group.size() > 1:
        dist.all_reduce(totals_2T, group=group)
    denominator_T = totals_2T[1].clamp_min(_TINY)
    return TaskLosses(
        local_T=group.size() * sums_T / denominator_T,
        global_T=totals_2T[0] / denominator_T,
        rows_TB=rows_TB.detach(),
        observed_weight_T=totals_2T[1],
    )
