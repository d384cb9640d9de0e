"""A balancer's own Adam is torch's, entry by entry. Shapes: T tasks."""

from __future__ import annotations

import pytest
import torch

from marigold_rec.balancing.adam import VectorAdam


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_it_is_torchs_adam(weight_decay: float, dtype: torch.dtype, tolerance: float) -> None:
    random = torch.Generator().manual_seed(0)
    values_T = torch.randn(4, generator=random).to(dtype)
    parameter = torch.nn.Parameter(values_T.clone())
    theirs = torch.optim.Adam([parameter], lr=0.025, weight_decay=weight_decay)
    ours = VectorAdam(4, lr=0.025, weight_decay=weight_decay).to(dtype)
    for step in range(200):
        gradient_T = (torch.randn(4, generator=random) * 10.0 ** (step % 5 - 3)).to(dtype)
        parameter.grad = gradient_T.clone()
        theirs.step()
        ours.step(values_T, gradient_T, torch.ones(4, dtype=torch.bool))
        torch.testing.assert_close(values_T, parameter.detach(), rtol=0, atol=tolerance)


def test_an_entry_that_rests_goes_on_as_if_the_steps_had_not_been() -> None:
    random = torch.Generator().manual_seed(1)
    gradients = torch.randn(30, 2, generator=random)
    rested_T, alone_T = torch.zeros(2), torch.zeros(2)
    rested, alone = VectorAdam(2, lr=0.1), VectorAdam(2, lr=0.1)
    everyone_T, first_T = torch.tensor([True, True]), torch.tensor([True, False])
    for step, gradient_T in enumerate(gradients):
        if 10 <= step < 20:
            kept = rested_T[1].clone()
            rested.step(rested_T, gradient_T * torch.tensor([1.0, torch.nan]), first_T)
            assert rested_T[1] == kept
        else:
            rested.step(rested_T, gradient_T, everyone_T)
            alone.step(alone_T, gradient_T, everyone_T)
    assert torch.equal(rested_T[1], alone_T[1])
    assert not torch.equal(rested_T[0], alone_T[0])
