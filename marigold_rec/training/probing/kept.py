"""What a training forward leaves for a probe of its step.

Shapes: B rows of this rank, R width of the representation, T tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from marigold_rec.batch import Batch
from marigold_rec.contracts import Network
from marigold_rec.training.losses import TaskLosses, masked_rows
from marigold_rec.training.probing.random_stream import replayed


@dataclass(frozen=True)
class Kept:
    """The forward that a probe repeats at a moved point."""

    network: Network
    z_BR: Tensor
    batch: Batch
    losses: TaskLosses
    coefficients_T: Tensor
    random_state: Tensor
    is_float32: bool
    """False: the forward ran in lower precision, so that its losses are too coarse to differ
    from."""
    num_rows: int
    """The probe looks at this many of the rank's rows, the first ones."""

    def rows(self, z_BR: Tensor, parameters: Mapping[str, Tensor] | None = None) -> Tensor:
        """weight * observed * loss of each of `num_rows` rows, [T, B], float32.

        `z_BR` holds that many rows; `parameters` take the place of the network's own.
        """
        n, batch = self.num_rows, self.batch
        with replayed(self.random_state, z_BR.device):
            if parameters is None:
                outputs = self.network(z_BR, batch.dense_BD[:n])
            else:
                assert isinstance(self.network, nn.Module)
                arguments = (z_BR, batch.dense_BD[:n])
                outputs = torch.func.functional_call(self.network, dict(parameters), arguments)
        return masked_rows(
            self.network.heads,
            outputs,
            batch.labels_BT[:n],
            batch.observed_BT[:n],
            batch.weights_B[:n],
        )

    @property
    def here_TB(self) -> Tensor | None:
        """The rows' losses of the training forward, if they are good enough."""
        return self.losses.rows_TB[:, : self.num_rows] if self.is_float32 else None

    @property
    def observed_weight_T(self) -> Tensor:
        """This rank's sum of weight * observed over the probed rows."""
        n = self.num_rows
        return (self.batch.observed_BT[:n] * self.batch.weights_B[:n, None]).sum(0)
