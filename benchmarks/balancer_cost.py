"""What a balancer costs: step time and memory relative to `static`, by the number of tasks.

    python benchmarks/balancer_cost.py --data ../shared/data/globo    # everything: about 12 minutes
    python benchmarks/balancer_cost.py --parts memory                 # needs no quiet machine

Time: for each number of tasks one torchrun of two ranks holds a sharded model per balancer, in one
process group, and trains them in turns: a block of steps each, round after round, in an order that
rotates. A round gives each balancer one ratio to the round's `static`; the median over rounds
counts. `static again` is a second static model: what it differs from 1 by is noise. All variants
run under a glibc setting that keeps freed memory (KEEP_FREED_MEMORY), since page faults are slow
and uneven on virtual machines.

Memory: one torchrun per balancer, without that setting.

The model is configs/globo.yaml's, on batches of that log that lie in memory. Four tasks are the
config's own; any other number are binary tasks with random labels, which cost as much.

Writes benchmarks/results/balancer_cost.{json,md,svg,png}.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import gc
import itertools
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from balancer_cost_report import write_report
from process_memory import PeakInUse, peak_resident_mib, reset_peak_resident, resident_mib
from pydantic import TypeAdapter
from torch import Tensor, nn

_ROOT = Path(__file__).resolve().parents[1]
_RESULTS = Path(__file__).resolve().parent / "results"
sys.path.insert(0, str(_ROOT))

from jobs.assembly.data import find_data, train_reader  # noqa: E402
from jobs.assembly.model import build_model  # noqa: E402
from marigold_rec.batch import Batch, Cursor  # noqa: E402
from marigold_rec.checkpoint import CheckpointStore  # noqa: E402
from marigold_rec.config import Config, load_config  # noqa: E402
from marigold_rec.config.balancers import Balancer as BalancerSection  # noqa: E402
from marigold_rec.config.tasks import BinaryTask  # noqa: E402
from marigold_rec.distributed import Ranks, start_ranks  # noqa: E402
from marigold_rec.training import Objective, StepOutput, Trainer, start_logging  # noqa: E402
from marigold_rec.training.balancer_probe import BalancerProbe  # noqa: E402

KEEP_FREED_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "268435456",
}
_NUM_BATCHES = 32
_MEMORY_VARIANTS = ("static", "again", "marigold", "every_step", "famo", "mgda", "task_gradients")
_WARM_UP_STEPS = 20


@dataclass(frozen=True)
class Variant:
    title: str
    balancer: dict[str, Any]
    block_steps: int = 20
    """A multiple of the probe's interval, so that every block holds its share of probes; fewer
    where a step takes long and all are alike."""
    has_task_gradients: bool = False


VARIANTS = {
    "static": Variant("static", {"name": "static"}),
    "again": Variant("static again (noise)", {"name": "static"}),
    "marigold": Variant("marigold", {"name": "marigold"}),
    "every_step": Variant(
        "marigold, probe every step",
        {"name": "marigold", "probe": {"every_n_steps": 1}},
        block_steps=10,
    ),
    "rows": Variant("marigold, probe rows 0.25", {"name": "marigold", "probe": {"rows": 0.25}}),
    "famo": Variant("FAMO", {"name": "famo"}, block_steps=10),
    "mgda": Variant(
        "TorchJD MGDA at the representation",
        {"name": "torchjd", "aggregator": "mgda"},
        block_steps=10,
    ),
    "task_gradients": Variant(
        "m backwards over the shared dense parameters (cost model)",
        {"name": "static"},
        block_steps=10,
        has_task_gradients=True,
    ),
}


def task_gradients(objective: Objective, group: dist.ProcessGroup) -> None:
    """A cost model of the textbook way: each step makes all tasks' gradients, and leaves them.

    One backward per task down to the dense parameters that tasks share, an all-reduce of the T
    gradients and their Gram matrix; then the step goes on as if nothing had been. No weights are
    made of it, so that this is the least that such a method can cost. It runs inside the wrapped
    forward, before DDP and the tables' optimizers look at the graph.
    """
    shared = list(objective.network.shared_parameters.values())

    def after_forward(module: nn.Module, inputs: Any, result: tuple[Tensor, StepOutput]) -> None:
        gradients_TD = torch.stack(
            [
                torch.cat(
                    [
                        gradient.flatten()
                        for gradient in torch.autograd.grad(loss, shared, retain_graph=True)
                    ]
                )
                for loss in result[1].losses.local_T
            ]
        )
        dist.all_reduce(gradients_TD, group=group)
        torch.mm(gradients_TD, gradients_TD.T)

    objective.register_forward_hook(after_forward)


class InMemoryReader:
    """The same few batches over and over (marigold_rec.training.trainer.Reader)."""

    steps_per_epoch = sys.maxsize
    fingerprint = "in memory"
    counts: Mapping[str, int] = {}

    def __init__(self, batches: list[Batch], batch_size: int) -> None:
        self._batches = batches
        self.batch_size = batch_size

    def steps_left(self, start: Cursor) -> int:
        return self.steps_per_epoch

    def batches(self, start: Cursor) -> Iterator[Batch]:
        return itertools.cycle(self._batches)


class BlockTrainer(Trainer):
    """Takes the loop's steps, a block at a time, so that several can train in turns."""

    def __init__(
        self, config: Config, ranks: Ranks, variant: Variant, batches: list[Batch]
    ) -> None:
        section = TypeAdapter(BalancerSection).validate_python(variant.balancer)
        config = config.model_copy(update={"balancer": section})
        built = build_model(config, ranks)
        if variant.has_task_gradients:
            task_gradients(built.objective, ranks.group)
        reader = InMemoryReader(batches, config.data.batch_size)
        nowhere = CheckpointStore(Path("/dev/null/balancer-cost"), ranks, config)
        super().__init__(config, ranks, built.model, built.objective, reader, nowhere)
        self.dense = dict(built.objective.network.named_parameters())
        self._fetched = self._next_batches(sys.maxsize)

    @property
    def probe_s(self) -> float:
        """Returns the seconds spent in probes so far."""
        return next(h.stopwatch.seconds for h in self.hooks if isinstance(h, BalancerProbe))

    def take(self, steps: int) -> float:
        """Seconds for this many steps of Trainer.train (without its logging). Collective."""
        dist.barrier(self._ranks.control)
        started = time.perf_counter()
        for _ in range(steps):
            self._fetched.fetch()
            self._agreement.reach(failed=self._fetched.error is not None, stop=False, save=False)
            self.pipeline.progress(self._fetched)
            self._fetched.consumed()
            self.step += 1
        dist.barrier(self._ranks.control)
        return time.perf_counter() - started


@contextlib.contextmanager
def ranks_and_batches(
    arguments: argparse.Namespace, *, batch_size: int, num_batches: int
) -> Iterator[tuple[Config, Ranks, list[Batch]]]:
    """The ranks, with a config and batches of `arguments.tasks` tasks. Collective."""
    start_logging(None, int(os.environ["RANK"]))
    config = load_config(
        _ROOT / "configs/globo.yaml",
        [
            f"data.path={arguments.data}", "data.eval=null", f"data.batch_size={batch_size}",
            "distributed.threads_per_rank=1",
        ],
    )  # fmt: skip
    with start_ranks(config) as ranks:
        batches = list(
            itertools.islice(
                train_reader(config, find_data(config, ranks), ranks).batches(), num_batches
            )
        )
        if arguments.tasks != len(config.tasks):
            generator = torch.Generator().manual_seed(ranks.rank)
            batches = [_with_random_labels(b, arguments.tasks, generator) for b in batches]
            # Not through the file: the config refuses tasks that share a label.
            names = [f"task_{i}" for i in range(arguments.tasks)]
            tasks = tuple(BinaryTask(name=name, kind="binary", label=name) for name in names)
            config = config.model_copy(update={"tasks": tasks})
        yield config, ranks, batches


def _with_random_labels(batch: Batch, num_tasks: int, generator: torch.Generator) -> Batch:
    shape = (len(batch.labels_BT), num_tasks)
    labels_BT = torch.randint(2, shape, generator=generator).float()
    return replace(batch, labels_BT=labels_BT, observed_BT=torch.ones(shape))


def measure_time(arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds per step of each block of each variant, in turns, and the probes' shares of them."""
    with ranks_and_batches(
        arguments, batch_size=arguments.batch_size, num_batches=_NUM_BATCHES
    ) as (config, ranks, batches):
        trainers = {
            name: BlockTrainer(config, ranks, VARIANTS[name], batches)
            for name in arguments.variants
        }
        for trainer in trainers.values():
            trainer.take(_WARM_UP_STEPS)
        _require_equal_to_static(trainers)
        gc.collect()
        gc.freeze()  # several models' objects would make every collection dearer than in a run
        step_s: dict[str, list[float]] = {name: [] for name in trainers}
        probe_s = {name: -trainer.probe_s for name, trainer in trainers.items()}
        rounds = 1
        while len(step_s["static"]) < rounds:
            done = len(step_s["static"])
            turn = done % len(trainers)
            names = list(trainers)
            started = time.perf_counter()
            for name in names[turn:] + names[:turn]:
                steps = VARIANTS[name].block_steps
                step_s[name].append(trainers[name].take(steps) / steps)
            if done == 0:  # rank 0's clock decides for all
                wanted = int(arguments.seconds / (time.perf_counter() - started))
                agreed = torch.tensor(max(arguments.least_rounds, wanted))
                dist.broadcast(agreed, 0, group=ranks.control)
                rounds = int(agreed)
        for name, trainer in trainers.items():
            probe_s[name] += trainer.probe_s
    spent_s = {n: sum(s) * VARIANTS[n].block_steps for n, s in step_s.items()}
    return {
        "rounds": rounds,
        "step_ms": {name: 1e3 * statistics.median(found) for name, found in step_s.items()},
        "ratios": {
            name: [a / b for a, b in zip(found, step_s["static"], strict=True)]
            for name, found in step_s.items()
        },
        "probe_share": {name: probe_s[name] / spent_s[name] for name in step_s},
    }


def _require_equal_to_static(trainers: dict[str, BlockTrainer]) -> None:
    """What only looks must not change the training: a cost model that does measures another one."""
    for name in ("again", "task_gradients"):
        if name in trainers:
            expected, found = trainers["static"].dense, trainers[name].dense
            for key, parameter in expected.items():
                if not torch.equal(parameter, found[key]):
                    raise AssertionError(f"{name}: {key} differs from static's after equal steps")


def measure_memory(arguments: argparse.Namespace) -> dict[str, float]:
    """Of one variant, the greatest rank: the process's peak, and what steps have in use at most."""
    name = arguments.variants[0]
    steps = _WARM_UP_STEPS + 1  # the last one has a probe
    with ranks_and_batches(arguments, batch_size=arguments.memory_batch_size, num_batches=2) as (
        config,
        ranks,
        batches,
    ):
        trainer = BlockTrainer(config, ranks, VARIANTS[name], batches)
        gc.collect()
        built_mib = resident_mib()
        reset_peak_resident()
        trainer.take(steps)
        peak_mib = peak_resident_mib()
        peak_in_use = PeakInUse()
        peak_in_use.start()
        trainer.take(steps)
        in_use_mib = peak_in_use.end()
        figures = torch.tensor([built_mib, peak_mib, in_use_mib])
        dist.all_reduce(figures, op=dist.ReduceOp.MAX, group=ranks.control)
    built, peak, in_use = figures.tolist()
    return {"built_mib": built, "peak_mib": peak, "in_use_mib": in_use}


def _spawn(part: str, tasks: int, variants: list[str], arguments: argparse.Namespace) -> Any:
    """One torchrun of this file; what rank 0 found."""
    with tempfile.NamedTemporaryFile(suffix=".json") as found:
        command = [
            str(Path(sys.executable).parent / "torchrun"), "--standalone", "--nproc-per-node", "2",
            __file__, "--work", part, "--found", found.name, "--tasks", str(tasks),
            "--variants", *variants,
        ]  # fmt: skip
        for key in ("data", "seconds", "least_rounds", "batch_size", "memory_batch_size"):
            command += [f"--{key.replace('_', '-')}", str(getattr(arguments, key))]
        keep = KEEP_FREED_MEMORY if part == "time" else {}
        environment = os.environ | {"OMP_NUM_THREADS": "1"} | keep
        subprocess.run(command, check=True, cwd=_ROOT, env=environment)
        return json.loads(Path(found.name).read_text())


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores, no GPU"


def _drive(arguments: argparse.Namespace) -> None:
    """Each part in its own processes; what is there of another part is kept."""
    file = arguments.out / "balancer_cost.json"
    result: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    variants = ["static", *(v for v in arguments.variants if v != "static")]
    command = shlex.join(["python", "benchmarks/balancer_cost.py", *sys.argv[1:]])
    about = {
        "command": command,
        "date": datetime.date.today().isoformat(),
        "machine": _machine(),
    }
    result["titles"] = {name: variant.title for name, variant in VARIANTS.items()}
    for part in arguments.parts:
        by_tasks: dict[str, Any] = {}
        if part == "time":
            for tasks in arguments.num_tasks:
                by_tasks[str(tasks)] = found = _spawn(part, tasks, variants, arguments)
                ratios = {n: round(statistics.median(r), 3) for n, r in found["ratios"].items()}
                print(f"{tasks} tasks, {found['rounds']} rounds: {ratios}", flush=True)
            batch_size = arguments.batch_size
        else:
            for tasks in arguments.memory_num_tasks:
                by_tasks[str(tasks)] = {
                    name: _spawn(part, tasks, [name], arguments)
                    for name in variants
                    if name in _MEMORY_VARIANTS
                }
                print(f"{tasks} tasks: {by_tasks[str(tasks)]}", flush=True)
            batch_size = arguments.memory_batch_size
        result[part] = {**about, "batch_size": batch_size, "by_tasks": by_tasks}
        arguments.out.mkdir(exist_ok=True, parents=True)
        file.write_text(json.dumps(result, indent=1) + "\n")
        write_report(result, arguments.out)
    print((arguments.out / "balancer_cost.md").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", default="../shared/data/globo")
    parser.add_argument(
        "--parts", nargs="+", choices=("time", "memory"), default=["time", "memory"]
    )
    parser.add_argument("--variants", nargs="+", choices=tuple(VARIANTS), default=[*VARIANTS])
    parser.add_argument("--num-tasks", nargs="+", type=int, default=[4, 2, 8, 16, 32])
    parser.add_argument("--seconds", type=float, default=75.0, help="per number of tasks")
    parser.add_argument("--least-rounds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=1024, help="rows per rank")
    parser.add_argument("--memory-num-tasks", nargs="+", type=int, default=[4, 32])
    parser.add_argument("--memory-batch-size", type=int, default=8192, help="rows per rank")
    parser.add_argument("--out", type=Path, default=_RESULTS)
    parser.add_argument("--work", choices=("time", "memory"), help=argparse.SUPPRESS)
    parser.add_argument("--found", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--tasks", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work is None:
        _drive(arguments)
        return
    found = (measure_time if arguments.work == "time" else measure_memory)(arguments)
    if os.environ["RANK"] == "0":
        arguments.found.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
