"""Reader throughput against what training consumes, interleaved in one run.

    python benchmarks/reader.py --data ../shared/data/globo

Reader: all columns of configs/globo.yaml as rank 0 of 2 (that rank's rows are counted), one reader
thread, the whole process on one core, batches dropped as they come. Training: the same config on
two ranks. Writes benchmarks/results/reader.json and .md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
_RESULTS = Path(__file__).resolve().parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", default="../shared/data/globo")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=400, help="training steps of each round")
    parser.add_argument("--read-only", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read_only:
        print(json.dumps(read_once(arguments.data)))
        return
    reads: list[float] = []
    trains: list[dict[str, float]] = []
    for _ in range(arguments.rounds):
        reads.append(_read_in_own_process(arguments.data))
        trains.append(_train(arguments.data, arguments.steps))
        print(f"reader {reads[-1]:,.0f} rows/s; training {trains[-1]}", flush=True)
    reader = statistics.median(reads)
    training = statistics.median(run["perf/samples_per_sec"] for run in trains)
    wait = statistics.median(run["perf/data_wait_frac"] for run in trains)
    result = {
        "reader_rows_per_s": reader,
        "training_samples_per_s": training,
        "ratio": reader / training,
        "data_wait_frac": wait,
        "rounds": arguments.rounds,
        "command": "python benchmarks/reader.py",
    }
    _RESULTS.mkdir(exist_ok=True)
    (_RESULTS / "reader.json").write_text(json.dumps(result, indent=1) + "\n")
    (_RESULTS / "reader.md").write_text(
        "# Reader against training\n\n"
        f"`{result['command']}` (2 cores, no GPU; medians of {arguments.rounds} interleaved "
        "rounds)\n\n"
        "| what | figure |\n|---|---|\n"
        "| reader as rank 0 of 2, one thread, one core, all columns of the config | "
        f"{reader:,.0f} rows/s |\n"
        f"| training, 2 ranks | {training:,.0f} samples/s |\n"
        f"| ratio | {reader / training:.1f} |\n"
        f"| share of training time spent waiting for data | {wait:.2%} |\n"
    )
    print(json.dumps(result, indent=1))


def read_once(data: str) -> dict[str, float]:
    """Rows per second of rank 0 of 2 over one epoch of the training split."""
    sys.path.insert(0, str(_ROOT))
    import torch

    from data_pipelines.catalog.scan import scan
    from data_pipelines.preflight.columns import needed_columns
    from data_pipelines.reading.reader import ParquetReader
    from marigold_rec.config import load_config

    torch.set_num_threads(1)
    config = load_config(
        _ROOT / "configs/globo.yaml", [f"data.path={data}", "data.reader_threads=1"]
    )
    catalog = scan(data, config.data.train.dates, needed_columns(config))
    reader = ParquetReader(catalog, config, rank=0, world_size=2, batch_size=2048)
    started = time.perf_counter()
    rows = sum(batch.num_rows for batch in reader.batches())
    return {"rows": rows, "rows_per_s": rows / (time.perf_counter() - started)}


def _read_in_own_process(data: str) -> float:
    core = str(min(os.sched_getaffinity(0)))
    command = ["taskset", "-c", core, sys.executable, __file__, "--read-only", "--data", data]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(found.stdout.splitlines()[-1])["rows_per_s"])


def _train(data: str, steps: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        command = [
            str(Path(sys.executable).parent / "torchrun"), "--standalone", "--nproc-per-node", "2",
            "launch/train.py", "--config", "configs/globo.yaml", "--resume", "never",
            f"data.path={data}", "data.eval=null", f"run.steps={steps}", f"run.dir={folder}",
            "run.name=bench", "logging.tensorboard=false",
        ]  # fmt: skip
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run(command, check=True, cwd=_ROOT, capture_output=True, env=environment)
        summary = json.loads((Path(folder) / "bench/summary.json").read_text())
    return {key: summary[key] for key in ("perf/samples_per_sec", "perf/data_wait_frac")}


if __name__ == "__main__":
    main()
