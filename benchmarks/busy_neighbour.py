"""Measures what two busy loops beside a training cost it, for settings of OpenMP's waiting threads.

    python benchmarks/busy_neighbour.py --data ../shared/data/globo --out benchmarks/results

One rank of launch/train.py trains on configs/globo.yaml; once it has warmed up it is measured alone
and then beside as many busy loops as there are cores. The settings take turns, `--rounds` times, so
that other work on the machine meets all of them alike. `before` is libgomp's own setting, `after`
is what marigold_rec.waiting_threads chooses. About 50 s for each setting and round.
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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(_ROOT))

from jobs.processes.machine import num_cores  # noqa: E402
from jobs.processes.provenance import commit, describe_cpu  # noqa: E402
from marigold_rec.waiting_threads import SPIN_COUNT  # noqa: E402

_BATCH_SIZE = 2048
_WARM_UP_STEPS = 200
_ALONE_S, _BESIDE_S = 10.0, 15.0
_POLL_S = 0.01
_LOGGED_STEPS = 5
_VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS")
_SETTINGS: Mapping[str, Mapping[str, str]] = {
    "before (GOMP_SPINCOUNT=300000, libgomp's own)": {"GOMP_SPINCOUNT": "300000"},
    f"after (GOMP_SPINCOUNT={SPIN_COUNT})": {},
}


@dataclass(frozen=True)
class Speed:
    """Samples per second of one training, alone and beside busy loops."""

    alone: float
    beside: float

    @property
    def kept(self) -> float:
        return self.beside / self.alone


def main() -> None:
    arguments = _parse_arguments()
    settings = dict(_SETTINGS)
    for text in arguments.also:
        settings[text] = dict(part.split("=", 1) for part in text.split(","))
    found: dict[str, list[Speed]] = {name: [] for name in settings}
    for turn in range(arguments.rounds):
        for name, variables in settings.items():
            speed = _measure(arguments.data.resolve(), variables)
            found[name].append(speed)
            print(
                f"round {turn + 1}: {name}: alone {speed.alone:,.0f}, "
                f"beside {speed.beside:,.0f} samples/s",
                file=sys.stderr,
                flush=True,
            )
    text = _page(found, shown=" ".join(["python", *sys.argv]))
    if arguments.out is None:
        print(text)
    else:
        (arguments.out / "busy_neighbour.md").write_text(text, encoding="utf-8")


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="the globo log")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="folder of busy_neighbour.md (default: print)")
    parser.add_argument(
        "--also", nargs="*", default=[], metavar="NAME=VALUE,...", help="more settings to compare"
    )
    return parser.parse_args()


def _measure(data: Path, variables: Mapping[str, str]) -> Speed:
    environment = {name: value for name, value in os.environ.items() if name not in _VARIABLES}
    environment |= {"PYTHONPATH": str(_ROOT), **variables}
    with tempfile.TemporaryDirectory(prefix="busy-neighbour-") as folder:
        command = [
            sys.executable, str(_ROOT / "launch/train.py"),
            "--config", str(_ROOT / "configs/globo.yaml"),
            f"data.path={data}", "data.eval=null", f"data.batch_size={_BATCH_SIZE}",
            "run.epochs=1000", f"run.dir={folder}", f"logging.every_n_steps={_LOGGED_STEPS}",
        ]  # fmt: skip
        with (Path(folder) / "said").open("wb") as said:
            process = subprocess.Popen(command, env=environment, stdout=said, stderr=said)
        try:
            steps = _steps(process, Path(folder) / "globo/metrics.jsonl", Path(said.name))
            next(at for at, step in steps if step >= _WARM_UP_STEPS)
            alone = _rate(steps, _ALONE_S)
            with _busy_loops():
                next(steps)
                beside = _rate(steps, _BESIDE_S)
        finally:
            process.kill()  # nobody needs its checkpoint
            process.wait()
    return Speed(alone, beside)


def _steps(
    process: subprocess.Popen[bytes], metrics: Path, said: Path
) -> Iterator[tuple[float, int]]:
    """Yields (when, step) as the training logs its steps."""
    size = 0
    while True:
        if metrics.exists() and metrics.stat().st_size > size:
            now, text = time.perf_counter(), metrics.read_bytes()
            if text.endswith(b"\n"):
                size = len(text)
                yield now, json.loads(text.splitlines()[-1])["step"]
        if process.poll() is not None:
            sys.exit(f"the training ended with {process.returncode}:\n{said.read_text()[-2000:]}")
        time.sleep(_POLL_S)


def _rate(steps: Iterator[tuple[float, int]], seconds: float) -> float:
    begun, first = next(steps)
    ended, last = next((at, step) for at, step in steps if at - begun >= seconds)
    return (last - first) * _BATCH_SIZE / (ended - begun)


@contextmanager
def _busy_loops() -> Iterator[None]:
    loops = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(num_cores())
    ]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def _page(found: Mapping[str, Sequence[Speed]], shown: str) -> str:
    rounds = len(next(iter(found.values())))
    first = statistics.median(speed.alone for speed in next(iter(found.values())))
    lines = [
        "# A training beside busy neighbours",
        "",
        f"`{shown}` ({describe_cpu()}, commit {commit()})",
        "",
        f"One rank, configs/globo.yaml, batches of {_BATCH_SIZE} rows; medians of {rounds} "
        f"interleaved runs (least to most), in samples/s. Beside: {num_cores()} busy loops.",
        "",
        "| setting | alone | against the first | beside busy loops | kept of alone |",
        "|---|---|---|---|---|",
    ]
    for name, speeds in found.items():
        alone, beside = [s.alone for s in speeds], [s.beside for s in speeds]
        kept = statistics.median(s.kept for s in speeds)
        against = statistics.median(alone) / first - 1
        lines.append(
            f"| {name} | {_spread(alone)} | {against:+.1%} | {_spread(beside)} | {kept:.0%} |"
        )
    return "\n".join(lines) + "\n"


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f})"


if __name__ == "__main__":
    main()
