"""The exact Gram matrix at the representation: what the rivals of MARIGOLD need, at their price.

Shapes: T tasks, B rows of this rank, R width of the representation.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def representation_gram(local_T: Tensor, z_BR: Tensor, group: dist.ProcessGroup) -> Tensor:
    """<g_i, g_j>, g_i = df_i/dz over all ranks' rows; [T, T], detached. Collective.

    One backward per task from the losses (`TaskLosses.local_T`) down to z_BR, and no further:
    neither the tables nor any parameter gets a gradient, so that the one real backward still is the
    only one that they see. Call it inside the wrapped forward. Memory: T times that of z_BR.
    """
    gradients_TD = torch.stack(
        [
            torch.autograd.grad(loss, z_BR, retain_graph=True, materialize_grads=True)[0].flatten()
            for loss in local_T
        ]
    )
    gradients_TD /= group.size()  # see masked_losses
    gram_TT = gradients_TD @ gradients_TD.T
    if group.size() > 1:
        dist.all_reduce(gram_TT, group=group)
    return gram_TT
