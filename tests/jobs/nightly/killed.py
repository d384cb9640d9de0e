"""Kills a nightly run at a named point (tests/support/nightly.py)."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

IN_TRAINING = "in training"
"""The point at which the training's first checkpoint is there."""


def killer(point: str, nights: Path) -> Callable[[str], None]:
    """Makes a fault hook for launch.nightly.main. `nights`: the folder of the nightly runs."""

    def fault_hook(name: str) -> None:
        if name == point:
            os.kill(os.getpid(), signal.SIGKILL)
        if (name, point) == ("train:begin", IN_TRAINING):
            threading.Thread(target=_kill_all_when, args=[nights], daemon=True).start()

    return fault_hook


def _kill_all_when(nights: Path) -> None:
    known = set(_manifests(nights))
    while not set(_manifests(nights)) - known:
        time.sleep(0.01)
    # The training first: as when a machine goes, nobody is left to save.
    for pid in _below(os.getpid()):
        os.kill(pid, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def _manifests(nights: Path) -> list[Path]:
    return list(nights.glob("*/train/checkpoints/step-?????????/manifest.json"))


def _below(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found += [child, *_below(child)]
    return found
