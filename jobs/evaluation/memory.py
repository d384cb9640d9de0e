"""Do the scored rows fit into memory while they are judged? If not, their arrays go to disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from marigold_rec.analysis.row_arrays import Scratch, on_disk
from marigold_rec.training import LOGGER

_BYTES_PER_ROW = 60
"""Of the largest task's arrays, at the peak."""

_SHARE = 0.5
"""Of what is left: the rest is for the sums of each user, and for others on the machine."""

_GIB = 2**30

_CGROUPS = {
    "memory": ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "cache"),
    "": ("", "memory.max", "memory.current", "file"),
}
"""Of versions 1 and 2, by their name in /proc/self/cgroup: folder, limit, use, and how memory.stat
calls the files among what is used, which give way."""


@contextmanager
def enough_memory(
    num_rows: int, memory_gib: float | None, folder: Path
) -> Iterator[Scratch | None]:
    """Within it arrays are files in `folder` if this many rows need more than `memory_gib` (None:
    half of what is left); gives None if they do not."""
    memory = _SHARE * memory_left() if memory_gib is None else memory_gib * _GIB
    needed = num_rows * _BYTES_PER_ROW
    if needed <= memory:
        yield None
        return
    LOGGER.info(
        "%s rows need up to %.1f GiB to be judged, and %.1f GiB is there for it "
        "(evaluation.memory_gib): going on in files in %s",
        f"{num_rows:,}",
        needed / _GIB,
        memory / _GIB,
        folder,
    )
    with on_disk(folder, memory) as scratch:
        yield scratch
    LOGGER.info("judged through %.1f GiB of files", scratch.num_bytes / _GIB)


def memory_left(root: Path = Path("/")) -> float:
    """Bytes that the machine has available, or less where this process's cgroup allows less.

    `root`: where /proc and /sys are.
    """
    lines = (root / "proc/meminfo").read_text().splitlines()
    left = next(float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    for line in (root / "proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers not in _CGROUPS:
            continue
        folder, limit, use, files = _CGROUPS[controllers]
        top = root / "sys/fs/cgroup" / folder
        # A container may see its own cgroup as the top one, under a path that is not there.
        for group in (top / path.strip("/"), top):
            try:
                allowed, used = (float((group / name).read_text()) for name in (limit, use))
                stat = dict(row.split() for row in (group / "memory.stat").read_text().splitlines())
            except (OSError, ValueError):  # none of this version; or its limit is "max"
                continue
            left = min(left, max(allowed - used + float(stat[files]), 0.0))
    return left
