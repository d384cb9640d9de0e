"""Where balancing helps, and where it does not: tasks that compete, on a log of known truth.

    python benchmarks/conflict.py

Trains configs/conflict.yaml at settings of the synthetic log's conflict dial, in the regimes
below, with each balancer and with one model per task; each seed has its own log. A figure is the
share of what can be learned: (AUC - 0.5) / (the true probabilities' AUC - 0.5), or R2 over the true
means' R2.
All in one process (a run takes about a second, a start ten); runs that are there already are not
run again. Writes benchmarks/results/conflict.json, .md, .svg and .png.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shlex
import shutil
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[1]
_RESULTS = Path(__file__).resolve().parent / "results"
sys.path.insert(0, str(_ROOT))

from conflict_data import (  # noqa: E402
    DECIBELS,
    MAX_LABEL,
    MINUTES,
    SECONDS,
    ConflictLog,
    conflict_log,
)
from conflict_report import SINGLE, write_report  # noqa: E402

from jobs.processes.machine import run_environment  # noqa: E402
from jobs.processes.provenance import commit, describe_cpu  # noqa: E402
from jobs.training.run import train_and_evaluate  # noqa: E402
from marigold_rec.config import Config, config_hash, load_config  # noqa: E402
from marigold_rec.config.tasks import DurationTask  # noqa: E402
from marigold_rec.distributed import Ranks, start_ranks  # noqa: E402
from marigold_rec.training import LOGGER, start_logging  # noqa: E402

_DIALS = (0.0, 1 / 3, 1.0)
_TASKS = ("ctr", "cvr", "watch_time")
_BALANCERS = {
    "equal": {"name": "static"},
    "marigold": {"name": "marigold"},
    "marigold-every-step": {"name": "marigold", "probe": {"every_n_steps": 1}},
    "uncertainty": {"name": "uncertainty"},
    "famo": {"name": "famo"},
    "upgrad": {"name": "torchjd", "aggregator": "upgrad"},
}


@dataclass(frozen=True)
class Regime:
    title: str
    what: str
    label: str = SECONDS
    bottom: tuple[int, ...] = (64, 32)
    dials: tuple[float, ...] = _DIALS
    batch: int = 512


REGIMES = {
    "decibels": Regime(
        "one loss in a larger unit",
        "watch time is learned in decibels, 10 log10(1 + s), not ln(1 + s): the same target, but a "
        "loss 19 times larger in numbers. Room enough for all tasks (bottom 64-32).",
        DECIBELS,
        dials=(1 / 3,),
    ),
    "seconds": Regime(
        "losses as they come",
        "ln(1 + s), as everywhere in this project; at the start its squared error is 30 times "
        "click's log loss. Bottom 64-32.",
        dials=(1 / 3,),
    ),
    "narrow": Regime(
        "forced sharing",
        "as before, but all that the tasks share is 8 wide: factors of ctr and cvr compete for it.",
        bottom=(8,),
    ),
    "minutes": Regime(
        "losses alike, room enough",
        "ln(1 + minutes): its loss has about the size of the log losses by chance. Bottom 64-32.",
        MINUTES,
    ),
    "longer": Regime(
        "forced sharing, four times the steps",
        "`narrow` with batches of 128 rows: 782 steps over the same data, not 196.",
        bottom=(8,),
        dials=(1 / 3,),
        batch=128,
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=_ROOT / "runs/conflict", help="logs and runs")
    parser.add_argument("--results", type=Path, default=_RESULTS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--regimes", nargs="+", choices=REGIMES, default=list(REGIMES))
    arguments = parser.parse_args()
    settings = run_environment(os.environ)
    if settings != dict(os.environ):  # glibc reads its settings once, at the start
        os.execve(sys.executable, [sys.executable, *sys.argv], settings)
    started = time.time()
    measured = measure(arguments.out, arguments.seeds, arguments.regimes)
    chosen = {name: REGIMES[name] for name in arguments.regimes}
    result = {
        "command": shlex.join(["python", "benchmarks/conflict.py", *sys.argv[1:]]),
        "machine": describe_cpu(),
        "commit": commit(),
        "date": datetime.date.today().isoformat(),
        "seconds": round(time.time() - started),
        "seeds": arguments.seeds,
        "balancers": _BALANCERS,
        "regimes": {name: asdict(regime) for name, regime in chosen.items()},
        **measured,
    }
    arguments.results.mkdir(parents=True, exist_ok=True)
    (arguments.results / "conflict.json").write_text(_json(result))
    write_report(result, arguments.results)


def _json(result: dict[str, Any]) -> str:
    """A line per cell, not per figure."""
    cells = ",\n  ".join(json.dumps(cell) for cell in result["cells"])
    rest = json.dumps({**result, "cells": []}, indent=1)
    return rest.replace('"cells": []', f'"cells": [\n  {cells}\n ]') + "\n"


def measure(out: Path, seeds: list[int], regimes: list[str]) -> dict[str, Any]:
    """Seed by seed, so that a run that is cut short has whole seeds."""
    out.mkdir(parents=True, exist_ok=True)
    base = load_config(_ROOT / "configs/conflict.yaml", [f"run.dir={out.resolve()}"])
    warnings.filterwarnings("ignore")
    cells, best, closed_form = [], {}, {}
    with start_ranks(base) as ranks:
        start_logging(None, 0)
        LOGGER.setLevel("WARNING")
        for seed, name, dial in _grid(seeds, regimes):
            synthetic = base.data.synthetic.model_copy(update={"conflict": dial, "seed": seed})
            log = conflict_log(synthetic, out / "logs")
            best[f"{dial:.3f}/{seed}"] = log.best
            closed_form[f"{dial:.3f}/{seed}"] = log.closed_form
            for entry, config in _configs(base, REGIMES[name], log, seed):
                found = _cell(config, ranks, out)
                shares = _shares(found["figures"], log, REGIMES[name].label)
                where = {"regime": name, "dial": dial, "seed": seed, "entry": entry}
                cells.append({**where, "shares": shares, **found})
                text = "  ".join(f"{task} {share:.3f}" for task, share in shares.items())
                print(f"seed {seed}  {name:10} dial {dial:.2f}  {entry:22} {text}", flush=True)
    return {"best": best, "closed_form": closed_form, "cells": cells}


def _grid(seeds: list[int], regimes: list[str]) -> Iterator[tuple[int, str, float]]:
    for seed in seeds:
        for name in regimes:
            for dial in REGIMES[name].dials:
                yield seed, name, dial


def _configs(
    base: Config, regime: Regime, log: ConflictLog, seed: int
) -> Iterator[tuple[str, Config]]:
    overrides = [
        f"run.dir={base.run.dir}",
        f"run.seed={seed}",
        f"data.path={log.path.resolve()}",
        f"data.batch_size={regime.batch}",
        f"model.trunk.bottom_layers={list(regime.bottom)}",
    ]
    units = {"label": regime.label, "max_s": MAX_LABEL}
    for task in _TASKS:
        config = _in_units(load_config(_ROOT / "configs/conflict.yaml", overrides), units)
        yield SINGLE + task, config.with_only_task(task)
    for name, section in _BALANCERS.items():
        balancer = f"balancer={json.dumps(section)}"
        config = load_config(_ROOT / "configs/conflict.yaml", [*overrides, balancer])
        yield name, _in_units(config, units)


def _in_units(config: Config, units: dict[str, Any]) -> Config:
    tasks = tuple(
        task.model_copy(update=units) if isinstance(task, DurationTask) else task
        for task in config.tasks
    )
    return config.model_copy(update={"tasks": tasks})


def _cell(config: Config, ranks: Ranks, out: Path) -> dict[str, Any]:
    """Figures and last weights of a run, made now or found: single-task models of ctr and cvr are
    the same in regimes that differ in watch time's unit only."""
    file = out / "cells" / f"{config_hash(config)}.json"
    if file.exists():
        return json.loads(file.read_text())
    folder = Path(config.run.dir) / config.run.name
    shutil.rmtree(folder, ignore_errors=True)
    if train_and_evaluate(config, ranks, "never") != 0:
        raise SystemExit("stopped; the same command goes on")
    summary = json.loads((folder / "summary.json").read_text())
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    names = {"ctr": "eval/auc/ctr", "cvr": "eval/auc/cvr", "watch_time": "eval/r2_log/watch_time"}
    found = {
        "figures": {task: summary[name] for task, name in names.items() if name in summary},
        "last_weights": {
            task: logged_weights[-1]
            for task in config.task_names
            if (logged_weights := _logged(lines, f"train/weight/{task}"))
        },
        "wall_s": round(summary["wall_s"], 2),
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(found))
    return found


def _logged(lines: list[dict[str, Any]], name: str) -> list[float]:
    return [line[name] for line in lines if name in line]


def _shares(figures: dict[str, float], log: ConflictLog, label: str) -> dict[str, float]:
    shares = {}
    for task, figure in figures.items():
        if task == "watch_time":
            shares[task] = figure / log.best[label]
        else:
            shares[task] = (figure - 0.5) / (log.best[task] - 0.5)
    return shares


if __name__ == "__main__":
    main()
