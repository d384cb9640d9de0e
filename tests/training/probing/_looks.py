"""One step of the real Objective with its probe, and the exact descent to hold it against.

Shapes: B rows, R width of the representation, T tasks, N numbers that a scope moves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from marigold_rec.balancing import Probe
from marigold_rec.batch import Batch
from marigold_rec.config import Config
from marigold_rec.inputs import Inputs
from marigold_rec.network import Network
from marigold_rec.training import Objective
from marigold_rec.training.losses import global_losses
from models import build_network
from tests.balancing._networks import make_batch, marigold, one_rank, probe_before

Scope = Literal["representation", "shared_parameters"]

MODELS: dict[str, dict[str, Any]] = {
    "shared_bottom": {"name": "shared_bottom", "bottom_layers": [24, 16]},
    "mmoe": {"name": "mmoe", "experts": 3, "expert_layers": [24, 16]},
    "ple": {"name": "ple", "levels": 2, "expert_layers": [16]},
}
REAL_TASKS: list[dict[str, Any]] = [
    {"name": "ctr", "kind": "binary", "label": "a"},
    {"name": "watch", "kind": "duration", "label": "b", "head": {"name": "log_mse"}},
    {"name": "dwell", "kind": "duration", "label": "c", "head": {"name": "log_huber"}},
]
REAL_WIDTH, REAL_DENSE = 24, 3


@dataclass(frozen=True)
class Look:
    """What a step's probe said."""

    probe: Probe
    objective: Objective
    direction_N: Tensor
    """Of the combined loss, as the backward left it, where the scope moves."""


def real_network(model: str, **settings: Any) -> Network:
    features = [
        {"name": "user", "kind": "hash", "rows": 9, "dim": 16},
        {"name": "item", "kind": "hash", "rows": 9, "dim": 8},
        *({"name": f"d{i}", "kind": "dense"} for i in range(REAL_DENSE)),
    ]
    stages = {"trunk": MODELS[model], "tower_layers": [8], **settings}
    tree = {"features": features, "tasks": REAL_TASKS, "model": stages}
    torch.manual_seed(3)
    return build_network(Config.model_validate(tree))


def real_batch(rows: int, seed: int = 4) -> tuple[Tensor, Batch]:
    """A representation and labels for `real_network`: yes/no, and seconds."""
    batch = make_batch(rows, len(REAL_TASKS), seed)
    random = torch.Generator().manual_seed(seed)
    batch.labels_BT[:, 1:] = torch.randn(rows, 2, generator=random).exp() * 20.0
    batch.labels_BT.mul_(batch.observed_BT)
    dense_BD = torch.randn(rows, REAL_DENSE, generator=random)
    z_BR = torch.randn(rows, REAL_WIDTH, generator=random)
    return z_BR, replace(batch, dense_BD=dense_BD)


def look(
    network: Network,
    z_BR: Tensor,
    batch: Batch,
    *,
    precision: Literal["fp32", "bf16"] = "fp32",
    log_losses: bool = True,
    **probe: Any,
) -> Look:
    """Forward, backward and probe of one step; the probe leaves all as it was."""
    module = cast(nn.Module, network)
    num_tasks = batch.labels_BT.shape[1]
    balancer = marigold(num_tasks, probe=probe, log_losses=log_losses).to(z_BR.dtype)
    objective = Objective(network, balancer, one_rank(), precision).to(z_BR.dtype)
    z_BR = z_BR.detach().clone().requires_grad_()
    module.zero_grad()
    scalar, output = objective(Inputs(z_BR, batch.dense_BD), batch)
    scalar.backward()
    before = [p.detach().clone() for p in module.parameters()]
    gradients = [p.grad.clone() for p in module.parameters() if p.grad is not None]
    random_state = torch.get_rng_state()
    probe_before(objective, output)
    assert torch.equal(torch.get_rng_state(), random_state), "the probe used up random numbers"
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))
    after = [p.grad for p in module.parameters() if p.grad is not None]
    assert all(torch.equal(a, b) for a, b in zip(gradients, after, strict=True))
    if probe.get("scope", "representation") == "representation":
        assert z_BR.grad is not None
        moved = [z_BR.grad]
    else:
        moved = [cast(Tensor, p.grad) for p in network.shared_parameters.values()]
    return Look(balancer.last, objective, torch.cat([d.flatten() for d in moved]))


def task_jacobian(network: Network, z_BR: Tensor, batch: Batch, scope: Scope) -> Tensor:
    """G: df_i by what `scope` moves, by one plain backward per task, [T, N]."""
    z_BR = z_BR.detach().clone().requires_grad_()
    outputs = network(Inputs(z_BR, batch.dense_BD))
    local_T = global_losses(network, outputs, batch, one_rank()).local_T
    variables = [z_BR] if scope == "representation" else list(network.shared_parameters.values())
    return torch.stack(
        [
            torch.cat(
                [
                    g.flatten()
                    for g in torch.autograd.grad(
                        f, variables, retain_graph=True, materialize_grads=True
                    )
                ]
            )
            for f in local_T
        ]
    )


def first_rows(batch: Batch, rows: int) -> Batch:
    return batch._map(lambda t: t[:rows] if isinstance(t, Tensor) else t)


def error_T(probe: Probe, exact_T: Tensor) -> Tensor:
    """Of h, in parts of the largest."""
    return (probe.descent_T - exact_T).abs() / exact_T.abs().max()
