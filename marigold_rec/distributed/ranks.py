"""Start-up and shutdown of the ranks: process groups, device, threads."""

from __future__ import annotations

import datetime
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist

from marigold_rec.config.schema import Config
from marigold_rec.errors import ConfigError


@dataclass(frozen=True)
class Ranks:
    """This process's place among the ranks."""

    rank: int
    world_size: int
    local_world_size: int
    device: torch.device
    group: dist.ProcessGroup
    """Tensor collectives on `device`: gloo on CPU, nccl on CUDA."""
    control: dist.ProcessGroup
    """A gloo group on CPU for the per-step agreement and for Python objects."""

    @property
    def is_first(self) -> bool:
        return self.rank == 0


@contextmanager
def start_ranks(config: Config) -> Iterator[Ranks]:
    """Joins the process groups that torchrun's environment describes; leaves them at the end.

    Without torchrun (no RANK in the environment) the process is the only rank. Collective: call on
    every rank.
    """
    if "RANK" not in os.environ:
        _become_only_rank()
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    local_world_size = int(os.environ.get("LOCAL_WORLD_SIZE", str(world_size)))
    device = _device(config.run.device, local_rank)
    if device.type == "cpu":
        threads = config.distributed.threads_per_rank
        torch.set_num_threads(threads or max(1, len(os.sched_getaffinity(0)) // local_world_size))
    else:
        torch.cuda.set_device(device)
    timeout = datetime.timedelta(seconds=config.distributed.timeout_s)
    dist.init_process_group("gloo" if device.type == "cpu" else "nccl", timeout=timeout)
    try:
        group = dist.group.WORLD
        assert group is not None
        control = dist.new_group(backend="gloo", timeout=timeout)
        assert isinstance(control, dist.ProcessGroup)
        yield Ranks(rank, world_size, local_world_size, device, group, control)
    finally:
        dist.destroy_process_group()


def _device(wanted: str, local_rank: int) -> torch.device:
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "run.device: found 'cuda', but torch sees no CUDA device here; "
            "use run.device=cpu, or install the CUDA variant with ./launch/setup.sh cuda"
        )
    if wanted == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    if local_rank >= torch.cuda.device_count():
        raise ConfigError(
            f"local rank {local_rank} has no device: {torch.cuda.device_count()} CUDA devices "
            "here; start no more ranks per node than there are devices"
        )
    return torch.device("cuda", local_rank)


def _become_only_rank() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ.update(
        RANK="0", WORLD_SIZE="1", LOCAL_RANK="0", LOCAL_WORLD_SIZE="1",
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
    )  # fmt: skip
