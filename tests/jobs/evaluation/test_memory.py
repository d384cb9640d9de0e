"""How much memory judging may take, and that a report through files is the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.evaluation.memory import enough_memory, memory_left
from marigold_rec.analysis.row_arrays import is_on_disk

_GIB = 2**30


def _machine(root: Path, cgroup: str, files: dict[str, str]) -> Path:
    """10 GiB are available; `files` lie below /sys/fs/cgroup."""
    meminfo = f"MemTotal: 99999999 kB\nMemAvailable: {10 * 2**20} kB\n"
    for name, text in (
        ("proc/meminfo", meminfo),
        ("proc/self/cgroup", cgroup),
        *((f"sys/fs/cgroup/{name}", text) for name, text in files.items()),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("cgroup", "prefix", "limit", "use", "files"),
    [
        ("0::/a/b\n", "a/b/", "memory.max", "memory.current", "file"),
        ("0::/not/seen/here\n", "", "memory.max", "memory.current", "file"),
        ("4:memory:/a\n0::/\n", "memory/a/", "memory.limit_in_bytes", "memory.usage_in_bytes",
         "cache"),
    ],
)  # fmt: skip
@pytest.mark.parametrize(("allowed", "left_gib"), [("4", 4 - 3 + 2), ("max", 10), ("99", 10)])
def test_memory_left(
    tmp_path: Path,
    cgroup: str,
    prefix: str,
    limit: str,
    use: str,
    files: str,
    allowed: str,
    left_gib: float,
) -> None:
    """Of 3 GiB used 2 are files."""
    root = _machine(
        tmp_path,
        cgroup,
        {
            prefix + limit: allowed if allowed == "max" else str(int(allowed) * _GIB),
            prefix + use: str(3 * _GIB),
            prefix + "memory.stat": f"anon 5\n{files} {2 * _GIB}\nother 7\n",
        },
    )
    assert memory_left(root) == left_gib * _GIB


def test_memory_left_of_this_machine() -> None:
    assert 0 < memory_left() < 2**50


def test_to_disk_where_rows_need_more_than_there_is(tmp_path: Path) -> None:
    with enough_memory(1000, None, tmp_path) as scratch:
        assert scratch is None
        assert not is_on_disk()
    with enough_memory(1000, 59_000 / _GIB, tmp_path) as scratch:
        assert scratch is not None
        assert is_on_disk()
    assert not is_on_disk()
