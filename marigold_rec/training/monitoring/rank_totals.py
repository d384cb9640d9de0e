"""Figures that every rank has its own of, brought together: dropped rows and peak memory."""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Mapping

import torch
import torch.distributed as dist

from marigold_rec.distributed import Ranks

_KIB_PER_GIB = 1024**2
_BYTES_PER_GIB = 1024**3


def total_counts(mine: Mapping[str, int], ranks: Ranks) -> dict[str, int]:
    """The sums over ranks of named counts, by name; a rank may lack some. Collective."""
    all_ranks: list[Mapping[str, int]] = [{}] * ranks.world_size
    dist.all_gather_object(all_ranks, dict(mine), group=ranks.control)
    totals: Counter[str] = Counter()
    for counts in all_ranks:
        totals.update(counts)
    return dict(sorted(totals.items()))


def peak_memory(ranks: Ranks) -> dict[str, float]:
    """The largest rank's peak since its start, in GiB, of the process and on its device."""
    peak = {"memory/host_peak_gib": _peak_resident_gib()}
    if ranks.device.type == "cuda":
        allocated = torch.cuda.max_memory_allocated(ranks.device)
        peak["memory/device_peak_gib"] = allocated / _BYTES_PER_GIB
    largest = torch.tensor(list(peak.values()), dtype=torch.float64)
    dist.all_reduce(largest, op=dist.ReduceOp.MAX, group=ranks.control)
    return dict(zip(peak, largest.tolist(), strict=True))


def _peak_resident_gib() -> float:
    # In KiB on Linux, the only system that TorchRec runs on.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _KIB_PER_GIB
