"""The module that is sharded and trained: embedding tables, then the objective.

TorchRec's pipeline traces this forward to find the lookups' inputs; whatever holds no sharded
table (the objective) is a leaf to the tracer and may do as it likes.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torchrec.distributed import DistributedModelParallel

from marigold_rec.batch import Batch
from marigold_rec.training.objective import Objective, StepOutput


class TrainModule(nn.Module):
    """`embeddings`: (sparse, unpooled, dense_BD) -> Inputs, in one order whatever the plan."""

    def __init__(self, embeddings: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.embeddings = embeddings
        self.objective = objective

    def forward(self, batch: Batch) -> tuple[Tensor, StepOutput] | Tensor:
        inputs = self.embeddings(batch.sparse, batch.unpooled, batch.dense_BD)
        return self.objective(inputs, batch)


def model_tensors(model: DistributedModelParallel) -> dict[str, Tensor]:
    """The live tensors of tables, dense part and balancer; sharded ones are DTensors."""
    return {f"model/{name}": cast(Tensor, tensor) for name, tensor in model.state_dict().items()}
