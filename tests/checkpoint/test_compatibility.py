"""Which settings may differ between a checkpoint and the run that goes on from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from marigold_rec.checkpoint import config_differences
from marigold_rec.config import Config
from tests.support.runs import config_tree


def _config(**changes: Any) -> Config:
    tree = config_tree(Path("/log"), Path("/runs"))
    for path, value in changes.items():
        *parents, last = path.split("__")
        section = tree
        for name in parents:
            section = section.setdefault(name, {})
        section[last] = value
    return Config.model_validate(tree)


def _differences(then: Config, now: Config) -> list[str]:
    return config_differences(then.model_dump(mode="json"), now)


def test_the_same_config_has_none() -> None:
    assert _differences(_config(), _config()) == []


@pytest.mark.parametrize(
    "change",
    [
        {"run__epochs": 3},
        {"run__steps": 10},
        {"run__name": "other"},
        {"run__dir": "/elsewhere"},
        {"checkpoint__every_n_steps": 5},
        {"checkpoint__keep": 7},
        {"logging__every_n_steps": 1},
        {"distributed__timeout_s": 5},
        {"sharding__default": "row_wise"},
        {"sharding__tables": {"user": "column_wise"}},
        {"data__eval": None},
        {"data__eval_batch_size": 8},
        {"data__reader_threads": 3},
        {"data__verify_checksums": False},
        {"data__path": "/moved/log"},
        {"data__train__path": "/moved/log/train"},
    ],
    ids=str,
)
def test_what_changes_neither_model_nor_row_order_is_free(change: dict[str, Any]) -> None:
    assert _differences(_config(), _config(**change)) == []


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"run__seed": 4}, "run.seed: 3 then, 4 now"),
        ({"data__batch_size": 32}, "data.batch_size: 64 then, 32 now"),
        ({"data__shuffle_rows": 0}, "data.shuffle_rows: 512 then, 0 now"),
        ({"data__weight": "price"}, "data.weight: None then, 'price' now"),
        (
            {"model__trunk__expert_layers": [8]},
            "model.trunk.expert_layers: [16, 8] then, [8] now",
        ),
        ({"optimizer__sparse": {"lr": 0.1}}, "optimizer.sparse.lr: 0.05 then, 0.1 now"),
        ({"balancer__probe__every_n_steps": 4}, "balancer.probe.every_n_steps: 3 then, 4 now"),
    ],
    ids=str,
)
def test_what_matters_is_named_with_both_values(change: dict[str, Any], line: str) -> None:
    assert _differences(_config(), _config(**change)) == [line]


def test_features_are_named_by_their_names() -> None:
    then = _config()
    tree = config_tree(Path("/log"), Path("/runs"))
    tree["features"][0]["rows"] = 500
    del tree["features"][3]
    lines = _differences(then, Config.model_validate(tree))
    assert "features.user.rows: 401 then, 500 now" in lines
    assert "features.price_band.boundaries: [1.0, 3.0, 9.0] then, 'absent' now" in lines
    assert lines[0] == (
        "features: ['user', 'item', 'history', 'price_band', 'price'] then, "
        "['user', 'item', 'history', 'price'] now"
    )
    assert all(line.startswith(("features.user.", "features.price_band.")) for line in lines[1:])


def test_the_order_of_features_and_tasks_matters() -> None:
    """Heads, task weights and dense inputs follow it: tensors would land in the wrong places."""
    for section in ("tasks", "features"):
        tree = config_tree(Path("/log"), Path("/runs"))
        names = [entry["name"] for entry in tree[section]]
        tree[section] = tree[section][::-1]
        found = _differences(_config(), Config.model_validate(tree))
        assert found == [f"{section}: {names} then, {names[::-1]} now"]
