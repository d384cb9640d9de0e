"""Brings together what every rank counts or measures for itself: dropped rows, peak memory."""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.distributed as dist

from marigold_rec.distributed.ranks import Ranks
from marigold_rec.training.objective import StepOutput
from marigold_rec.training.step_hook import Scalars, StepHook

_KIB_PER_GIB = 1024**2
_BYTES_PER_GIB = 1024**3


class RankTotals(StepHook):
    """Adds data/invalid/<task>, over all ranks, and the largest rank's memory/* to the log."""

    def __init__(
        self, counts: Callable[[], Mapping[str, int]], task_names: Sequence[str], ranks: Ranks
    ) -> None:
        """`counts` returns this rank's counts by name, as its reader has them now."""
        self._counts = counts
        self._task_names = task_names
        self._ranks = ranks

    def on_log(self, step: int, output: StepOutput) -> Scalars:
        """Collective."""
        counts = total_counts(self._counts(), self._ranks)
        invalid = {
            f"data/invalid/{n}": float(counts.get(f"invalid/{n}", 0)) for n in self._task_names
        }
        return {**invalid, **peak_memory(self._ranks)}


def total_counts(mine: Mapping[str, int], ranks: Ranks) -> dict[str, int]:
    """Sums named counts over ranks, by name; a rank may lack some. Collective."""
    all_ranks: list[Mapping[str, int]] = [{}] * ranks.world_size
    dist.all_gather_object(all_ranks, dict(mine), group=ranks.control)
    totals: Counter[str] = Counter()
    for counts in all_ranks:
        totals.update(counts)
    return dict(sorted(totals.items()))


def peak_memory(ranks: Ranks) -> dict[str, float]:
    """Returns the largest rank's peak since its start, in GiB: the process's and its device's."""
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
