"""Start-up and shutdown of the ranks: process groups, device, threads."""

from __future__ import annotations

import datetime
import hashlib
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore, Store, TCPStore
from torch.distributed.distributed_c10d import _set_pg_timeout

from marigold_rec.config.schema import Config
from marigold_rec.errors import ConfigError, MarigoldError

_POLL_S = 0.05
_ALONE = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}


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

    def set_timeout(self, timeout_s: float) -> None:
        """From now on a collective of this rank, on both groups, gives up after so long.

        Not collective. Before it is made shorter the ranks must have met: one that is still busy
        with something slow would be given up by the others.
        """
        for group in (self.group, self.control):
            _set_pg_timeout(datetime.timedelta(seconds=timeout_s), group)


@contextmanager
def start_ranks(config: Config) -> Iterator[Ranks]:
    """Joins the process groups that torchrun's environment describes; leaves them at the end.

    Without torchrun (no RANK in the environment) the process is the only rank. Collective: call on
    every rank.
    """
    is_alone = "RANK" not in os.environ
    if is_alone:
        os.environ.update(_ALONE)
    try:
        yield _joined(config, is_alone)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
        if is_alone:
            for name in _ALONE:
                del os.environ[name]


def _joined(config: Config, is_alone: bool) -> Ranks:
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
    backend = "gloo" if device.type == "cpu" else "nccl"
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        store = _store_of_this_start(rank, world_size, timeout)
        dist.init_process_group(
            backend, store=store, rank=rank, world_size=world_size, timeout=timeout
        )
    elif is_alone:
        # No port: one that was free a moment ago may be another run's by now.
        store = dist.HashStore()  # pyright: ignore[reportPrivateImportUsage]
        dist.init_process_group(backend, store=store, rank=0, world_size=1, timeout=timeout)
    else:
        dist.init_process_group(backend, timeout=timeout)
    group = dist.group.WORLD
    assert group is not None
    control = dist.new_group(backend="gloo", timeout=timeout)
    assert isinstance(control, dist.ProcessGroup)
    return Ranks(rank, world_size, local_world_size, device, group, control)


def _store_of_this_start(rank: int, world_size: int, timeout: datetime.timedelta) -> Store:
    """The store of torchrun's agent, below a name that all ranks of this start have agreed on.

    torchrun may keep one store over its restarts: a rank that is quicker than its peers then finds
    the addresses of the dead, and gloo's "connection refused" uses up the restarts. torchrun's
    number of the restart is no such name: each node's agent has its own count.

    Every rank shows a word that nobody has used before, and then what it has seen of all words.
    Who sees that all have seen the same, its own new word among them, knows that they all live.
    """
    store = TCPStore(
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        world_size=world_size,
        is_master=False,
        timeout=timeout,
    )
    words = [f"marigold/{world_size}/word/{each}" for each in range(world_size)]
    seen = [f"marigold/{world_size}/seen/{each}" for each in range(world_size)]
    store.set(words[rank], uuid.uuid4().hex)
    deadline = time.monotonic() + timeout.total_seconds()
    while time.monotonic() < deadline:
        start = hashlib.sha256(b" ".join(store.multi_get(words))).hexdigest()
        store.set(seen[rank], start)
        if set(store.multi_get(seen)) == {start.encode()}:
            return PrefixStore(f"marigold/start/{start}", store)
        time.sleep(_POLL_S)
    raise MarigoldError(
        f"rank {rank}: the other {world_size - 1} ranks have not all started within "
        f"{timeout.total_seconds():g} s (distributed.timeout_s); see what they say"
    )


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
