"""Two torchrun agents, one rank each, that find each other on the loopback: two nodes, for real."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.launches import checkpoint_tensors, checkpoints, strict_json, summary
from tests.support.patience import watched
from tests.support.ranks import free_port
from tests.support.runs import default_setup
from tests.support.torchrun import Torchrun

# The same number of threads everywhere: sums of floats depend on it.
_ALIKE = ("distributed.threads_per_rank=1", "distributed.timeout_s=60")


def _train(agents: Mapping[Path, tuple[str, ...]], *arguments: str) -> None:
    """Until all agents (log -> torchrun's own options) have ended well, or one has not."""
    command = ("launch/train.py", *arguments)
    running = [Torchrun(*options, *command, log=log) for log, options in agents.items()]
    try:
        with watched(*running):
            while None in (codes := [agent.poll() for agent in running]) and not any(codes):
                time.sleep(0.05)
    finally:
        for agent in running:
            agent.kill()
            agent.wait()
    assert codes == [0] * len(running)


def _two_nodes(arguments: tuple[str, ...], folder: Path) -> None:
    endpoint = f"127.0.0.1:{free_port()}"
    options = (
        "--nnodes=2",
        "--nproc-per-node=1",
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint={endpoint}",
        "--rdzv-id=test",
        # The host's own name may lead nowhere in a container.
        "--local-addr=127.0.0.1",
    )
    agents = {folder / f"node-{n}.log": (*options, f"--node-rank={n}") for n in range(2)}
    _train(agents, *arguments)


def _one_node(arguments: tuple[str, ...], folder: Path) -> None:
    _train({folder / "one-node.log": ("--standalone", "--nproc-per-node=2")}, *arguments)


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
    arguments = ("--config", str(config), *settings)
    _one_node(arguments, tmp_path)
    _two_nodes((*arguments, "run.name=test_two"), tmp_path)
    _compare(tmp_path, tmp_path / "runs", "test")


@pytest.mark.slow
def test_two_nodes_equal_one_node_on_the_demo(tmp_path: Path) -> None:
    arguments = (
        "--config",
        "configs/ctr_cvr.yaml",
        f"run.dir={tmp_path}/runs",
        "run.steps=100",
        "run.device=cpu",
        *_ALIKE,
    )
    _one_node(arguments, tmp_path)
    _two_nodes((*arguments, "run.name=ctr_cvr_two"), tmp_path)
    _compare(tmp_path, tmp_path / "runs", "ctr_cvr")
