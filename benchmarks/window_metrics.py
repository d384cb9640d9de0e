"""What the window figures cost while training: their share of the step time, on globo.

    python benchmarks/window_metrics.py --data ../shared/data/globo
    torchrun --nproc-per-node 2 benchmarks/window_metrics.py --data ../shared/data/globo

The calls are timed inside one training, beside the steps that they belong to: other work on the
machine slows both alike, where two trainings, one after the other, would differ by it. Steps before
the window is full are left out.

Prints one JSON object. `share_of_cpu_time` is that of the first rank's computations, in processor
time: on a busy machine it is the steadier of the two.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(_ROOT))

from launch.build import build_model, find_data, train_reader  # noqa: E402
from marigold_rec.checkpoint import CheckpointStore  # noqa: E402
from marigold_rec.config import Config, load_config  # noqa: E402
from marigold_rec.distributed import Ranks, start_ranks  # noqa: E402
from marigold_rec.training import RunLog, StopRequest, Trainer, start_logging  # noqa: E402


@dataclass
class Spent:
    """Seconds inside the timed calls, one entry per call."""

    clock: Callable[[], float]
    calls: list[float] = field(default_factory=list)

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            started = self.clock()
            result = function(*arguments)
            self.calls.append(self.clock() - started)
            return result

        return call


def measure(config: Config, ranks: Ranks, folder: Path) -> dict[str, Any]:
    """Trains `run.steps` steps after the window is full. Collective."""
    window_rows = config.logging.window_rows
    assert window_rows is not None
    every = config.logging.every_n_steps
    step_rows = config.data.batch_size * ranks.world_size
    # A whole number of logging intervals, so that every measured one holds one computation.
    fill = -(-(window_rows // step_rows) // every) * every
    steps = config.run.steps or 0
    run = config.run.model_copy(update={"steps": fill + steps})
    config = config.model_copy(update={"run": run})
    built = build_model(config, ranks)
    reader = train_reader(config, find_data(config, ranks), ranks)
    store = CheckpointStore(folder, ranks, config)
    trainer = Trainer(config, ranks, built.model, built.objective, reader, store)
    add, compute, on_cpu = (
        Spent(clock) for clock in (time.perf_counter, time.perf_counter, time.process_time)
    )
    window = trainer._window
    # The processor's clock takes longer than an `add`: not around it.
    window.add = add.timed(window.add)
    window.compute = compute.timed(on_cpu.timed(window.compute))
    started = [0.0, 0.0]
    ended = [0.0, 0.0]

    class _Log(RunLog):
        def scalars(self, step: int, values: Any) -> None:
            if step == fill:
                for spent in (add, compute, on_cpu):
                    spent.calls.clear()
            clock = started if step == fill else ended
            clock[:] = [time.perf_counter(), time.process_time()]

    trainer.train(_Log(folder, is_first=False, tensorboard=False), StopRequest())
    wall, processor = (b - a for a, b in zip(started, ended, strict=True))
    added, computed, computed_on_cpu = (sum(spent.calls) for spent in (add, compute, on_cpu))
    return {
        "ranks": ranks.world_size,
        "device": ranks.device.type,
        "tasks": len(config.tasks),
        "window_rows": window_rows // step_rows * step_rows,
        "every_n_steps": every,
        "steps": steps,
        "step_ms": 1e3 * wall / steps,
        "step_cpu_ms": 1e3 * processor / steps,
        "add_us": 1e6 * added / steps,
        "compute_ms": 1e3 * computed / len(compute.calls),
        "compute_cpu_ms": 1e3 * computed_on_cpu / len(compute.calls),
        "share_of_step_time": (added + computed) / wall,
        "share_of_cpu_time": computed_on_cpu / processor,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        overrides = (
            f"data.path={arguments.data}",
            "data.eval=null",
            f"run.steps={arguments.steps}",
            "distributed.threads_per_rank=1",
            *arguments.overrides,
        )
        config = load_config(_ROOT / "configs/globo.yaml", overrides)
        with start_ranks(config) as ranks:
            start_logging(None, ranks.rank)
            found = measure(config, ranks, Path(folder))
            if ranks.is_first:
                print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
