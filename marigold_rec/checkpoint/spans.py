"""Loads parts of a saved tensor into other places of a live one: what a changed model needs.

torch.distributed.checkpoint reads any box of a saved tensor, from whatever shards it lies in, into
whatever shards there are now. `Placed` tells it which boxes.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, Metadata, MetadataIndex


@dataclass(frozen=True)
class Span:
    """Along one axis: [now, now + size) of the live tensor holds what began at `then`."""

    now: int
    then: int
    size: int


Spans = Mapping[int, Sequence[Span]]
"""Axis -> spans; an axis that is not named is as it was, whole."""


class Placed:
    """A live tensor's parts that are to be read, as torch.distributed.checkpoint asks for them.

    Takes the place of the tensor in a state dict that is loaded; the rest of the tensor keeps its
    values. Each rank names its own shards only.
    """

    def __init__(self, tensor: Tensor, spans: Spans) -> None:
        self._parts: list[tuple[torch.Size, Tensor]] = []
        for offsets, shard in _shards(tensor):
            choices = [
                [_cut(span, offsets[axis], shard.shape[axis]) for span in spans[axis]]
                if axis in spans
                else [(0, offsets[axis], shard.shape[axis])]
                for axis in range(shard.dim())
            ]
            for boxes in itertools.product(*choices):
                self._add(shard, boxes)

    def _add(self, shard: Tensor, boxes: tuple[tuple[int, int, int], ...]) -> None:
        view = shard
        for axis, (start, _, size) in enumerate(boxes):
            if size <= 0:
                return
            view = view.narrow(axis, start, size)
        self._parts.append((torch.Size([then for _, then, _ in boxes]), view.detach()))

    def __create_chunk_list__(self) -> list[ChunkStorageMetadata]:
        return [ChunkStorageMetadata(then, view.shape) for then, view in self._parts]

    def shard(self, index: MetadataIndex) -> Tensor:
        # By number: two places may be filled from the same saved box.
        assert index.index is not None
        return self._parts[index.index][1]


class PlacingPlanner(DefaultLoadPlanner):
    """Loads a flat state dict of tensors and `Placed` ones in place.

    The default planner copies whatever is no tensor, and would fill the copies.
    """

    def __init__(self) -> None:
        super().__init__(flatten_state_dict=False, flatten_sharded_tensors=False)

    def set_up_planner(
        self,
        state_dict: dict[str, Any],
        metadata: Metadata | None = None,
        is_coordinator: bool = False,
    ) -> None:
        self.original_state_dict = self.state_dict = state_dict
        self.metadata = metadata
        self.is_coordinator = is_coordinator

    def lookup_tensor(self, index: MetadataIndex) -> Tensor:
        found = self.state_dict[index.fqn]
        return found.shard(index) if isinstance(found, Placed) else super().lookup_tensor(index)


def _cut(span: Span, offset: int, length: int) -> tuple[int, int, int]:
    """(start within the shard, place then, size) of what a shard [offset, offset + length) has."""
    start, stop = max(span.now, offset), min(span.now + span.size, offset + length)
    return start - offset, span.then + start - span.now, stop - start


def _shards(tensor: Tensor) -> list[tuple[Sequence[int], Tensor]]:
    """This rank's (offsets, shard); the tensor itself where it is not sharded."""
    if not hasattr(tensor, "to_local"):
        return [([0] * tensor.dim(), tensor)]
    local: Any = tensor.to_local()  # pyright: ignore[reportAttributeAccessIssue]
    return [
        (chunk.offsets, shard)
        for chunk, shard in zip(local.local_chunks, local.local_shards(), strict=True)
        if shard.numel()
    ]
