"""The oracle against the truth: a probe's h beside the exact one, at every step of a real training.

    python benchmarks/oracle.py --data ../shared/data/globo

Trains configs/globo.yaml on two ranks, 200 steps, with its own balancer and its own
probe every 10 steps, as ever. Beside it, at every step and at the same point, each of `PROBES` is
taken by the production code, with a balancer that only writes down what it is told and a step size
that adapts by itself. Writes benchmarks/results/oracle.json and .md.

Shapes: S steps, T tasks.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

_ROOT = Path(__file__).resolve().parents[1]
_RESULTS = Path(__file__).resolve().parent / "results"
sys.path.insert(0, str(_ROOT))

from launch.build import BuiltModel, build_model, find_data, train_reader  # noqa: E402
from marigold_rec.balancing import Balancer, Probe  # noqa: E402
from marigold_rec.checkpoint import CheckpointStore  # noqa: E402
from marigold_rec.config import Config, load_config  # noqa: E402
from marigold_rec.config.balancers import ProbeConfig  # noqa: E402
from marigold_rec.distributed import start_ranks  # noqa: E402
from marigold_rec.training import RunLog, StopRequest, Trainer, start_logging  # noqa: E402
from marigold_rec.training.probing import Kept, Prober, build_prober  # noqa: E402

PROBES: dict[str, dict[str, Any]] = {
    "representation, exact": {"oracle": "exact"},
    "representation, forward difference": {},
    "representation, central difference": {"oracle": "central_difference"},
    "representation, jvp": {"oracle": "jvp"},
    "representation, forward difference, rows 0.25": {"rows": 0.25},
    "shared parameters, exact": {"scope": "shared_parameters", "oracle": "exact"},
    "shared parameters, forward difference": {"scope": "shared_parameters"},
    "shared parameters, central difference": {
        "scope": "shared_parameters",
        "oracle": "central_difference",
    },
    "shared parameters, jvp": {"scope": "shared_parameters", "oracle": "jvp"},
    "shared parameters, forward difference, rows 0.25": {
        "scope": "shared_parameters",
        "rows": 0.25,
    },
}
"""Row of the table -> what differs from the default probe. The first of a scope is its truth."""


class Notebook(Balancer):
    """Writes down its probes and weighs nothing."""

    def __init__(self, num_tasks: int, probing: ProbeConfig) -> None:
        super().__init__(num_tasks)
        self.probing = probing
        self.probes: list[Probe] = []

    def observe(self, probe: Probe) -> None:
        self.probes.append(probe)


class ProberBesideOthers(Prober):
    """The training's own prober at its own steps, and at every step all others at the same point.

    A probe only reads, so that their number and order change nothing.
    """

    def __init__(self, own: Prober, others: list[tuple[ProbeConfig, Prober]]) -> None:
        super().__init__(own._balancer[0], own._group)
        self._own = own
        self._others = others

    def keeps(self, step: int) -> bool:
        return True

    def before_optimizer(self, step: int) -> None:
        kept = self._take()
        assert kept is not None
        for settings, prober in self._others:
            _probe(prober, replace(kept, num_rows=math.ceil(settings.rows * len(kept.z_BR))), step)
        if self._own.keeps(step):
            _probe(self._own, kept, step)


def _probe(prober: Prober, kept: Kept, step: int) -> None:
    prober.keep(kept)
    prober.before_optimizer(step)


@dataclass(frozen=True)
class Series:
    """What a probe found at every step."""

    descent_ST: np.ndarray
    share_ST: np.ndarray
    """c h / ||d||^2: what the balancer makes of h."""
    self_check_S: np.ndarray


def record(config: Config, folder: Path) -> tuple[tuple[str, ...], dict[str, Series]]:
    """Trains, and returns each probe's findings. Collective."""
    start_logging(None, int(os.environ["RANK"]))
    with start_ranks(config) as ranks:
        built = build_model(config, ranks)
        notebooks = _add_probes(built, ranks.group)
        data = find_data(config, ranks)
        trainer = Trainer(
            config,
            ranks,
            built.model,
            built.objective,
            train_reader(config, data, ranks),
            CheckpointStore(folder / "checkpoints", ranks, config),
        )
        log = RunLog(folder, is_first=ranks.is_first, tensorboard=False)
        trainer.train(log, StopRequest())
        log.close()
    return config.task_names, {name: _series(book.probes) for name, book in notebooks.items()}


def _add_probes(built: BuiltModel, group: dist.ProcessGroup) -> dict[str, Notebook]:
    objective = built.objective
    settings = {name: ProbeConfig(every_n_steps=1, **changes) for name, changes in PROBES.items()}
    num_tasks = len(objective.balancer.weights)
    notebooks = {name: Notebook(num_tasks, probing) for name, probing in settings.items()}
    others = [
        (settings[name], build_prober(objective.network, book, group))
        for name, book in notebooks.items()
    ]
    objective.prober = ProberBesideOthers(objective.prober, others)
    return notebooks


def _series(probes: list[Probe]) -> Series:
    share_ST = [p.coefficients_T * p.descent_T / p.direction_norm2 for p in probes]
    return Series(
        descent_ST=torch.stack([p.descent_T for p in probes]).double().numpy(),
        share_ST=torch.stack(share_ST).double().numpy(),
        self_check_S=torch.stack([p.self_check for p in probes]).double().numpy(),
    )


def compare(found: Series, truth: Series, tasks: tuple[str, ...]) -> dict[str, Any]:
    """Of one probe: correlations with the truth over the steps, errors, and the self-check."""
    error_ST = np.abs(found.descent_ST - truth.descent_ST) / np.abs(truth.descent_ST)
    return {
        "correlation": {
            task: _correlation(found.descent_ST[:, i], truth.descent_ST[:, i])
            for i, task in enumerate(tasks)
        },
        "correlation_overall": _correlation(found.descent_ST, truth.descent_ST),
        "share_correlation": {
            task: _correlation(found.share_ST[:, i], truth.share_ST[:, i])
            for i, task in enumerate(tasks)
        },
        "share_correlation_overall": _correlation(found.share_ST, truth.share_ST),
        "relative_error_median": float(np.median(error_ST)),
        "relative_error_p99": float(np.quantile(error_ST, 0.99)),
        "relative_error_max": float(error_ST.max()),
        "share_error_max": float(np.abs(found.share_ST - truth.share_ST).max()),
        "self_check_ok": float((np.abs(found.self_check_S - 1.0) <= 0.05).mean()),
        "self_check_min": float(found.self_check_S.min()),
        "self_check_max": float(found.self_check_S.max()),
    }


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def write(result: dict[str, Any]) -> None:
    tasks: list[str] = result["tasks"]
    heading = [
        "probe",
        *(f"h: {task}" for task in tasks),
        "h: all",
        "shares: all (least task)",
        "error of h: median / 99 % / max",
        "largest error of a share",
        "r within 1 +- 0.05",
        "r: least to most",
    ]
    lines = [_row(heading), "|---" * len(heading) + "|"]
    for name, figures in result["probes"].items():
        least = min(figures["share_correlation"].values())
        errors = (figures[f"relative_error_{key}"] for key in ("median", "p99", "max"))
        lines.append(
            _row(
                [
                    name,
                    *(f"{figures['correlation'][task]:.5f}" for task in tasks),
                    f"{figures['correlation_overall']:.5f}",
                    f"{figures['share_correlation_overall']:.5f} ({least:.5f})",
                    " / ".join("-" if error is None else f"{error:.2g}" for error in errors),
                    f"{figures['share_error_max']:.2g}",
                    f"{figures['self_check_ok']:.1%}",
                    f"{figures['self_check_min']:.4f} to {figures['self_check_max']:.4f}",
                ]
            )
        )
    _RESULTS.mkdir(exist_ok=True)
    (_RESULTS / "oracle.json").write_text(json.dumps(result, indent=1) + "\n")
    (_RESULTS / "oracle.md").write_text(
        "# The probe against the exact derivative\n\n"
        f"`{result['command']}` ({result['steps']} steps of {result['ranks']} ranks x "
        f"{result['batch_size']:,} rows, {result['machine']}, {result['date']})\n\n"
        "configs/globo.yaml with its four tasks and its default balancer. At every step all probes "
        "are taken at the same point of the same training. `h`: Pearson's correlation with the "
        "exact h of the same scope over the steps; `shares`: of c h / ||d||^2, which is what the "
        "balancer uses. `exact` is one backward per task; its r is the check on the check. A "
        "probe of 25 % of the rows is compared with the exact h of *all* rows: what it misses is "
        "the sample's noise. At the representation its h is those rows' part of the whole; of the "
        "shared parameters its direction is all rows', so that its r is no check on the step.\n\n"
        + "\n".join(lines)
        + "\n"
    )


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _work(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        overrides = [
            f"data.path={arguments.data}", "data.eval=null", f"run.steps={arguments.steps}",
            f"run.dir={folder}", "distributed.threads_per_rank=1", *arguments.overrides,
        ]  # fmt: skip
        config = load_config(_ROOT / "configs/globo.yaml", overrides)
        tasks, series = record(config, Path(folder))
    if os.environ["RANK"] != "0":
        return
    truths = {name.split(",")[0]: s for name, s in series.items() if name.endswith(", exact")}
    probes = {
        name: compare(found, truths[name.split(",")[0]], tasks) for name, found in series.items()
    }
    for name, figures in probes.items():
        if name.endswith("rows 0.25"):  # the sample's noise, not the oracle's error
            for key in ("median", "p99", "max"):
                figures[f"relative_error_{key}"] = None
    write(
        {
            "command": shlex.join(["python", "benchmarks/oracle.py", *sys.argv[1:]]),
            "date": datetime.date.today().isoformat(),
            "machine": _machine(),
            "steps": arguments.steps,
            "ranks": int(os.environ["WORLD_SIZE"]),
            "batch_size": config.data.batch_size,
            "tasks": tasks,
            "probes": probes,
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", default="../shared/data/globo")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("overrides", nargs="*", help="key.path=value, for the config")
    arguments = parser.parse_args()
    if "RANK" in os.environ:
        _work(arguments)
        return
    command = [
        str(Path(sys.executable).parent / "torchrun"), "--standalone",
        "--nproc-per-node", str(arguments.ranks), __file__, *sys.argv[1:],
    ]  # fmt: skip
    subprocess.run(command, check=True, cwd=_ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"})
    print((_RESULTS / "oracle.md").read_text())


if __name__ == "__main__":
    main()
