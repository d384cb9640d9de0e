"""Weighted losses over the global batch.

f_i = sum(weight * loss) / sum(weight), both over the rows of all ranks; loss and weight of each row
are a LossTerm's. A task without weight contributes exactly zero, in value and in gradient.

Shapes: B rows of this rank, T tasks, K raw numbers of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from marigold_rec.batch import Batch
from marigold_rec.contracts import StopGradient
from marigold_rec.network import Network
from marigold_rec.training.constants import Constants

_TINY = 1e-30


@dataclass(frozen=True)
class TaskLosses:
    """One batch's losses; all but `local_T` are detached."""

    local_T: Tensor
    """This rank's part, with gradient, scaled by the world size (see `global_losses`)."""
    global_T: Tensor
    """f_T over the global batch."""
    rows_TB: Tensor
    """This rank's weight * loss of each row."""
    weights_TB: Tensor
    """This rank's weight of each row."""
    weight_T: Tensor
    """The sum of all ranks' weights: the losses' common denominators."""
    constants: Constants
    """What the terms have treated as constants."""

    @property
    def present_T(self) -> Tensor:
        return self.weight_T > 0


@dataclass(frozen=True)
class BatchLabels:
    """The labels of a batch by task: contracts.Labels."""

    tasks: tuple[str, ...]
    labels_BT: Tensor
    observed_BT: Tensor
    weights_B: Tensor

    @classmethod
    def of(cls, batch: Batch, tasks: tuple[str, ...], num_rows: int | None = None) -> BatchLabels:
        """Of the first `num_rows` rows; None: of all."""
        return cls(
            tasks,
            batch.labels_BT[:num_rows],
            batch.observed_BT[:num_rows],
            batch.weights_B[:num_rows],
        )

    def value(self, task: str) -> Tensor:
        return self.labels_BT[:, self.tasks.index(task)]

    def observed(self, task: str) -> Tensor:
        return self.observed_BT[:, self.tasks.index(task)]


def weighted_rows(
    network: Network, outputs: Sequence[Tensor], labels: BatchLabels, stop_gradient: StopGradient
) -> tuple[Tensor, Tensor]:
    """(weight * loss, weight) of each row, both [T, B], float32; the first with gradient."""
    by_name = dict(zip(network.output_names, outputs, strict=True))
    losses, weights = [], []
    for term in network.terms.values():
        loss_B, weight_B = term.rows(by_name, labels, stop_gradient)
        # where, not a product: what is not observed must not let inf * 0 = NaN through.
        losses.append(torch.where(weight_B > 0, weight_B * loss_B, 0.0))
        weights.append(weight_B)
    return torch.stack(losses), torch.stack(weights)


def global_losses(
    network: Network, outputs: Sequence[Tensor], batch: Batch, group: dist.ProcessGroup
) -> TaskLosses:
    """The losses of the global batch. Collective: call on every rank.

    DDP and TorchRec both average gradients over ranks; multiplied by the world size, the mean of
    the ranks' gradients is the gradient of the global loss.
    """
    constants = Constants()
    labels = BatchLabels.of(batch, network.tasks)
    rows_TB, weights_TB = weighted_rows(network, outputs, labels, constants.record)
    sums_T = rows_TB.sum(1)
    totals_2T = torch.stack([sums_T.detach(), weights_TB.sum(1)])
    if group.size() > 1:
        dist.all_reduce(totals_2T, group=group)
    denominator_T = totals_2T[1].clamp_min(_TINY)
    return TaskLosses(
        local_T=group.size() * sums_T / denominator_T,
        global_T=totals_2T[0] / denominator_T,
        rows_TB=rows_TB.detach(),
        weights_TB=weights_TB,
        weight_T=totals_2T[1],
        constants=constants,
    )
