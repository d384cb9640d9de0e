"""A probe of part of the rows at the representation: the exact descent of these.

Shapes: B rows, T tasks.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from marigold_rec.batch import Batch
from tests.balancing._networks import SmallNetwork, make_batch
from tests.training.probing._looks import error_T, first_rows, look, task_jacobian

_ROWS, _TASKS, _WIDTH = 400, 4, 12


def _setup() -> tuple[SmallNetwork, Tensor, Batch]:
    torch.manual_seed(1)
    network = SmallNetwork(_WIDTH, _TASKS).double()
    z_BR = torch.randn(_ROWS, _WIDTH, dtype=torch.float64)
    return network, z_BR, make_batch(_ROWS, _TASKS, 2, torch.float64)


@pytest.mark.parametrize("estimator", ["jvp", "exact", "central_difference"])
def test_it_is_the_descent_along_these_rows_part(estimator: str) -> None:
    """The rows' part of d, and of each g_i: r is 1 as it is on all rows."""
    network, z_BR, batch = _setup()
    found = look(network, z_BR, batch, estimator=estimator, rows=0.25)
    jacobian_TN = task_jacobian(network, z_BR, batch, "representation")
    part_TN = jacobian_TN.view(_TASKS, _ROWS, _WIDTH)[:, : _ROWS // 4].flatten(1)
    direction_N = found.probe.coefficients_T @ part_TN
    assert error_T(found.probe, part_TN @ direction_N).max() < 1e-6
    torch.testing.assert_close(found.probe.direction_norm2, direction_N.square().sum())
    assert found.probe.self_check.item() == pytest.approx(1.0, abs=1e-6)


def test_a_task_without_an_observed_row_among_them_is_not_present() -> None:
    network, z_BR, batch = _setup()
    batch.observed_BT[: _ROWS // 4, 2] = 0.0
    probe = look(network, z_BR, batch, rows=0.25).probe
    assert probe.present_T.tolist() == [True, True, False, True]
    assert probe.coefficients_T[2] > 0
    assert probe.descent_T[2] == 0


def test_a_share_that_is_no_whole_number_of_rows_is_rounded_up() -> None:
    network, z_BR, batch = _setup()
    network_z_batch = network, z_BR[:3], first_rows(batch, 3)
    network_z_batch[2].observed_BT.fill_(1.0)
    probe = look(*network_z_batch, rows=0.01).probe
    assert probe.present_T.all()
    assert torch.isfinite(probe.descent_T).all()
