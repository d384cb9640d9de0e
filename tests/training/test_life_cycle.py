"""Evicted rows begin anew when a run begins with an older model: exactly those, on any cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from jobs.assembly.model import network_layout
from marigold_rec.config import load_config
from marigold_rec.errors import CheckpointError
from marigold_rec.sharding.initialize import table_rows
from marigold_rec.training.state import TrainState
from marigold_rec.training.warm_start import plan_lines
from marigold_rec.transforms.file_list import write_file_list
from marigold_rec.transforms.row_bits import RowBits, row_bits_bytes
from tests.support.ranks import run_ranks
from tests.support.runs import Run, click_log, config_tree, with_run, write_config
from tests.support.runs import write_days as written_days

ROWS = 401
WEIGHT = "model/embeddings.ebc.embedding_bags.{}.weight"


def _everything(run: Run) -> dict[str, Tensor]:
    """By name and not in turn: a rank names the sums of its own tables only. Collective."""
    state: TrainState = run.trainer._state
    mine = {n: _pieces(t) for n, t in state.tensors(with_random=False).items()}
    ranks: list[dict[str, list[tuple[tuple[int, ...], Tensor]]]] = [{}] * run.ranks.world_size
    dist.all_gather_object(ranks, mine, group=run.ranks.control)
    found: dict[str, Tensor] = {}
    for name in {name for each in ranks for name in each}:
        pieces = [piece for each in ranks for piece in each.get(name, [])]
        ndim = pieces[0][1].ndim
        shape = [max(at[d] + part.shape[d] for at, part in pieces) for d in range(ndim)]
        whole = torch.full(shape, torch.nan, dtype=pieces[0][1].dtype)
        for at, part in pieces:
            whole[tuple(slice(o, o + n) for o, n in zip(at, part.shape, strict=True))] = part
        found[name] = whole
    return found


def _pieces(tensor: Tensor) -> list[tuple[tuple[int, ...], Tensor]]:
    if not hasattr(tensor, "to_local"):
        return [((0,) * tensor.ndim, tensor.detach().clone())]
    local = tensor.to_local()  # pyright: ignore[reportAttributeAccessIssue]
    pairs = zip(local.local_offsets(), local.local_shards(), strict=False)
    return [(tuple(offset), shard.detach().clone()) for offset, shard in pairs]


def _train(config: Path) -> dict[str, Tensor]:
    def work(run: Run) -> dict[str, Tensor]:
        run.train()
        return _everything(run)

    return with_run(config, (), work)


def _start(old: Path, new: Path) -> tuple[list[str], dict[str, int], dict[str, Tensor]]:
    then = load_config(old)

    def work(run: Run) -> tuple[list[str], dict[str, int], dict[str, Tensor]]:
        root = Path(then.run.dir) / then.run.name / "checkpoints"
        [step] = root.glob("step-*")
        found = run.store.find(str(step))
        assert found is not None
        plan = run.trainer.warm_start(found, then, network_layout(then))
        return list(plan_lines(plan)), dict(plan.reset), _everything(run)

    return with_run(new, (), work)


def _sums(tensors: dict[str, Tensor], table: str) -> Tensor:
    [key] = [k for k in tensors if k.endswith(f"/{table}.momentum1")]
    return tensors[key]


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("evicting")
    log = {"2024-01-01": click_log(1500), "2024-01-02": click_log(200, seed=1)}
    tree = config_tree(written_days(folder / "log", log), folder / "old")
    tree["features"][0]["dim"] = 32  # wide enough to be cut by columns
    return folder, tree


def _new(
    folder: Path, tree: dict[str, Any], runs: Path, evicted: np.ndarray, sharding: str
) -> Path:
    rows = runs / "rows"
    rows.mkdir(parents=True)
    (rows / "evicted.npz").write_bytes(row_bits_bytes({"user": RowBits.of(evicted)}))
    write_file_list(rows)
    new = tree | {
        "run": {**tree["run"], "dir": str(runs), "seed": 9},
        "sharding": {"tables": {"user": sharding}},
        "life_cycle": {"tables": {"user": {"evict_after_days": 3}}, "rows": str(rows)},
    }
    return write_config(new, runs / "new.yaml")


@pytest.mark.parametrize(
    ("num_ranks", "sharding"),
    [(1, "table_wise"), (2, "table_wise"), (2, "row_wise"), (2, "column_wise")],
)
def test_exactly_the_evicted_rows_begin_anew(
    setting: tuple[Path, dict[str, Any]], tmp_path: Path, num_ranks: int, sharding: str
) -> None:
    folder, tree = setting
    tree = tree | {"run": {**tree["run"], "dir": str(tmp_path / "old")}}
    old = write_config(tree | {"sharding": {"tables": {"user": sharding}}}, tmp_path / "old.yaml")
    evicted = np.random.default_rng(4).random(ROWS) < 0.2
    evicted[[0, ROWS - 1]] = True
    new = _new(folder, tree, tmp_path / "new", evicted, sharding)
    was = run_ranks(_train, num_ranks, old, init_group=False)[0]
    lines, reset, now = run_ranks(_start, num_ranks, old, new, init_group=False)[0]

    [table] = [t for t in load_config(new).tables if t.name == "user"]
    fresh = table_rows(table, 9, 0, ROWS)
    gone = torch.from_numpy(evicted)
    weight = WEIGHT.format("user")
    assert torch.equal(now[weight][gone], fresh[gone])
    assert torch.equal(now[weight][~gone], was[weight][~gone])
    assert not torch.isclose(was[weight][gone], fresh[gone]).all(1).any(), "they had been trained"
    shards = len(_sums(was, "user")) // ROWS
    assert (shards > 1) == (sharding == "column_wise")
    then, sums = (_sums(tensors, "user").reshape(shards, ROWS) for tensors in (was, now))
    assert (sums[:, gone] == 0).all()
    assert torch.equal(sums[:, ~gone], then[:, ~gone])
    assert (then[:, gone] > 0).any()
    others = [n for n in was if "user" not in n]
    assert len(others) > 20
    assert [n for n in others if not torch.equal(was[n], now[n])] == []
    assert reset == {"user": int(evicted.sum())}
    assert lines[-1] == f"  evicted  tables.user: {evicted.sum()} rows begin anew"


@pytest.mark.parametrize("what", ["missing", "of another size", "another night's"])
def test_bits_that_do_not_fit_are_refused_on_all_ranks(
    setting: tuple[Path, dict[str, Any]], tmp_path: Path, what: str
) -> None:
    folder, tree = setting
    tree = tree | {"run": {**tree["run"], "dir": str(tmp_path / "old"), "steps": 1}}
    old = write_config(tree, tmp_path / "old.yaml")
    new = _new(
        folder,
        tree,
        tmp_path / "new",
        np.zeros(ROWS + (what == "of another size"), bool),
        "row_wise",
    )
    if what == "missing":
        (tmp_path / "new" / "rows" / "evicted.npz").unlink()
    if what == "another night's":
        others = row_bits_bytes({"user": RowBits.of(np.ones(ROWS, bool))})
        (tmp_path / "new" / "rows" / "evicted.npz").write_bytes(others)
    run_ranks(_train, 2, old, init_group=False)
    with pytest.raises(CheckpointError, match=r"evicted.npz: .*do the night again with --from"):
        run_ranks(_start, 2, old, new, init_group=False)


def test_nothing_changes_where_rows_are_only_counted(
    setting: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    _, tree = setting
    tree = tree | {"run": {**tree["run"], "dir": str(tmp_path / "old"), "steps": 9}}
    plain = write_config(tree, tmp_path / "old.yaml")
    was = run_ranks(_train, 1, plain, init_group=False)[0]
    counted = tree | {
        "run": {**tree["run"], "dir": str(tmp_path / "counted")},
        "life_cycle": {"tables": {"user": {}}, "rows": str(tmp_path / "no rows are needed")},
    }
    config = write_config(counted, tmp_path / "counted.yaml")
    now = run_ranks(_train, 1, config, init_group=False)[0]
    assert [name for name in was if not torch.equal(was[name], now[name])] == []
    for run in ("old", "counted"):
        [step] = (tmp_path / run).glob("test/checkpoints/step-*")
        assert not (step / "admitted.npz").exists()
    _, reset, begun = run_ranks(_start, 1, plain, config, init_group=False)[0]
    assert reset == {}
    assert [name for name in was if not torch.equal(was[name], begun[name])] == []
