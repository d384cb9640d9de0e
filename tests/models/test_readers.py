"""features[].tasks: what is kept from a task reaches neither its prediction nor its gradient.

Shapes: B rows, R width of the pooled embeddings, N ids of the sequence.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from marigold_rec.config.checks import cross_field_problems
from marigold_rec.config.dumping import dump_config
from marigold_rec.config.loading import load_config
from marigold_rec.config.schema import Config
from marigold_rec.inputs import Inputs, Jagged
from marigold_rec.network import Network
from models import build_network

_TRUNKS: list[dict[str, Any]] = [
    {"name": "shared_bottom", "bottom_layers": [12, 6]},
    {"name": "mmoe", "experts": 3, "expert_layers": [12, 6]},
    {"name": "ple", "levels": 1, "expert_layers": [6]},
    {"name": "ple", "levels": 3, "task_experts": 2, "expert_layers": [12, 6]},
]
_INTERACTIONS = [[], ["dcn_v2"], ["dcn_v2", "fm"]]
_B = 40
_USER, _PLACE, _ITEM = slice(0, 8), slice(8, 12), slice(12, 20)


def _config(
    trunk: dict[str, Any],
    interactions: list[str],
    user: list[str] | None,
    item: list[str] | None,
    clicks: list[str] | None,
) -> Config:
    return Config.model_validate(
        {
            "features": [
                {"name": "user", "kind": "hash", "rows": 9, "dim": 8, "tasks": user},
                {"name": "place", "kind": "hash", "rows": 9, "dim": 4},
                {"name": "item", "kind": "hash", "rows": 9, "dim": 8, "tasks": item},
                {"name": "seen", "kind": "hash", "rows": 9, "dim": 8},
                {"name": "clicks", "kind": "dense", "tasks": clicks},
            ],
            "tasks": [{"name": name, "kind": "binary", "label": name} for name in ("a", "b", "c")],
            "model": {
                "trunk": trunk,
                "tower_layers": [4],
                "sequences": {"seen": {"name": "target_attention", "query": ["item"]}},
                "interactions": [{"name": name} for name in interactions],
            },
        }
    )


def _inputs() -> Inputs:
    torch.manual_seed(3)
    offsets = torch.arange(_B + 1)
    leaves = [torch.randn(_B, 20), torch.randn(_B, 1), torch.randn(_B, 8)]
    pooled_BR, dense_BD, values_NW = (leaf.double().requires_grad_() for leaf in leaves)
    return Inputs(pooled_BR, dense_BD, {"seen": Jagged(values_NW, offsets)})


def _gradients(network: Network, inputs: Inputs, task: int) -> dict[str, Tensor]:
    leaves = [inputs.pooled_BR, inputs.dense_BD, inputs.sequences["seen"].values_NW]
    found = torch.autograd.grad(network(inputs)[task].sum(), leaves, materialize_grads=True)
    pooled_BR, dense_BD, values_NW = (gradient.abs() for gradient in found)
    return {
        "user": pooled_BR[:, _USER],
        "place": pooled_BR[:, _PLACE],
        "item": pooled_BR[:, _ITEM],
        "seen": values_NW,
        "clicks": dense_BD,
    }


@pytest.mark.parametrize("interactions", _INTERACTIONS, ids="-".join)
@pytest.mark.parametrize("trunk", _TRUNKS, ids=lambda t: f"{t['name']}-{t.get('levels', '')}")
def test_a_feature_reaches_its_tasks_alone(trunk: dict[str, Any], interactions: list[str]) -> None:
    torch.manual_seed(0)
    readers = {"user": ["b", "c"], "item": ["c"], "clicks": ["a"]}
    network = build_network(_config(trunk, interactions, *readers.values())).double()
    for parameter in network.parameters():  # so that no unit is dead, at start or by chance
        torch.nn.init.uniform_(parameter, -0.1, 0.3)
    inputs = _inputs()
    # What attends with the item is read by those that may read it.
    readers |= {"seen": ["c"], "place": ["a", "b", "c"]}
    for number, task in enumerate(network.tasks):
        for feature, gradient in _gradients(network, inputs, number).items():
            assert bool(gradient.any()) == (task in readers[feature]), (task, feature)


@pytest.mark.parametrize("trunk", _TRUNKS, ids=lambda t: f"{t['name']}-{t.get('levels', '')}")
def test_all_tasks_named_is_none_named(trunk: dict[str, Any]) -> None:
    every = ["a", "b", "c"]
    states = []
    for readers in (None, every):
        torch.manual_seed(0)
        config = _config(trunk, ["dcn_v2"], readers, readers, readers)
        assert cross_field_problems(config) == []
        states.append(build_network(config).state_dict())
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_an_unknown_task_and_a_task_that_reads_nothing_are_refused() -> None:
    trunk = _TRUNKS[0]
    problems = cross_field_problems(_config(trunk, [], ["a", "bb"], None, None))
    assert [line.partition(":")[0] for line in problems] == ["features.user.tasks"]
    assert "'bb'" in problems[0]
    config = _config(trunk, [], ["a"], ["a"], ["a"])
    features = tuple(f.model_copy(update={"tasks": ("a", "b")}) for f in config.features)
    problems = cross_field_problems(config.model_copy(update={"features": features}))
    assert [line.partition(":")[0] for line in problems] == ["tasks.c"]


def test_a_single_task_reads_what_it_reads_among_others(tmp_path: Path) -> None:
    whole = _config(_TRUNKS[1], ["dcn_v2"], ["b", "c"], ["c"], None)
    only = whole.with_only_task("a")
    file = tmp_path / "config.yaml"
    file.write_text(dump_config(only))
    assert load_config(file) == only  # as a study's runs read it
    torch.manual_seed(0)
    network = build_network(only).double()
    for parameter in network.parameters():
        torch.nn.init.uniform_(parameter, -0.1, 0.3)
    read = {name for name, g in _gradients(network, _inputs(), 0).items() if bool(g.any())}
    assert read == {"place", "clicks"}
