"""SharedBottom, MMoE and PLE against plain loops over experts, and properties they all have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from marigold_rec.config.components import TRUNKS, component_class
from marigold_rec.config.schema import Config
from marigold_rec.contracts import Head
from marigold_rec.inputs import Inputs
from marigold_rec.network import Network
from models import build_network
from models.gates import Gates
from models.ple import CGC, PLE
from models.stacked_mlp import StackedLinear, StackedMLP

MODELS: dict[str, dict[str, Any]] = {
    "shared_bottom": {"name": "shared_bottom", "bottom_layers": [12, 6]},
    "mmoe": {"name": "mmoe", "experts": 3, "expert_layers": [12, 6]},
    "mmoe_no_towers": {"name": "mmoe", "experts": 3, "expert_layers": [6], "tower_layers": []},
    "ple": {"name": "ple", "levels": 2, "expert_layers": [12, 6]},
    "ple_deep": {
        "name": "ple",
        "levels": 3,
        "shared_experts": 3,
        "task_experts": 2,
        "expert_layers": [6],
        "tower_layers": [8, 4],
    },
    "ple_one_level": {"name": "ple", "levels": 1, "shared_experts": 1, "expert_layers": [6]},
}
R, D, B = 16, 2, 7


def config(model: dict[str, Any], num_tasks: int = 3, num_dense: int = D) -> Config:
    tasks = [
        {"name": f"t{i}", "kind": ("binary", "duration")[i % 2], "label": f"l{i}"}
        for i in range(num_tasks)
    ]
    features = [
        {"name": "user", "kind": "hash", "rows": 9, "dim": 8},
        {"name": "item", "kind": "hash", "rows": 9, "dim": 4, "table": "goods"},
        {"name": "seen", "kind": "hash", "table": "goods"},
        *({"name": f"d{i}", "kind": "dense"} for i in range(num_dense)),
    ]
    trunk = {key: value for key, value in model.items() if key not in ("tower_layers", "dropout")}
    others = {key: value for key, value in model.items() if key not in trunk}
    tree = {"features": features, "tasks": tasks, "model": {"trunk": trunk, **others}}
    return Config.model_validate(tree)


def inputs(num_dense: int = D, rows: int = B) -> Inputs:
    generator = torch.Generator().manual_seed(5)
    z_BR = torch.randn(rows, R, generator=generator, dtype=torch.float64)
    return Inputs(z_BR, torch.randn(rows, num_dense, generator=generator, dtype=torch.float64))


def single(whole: Inputs) -> Inputs:
    return Inputs(whole.pooled_BR.float(), whole.dense_BD.float())


# Plain references: loops over single experts, written from the papers.


def mlp(stack: nn.Module, number: int, x_BI: Tensor) -> Tensor:
    assert isinstance(stack, StackedMLP)
    for layer in stack.layers:
        assert isinstance(layer, StackedLinear)
        assert layer.bias is not None
        x_BI = torch.relu(x_BI @ layer.weight[number].T + layer.bias[number])
    return x_BI


def gate(gates: nn.Module | None, number: int, x_BI: Tensor) -> Tensor:
    assert isinstance(gates, Gates)
    return torch.softmax(x_BI @ gates.select.weight[number].T, dim=1)


def mix(weights_BE: Tensor, experts: list[Tensor]) -> Tensor:
    assert weights_BE.shape[1] == len(experts)
    return sum((weights_BE[:, e, None] * out for e, out in enumerate(experts)), torch.tensor(0.0))


def towers(network: Any, inputs_T: list[Tensor]) -> list[Tensor]:
    return [
        head(mlp(network.towers, t, x))
        for t, (x, head) in enumerate(zip(inputs_T, network.heads, strict=True))
    ]


def reference(network: Any, model: dict[str, Any], whole: Inputs) -> list[Tensor]:
    x = torch.cat([whole.pooled_BR, whole.dense_BD], dim=1)
    trunk = network.trunk
    num_tasks = len(network.heads)
    if model["name"] == "shared_bottom":
        return towers(network, [mlp(trunk.bottom, 0, x)] * num_tasks)
    if model["name"] == "mmoe":
        outs = [mlp(trunk.experts, e, x) for e in range(model["experts"])]
        return towers(network, [mix(gate(trunk.gates, t, x), outs) for t in range(num_tasks)])
    num_own, num_shared = model.get("task_experts", 1), model.get("shared_experts", 2)
    tasks, shared = [x] * num_tasks, x
    for level in trunk.levels:
        own = [
            [mlp(level.task_experts, t * num_own + n, tasks[t]) for n in range(num_own)]
            for t in range(num_tasks)
        ]
        common = [mlp(level.shared_experts, m, shared) for m in range(num_shared)]
        mixed = [
            mix(gate(level.task_gates, t, tasks[t]), own[t] + common) for t in range(num_tasks)
        ]
        if level.shared_gate is not None:
            everyone = [out for outs in own for out in outs] + common
            shared = mix(gate(level.shared_gate, 0, shared), everyone)
        tasks = mixed
    return towers(network, tasks)


def _weighted_squares(outputs: Sequence[Tensor]) -> Tensor:
    return torch.stack([(i + 1) * output.square().sum() for i, output in enumerate(outputs)]).sum()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("num_tasks", [1, 3])
def test_equals_a_loop_over_experts(name: str, num_tasks: int) -> None:
    network = build_network(config(MODELS[name], num_tasks)).double()
    whole = inputs()
    z_BR = whole.pooled_BR.requires_grad_()
    expected = reference(network, MODELS[name], whole)
    found = network(whole)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)
    parameters = [z_BR, *network.parameters()]
    gradients = [
        torch.autograd.grad(_weighted_squares(out), parameters) for out in (found, expected)
    ]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("num_tasks", [1, 2, 32])
@pytest.mark.parametrize("num_dense", [0, D])
def test_shapes_and_protocols(name: str, num_tasks: int, num_dense: int) -> None:
    network = build_network(config(MODELS[name], num_tasks, num_dense))
    assert type(network.trunk) is component_class(TRUNKS, MODELS[name]["name"])
    assert len(network.task_heads) == num_tasks
    assert all(isinstance(head, Head) for head in network.task_heads)
    for rows in (1, B):
        outputs = network(single(inputs(num_dense, rows)))
        assert network.predict(outputs).shape == (rows, num_tasks)
        assert [tuple(output.shape) for output in outputs] == [(rows, 1)] * num_tasks
        assert all(output.dtype == torch.float32 for output in outputs)


@pytest.mark.parametrize("name", MODELS)
def test_outputs_are_float32_under_autocast(name: str) -> None:
    network = build_network(config(MODELS[name]))
    full = network(single(inputs()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = network(single(inputs()))
    for output, expected in zip(outputs, full, strict=True):
        assert output.dtype == torch.float32
        torch.testing.assert_close(output, expected, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("name", MODELS)
def test_gradient_reaches_every_parameter(name: str) -> None:
    network = build_network(config(MODELS[name]))
    outputs = network(single(inputs(rows=64)))
    _weighted_squares(outputs).backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        for g, part in enumerate(parameter.grad.unbind() if parameter.dim() == 3 else ()):
            assert part.abs().sum() > 0, f"{key}[{g}]"


@pytest.mark.parametrize("name", MODELS)
def test_state_dict_round_trip_and_seed(name: str) -> None:
    torch.manual_seed(1)
    one = build_network(config(MODELS[name]))
    torch.manual_seed(1)
    same = build_network(config(MODELS[name]))
    other = build_network(config(MODELS[name]))
    whole = single(inputs())
    assert all(torch.equal(v, same.state_dict()[k]) for k, v in one.state_dict().items())
    assert not all(torch.equal(v, other.state_dict()[k]) for k, v in one.state_dict().items())
    other.load_state_dict(one.state_dict())
    for a, b in zip(one(whole), other(whole), strict=True):
        assert torch.equal(a, b)


def test_parameter_names_stay() -> None:
    """Checkpoints hold these names: a change of them is a change of format."""
    names = [name for name, _ in build_network(config(MODELS["ple"], 2)).named_parameters()]
    level = [
        f"{part}.layers.{i}.{kind}"
        for part in ("task_experts", "shared_experts")
        for i in range(2)
        for kind in ("weight", "bias")
    ]
    assert names == [
        *(f"trunk.levels.0.{name}" for name in [*level, "task_gates.select.weight"]),
        "trunk.levels.0.shared_gate.select.weight",
        *(f"trunk.levels.1.{name}" for name in [*level, "task_gates.select.weight"]),
        *("towers.layers.0.weight", "towers.layers.0.bias"),
        *(f"heads.{t}.linear.{kind}" for t in range(2) for kind in ("weight", "bias")),
    ]


@pytest.mark.parametrize("name", MODELS)
def test_dropout_acts_in_training_only(name: str) -> None:
    network = build_network(config(MODELS[name] | {"dropout": 0.5}))
    whole = single(inputs())
    assert not torch.equal(network(whole)[0], network(whole)[0])
    network.eval()
    assert torch.equal(network(whole)[0], network(whole)[0])


def test_each_stacked_layer_is_initialised_with_its_own_fan() -> None:
    stack = StackedLinear(16, 64, 32)
    bound = (6 / 64) ** 0.5  # Kaiming uniform, gain sqrt(2)
    for weight_OI in stack.weight.unbind():
        assert 0.95 * bound < weight_OI.abs().max() <= bound
    assert stack.bias is not None
    assert not stack.bias.any()
    assert not torch.equal(stack.weight[0], stack.weight[1])
    gates = StackedLinear(8, 60, 4, bias=False, init="xavier")
    assert gates.bias is None
    for weight_OI in gates.weight.unbind():
        assert 0.9 * (6 / 64) ** 0.5 < weight_OI.abs().max() <= (6 / 64) ** 0.5


@pytest.mark.parametrize("shared", [True, False])
def test_gates_are_shares(shared: bool) -> None:
    gates = Gates(5, 8, 3)
    x = torch.randn(6, 8) if shared else torch.randn(5, 6, 8)
    gates_TBE = gates(x * 100)
    assert gates_TBE.shape == (5, 6, 3)
    assert (gates_TBE >= 0).all()
    torch.testing.assert_close(gates_TBE.sum(-1), torch.ones(5, 6))


def test_task_experts_of_the_last_level_learn_from_their_task_only() -> None:
    """CGC: above, a task's expert hears its own task alone; below, all tasks do."""
    network = build_network(config(MODELS["ple_deep"]))
    trunk = network.trunk
    assert isinstance(trunk, PLE)
    network(single(inputs(rows=64)))[1].square().sum().backward()

    def heard(level: int, part: str) -> list[bool]:
        cgc = trunk.levels[level]
        assert isinstance(cgc, CGC)
        stack = getattr(cgc, part)
        return [bool(w.abs().sum() > 0) for w in stack.layers[0].weight.grad.unbind()]

    assert heard(2, "task_experts") == [False, False, True, True, False, False]
    assert heard(2, "shared_experts") == [True] * 3
    assert heard(1, "task_experts") == [True] * 6
    assert heard(0, "task_experts") == [True] * 6
    last = trunk.levels[2]
    assert isinstance(last, CGC)
    assert last.shared_gate is None
    gate_grads = last.task_gates.select.weight.grad
    assert gate_grads is not None
    assert [bool(g.any()) for g in gate_grads.unbind()] == [False, True, False]


def _parameters(network: Network, *parts: str) -> set[str]:
    return {name for name, _ in network.named_parameters() if name.startswith(parts)}


@pytest.mark.parametrize(
    ("name", "shared", "by_output"),
    [
        ("shared_bottom", ("trunk.",), ("towers.",)),
        ("mmoe", ("trunk.experts.",), ("trunk.gates.", "towers.")),
        (
            "ple",
            ("trunk.levels.0.task_experts.", "trunk.levels.0.shared_", "trunk.levels.1.shared_"),
            ("trunk.levels.0.task_", "trunk.levels.1.task_", "towers."),
        ),
    ],
)
def test_what_is_shared_and_what_has_an_entry_per_output(
    name: str, shared: tuple[str, ...], by_output: tuple[str, ...]
) -> None:
    network = build_network(config(MODELS[name]))
    assert set(network.shared_parameters) == _parameters(network, *shared)
    entries = ("t0", "t1", "t2")
    layout = network.layout
    found = {
        parameter
        for parameter, axes in layout.axes.items()
        if axes and axes[0] is not None and tuple(entry for entry, _ in axes[0]) == entries
    }
    assert found == _parameters(network, *by_output)
    assert layout.parts["heads"] == entries


@pytest.mark.parametrize("name", MODELS)
def test_every_axis_as_wide_as_the_input_is_named_by_features(name: str) -> None:
    network = build_network(config(MODELS[name]))
    width = R + D
    features = (("user", 8), ("item", 4), ("seen", 4), ("d0", 1), ("d1", 1))
    shapes = {n: p.shape for n, p in network.named_parameters()}
    for parameter, axes in network.layout.axes.items():
        for size, entries in zip(shapes[parameter], axes, strict=True):
            assert (entries == features) == (size == width), parameter
