"""The module that is sharded and trained: pooled embeddings, then the objective.

TorchRec's pipeline traces this forward to find the lookups' inputs; whatever holds no sharded
table (the objective) is a leaf to the tracer and may do as it likes.
"""

from __future__ import annotations

from torch import Tensor, nn

from marigold_rec.batch import Batch
from marigold_rec.training.objective import Objective, StepOutput


class TrainTask(nn.Module):
    """`embeddings`: KeyedJaggedTensor -> z_BR in the config's feature order, whatever the plan."""

    def __init__(self, embeddings: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.embeddings = embeddings
        self.objective = objective

    def forward(self, batch: Batch) -> tuple[Tensor, StepOutput] | Tensor:
        z_BR = self.embeddings(batch.sparse)
        return self.objective(z_BR, batch)
