"""Moves the evaluation's arrays to disk if the scored rows do not fit into memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from marigold_rec.analysis.row_arrays import Scratch, on_disk
from marigold_rec.training.monitoring.run_log import LOGGER

_BYTES_PER_ROW = 60
"""Arrays of the largest task, at the peak."""

_SHARE = 0.5
"""Share of the free memory; the rest is for each user's sums, and for other processes."""

_GIB = 2**30

_CGROUPS = {
    "memory": ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "cache"),
    "": ("", "memory.max", "memory.current", "file"),
}
"""cgroup versions 1 and 2, by their name in /proc/self/cgroup: folder, limit, use, and the name of
the page cache in memory.stat, which the kernel can reclaim."""


@contextmanager
def enough_memory(
    num_rows: int, memory_gib: float | None, folder: Path
) -> Iterator[Scratch | None]:
    """Keeps arrays as files in `folder`, if this many rows need more than `memory_gib` (None: half
    of the free memory); yields None if they do not."""
    memory = _SHARE * memory_left() if memory_gib is None else memory_gib * _GIB
    needed = num_rows * _BYTES_PER_ROW
    if needed <= memory:
        yield None
        return
    LOGGER.info(
        "evaluating %s rows needs up to %.1f GiB of memory, but %.1f GiB are available "
        "(evaluation.memory_gib): using files in %s instead",
        f"{num_rows:,}",
        needed / _GIB,
        memory / _GIB,
        folder,
    )
    with on_disk(folder, memory) as scratch:
        yield scratch
    LOGGER.info("used %.1f GiB of files for the evaluation", scratch.num_bytes / _GIB)


def memory_left(root: Path = Path("/")) -> float:
    """Returns the bytes available to this process: the machine's, or less if its cgroup allows
    less.

    `root`: the folder of /proc and /sys.
    """
    lines = (root / "proc/meminfo").read_text().splitlines()
    left = next(float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    for line in (root / "proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers not in _CGROUPS:
            continue
        folder, limit, use, files = _CGROUPS[controllers]
        top = root / "sys/fs/cgroup" / folder
        # A container may see its own cgroup as the top one, under a path that does not exist.
        for group in (top / path.strip("/"), top):
            try:
                allowed, used = (float((group / name).read_text()) for name in (limit, use))
                stat = dict(row.split() for row in (group / "memory.stat").read_text().splitlines())
            except (OSError, ValueError):  # not this version, or its limit is "max"
                continue
            left = min(left, max(allowed - used + float(stat[files]), 0.0))
    return left
