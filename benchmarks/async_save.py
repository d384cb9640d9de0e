"""What a checkpoint costs the steps: training while one is written, against training without.

    python benchmarks/async_save.py --state-gib 2 --folder /some/disk data.path=/a/log

One rank trains a small model beside a table that makes the state as large as asked. Blocks without
any save and blocks that begin with one take turns in one process, so that other work on the machine
slows both alike. Steps taken while a save is under way are counted apart from those after it.

Prints one JSON object: `pause_ms` is what the step waits (the copy), `under_way_ms` and `quiet_ms`
are medians of a step beside a save and without one.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(_ROOT))

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from launch.build import build_model, find_data, train_reader  # noqa: E402
from marigold_rec.checkpoint import CheckpointStore, Saved, Snapshot  # noqa: E402
from marigold_rec.config import Config, load_config  # noqa: E402
from marigold_rec.distributed import Ranks, start_ranks  # noqa: E402
from marigold_rec.training import Trainer  # noqa: E402
from marigold_rec.training.batches import FetchedBatches  # noqa: E402

_GIB = 1 << 30


class Steps:
    """The loop's steps, one at a time."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        limit = trainer.total_steps
        self._batches = FetchedBatches(trainer._all_batches(), trainer._pinned, limit=limit)

    def take(self) -> float:
        """Milliseconds of one step."""
        started = time.perf_counter()
        trainer = self._trainer
        self._batches.fetch()
        assert self._batches.error is None, self._batches.error
        trainer._optimizers.begin_step(trainer.step)
        trainer._objective.step = trainer.step
        trainer.pipeline.progress(self._batches)
        self._batches.consumed()
        trainer.step += 1
        return 1e3 * (time.perf_counter() - started)


def _snapshot(trainer: Trainer, extra: dict[str, Tensor], step: int) -> Snapshot:
    now = trainer._snapshot()
    return replace(now, tensors=now.tensors | extra, step=step)


def measure(config: Config, ranks: Ranks, folder: Path, state_gib: float, rounds: int) -> Any:
    built = build_model(config, ranks)
    reader = train_reader(config, find_data(config, ranks), ranks)
    store = CheckpointStore(folder / "checkpoints", ranks, config)
    trainer = Trainer(config, ranks, built.model, built.objective, reader, store)
    steps = Steps(trainer)
    for _ in range(20):
        steps.take()
    # Beside the model's own, so that the step stays what it is whatever the size.
    pieces = max(1, round(state_gib * 16))
    extra = {f"extra/{i}": torch.rand(_GIB // 16 // 4) for i in range(pieces)}
    store.expect_saves(trainer._state.tensors() | extra)  # as a training does when it begins
    pauses, quiet, under_way, writes = [], [], [], []
    for turn in range(rounds):
        quiet += [steps.take() for _ in range(max(50, len(under_way) // max(1, turn)))]
        started = time.perf_counter()
        begun = store.begin_save(_snapshot(trainer, extra, turn + 1))
        assert begun is None, begun
        pauses.append(1e3 * (time.perf_counter() - started))
        while not store.has_news:
            under_way.append(steps.take())
        writes.append(time.perf_counter() - started)
        assert isinstance(store.settle(), Saved)
    started = time.perf_counter()
    saved = store.save(_snapshot(trainer, extra, rounds + 1))
    synchronous_s = time.perf_counter() - started
    size = sum(path.stat().st_size for path in saved.folder.iterdir())
    store.close()
    return {
        "state_gib": size / _GIB,
        "rounds": rounds,
        "pause_ms": [round(pause, 1) for pause in pauses],
        "quiet_ms": statistics.median(quiet),
        "under_way_ms": statistics.median(under_way) if under_way else None,
        "quiet_p90_ms": statistics.quantiles(quiet, n=10)[-1],
        "under_way_p90_ms": statistics.quantiles(under_way, n=10)[-1] if under_way else None,
        "under_way_max_ms": max(under_way, default=None),
        "steps_under_way": len(under_way),
        "write_s": [round(write, 2) for write in writes],
        "synchronous_save_s": synchronous_s,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--state-gib", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=None, help="on the disk to measure")
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="async-save-", dir=arguments.folder))
    try:
        overrides = (
            f"run.dir={folder}",
            "run.epochs=1000",
            "data.eval=null",
            "distributed.threads_per_rank=1",
            "checkpoint.keep=1",
            *arguments.overrides,
        )
        config = load_config(_ROOT / "configs/ctr_cvr.yaml", overrides)
        with start_ranks(config) as ranks:
            found = measure(config, ranks, folder, arguments.state_gib, arguments.rounds)
        print(json.dumps(found, indent=1))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
