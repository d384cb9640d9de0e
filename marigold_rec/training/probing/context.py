"""What a training forward leaves for a probe of its step.

Shapes: B rows of this rank, T tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from marigold_rec.batch import Batch
from marigold_rec.inputs import Inputs
from marigold_rec.network import Network
from marigold_rec.training.losses import BatchLabels, TaskLosses, weighted_rows
from marigold_rec.training.probing.random_stream import replayed


@dataclass(frozen=True)
class ProbeContext:
    """The forward that a probe repeats at a moved point."""

    network: Network
    inputs: Inputs
    """Whole, as the forward read them; the embedded leaves hold their gradients after the
    backward."""
    batch: Batch
    losses: TaskLosses
    coefficients_T: Tensor
    random_state: Tensor
    is_float32: bool
    """False: the forward ran in lower precision, so that its losses are too coarse to differ
    from."""
    num_rows: int
    """The probe looks at this many of the rank's rows, the first ones."""

    @property
    def probed_inputs(self) -> Inputs:
        """Detached, of the probed rows."""
        return self.inputs.detach().rows(self.num_rows)

    def rows(self, inputs: Inputs, parameters: Mapping[str, Tensor] | None = None) -> Tensor:
        """weight * loss of each of `num_rows` rows, [T, B], float32.

        `inputs` holds that many rows; `parameters` take the place of the network's own. Dropout
        masks and the loss terms' constants are those of the training forward.
        """
        with replayed(self.random_state, inputs.device):
            if parameters is None:
                outputs = self.network(inputs)
            else:
                outputs = torch.func.functional_call(self.network, dict(parameters), (inputs,))
        labels = BatchLabels.of(self.batch, self.network.tasks, self.num_rows)
        replay = self.losses.constants.replay(self.num_rows)
        return weighted_rows(self.network, outputs, labels, replay)[0]

    @property
    def base_losses_TB(self) -> Tensor | None:
        """The rows' losses of the training forward, if they are good enough."""
        return self.losses.rows_TB[:, : self.num_rows] if self.is_float32 else None

    @property
    def weight_T(self) -> Tensor:
        """This rank's sum of weights over the probed rows."""
        return self.losses.weights_TB[:, : self.num_rows].sum(1)
