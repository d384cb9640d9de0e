"""The exact Gram matrix at the representation: what the rivals of MARIGOLD need, at their price.

Shapes: T tasks, D numbers of this rank's representation.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from marigold_rec.inputs import Inputs


def representation_gram(local_T: Tensor, inputs: Inputs, group: dist.ProcessGroup) -> Tensor:
    """<g_i, g_j>, g_i = df_i/dz over all ranks' rows; [T, T], detached. Collective.

    z is all that comes from the tables (`Inputs.embedded`). One backward per task from the losses
    (`TaskLosses.local_T`) down to it, and no further: neither the tables nor any parameter gets a
    gradient, so that the one real backward still is the only one that they see. Call it inside the
    wrapped forward. Memory: T times that of z.
    """
    gradients_TD = torch.stack(
        [
            torch.cat(
                [
                    gradient.flatten()
                    for gradient in torch.autograd.grad(
                        loss, inputs.embedded, retain_graph=True, materialize_grads=True
                    )
                ]
            )
            for loss in local_T
        ]
    )
    gradients_TD /= group.size()  # see global_losses
    gram_TT = gradients_TD @ gradients_TD.T
    if group.size() > 1:
        dist.all_reduce(gram_TT, group=group)
    return gram_TT
