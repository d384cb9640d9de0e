"""launch/slurm/train.sbatch as a cluster runs it, but for the cluster.

`srun` and `scontrol` are small scripts: this srun starts a real torchrun for each "node" on the
loopback, the ranks find each other through the rendezvous, train, and are stopped by a real signal.
What a Slurm does beside (allocation, its own time limit, the requeue itself) is not run.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.support.launches import (
    AtStep,
    ask_to_stop,
    codes,
    launch_train,
    strict_json,
    summary,
)
from tests.support.patience import watched
from tests.support.ranks import free_port
from tests.support.runs import config_tree, default_setup, write_config

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "launch/slurm/train.sbatch"

# One task per node, with what Slurm tells it; SIGTERM goes on to all tasks, as the real srun does.
_SRUN = """#!/usr/bin/env bash
echo "srun $*" >>"$FAKE_SLURM_LOG"
nodes=1
while [[ $1 == --* ]]; do
    [[ $1 != --nodes=* ]] || nodes="${1#*=}"
    shift
done
pids=()
trap 'echo srun-TERM >>"$FAKE_SLURM_LOG"; kill -TERM "${pids[@]}"' TERM
for ((node = 0; node < nodes; node++)); do
    SLURM_NODEID=$node SLURM_PROCID=$node SLURMD_NODENAME="127.0.0.1" "$@" &
    pids+=($!)
done
worst=0
for pid in "${pids[@]}"; do
    while kill -0 "$pid" 2>/dev/null; do wait "$pid"; done
    code=0
    wait "$pid" || code=$?
    ((code <= worst)) || worst=$code
done
exit "$worst"
"""
_SCONTROL = """#!/usr/bin/env bash
echo "scontrol $*" >>"$FAKE_SLURM_LOG"
[[ "$1 $2" != "show hostnames" ]] || printf '127.0.0.1\\n%.0s' 1 2
"""


class Cluster:
    """Two nodes on this host."""

    def __init__(self, folder: Path) -> None:
        bin_folder = folder / "bin"
        bin_folder.mkdir()
        for name, text in (("srun", _SRUN), ("scontrol", _SCONTROL)):
            (bin_folder / name).write_text(text)
            (bin_folder / name).chmod(0o755)
        self._log = folder / "slurm.log"
        self._said = folder / "job.log"
        self._env = {
            **os.environ,
            "PATH": f"{bin_folder}:{os.environ['PATH']}",
            "FAKE_SLURM_LOG": str(self._log),
            "SLURM_SUBMIT_DIR": str(ROOT),
            "SLURM_JOB_ID": "4711",
            "SLURM_JOB_NODELIST": "127.0.0.[1-2]",
            "MARIGOLD_VENV": sys.prefix,
            "MARIGOLD_RANKS_PER_NODE": "1",
            "MARIGOLD_PORT": str(free_port()),
            "OMP_NUM_THREADS": "1",
        }

    def submit(self, *arguments: str, **env: str) -> subprocess.Popen[bytes]:
        # A copy elsewhere, as slurmd makes it.
        copy = self._log.parent / "slurm_script"
        copy.write_bytes(SCRIPT.read_bytes())
        with self._said.open("w") as said:
            return subprocess.Popen(
                ["bash", str(copy), *arguments],
                env={**self._env, **env},
                cwd=self._log.parent,
                stdout=said,
                stderr=subprocess.STDOUT,
            )

    def said(self) -> str:
        return self._said.read_text()

    def calls(self, start: str) -> list[str]:
        text = self._log.read_text() if self._log.exists() else ""
        return [line for line in text.splitlines() if line.startswith(start)]


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def _ended(job: subprocess.Popen[bytes], cluster: Cluster) -> int:
    # Idle for longer than a rank that is refused leaves the word to the first one.
    try:
        with watched(job, idle_s=13):
            return job.wait()
    finally:
        print(cluster.said())


def _long_run(folder: Path) -> Path:
    """A config whose run takes far longer than a test."""
    tree = yaml.safe_load(default_setup(folder).read_text())
    tree["run"]["epochs"] = 10_000
    return write_config(tree, folder / "long.yaml")


def _wait_for_steps(run: Path, job: subprocess.Popen[bytes], cluster: Cluster) -> None:
    with watched(job):
        while not (run / "metrics.jsonl").exists() or not (run / "metrics.jsonl").stat().st_size:
            assert job.poll() is None, cluster.said()
            time.sleep(0.1)


def test_two_nodes_train_as_one_job(cluster: Cluster, tmp_path: Path) -> None:
    config = default_setup(tmp_path, rows=1000)
    job = cluster.submit("--config", str(config))
    assert _ended(job, cluster) == 0, cluster.said()
    found = summary(tmp_path / "runs/test")
    assert (found["status"], found["world_size"]) == ("done", 2)
    [srun] = cluster.calls("srun ")
    assert "--nodes=2 --ntasks=2 --ntasks-per-node=1 " in srun
    assert not cluster.calls("scontrol requeue")


def _stopped(cluster: Cluster, folder: Path, **env: str) -> int:
    """The step at which a job is stopped that would have gone on for long."""
    run = folder / "runs/test"
    job = cluster.submit("--config", str(_long_run(folder)), **env)
    _wait_for_steps(run, job, cluster)
    job.send_signal(signal.SIGTERM)  # to the batch script alone: --signal=B:TERM
    assert _ended(job, cluster) == 143
    assert cluster.calls("srun-TERM") == ["srun-TERM"]
    stopped = summary(run)
    assert (stopped["status"], stopped["exit_code"]) == ("stopped", 143)
    return stopped["step"]


@pytest.mark.slow
def test_a_stop_saves_and_requeues(cluster: Cluster, tmp_path: Path) -> None:
    assert _stopped(cluster, tmp_path) > 0
    assert cluster.calls("scontrol requeue") == ["scontrol requeue 4711"]


@pytest.mark.slow
def test_a_restart_goes_on_until_no_restart_is_left(cluster: Cluster, tmp_path: Path) -> None:
    """Slurm starts the same script again, and it goes on from the save."""
    stop = AtStep(3, 1, ask_to_stop)
    assert codes(launch_train(_long_run(tmp_path), faults=(stop,))) == [143, 143]
    (tmp_path / "runs/test/metrics.jsonl").rename(tmp_path / "before.jsonl")
    step = _stopped(cluster, tmp_path, SLURM_RESTART_COUNT="20")
    assert step > 4
    first = strict_json((tmp_path / "runs/test/metrics.jsonl").read_text().splitlines()[0])
    assert first["step"] > 4
    assert "20 times are enough" in cluster.said()
    assert not cluster.calls("scontrol requeue")


def test_a_wrong_config_ends_the_job_before_any_node_begins(
    cluster: Cluster, tmp_path: Path
) -> None:
    tree = config_tree(tmp_path / "log", tmp_path / "runs")
    tree["run"]["stepps"] = 3
    job = cluster.submit("--config", str(write_config(tree, tmp_path / "config.yaml")))
    assert _ended(job, cluster) == 2
    assert "run.stepps" in cluster.said()
    assert not cluster.calls("srun")


def test_a_failure_after_an_older_stop_is_no_stop(cluster: Cluster, tmp_path: Path) -> None:
    """The summary of a stopped start must not requeue a start that is refused, again and again."""
    config = default_setup(tmp_path, rows=1000)
    run = tmp_path / "runs/test"
    run.mkdir(parents=True)
    (run / "summary.json").write_text('{"status": "stopped", "exit_code": 143}')
    (tmp_path / "log/dt=2024-01-01/part-00000.parquet").write_bytes(b"no Parquet file")
    job = cluster.submit("--config", str(config))
    assert _ended(job, cluster) == 1, cluster.said()
    assert not cluster.calls("scontrol requeue")


def test_the_limits_that_the_script_asks_for_fit_together() -> None:
    lines = SCRIPT.read_text().splitlines()
    options = [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH ")]
    assert "--signal=B:TERM@120" in options
    assert "--requeue" in options
    assert "--open-mode=append" in options  # a restart must not wipe the log of the stop
    first_command = next(i for i, line in enumerate(lines) if line and line[0] != "#")
    # sbatch reads options only up to the first command.
    assert not [line for line in lines[first_command:] if line.startswith("#SBATCH")]
