"""What a checkpoint is written from: the shards of this rank, live or copied aside.

A copy is a cut through one step. It is taken between two steps, on the thread that trains, so that
tables, dense part and random streams belong together whatever is written of them later.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from threading import Thread

import torch
from torch import Tensor
from torch.distributed.checkpoint.default_planner import (
    DefaultSavePlanner,
    create_default_local_save_plan,
)
from torch.distributed.checkpoint.metadata import MetadataIndex
from torch.distributed.checkpoint.utils import find_state_dict_object
from torch.distributed.tensor import DTensor

Shards = Mapping[MetadataIndex, Tensor]
"""The pieces that this rank holds, by name and place in the whole tensor."""

# What a tensor costs in its file beside its values: the frame of torch.save.
_FRAME_BYTES = 2048


def live_shards(tensors: Mapping[str, Tensor]) -> dict[MetadataIndex, Tensor]:
    """This rank's pieces of `tensors`, which share their memory."""
    plan = create_default_local_save_plan(dict(tensors), is_coordinator=False)
    return {
        item.index: find_state_dict_object(dict(tensors), item.index).detach()
        for item in plan.items
    }


def bytes_to_write(tensors: Mapping[str, Tensor], *, is_first: bool) -> int:
    """About what this rank adds to a checkpoint. Tensors that all ranks hold count on the first."""
    return sum(
        shard.numel() * shard.element_size() + _FRAME_BYTES
        for index, shard in live_shards(tensors).items()
        if is_first or isinstance(tensors[index.fqn], DTensor)
    )


def not_finite(shards: Shards, exempt: frozenset[str]) -> list[str]:
    """Names of the tensors with a value that is not finite. One pass, no temporary tensors."""
    names = {
        index.fqn
        for index, shard in shards.items()
        if index.fqn not in exempt and shard.is_floating_point() and shard.numel() > 0
        # NaN wins in both; an infinity is the greatest or the least.
        if not bool(torch.isfinite(torch.stack(torch.aminmax(shard))).all())
    }
    return sorted(names)


class Staging:
    """Host memory for one copy of the state.

    It is kept from save to save: a first save that fits is followed by others that do, and fresh
    pages cost as much time as the copy itself.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._buffers: dict[MetadataIndex, Tensor] = {}
        self._reserving: Thread | None = None

    def reserve(self, shards: Shards) -> None:
        """Gets the memory for copies of `shards` in a thread, so that no step waits for pages.

        Not on CUDA, where the driver hands out pinned memory and may hold up the device for it.
        """
        if self._device.type == "cuda":
            return
        shapes = [(index, live.shape, live.dtype) for index, live in shards.items()]

        def touch() -> None:
            with contextlib.suppress(RuntimeError, MemoryError):  # `copy` will say it
                for index, shape, dtype in shapes:
                    self._buffers[index] = torch.empty(shape, dtype=dtype).zero_()

        self._reserving = Thread(target=touch, name="marigold-reserve", daemon=True)
        self._reserving.start()

    def copy(self, shards: Shards) -> Shards:
        """Copies; the earlier copy is overwritten. The step may go on when this returns."""
        self._wait_for_memory()
        is_cuda = self._device.type == "cuda"
        for index, live in shards.items():
            buffer = self._buffers.get(index)
            if buffer is None or buffer.shape != live.shape or buffer.dtype != live.dtype:
                buffer = torch.empty(live.shape, dtype=live.dtype, pin_memory=is_cuda)
                self._buffers[index] = buffer
            buffer.copy_(live, non_blocking=is_cuda)
        if is_cuda:
            torch.cuda.synchronize(self._device)
        return {index: self._buffers[index] for index in shards}

    def release(self) -> None:
        self._wait_for_memory()
        self._buffers.clear()

    def _wait_for_memory(self) -> None:
        if self._reserving is not None:
            self._reserving.join()
            self._reserving = None


class ShardsPlanner(DefaultSavePlanner):
    """Plans from the live tensors' names and shapes, but writes the values of `shards`."""

    def __init__(self, shards: Shards) -> None:
        super().__init__()
        self._shards = shards

    def lookup_object(self, index: MetadataIndex) -> Tensor:
        return self._shards[index]
