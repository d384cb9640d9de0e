"""A new run that begins with an older model, under a changed config, on real ranks.

What every id and every task predicts must be what the older model predicted of it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from jobs.assembly.model import network_layout
from marigold_rec.config import load_config
from marigold_rec.errors import CheckpointError
from marigold_rec.training.state import TrainState
from marigold_rec.training.warm_start import plan_lines
from tests.support.ranks import run_ranks
from tests.support.runs import Run, click_log, config_tree, with_run, write_config, write_days

Change = Callable[[dict[str, Any]], None]


def _feature(tree: dict[str, Any], name: str) -> dict[str, Any]:
    return next(f for f in tree["features"] if f["name"] == name)


def _setup(folder: Path, change: Change, base: Change) -> tuple[Path, Path]:
    data = write_days(
        folder / "log",
        {"2024-01-01": click_log(1500), "2024-01-02": click_log(700, seed=1)},
    )
    old = config_tree(data, folder / "old")
    base(old)
    new = copy.deepcopy(old) | {"run": {**old["run"], "dir": str(folder / "new"), "seed": 9}}
    change(new)
    return write_config(old, folder / "old.yaml"), write_config(new, folder / "new.yaml")


def _train(config: Path) -> dict[str, Tensor]:
    def work(run: Run) -> dict[str, Tensor]:
        run.train()
        return {"predictions": run.predictions()} | _everything(run)

    return with_run(config, ("data.eval_batch_size=64",), work)


def _everything(run: Run) -> dict[str, Tensor]:
    from tests.support.runs import gathered

    state: TrainState = run.trainer._state
    return {n: gathered(t, run.ranks) for n, t in state.tensors(with_random=False).items()}


def _start(old: Path, new: Path) -> tuple[list[str], dict[str, Tensor], dict[str, Tensor]]:
    then = load_config(old)

    def work(run: Run) -> tuple[list[str], dict[str, Tensor], dict[str, Tensor]]:
        before = _everything(run)
        root = Path(then.run.dir) / then.run.name / "checkpoints"
        [step] = root.glob("step-*")
        found = run.store.find(str(step))
        assert found is not None
        plan = run.trainer.warm_start(found, then, network_layout(then))
        after = {"predictions": run.predictions()} | _everything(run)
        assert run.trainer.step == 0
        return list(plan_lines(plan)), before, after

    return with_run(new, ("data.eval_batch_size=64",), work)


def _run(
    folder: Path, change: Change, num_ranks: int = 2, base: Change | None = None
) -> tuple[dict[str, Tensor], list[str], dict[str, Tensor], dict[str, Tensor]]:
    """(what was, the printed plan, before the start, after it), of rank 0. `base`: of both."""
    old, new = _setup(folder, change, base or _nothing)
    was = run_ranks(_train, num_ranks, old, init_group=False)
    found = run_ranks(_start, num_ranks, old, new, init_group=False)
    was[0]["predictions"] = torch.cat([w["predictions"] for w in was])
    lines, before, after = found[0]
    after["predictions"] = torch.cat([a["predictions"] for _, _, a in found])
    return was[0], lines, before, after


def _table(name: str) -> str:
    return f"model/embeddings.ebc.embedding_bags.{name}.weight"


def _sums(tensors: dict[str, Tensor], name: str) -> Tensor:
    [key] = [k for k in tensors if k.endswith(f"/{name}.momentum1")]
    return tensors[key]


def _nothing(tree: dict[str, Any]) -> None:
    del tree


@pytest.mark.parametrize("num_ranks", [1, 2])
def test_the_same_config_takes_everything_over(tmp_path: Path, num_ranks: int) -> None:
    was, lines, before, after = _run(tmp_path, _nothing, num_ranks)
    assert len(lines) == 1
    different = [name for name, tensor in was.items() if not torch.equal(tensor, after[name])]
    assert different == []
    assert not torch.equal(before[_table("user")], after[_table("user")])


def test_a_hashed_table_that_grew_to_a_multiple_keeps_every_id(tmp_path: Path) -> None:
    def double(tree: dict[str, Any]) -> None:
        _feature(tree, "user")["rows"] *= 2
        tree["sharding"] = {"tables": {"user": "row_wise"}}

    was, lines, _, after = _run(tmp_path, double)
    table, rows = _table("user"), len(was[_table("user")])
    assert torch.equal(after[table], was[table].repeat(2, 1))
    assert torch.equal(_sums(after, "user"), _sums(was, "user").repeat(2))
    assert torch.equal(after["predictions"], was["predictions"])
    assert any("resized  tables.user" in x and f"{rows}x" in x for x in lines), lines


_STAGES = {
    "mmoe": {"trunk": {"name": "mmoe", "experts": 3, "expert_layers": [16, 8]}},
    "ple, whose shared gates mix the experts of all tasks": {
        "trunk": {"name": "ple", "levels": 2, "task_experts": 2, "expert_layers": [8]}
    },
    "a sequence and interactions": {
        "sequences": {"history": {"name": "target_attention", "query": ["user"]}},
        "interactions": [{"name": "dcn_v2", "rank": 4}, {"name": "dot", "width": 4}],
        "trunk": {"name": "shared_bottom", "bottom_layers": [8]},
    },
}


@pytest.mark.parametrize("stages", _STAGES)
def test_tasks_and_features_follow_their_names(tmp_path: Path, stages: str) -> None:
    def shuffle(tree: dict[str, Any]) -> None:
        tree["tasks"] = [tree["tasks"][0], tree["tasks"][2], tree["tasks"][1]]  # ctr is given
        tree["features"] = tree["features"][::-1]

    def same(tree: dict[str, Any]) -> None:
        tree["model"] = _STAGES[stages] | {"tower_layers": [8]}

    was, lines, _, after = _run(tmp_path, shuffle, base=same)
    torch.testing.assert_close(
        after["predictions"], was["predictions"][:, [0, 2, 1]], rtol=1e-5, atol=1e-6
    )
    assert any("balancer" in line and "begins anew" in line for line in lines)


def test_a_task_and_a_feature_more_and_a_task_less(tmp_path: Path) -> None:
    def change(tree: dict[str, Any]) -> None:
        gone = tree["tasks"].pop(1)
        tree["tasks"].append({**gone, "name": "again"})
        tree["features"].append({"name": "row", "kind": "dense"})
        tree["warm_start"] = {"new": ["network.heads.2"]}

    was, lines, before, after = _run(tmp_path, change)
    head = "model/objective.network.heads.2.linear.weight"
    assert torch.equal(after[head], before[head])
    kept = "model/objective.network.heads.1.linear.weight"
    assert torch.equal(after[kept], was["model/objective.network.heads.2.linear.weight"])
    assert any("dropped" in line or "heads.2" in line for line in lines)
    stack = "model/objective.network.towers.layers.0.weight"
    assert torch.equal(after[stack][0], was[stack][0])
    assert torch.equal(after[stack][1], was[stack][2])
    assert torch.equal(after[stack][2], before[stack][2])


def _wide(tree: dict[str, Any]) -> None:
    _feature(tree, "user")["dim"] = 16


def _odd(tree: dict[str, Any]) -> None:
    _feature(tree, "user")["rows"] += 1


def _layers(tree: dict[str, Any]) -> None:
    tree["model"]["tower_layers"] = [12]


def _more(tree: dict[str, Any]) -> None:
    tree["features"].append({"name": "extra", "kind": "hash", "column": "item", "rows": 50})


def _typo(tree: dict[str, Any]) -> None:
    tree["warm_start"] = {"new": ["tables.usr"]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_wide, "tables.user: its rows were"),
        (_odd, "are no multiple of"),
        (_layers, "network.towers.layers.0.weight: it was"),
        (_more, "tables.extra: the checkpoint has none; name it in warm_start.new"),
        (_typo, "tables.usr is no table or parameter"),
    ],
)
def test_what_is_missing_is_refused_unless_named(tmp_path: Path, change: Change, said: str) -> None:
    with pytest.raises(CheckpointError, match="does not fit this config") as refused:
        _run(tmp_path, change, num_ranks=1)
    assert said in str(refused.value)


def test_what_is_named_begins_anew(tmp_path: Path) -> None:
    def change(tree: dict[str, Any]) -> None:
        _odd(tree)
        tree["warm_start"] = {"new": ["tables.user"], "optimizer": False}

    was, lines, before, after = _run(tmp_path, change, num_ranks=1)
    assert torch.equal(after[_table("user")], before[_table("user")])
    assert torch.equal(after[_table("item")], was[_table("item")])
    assert _sums(after, "item").abs().max() == 0
    assert any(line.split()[:2] == ["new", "tables.user"] for line in lines)
