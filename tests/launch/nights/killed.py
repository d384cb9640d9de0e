"""launch/nightly.py that dies at a named point: python -m tests.launch.nights.killed POINT ARGS."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path

from launch.exits import end_process
from launch.nights.arguments import parse_arguments
from launch.nights.run import LOGGER, run_nightly
from launch.nights.stages import STAGES
from marigold_rec.config import load_config

IN_TRAINING = "in training"
"""The point at which the training's first checkpoint is there."""


def main() -> int:
    point, argv = sys.argv[1], sys.argv[2:]
    arguments = parse_arguments("", tuple(stage.name for stage in STAGES), argv)
    config = load_config(arguments.config, arguments.overrides)
    LOGGER.addHandler(logging.StreamHandler(sys.stderr))
    LOGGER.setLevel(logging.INFO)

    def at(name: str) -> None:
        if name == point:
            os.kill(os.getpid(), signal.SIGKILL)
        if (name, point) == ("train:begin", IN_TRAINING):
            night = Path(config.run.dir) / config.run.name / "nights" / str(arguments.date)
            threading.Thread(target=_kill_all_when, args=[night / "train"], daemon=True).start()

    return run_nightly(config, arguments, at)


def _kill_all_when(train: Path) -> None:
    while not list(train.glob("checkpoints/step-?????????/manifest.json")):
        time.sleep(0.01)
    # The training first: as when a machine goes, nobody is left to save.
    for pid in _below(os.getpid()):
        os.kill(pid, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def _below(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found += [child, *_below(child)]
    return found


if __name__ == "__main__":
    end_process(main)
