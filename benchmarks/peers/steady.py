"""What both peers' scripts share: the arguments, the rows in memory, the clock of the steady steps.

The clock hangs on the optimizer as torch's own post-step hook: from the end of step W to the end of
step W + N lie exactly N whole turns of the peer's loop (next batch, forward, losses, backward, step
and whatever else the loop does), and nothing of the loop had to be copied or changed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

NUM_FEATURES = 26
TABLE_ROWS = 1_000_000
DIM = 16
EXPERTS = 4
EXPERT_LAYERS = [64, 32]
TOWER_LAYERS = [32]
FEATURES = [f"f{i}" for i in range(NUM_FEATURES)]
TASKS = ["click", "conversion"]


@dataclass(frozen=True)
class Rows:
    """Id columns and labels in memory: ids int64 of shape (rows,), labels float32 (rows, tasks)."""

    ids: dict[str, np.ndarray]
    labels: np.ndarray


class StepClock:
    """Notes the time after each optimizer step."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.ends: list[float] = []
        optimizer.register_step_post_hook(self._note)

    def _note(self, *_: Any) -> None:
        self.ends.append(time.perf_counter())

    def report(self, name: str, batch: int, warmup: int, steps: int, **more: Any) -> str:
        """One JSON line on the steps after the warm-up; refuses a loop of another length."""
        if len(self.ends) != warmup + steps:
            raise RuntimeError(
                f"{name}: the loop took {len(self.ends)} steps, expected {warmup} warm-up + {steps}"
            )
        marks = self.ends[warmup - 1 :]
        step_times_s = [b - a for a, b in itertools.pairwise(marks)]
        seconds = marks[-1] - marks[0]
        line = {
            "name": name,
            "samples_per_s": steps * batch / seconds,
            "samples_per_s_median": batch / statistics.median(step_times_s),
            "steps": steps,
            "batch": batch,
            "seconds": seconds,
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            **more,
        }
        return json.dumps(line)


def parser(description: str) -> argparse.ArgumentParser:
    """The arguments that both scripts take."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--data", type=Path, required=True, help="folder made by make_data.py")
    made.add_argument("--batch", type=int, default=4096)
    made.add_argument("--warmup", type=int, default=3, help="steps before the clock starts (>= 1)")
    made.add_argument("--steps", type=int, default=10, help="steps that are timed")
    made.add_argument("--threads", type=int, default=2, help="torch intra-op threads")
    return made


def load_rows(folder: Path, count: int) -> Rows:
    """The first `count` rows of the log; ValueError when it has fewer."""
    table = pq.read_table(folder, columns=FEATURES + TASKS, partitioning=None).slice(0, count)
    if table.num_rows < count:
        raise ValueError(
            f"{folder}: {table.num_rows} rows, but (warmup + steps) * batch = {count} are needed; "
            "give make_data.py more --rows"
        )
    ids = {name: table[name].to_numpy() for name in FEATURES}
    labels = np.stack([table[name].to_numpy() for name in TASKS], axis=1).astype(np.float32)
    return Rows(ids, labels)
