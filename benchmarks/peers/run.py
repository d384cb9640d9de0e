"""Measures training throughput, ours against the peers, interleaved: A B C A B C ... in one run.

    benchmarks/peers/setup.sh                       # once
    .venv/bin/python benchmarks/peers/run.py        # writes benchmarks/results/peers.{json,md}

Each measurement is a process of its own with both cores: ours as 2 ranks of one thread, a peer as
one process of 2 threads. All read the same Parquet log: ours streams it while it trains, a peer has
its rows in memory before its clock starts. A peer's figure is the better one of its mean and its
median step; ours is the median over logging intervals. Run it on a quiet machine: the load average
before each measurement is kept beside it.

The `-kept` entrants run under a glibc setting that keeps freed memory (KEEP_FREED_MEMORY below):
not as anyone ships, but where page faults are slow (virtual machines that hand freed pages back to
their host) it speeds up a dense optimizer several times: those rows tell how much of the gap it is.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BATCH = 4096
RANKS = 2
TIMEOUT_S = 1800
CONFIG = "benchmarks/peers/mmoe_26x1m.yaml"
# Blocks of 64 MB (a dense gradient of one table) then stay in the process instead of being
# unmapped, mapped and zeroed page by page in every step.
KEEP_FREED_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": "8000000000",
    "MALLOC_TRIM_THRESHOLD_": "32000000000",
}
# In the order of preference; both are the median over logging intervals, over all ranks.
SUMMARY_KEYS = ("perf/samples_per_sec_median", "perf/samples_per_sec")


@dataclass(frozen=True)
class Entrant:
    title: str
    script: str | None = None  # null: ours
    arguments: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    as_shipped: bool = True


ENTRANTS = {
    "ours": Entrant("marigold_rec MMoE, 2 ranks"),
    "rechub": Entrant("torch-rechub 0.9.0 MMOE", "rechub_mmoe.py"),
    "deepctr": Entrant("DeepCTR-Torch 0.3.0 MMOE", "deepctr_mmoe.py"),
    "ours-kept": Entrant(
        "marigold_rec, freed memory kept", environment=KEEP_FREED_MEMORY, as_shipped=False
    ),
    "rechub-kept": Entrant(
        "torch-rechub, freed memory kept",
        "rechub_mmoe.py",
        environment=KEEP_FREED_MEMORY,
        as_shipped=False,
    ),
    "deepctr-kept": Entrant(
        "DeepCTR-Torch, freed memory kept",
        "deepctr_mmoe.py",
        environment=KEEP_FREED_MEMORY,
        as_shipped=False,
    ),
    "rechub-loader": Entrant(
        "torch-rechub with its own DataGenerator",
        "rechub_mmoe.py",
        ("--loader", "shipped"),
        as_shipped=False,  # it is, but the headline gives this peer ready-made batches
    ),
    "deepctr-no-l2": Entrant(
        "DeepCTR-Torch without L2 on embeddings",
        "deepctr_mmoe.py",
        ("--l2-embedding", "0"),
        as_shipped=False,
    ),
}


@dataclass(frozen=True)
class Measurement:
    entrant: str
    ids: str
    round: int
    samples_per_s: float
    load_before: float
    command: str
    details: dict[str, Any]


@dataclass(frozen=True)
class Plan:
    entrants: tuple[str, ...]
    ids: tuple[str, ...]
    rounds: int
    rows: int
    warmup: int
    steps: int
    peers_python: Path


def measure_all(plan: Plan, workplace: Path) -> list[Measurement]:
    """Every entrant once per round, round after round; one process at a time."""
    found: list[Measurement] = []
    for ids in plan.ids:
        data = workplace / ids
        make = [sys.executable, str(HERE / "make_data.py"), "--out", str(data)]
        _run([*make, "--rows", str(plan.rows), "--ids", ids], {})
        for round_number in range(1, plan.rounds + 1):
            for key in plan.entrants:
                measurement = _measure(key, plan, ids, round_number, data, workplace)
                print(
                    f"{ids} round {round_number} {key}: {measurement.samples_per_s:,.0f} samples/s "
                    f"(load before: {measurement.load_before:.2f})",
                    flush=True,
                )
                found.append(measurement)
        shutil.rmtree(data)
    return found


def _measure(
    key: str, plan: Plan, ids: str, round_number: int, data: Path, workplace: Path
) -> Measurement:
    entrant = ENTRANTS[key]
    load = os.getloadavg()[0]
    if entrant.script is None:
        command = _our_command(data, workplace)
        _run(command, entrant.environment)
        run_folder = workplace / "runs" / "peers_mmoe_26x1m"
        details = json.loads((run_folder / "summary.json").read_text())
        shutil.rmtree(run_folder)  # a checkpoint of 1.7 GB lies in it
        speed = _our_speed(details)
    else:
        command = [str(plan.peers_python), str(HERE / entrant.script), "--data", str(data)]
        command += ["--batch", str(BATCH), "--warmup", str(plan.warmup), "--steps", str(plan.steps)]
        command += entrant.arguments
        details = _last_json_line(_run(command, entrant.environment))
        speed = max(details["samples_per_s"], details["samples_per_s_median"])
    return Measurement(
        key, ids, round_number, speed, load, _shown(command, entrant.environment), details
    )


def _our_command(data: Path, workplace: Path) -> list[str]:
    torchrun = Path(sys.executable).with_name("torchrun")
    return [
        *(str(torchrun), "--standalone", "--nproc-per-node", str(RANKS), "launch/train.py"),
        *("--config", CONFIG, f"data.path={data}", f"run.dir={workplace / 'runs'}"),
        *("--resume", "never"),
    ]


def _our_speed(summary: dict[str, Any]) -> float:
    for key in SUMMARY_KEYS:
        if key in summary:
            return float(summary[key])
    raise SystemExit(f"summary.json: none of {SUMMARY_KEYS} in it; it holds {sorted(summary)}")


def _run(command: list[str], environment: dict[str, str]) -> str:
    """Its stdout; ends this run with the command and its last lines when it fails."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        stdout, stderr = process.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.terminate()  # not kill: torchrun has ranks to end first
        stdout, stderr = process.communicate(timeout=60)
    if process.returncode != 0:
        tail = "\n".join((stdout + stderr).splitlines()[-120:])
        raise SystemExit(f"{shlex.join(command)}\nended with {process.returncode}:\n{tail}")
    return stdout


def _last_json_line(text: str) -> dict[str, Any]:
    lines = [line for line in text.splitlines() if line.startswith("{")]
    if not lines:
        raise SystemExit(f"a peer's script printed no JSON line, but:\n{text[-2000:]}")
    return json.loads(lines[-1])


def _shown(command: list[str], environment: dict[str, str]) -> str:
    return " ".join([*(f"{k}={v}" for k, v in environment.items()), shlex.join(command)])


def medians(measurements: list[Measurement]) -> dict[str, dict[str, float]]:
    """ids -> entrant -> median samples/s over the rounds."""
    found: dict[str, dict[str, list[float]]] = {}
    for m in measurements:
        found.setdefault(m.ids, {}).setdefault(m.entrant, []).append(m.samples_per_s)
    return {
        ids: {key: statistics.median(values) for key, values in by_key.items()}
        for ids, by_key in found.items()
    }


def machine() -> dict[str, Any]:
    cpu = [x for x in Path("/proc/cpuinfo").read_text().splitlines() if x.startswith("model name")]
    memory_kib = int(Path("/proc/meminfo").read_text().split(maxsplit=2)[1])
    huge_pages = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return {
        "cpu": cpu[0].split(":", 1)[1].strip() if cpu else platform.processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory_kib / 2**20, 1),
        "kernel": platform.release(),
        "libc": "-".join(platform.libc_ver()),
        "transparent_huge_pages": huge_pages.read_text().strip() if huge_pages.exists() else "?",
        "python": platform.python_version(),
    }


def versions(peers_python: Path) -> dict[str, dict[str, str]]:
    """Of the packages that matter, in our environment and in the peers'."""
    ours = ("torch", "torchrec", "fbgemm-gpu-cpu", "pyarrow", "numpy")
    theirs = ("torch", "torch-rechub", "deepctr-torch", "numpy")
    ask = "import importlib.metadata as m, json, sys; " + (
        "print(json.dumps({p: m.version(p) for p in sys.argv[1:]}))"
    )
    return {
        "ours": {p: importlib.metadata.version(p) for p in ours},
        "peers": json.loads(_run([str(peers_python), "-c", ask, *theirs], {})),
    }


def table(measurements: list[Measurement]) -> str:
    """Markdown: one line per ids and entrant."""
    lines = [
        "| ids | trainer | samples/s (median) | rounds | ours is faster by |",
        "|---|---|---:|---|---:|",
    ]
    for ids, by_key in medians(measurements).items():
        for key, speed in by_key.items():
            rounds = [m.samples_per_s for m in measurements if (m.ids, m.entrant) == (ids, key)]
            shown = ", ".join(f"{value:,.0f}" for value in rounds)
            is_ours = ENTRANTS[key].script is None
            ratio = "" if is_ours or "ours" not in by_key else f"{by_key['ours'] / speed:.1f}x"
            lines.append(f"| {ids} | {ENTRANTS[key].title} | {speed:,.0f} | {shown} | {ratio} |")
    return "\n".join(lines)


def report(plan: Plan, measurements: list[Measurement], about: dict[str, Any]) -> str:
    commands = {m.entrant: m.command for m in measurements}
    host = about["machine"]
    return "\n".join(
        [
            "# Training throughput against torch-rechub and DeepCTR-Torch",
            "",
            "26 tables x 1,000,000 rows x dim 16, no dense features, batch 4096, 2 binary tasks,"
            " MMoE of 4 experts [64, 32] and towers [32], fp32. Ours: fused row-wise Adagrad on the"
            " tables, dense Adam on the rest. Peers: dense Adam on everything as they ship (choices"
            " and changes: docstrings of `benchmarks/peers/*_mmoe.py`).",
            "",
            table(measurements),
            "",
            f"{plan.rounds} rounds, interleaved; peers {plan.warmup} warm-up and {plan.steps} timed"
            f" steps each, ours one pass over {plan.rows:,} rows. {about['date']},"
            f" {host['cpu']}, {host['cores']} cores, {host['memory_gib']} GiB, {host['libc']},"
            f" Python {host['python']}.",
            "",
            f"Ours: {_named(about['versions']['ours'])}.",
            f"Peers: {_named(about['versions']['peers'])}.",
            "",
            f"Made by: `{about['command']}`, which ran",
            "```",
            *(commands[key] for key in plan.entrants),
            "```",
            "",
        ]
    )


def _named(packages: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in packages.items())


def missed(measurements: list[Measurement], least: float) -> list[str]:
    """The peers as they ship that ours does not beat by `least`, one line each."""
    return [
        f"{ids}: {by_key['ours'] / speed:.1f}x {ENTRANTS[key].title}, below {least:g}x"
        for ids, by_key in medians(measurements).items()
        for key, speed in by_key.items()
        if ENTRANTS[key].script is not None
        and ENTRANTS[key].as_shipped
        and "ours" in by_key
        and by_key["ours"] < least * speed
    ]


def parse_arguments() -> argparse.Namespace:
    default_venv = Path(os.environ.get("PEERS_VENV", ROOT / ".venv-peers"))
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--entrants", nargs="+", choices=tuple(ENTRANTS), default=["ours", "rechub", "deepctr"]
    )
    parser.add_argument("--ids", nargs="+", choices=("uniform", "zipf"), default=["uniform"])
    parser.add_argument("--rows", type=int, default=BATCH * 200, help="rows of the log")
    parser.add_argument("--warmup", type=int, default=3, help="a peer's untimed steps")
    parser.add_argument("--steps", type=int, default=10, help="a peer's timed steps")
    parser.add_argument("--peers-python", type=Path, default=default_venv / "bin" / "python")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--scratch", type=Path, help="parent of the temporary folder (3 GB)")
    parser.add_argument(
        "--least", type=float, help="end with 1 unless ours is this many times faster than each"
    )
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    if not arguments.peers_python.exists():
        print(f"{arguments.peers_python} is missing; run benchmarks/peers/setup.sh (PEERS_VENV)")
        return 2
    if arguments.rows < (arguments.warmup + arguments.steps) * BATCH:
        print(f"--rows: at least (warmup + steps) * {BATCH} are needed")
        return 2
    plan = Plan(
        entrants=tuple(arguments.entrants),
        ids=tuple(arguments.ids),
        rounds=arguments.rounds,
        rows=arguments.rows,
        warmup=arguments.warmup,
        steps=arguments.steps,
        peers_python=arguments.peers_python,
    )
    about = {
        "date": datetime.date.today().isoformat(),
        "command": shlex.join(["python", *sys.argv]),
        "machine": machine(),
        "versions": versions(plan.peers_python),
    }
    with tempfile.TemporaryDirectory(prefix="peers-", dir=arguments.scratch) as folder:
        measurements = measure_all(plan, Path(folder))
    arguments.out.mkdir(parents=True, exist_ok=True)
    results = about | {
        "medians": medians(measurements),
        "measurements": [asdict(m) for m in measurements],
    }
    (arguments.out / "peers.json").write_text(json.dumps(results, indent=1) + "\n")
    (arguments.out / "peers.md").write_text(report(plan, measurements, about))
    print(table(measurements))
    shortfall = missed(measurements, arguments.least) if arguments.least is not None else []
    for line in shortfall:
        print(line)
    return 1 if shortfall else 0


if __name__ == "__main__":
    sys.exit(main())
