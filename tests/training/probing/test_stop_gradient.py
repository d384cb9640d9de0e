"""A probe's h is the derivative of what was back-propagated, also where a term fixes a factor.

Shapes: B rows, R width of the pooled embeddings, N vectors of the sequence, T tasks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from marigold_rec.batch import Batch
from marigold_rec.config import Config
from marigold_rec.config.components import LOSSES
from marigold_rec.contracts import StopGradient
from marigold_rec.inputs import Inputs, Jagged
from marigold_rec.network import Network
from marigold_rec.training import Objective
from marigold_rec.training.losses import BatchLabels, weighted_rows
from models import build_network
from tests.balancing._networks import make_batch, marigold, probe_before
from tests.support.ranks import run_ranks
from tests.training.probing._detaching import TERMS, register

_ROWS = 31
_WIDTH, _SEQUENCE = 8, 4
_EXACT = 1e-6
_SCOPES = ("representation", "shared_parameters")


@pytest.fixture(autouse=True)
def _terms_of_these_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their registration in this process ends with the test."""
    for name, path in TERMS.items():
        monkeypatch.setitem(LOSSES, name, path)


@dataclass(frozen=True)
class _Found:
    """One step of this rank. h and c are equal on all ranks."""

    descent_T: Tensor
    coefficients_T: Tensor
    self_check: float
    norm2: float
    sequence_gradient2: float
    """Squared length of the step in the sequence's own vectors."""


def _network() -> Network:
    register()
    tree = {
        "features": [
            {"name": "user", "kind": "hash", "rows": 9, "dim": _WIDTH},
            {"name": "history", "kind": "hash", "rows": 9, "dim": _SEQUENCE},
        ],
        "tasks": [
            {"name": "ctr", "kind": "binary", "label": "a", "loss": {"name": "plain"}},
            {"name": "cvr", "kind": "binary", "label": "b", "loss": {"name": "inverse"}},
        ],
        "model": {
            "sequences": {"history": {"name": "mean"}},
            "trunk": {"name": "mmoe", "experts": 2, "expert_layers": [8]},
            "tower_layers": [6],
        },
    }
    torch.manual_seed(3)
    network = build_network(Config.model_validate(tree)).double()
    with torch.no_grad():
        for parameter in network.parameters():  # so that propensities lie far apart
            parameter.mul_(2.0)
    return network


def _all_rows() -> tuple[Inputs, Batch]:
    random = torch.Generator().manual_seed(4)
    lengths_B = torch.arange(_ROWS) % 4  # some histories are empty
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths_B.cumsum(0)])
    values_NW = torch.randn(int(offsets[-1]), _SEQUENCE, generator=random, dtype=torch.float64)
    pooled_BR = torch.randn(_ROWS, _WIDTH, generator=random, dtype=torch.float64)
    batch = make_batch(_ROWS, 2, seed=5, dtype=torch.float64)
    return Inputs(pooled_BR, batch.dense_BD, {"history": Jagged(values_NW, offsets)}), batch


def _part(first: int, stop: int) -> tuple[Inputs, Batch]:
    inputs, batch = _all_rows()
    history = inputs.sequences["history"]
    begin, end = int(history.offsets[first]), int(history.offsets[stop])
    jagged = Jagged(history.values_NW[begin:end], history.offsets[first : stop + 1] - begin)
    own = slice(first, stop)
    return Inputs(inputs.pooled_BR[own], inputs.dense_BD[own], {"history": jagged}), replace(
        batch,
        dense_BD=batch.dense_BD[own],
        labels_BT=batch.labels_BT[own],
        observed_BT=batch.observed_BT[own],
        weights_B=batch.weights_B[own],
        num_rows=stop - first,
    )


def _step(scope: str, estimator: str, step: float) -> _Found:
    rank, ranks = dist.get_rank(), dist.get_world_size()
    # Unequal parts: 31 rows, or 20 and 11.
    inputs, batch = _part(0 if rank == 0 else 20, _ROWS if rank == ranks - 1 else 20)
    inputs = inputs.with_embedded([leaf.clone().requires_grad_() for leaf in inputs.embedded])
    network = _network()
    balancer = marigold(2, probe={"scope": scope, "estimator": estimator, "step": step})
    assert dist.group.WORLD is not None
    objective = Objective(network, balancer, dist.group.WORLD).double()
    scalar, output = objective(inputs, batch)
    scalar.backward()
    for parameter in network.parameters():
        assert parameter.grad is not None
        dist.all_reduce(parameter.grad)
        parameter.grad /= ranks  # as DDP takes it
    probe_before(objective, output)
    probe = balancer.last
    leaf = inputs.sequences["history"].values_NW.grad
    assert leaf is not None
    return _Found(
        probe.descent_T,
        output.coefficients_T.detach(),
        float(probe.self_check),
        float(probe.direction_norm2),
        float(leaf.square().sum()),
    )


def _frozen_losses(inputs: Inputs, network: Network, constants: Tensor | None) -> Tensor:
    """f_T of all rows, written out; the propensities are `constants`, or those of the point."""
    _, batch = _all_rows()
    stop: StopGradient = (lambda value: value) if constants is None else (lambda _: constants)
    labels = BatchLabels.of(batch, network.tasks)
    rows_TB, weights_TB = weighted_rows(network, network(inputs), labels, stop)
    return rows_TB.sum(1) / weights_TB.sum(1)


def _finite_difference(scope: str, coefficients_T: Tensor, *, frozen: bool) -> tuple[Tensor, float]:
    """(h_T, ||d||^2) where d is the gradient of sum c f with fixed propensities.

    h_T are central differences of the losses, with fixed propensities (`frozen`) or with those of
    each point.
    """
    network, (inputs, _) = _network(), _all_rows()
    shared = list(network.shared_parameters.values())
    leaves = [leaf.clone().requires_grad_() for leaf in inputs.embedded]
    with torch.no_grad():
        constants = network(inputs)[0].squeeze(1).sigmoid()
    losses_T = _frozen_losses(inputs.with_embedded(leaves), network, constants)
    variables = leaves if scope == "representation" else shared
    direction = torch.autograd.grad((coefficients_T * losses_T).sum(), variables)
    norm2 = float(sum(d.square().sum() for d in direction))
    epsilon = 1e-5 / norm2**0.5
    at: list[Tensor] = []
    with torch.no_grad():
        for sign in (1.0, -1.0):
            moved = [v + sign * epsilon * d for v, d in zip(variables, direction, strict=True)]
            if scope == "representation":
                point = inputs.with_embedded(moved)
            else:
                point = inputs
                for parameter, value in zip(shared, moved, strict=True):
                    parameter.copy_(value)
            at.append(_frozen_losses(point, network, constants if frozen else None))
            if scope == "shared_parameters":
                for parameter, value, d in zip(shared, moved, direction, strict=True):
                    parameter.copy_(value - sign * epsilon * d)
    return (at[0] - at[1]) / (2 * epsilon), norm2


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("scope", _SCOPES)
@pytest.mark.parametrize(
    ("estimator", "step"),
    [("forward_difference", 1e-8), ("central_difference", 1e-5), ("jvp", 1e-3), ("exact", 1e-3)],
)
def test_h_is_the_derivative_of_what_was_back_propagated(
    scope: str, estimator: str, step: float, ranks: int
) -> None:
    found = run_ranks(_step, ranks, scope, estimator, step)
    first: _Found = found[0]
    expected_T, norm2 = _finite_difference(scope, first.coefficients_T, frozen=True)
    scale = float(expected_T.abs().max())
    for rank in found:
        torch.testing.assert_close(rank.descent_T, expected_T, rtol=_EXACT, atol=_EXACT * scale)
        assert rank.self_check == pytest.approx(1.0, abs=_EXACT)
        assert rank.norm2 == pytest.approx(norm2, rel=_EXACT)
        assert rank.sequence_gradient2 > 0
    # With the propensities of the moved point h would be another number: the test can fail.
    other_T, _ = _finite_difference(scope, first.coefficients_T, frozen=False)
    assert float((other_T - expected_T).abs().max()) > 1e3 * _EXACT * scale
