"""Says what figures came from: the machine and the commit; and where this checkout lies."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

from jobs.processes.machine import num_cores

ROOT = Path(__file__).resolve().parents[2]
"""The checkout: jobs start its scripts in `launch/` as programs of their own."""


def describe_cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {num_cores()} cores"


def commit() -> str | None:
    """Returns the code's commit, with `+` when files differ from it; None outside of git."""
    head = _git("rev-parse", "--short=10", "HEAD")
    changes = _git("status", "--porcelain", "--untracked-files=no", "--", "*.py")
    return None if head is None else head + ("+" if changes else "")


def _git(*arguments: str) -> str | None:
    try:
        ended = subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return ended.stdout.strip() if ended.returncode == 0 else None
