"""Saves beside the training: a cut through one step, told on all ranks, interrupting nobody."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from marigold_rec.checkpoint import Snapshot
from marigold_rec.checkpoint.background import InBackground
from marigold_rec.errors import NumericsError
from tests.checkpoint.phases import AtPhase, begin, load_newest, save_each, some_tensors, store_of
from tests.support.ranks import run_ranks


class _Pause:
    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __call__(self, _phase: Any) -> None:
        time.sleep(self._seconds)


def _train_beside(root: Path, slow_rank: int) -> tuple[int, list[float]]:
    """Collectives of a training go on, in their own order, while one rank writes slowly."""
    AtPhase("writing", 7, slow_rank, _Pause(1.0)).install()
    store, ranks = store_of(root)
    begun, tensors = begin(store, ranks, 7)
    assert begun is None
    assert not store.save_finished
    sums = []
    while True:
        for tensor in tensors.values():  # the next step writes over what is being saved
            tensor.add_(1)
        value = torch.tensor([len(sums) + ranks.rank], dtype=torch.float32)
        dist.all_reduce(value, group=ranks.group)
        over = torch.tensor([int(store.save_finished)])
        dist.all_reduce(over, op=dist.ReduceOp.MAX, group=ranks.control)
        sums.append(value.item())
        if over.item():
            break
    saved = store.finalize_save()
    assert saved is not None
    assert store.finalize_save() is None
    store.close()
    return saved.step, sums


@pytest.mark.parametrize("slow_rank", [0, 1])
def test_training_goes_on_and_the_values_are_those_of_the_save(
    tmp_path: Path, slow_rank: int
) -> None:
    first, second = run_ranks(_train_beside, 2, tmp_path / "new", slow_rank, timeout_s=20)
    assert first == second
    step, sums = first
    assert step == 7
    assert len(sums) > 20, "the training waited for the disk"
    assert sums == [2 * i + 1 for i in range(len(sums))], "collectives met others than their own"
    for found in run_ranks(load_newest, 2, tmp_path / "new", timeout_s=20):
        assert found[0] == 7


def _save_twice_alike(root: Path) -> None:
    tensors = some_tensors(5, dist.get_rank())
    for name in ("asynchronous", "synchronous"):
        store, ranks = store_of(root / name, asynchronous=name == "asynchronous")
        cursors = (_cursor(),) * ranks.world_size
        begun = store.begin_save(Snapshot(tensors, 5, cursors, "files"))
        assert (begun is None) == (name == "asynchronous")
        assert begun or store.finalize_save()


def _cursor() -> Any:
    from marigold_rec.batch import Cursor

    return Cursor(0, 3)


def test_both_ways_of_saving_write_the_same_bytes(tmp_path: Path) -> None:
    run_ranks(_save_twice_alike, 2, tmp_path, timeout_s=20)
    one, other = (tmp_path / f"{name}/step-000000005" for name in ("asynchronous", "synchronous"))
    for file in ("__0_0.distcp", "__1_0.distcp"):
        assert (one / file).read_bytes() == (other / file).read_bytes()


def _spoil_and_save(root: Path, bad: dict[int, str], exempt: frozenset[str]) -> str:
    store, ranks = store_of(root)
    begin(store, ranks, 1)
    store.finalize_save()
    tensors = some_tensors(2, ranks.rank)
    if (name := bad.get(ranks.rank)) is not None:
        tensors[name][-1] = torch.nan if ranks.rank else -torch.inf
    cursors = (_cursor(),) * ranks.world_size
    try:
        store.begin_save(Snapshot(tensors, 2, cursors, "files", exempt))
        store.finalize_save()
    except NumericsError as error:
        return str(error)
    return "saved"


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ({1: "large/1"}, "large/1 (rank 1)."),
        ({0: "shared", 1: "large/1"}, "shared (rank 0), large/1 (rank 1)."),
    ],
)
def test_a_state_that_is_not_finite_is_never_published(
    tmp_path: Path, bad: dict[int, str], named: str
) -> None:
    for message in run_ranks(_spoil_and_save, 2, tmp_path / "new", bad, frozenset(), timeout_s=20):
        assert message.startswith(f"step 2: not finite: {named} No checkpoint is made")
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["step-000000001"]


def test_values_that_may_be_without_figure_are_saved(tmp_path: Path) -> None:
    exempt = frozenset({"large/1"})
    found = run_ranks(_spoil_and_save, 2, tmp_path / "new", {1: "large/1"}, exempt, timeout_s=20)
    assert found == ["saved", "saved"]


def _close_without_settling(root: Path) -> bool:
    AtPhase("hashing", 1, 1, _Pause(0.3)).install()
    store, ranks = store_of(root)
    begin(store, ranks, 1)
    store.close()
    return store.save_finished


def test_the_end_waits_for_the_save_under_way(tmp_path: Path) -> None:
    assert run_ranks(_close_without_settling, 2, tmp_path / "new", timeout_s=20) == [True, True]
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["step-000000001"]


def _too_little_memory(_phase: Any) -> None:
    raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")


def test_a_copy_that_does_not_fit_is_a_miss_on_all_ranks(tmp_path: Path) -> None:
    # Not the phase itself, which turns this into plain words, but what it does its work with.
    found = run_ranks(_save_without_memory, 2, tmp_path / "new", timeout_s=20)
    assert found[0] == found[1]
    kind, in_a_row, message = found[0]
    assert (kind, in_a_row) == ("failed", 1)
    assert "can't be copied to host memory: " in message
    assert "use checkpoint.asynchronous=false" in message


def _save_without_memory(root: Path) -> Any:
    [outcome], _ = save_each(root, [1], (AtPhase("staging", 1, 1, _too_little_memory),))
    return outcome


def test_the_work_yields_to_the_training() -> None:
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    before = niceness()
    assert InBackground(niceness, "test").result() > before
    assert niceness() == before
