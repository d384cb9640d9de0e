"""Kills a run at random moments, again and again, and shows that it ends as if nothing had been.

    python benchmarks/soak.py --kills 100 [--seed 0] [--seconds 480] [--folder /some/disk]

A real torchrun on two ranks trains on a small log and saves every few steps beside the training.
A kill (SIGKILL) meets one rank, and torchrun brings the run back by itself; or, one time in five,
torchrun and all ranks together, as a machine that goes down, and torchrun is started again. Moments
lie everywhere: in the imports, in a load, in steps, in saves. A run that has ended is compared with
an undisturbed one, every tensor bit for bit, and the next begins, until all kills are spent. After
each kill every checkpoint that is visible must be whole.

What tests/launch/test_soak.py runs, for longer. Prints one line of JSON; exit code 1 if a promise
was broken.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

_ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(_ROOT))

from marigold_rec.checkpoint.manifest import read_manifest  # noqa: E402
from tests.support.launches import checkpoint_tensors  # noqa: E402
from tests.support.patience import Patience, with_children  # noqa: E402
from tests.support.runs import default_setup  # noqa: E402

_SETTINGS = (
    "run.epochs=1000",
    "model.dropout=0.2",
    "checkpoint.every_n_steps=5",
    "logging.every_n_steps=10",
    "balancer.probe.every_n_steps=7",
    "sharding.tables={user: row_wise, item: table_wise, price_band: column_wise}",
)
_RANKS = 2
_IN_START_UP = 0.3  # share of kills
_OF_ALL = 0.2
_SOON_S = 1.5
# A start, or what is left of a run after the last kill, takes seconds; beyond this it hangs. On the
# processes' own clocks (tests/support/patience.py): a slow machine is no hang.
_PATIENCE_S = 120.0
_LOOK_S = 0.25
_RESUMED = re.compile(r"resumed from \S+/step-(\d{9}) at step (\d+)$", re.M)


class SoakError(AssertionError):
    """A promise was broken."""


@dataclass
class Tally:
    """What has happened so far."""

    kills: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    runs: int = 0
    saves_cut: int = 0
    """Kills that left an unfinished save."""
    resumed_at: list[int] = field(default_factory=list)

    @property
    def num_kills(self) -> int:
        return self.kills.total()


class Agent(Protocol):
    """A torchrun that has been started."""

    pid: int

    def poll(self) -> int | None: ...

    def wait(self) -> int: ...

    def kill(self) -> None: ...


def torchrun(arguments: Sequence[str], log: Path) -> Agent:
    """`torchrun ARGUMENTS`, whose words go to the end of `log`."""
    with log.open("a") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", *arguments],
            stdout=said,
            stderr=said,
            cwd=_ROOT,
        )


@dataclass(frozen=True)
class Setting:
    """What all runs of a soak have in common."""

    config: Path
    steps: int
    start: Callable[[Sequence[str], Path], Agent] = torchrun
    patience_s: float = _PATIENCE_S


class Job:
    """One run, under torchrun, started as often as it takes."""

    def __init__(self, setting: Setting, name: str, tally: Tally) -> None:
        self.folder = setting.config.parent / "runs" / name
        self.log = setting.config.parent / f"{name}.log"
        self._setting = setting
        self._tally = tally
        self._arguments = [
            *("--standalone", f"--nproc-per-node={_RANKS}", "--max-restarts=1000"),
            *("launch/train.py", "--config", str(setting.config), *_SETTINGS),
            *(f"run.name={name}", f"run.steps={setting.steps}"),
        ]
        self._agent = self._start()

    def _start(self) -> Agent:
        return self._setting.start(self._arguments, self.log)

    @property
    def has_ended(self) -> bool:
        return self._agent.poll() is not None

    def ranks(self) -> list[int]:
        """Process ids of the ranks of now, in their order; torchrun has no other children."""
        pids = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
        return sorted(pid for pid in pids if _parent(pid) == self._agent.pid)

    def saves(self) -> set[str]:
        """What lies in checkpoints/; every save changes it."""
        root = self.folder / "checkpoints"
        return set(os.listdir(root)) if root.exists() else set()

    def wait_for_ranks(self) -> list[int]:
        self._wait_until(
            lambda: len(self.ranks()) >= _RANKS or self.has_ended, "the ranks are not back"
        )
        return self.ranks()

    def wait_for_a_save(self) -> None:
        """Until the start that has just been made has trained so far that it saves."""
        before = self.saves()
        self._wait_until(lambda: self.saves() != before or self.has_ended, "no save is begun")

    def kill(self, random_: random.Random, ranks: list[int]) -> None:
        """Kills one of `ranks`, or torchrun and all; returns when all of them are gone."""
        if is_of_all := random_.random() < _OF_ALL:
            self._agent.kill()
            self._agent.wait()
        for pid in ranks if is_of_all else [random_.choice(ranks)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._wait_until(
            lambda: all(_parent(pid) is None for pid in ranks),
            f"ranks {ranks} outlive a killed one",
        )
        self._tally.kills["all" if is_of_all else "rank"] += 1
        self._tally.saves_cut += any(".tmp-" in name for name in self.saves())
        # Nobody writes now: the next start has its imports before it.
        require_whole(self.folder / "checkpoints")
        if is_of_all:
            self._agent = self._start()

    def wait(self) -> None:
        """To the end of the run; raises if that is not a good one."""
        self._wait_until(lambda: self.has_ended, "the run does not end")
        if (code := self._agent.wait()) != 0:
            raise SoakError(f"{self.log}: torchrun has ended with {code}")

    def close(self) -> None:
        ranks = self.ranks()
        self._agent.kill()
        self._agent.wait()
        for pid in ranks:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _wait_until(self, is_so: Callable[[], bool], problem: str) -> None:
        patience = Patience(self._setting.patience_s)
        looked = time.monotonic()
        while not is_so():
            time.sleep(0.02)
            if time.monotonic() - looked > _LOOK_S:
                looked = time.monotonic()
                if (verdict := patience.verdict(with_children([self._agent.pid]))) is not None:
                    raise SoakError(f"{self.log}: {problem}: {verdict}")


def soak(setting: Setting, kills: int, seed: int, seconds: float) -> dict[str, Any]:
    """Runs beside the config until `kills` are spent, or no time is left for more."""
    began, random_, tally = time.monotonic(), random.Random(seed), Tally()
    undisturbed = Job(setting, "undisturbed", Tally())
    try:
        undisturbed.wait()
    finally:
        undisturbed.close()
    one_run_s = time.monotonic() - began
    steps = setting.steps
    expected = checkpoint_tensors(_last(undisturbed, steps), setting.config.parent)

    def is_over() -> bool:
        return tally.num_kills >= kills or time.monotonic() - began > seconds - one_run_s

    while not is_over():
        tally.runs += 1
        job = Job(setting, f"killed-{tally.runs}", tally)
        try:
            while not is_over() and not job.has_ended:
                ranks = job.wait_for_ranks()
                in_start_up = random_.random() < _IN_START_UP
                if not in_start_up:
                    job.wait_for_a_save()
                time.sleep(random_.uniform(0, one_run_s / 2 if in_start_up else _SOON_S))
                if job.has_ended or len(now := job.ranks()) < _RANKS:
                    break  # too late: it has done its steps
                if now != ranks:
                    raise SoakError(f"{job.log}: the ranks have failed by themselves")
                job.kill(random_, ranks)
            job.wait()
        finally:
            job.close()
        _compare(job, undisturbed, steps, expected, tally)
    return {
        "kills": dict(tally.kills),
        "runs": tally.runs,
        "starts": tally.starts,
        "saves_cut": tally.saves_cut,
        "resumed_at": tally.resumed_at,
        "seed": seed,
        "seconds": round(time.monotonic() - began),
        "identical": True,
    }


def require_whole(root: Path) -> None:
    """Every file of every visible checkpoint has the size and the bytes that its manifest tells."""
    for folder in root.glob("step-?????????"):
        for name, entry in read_manifest(folder).files.items():
            content = (folder / name).read_bytes()
            if hashlib.sha256(content).hexdigest() != entry.sha256 or len(content) != entry.bytes:
                raise SoakError(f"{folder / name}: not what the manifest tells")


def _compare(job: Job, other: Job, steps: int, expected: Any, tally: Tally) -> None:
    said = job.log.read_text()
    resumed = [int(step) for _, step in _RESUMED.findall(said)]
    tally.resumed_at += resumed
    # Those that came as far as to say so; nothing is resumed before the first save.
    tally.starts += said.count(" training killed-")
    if resumed != sorted(resumed):
        raise SoakError(f"{job.log}: a start has gone back: {resumed}")
    if "refused:" in said:
        raise SoakError(f"{job.log}: a visible checkpoint was not whole")
    found = checkpoint_tensors(_last(job, steps), job.folder)
    if found.keys() != expected.keys():
        raise SoakError(f"{job.folder}: other tensors: {found.keys() ^ expected.keys()}")
    different = [name for name in expected if not found[name].equal(expected[name])]
    if different:
        raise SoakError(f"{job.folder}: not those of the undisturbed run: {different}")
    if any(".tmp-" in name for name in job.saves()):
        raise SoakError(f"{job.folder}: leftovers stay: {job.saves()}")
    _compare_figures(_figures(job), _figures(other), job.folder)


def _compare_figures(found: list[Any], expected: list[Any], folder: Path) -> None:
    logged = [line["step"] for line in found]
    doubled = [step for step, times in Counter(logged).items() if times > 1]
    # The last step has two lines: its own and the evaluation's.
    if logged != sorted(logged) or doubled != logged[-1:]:
        raise SoakError(f"{folder}: steps of metrics.jsonl: {logged}")
    by_step = Counter(_fixed(line) for line in found)
    missing = [line["step"] for line in expected if _fixed(line) not in by_step]
    if missing:
        raise SoakError(f"{folder}: other figures than undisturbed at steps {missing}")


def _figures(job: Job) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (job.folder / "metrics.jsonl").read_text().splitlines()]


def _fixed(line: dict[str, Any]) -> str:
    """What a line says of the model: not of the machine, nor of the rows since the last start."""
    beginnings = ("step", "train/loss", "train/weight", "train/descent", "optim/", "eval/")
    return json.dumps({k: v for k, v in line.items() if k.startswith(beginnings)})


def _last(job: Job, steps: int) -> Path:
    return job.folder / f"checkpoints/step-{steps:09d}"


def _parent(pid: int) -> int | None:
    """None: it does not run. A killed process stays in the table until its parent looks."""
    try:
        # After the name, which may hold anything: state, parent.
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return None
    return None if state in "ZX" else int(parent)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=300, help="of one run")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="end about then")
    parser.add_argument("--folder", type=Path, default=None, help="on the disk to use")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="soak-", dir=arguments.folder))
    try:
        setting = Setting(default_setup(folder, rows=1000), arguments.steps)
        found = soak(setting, arguments.kills, arguments.seed, arguments.seconds)
    except SoakError as error:
        print(json.dumps({"identical": False, "seed": arguments.seed, "error": str(error)}))
        print(f"everything is left in {folder}", file=sys.stderr)
        return 1
    shutil.rmtree(folder)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
