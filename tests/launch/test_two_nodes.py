"""Two torchrun agents, one rank each, that find each other on the loopback: two nodes, for real."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.launches import (
    checkpoint_tensors,
    checkpoints,
    codes,
    launch_train,
    strict_json,
    summary,
)
from tests.support.patience import watched
from tests.support.ranks import free_port
from tests.support.runs import default_setup

# The same number of threads everywhere: sums of floats depend on it.
_ALIKE = ("distributed.threads_per_rank=1", "distributed.timeout_s=60")


def _torchrun(rendezvous: tuple[str, ...], arguments: tuple[str, ...], log: Path) -> Any:
    command = (sys.executable, "-m", "torch.distributed.run", *rendezvous)
    with log.open("w") as said:
        return subprocess.Popen(
            [*command, "launch/train.py", *arguments], stdout=said, stderr=subprocess.STDOUT
        )


def _wait(agents: list[Any], logs: list[Path], timeout_s: float) -> None:
    """Until all have ended, or one has failed; what they said if they did not end well."""
    try:
        with watched(*agents, limit_s=timeout_s):
            while any(agent.poll() is None for agent in agents):
                if any(agent.poll() for agent in agents):
                    break
                time.sleep(0.1)
        codes = [agent.poll() for agent in agents]
    finally:
        for agent in agents:
            if agent.poll() is None:
                agent.terminate()  # passes it on to its ranks, as a kill would not
                try:
                    agent.wait(timeout=20)
                except subprocess.TimeoutExpired:
                    agent.kill()
                    agent.wait()
    said = "\n".join(f"--- {log.name}\n{log.read_text()}" for log in logs)
    assert codes == [0] * len(agents), f"exit codes {codes} after {timeout_s} s\n{said}"


def _two_nodes(arguments: tuple[str, ...], folder: Path, timeout_s: float) -> None:
    endpoint = f"127.0.0.1:{free_port()}"
    agents, logs = [], []
    for node in range(2):
        rendezvous = (
            "--nnodes=2",
            "--nproc-per-node=1",
            f"--node-rank={node}",
            "--rdzv-backend=c10d",
            f"--rdzv-endpoint={endpoint}",
            "--rdzv-id=test",
            # The host's own name may lead nowhere in a container.
            "--local-addr=127.0.0.1",
        )
        logs.append(folder / f"node-{node}.log")
        agents.append(_torchrun(rendezvous, arguments, logs[-1]))
    _wait(agents, logs, timeout_s)


def _one_node(arguments: tuple[str, ...], folder: Path, timeout_s: float) -> None:
    log = folder / "one-node.log"
    agent = _torchrun(("--standalone", "--nproc-per-node=2"), arguments, log)
    _wait([agent], [log], timeout_s)


def _figures(run: Path) -> list[dict[str, float]]:
    """Every scalar that does not measure the machine, by logging step, and those of the end."""
    lines = [strict_json(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    found = [*lines, {k: v for k, v in summary(run).items() if k.startswith("eval/")}]
    return [
        {name: value for name, value in line.items() if not name.startswith(("perf/", "memory/"))}
        for line in found
    ]


def _compare(folder: Path, runs: Path, name: str) -> None:
    one, two = runs / name, runs / f"{name}_two"
    found, expected = _figures(two), _figures(one)
    for line, wanted in zip(found, expected, strict=True):
        assert line.keys() == wanted.keys()
        different = {n: (line[n], wanted[n]) for n in wanted if line[n] != wanted[n]}
        assert not different, f"step {wanted.get('step')}"
    assert "train/loss/ctr" in expected[0]
    assert "eval/auc/ctr" in expected[-1]
    assert summary(two)["world_size"] == 2
    [last] = checkpoints(one)
    assert checkpoints(two) == [last]
    tensors = [checkpoint_tensors(run / "checkpoints" / last, folder) for run in (one, two)]
    assert tensors[0].keys() == tensors[1].keys()
    assert all(tensors[0][key].equal(tensors[1][key]) for key in tensors[0])


def test_two_nodes_equal_one_node_to_the_bit(tmp_path: Path) -> None:
    config = default_setup(tmp_path, rows=1000)
    settings = (
        "sharding.tables={user: row_wise, item: table_wise, price_band: table_wise}",
        *_ALIKE,
    )
    assert codes(launch_train(config, *settings)) == [0, 0]
    arguments = ("--config", str(config), *settings, "run.name=test_two")
    _two_nodes(arguments, tmp_path, timeout_s=60)
    _compare(tmp_path, tmp_path / "runs", "test")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_nodes_equal_one_node_on_the_demo(tmp_path: Path) -> None:
    arguments = (
        "--config",
        "configs/ctr_cvr.yaml",
        f"run.dir={tmp_path}/runs",
        "run.steps=100",
        "run.device=cpu",
        *_ALIKE,
    )
    _one_node(arguments, tmp_path, timeout_s=240)
    _two_nodes((*arguments, "run.name=ctr_cvr_two"), tmp_path, timeout_s=240)
    _compare(tmp_path, tmp_path / "runs", "ctr_cvr")
