"""What a loss term treats as constant is replayed in order, cut to the rows that are looked at."""

from __future__ import annotations

import pytest
import torch

from marigold_rec.training.constants import Constants


def test_values_are_detached_and_come_back_in_order() -> None:
    constants = Constants()
    first = torch.arange(4.0, requires_grad=True)
    second = torch.arange(8.0).view(4, 2).requires_grad_()
    assert not constants.record(first).requires_grad
    assert not constants.record(second).requires_grad
    for num_rows in (4, 3):  # as often as a probe looks
        replay = constants.replay(num_rows)
        moved = torch.full((num_rows,), torch.nan)
        assert torch.equal(replay(moved), first.detach()[:num_rows])
        assert torch.equal(replay(moved), second.detach()[:num_rows])


def test_a_number_of_the_batch_is_not_cut() -> None:
    constants = Constants()
    constants.record(torch.tensor(3.0))
    assert constants.replay(1)(torch.tensor(9.0)) == 3.0


def test_a_term_that_asks_for_more_than_it_recorded_does_not_go_unnoticed() -> None:
    constants = Constants()
    constants.record(torch.ones(2))
    replay = constants.replay(2)
    replay(torch.ones(2))
    with pytest.raises(AssertionError, match="more constants"):
        replay(torch.ones(2))
