"""The copy that a save beside the training is written from, and the memory it is given."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributed.checkpoint.metadata import MetadataIndex

from marigold_rec.checkpoint.staging import Staging

CPU = torch.device("cpu")


def shards(**tensors: Tensor) -> dict[MetadataIndex, Tensor]:
    return {MetadataIndex(name): tensor for name, tensor in tensors.items()}


def test_a_copy_is_as_the_state_was() -> None:
    live = shards(a=torch.arange(5.0), b=torch.tensor(7, dtype=torch.int64))
    copied = Staging(CPU).copy(live)
    for tensor in live.values():
        tensor.add_(1)
    assert torch.equal(copied[MetadataIndex("a")], torch.arange(5.0))
    assert copied[MetadataIndex("b")].item() == 7


def test_reserved_memory_is_what_the_copy_is_written_to() -> None:
    live = shards(a=torch.rand(1000), b=torch.zeros(3, 4, dtype=torch.int32))
    staging = Staging(CPU)
    staging.reserve(live)
    assert staging._reserving is not None
    staging._reserving.join()
    reserved = {index: buffer.data_ptr() for index, buffer in staging._buffers.items()}
    copied = staging.copy(live)
    assert {index: tensor.data_ptr() for index, tensor in copied.items()} == reserved
    assert all(torch.equal(copied[index], live[index]) for index in live)


def test_what_was_not_reserved_is_copied_all_the_same() -> None:
    staging = Staging(CPU)
    staging.reserve(shards(a=torch.rand(4)))
    live = shards(a=torch.rand(8), b=torch.rand(2))
    copied = staging.copy(live)
    assert all(torch.equal(copied[index], live[index]) for index in live)


def test_memory_is_given_back_while_it_is_being_reserved() -> None:
    staging = Staging(CPU)
    staging.reserve(shards(a=torch.rand(1 << 22)))
    staging.release()
    assert not staging._buffers
