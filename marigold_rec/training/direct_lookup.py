"""Looks up a batch's embeddings outside of the pipeline: for a probe's second forward."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from torch import nn
from torchrec.distributed import DistributedModelParallel
from torchrec.distributed.model_parallel import get_unwrapped_module

from marigold_rec.batch import Batch
from marigold_rec.inputs import Inputs


class DirectLookup:
    """Returns a batch's inputs from the tables as they are now. Collective.

    TorchRec's pipeline gives sharded modules and id exchanges a forward of their own, which only
    takes ids that were exchanged in advance, each batch's once: here they have their own again.
    """

    def __init__(self, model: DistributedModelParallel) -> None:
        self._embeddings = cast(nn.Module, get_unwrapped_module(model).embeddings)

    def __call__(self, batch: Batch) -> Inputs:
        with self._own_forwards():
            return self._embeddings(batch.sparse, batch.unpooled, batch.dense_BD)

    @contextmanager
    def _own_forwards(self) -> Iterator[None]:
        replaced = [m for m in self._modules() if "forward" in vars(m)]
        forwards = [vars(m).pop("forward") for m in replaced]
        try:
            yield
        finally:
            for module, forward in zip(replaced, forwards, strict=True):
                vars(module)["forward"] = forward

    def _modules(self) -> Iterator[nn.Module]:
        for module in self._embeddings.modules():
            yield module
            for input_dist in getattr(module, "_input_dists", []):
                if isinstance(exchange := getattr(input_dist, "_dist", None), nn.Module):
                    yield exchange
