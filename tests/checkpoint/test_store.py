"""Saving, finding, refusing, pruning: on two ranks, with plain tensors in place of a model."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.filesystem import FileSystemWriter

from marigold_rec.batch import Cursor
from marigold_rec.checkpoint import CheckpointStore, Snapshot
from marigold_rec.config import Config
from marigold_rec.distributed import Ranks
from marigold_rec.errors import CheckpointError
from tests.support.ranks import run_ranks
from tests.support.runs import config_tree


@dataclass(frozen=True)
class Refused:
    """The CheckpointError that a call ended with on this rank."""

    message: str


def _store(root: Path, keep: int) -> tuple[CheckpointStore, Ranks]:
    tree = config_tree(Path("/log"), root)
    tree["checkpoint"] = {"keep": keep}
    group, control = dist.group.WORLD, dist.new_group(backend="gloo")
    assert group is not None
    assert isinstance(control, dist.ProcessGroup)
    rank, size = group.rank(), group.size()
    ranks = Ranks(rank, size, size, torch.device("cpu"), group, control)
    return CheckpointStore(root, ranks, Config.model_validate(tree)), ranks


def _tensors(step: int, rank: int) -> dict[str, Tensor]:
    """As a run's: one that all ranks share, and one of each rank's own."""
    return {"shared": torch.full((3,), float(step)), f"own/{rank}": torch.tensor([step, rank])}


def _save(root: Path, steps: list[int], keep: int = 9) -> list[list[str]]:
    """Saves each of `steps`; what lies below `root` after each."""
    store, ranks = _store(root, keep)
    found = []
    for step in steps:
        _save_one(store, ranks, step)
        found.append(sorted(os.listdir(root)))
        dist.barrier()
    return found


def _save_one(store: CheckpointStore, ranks: Ranks, step: int) -> None:
    cursors = tuple(Cursor(0, 64 * step - rank) for rank in range(ranks.world_size))
    store.save(Snapshot(_tensors(step, ranks.rank), step, cursors, "files"))


def _find_and_load(root: Path, wanted: str) -> Any:
    """(name, refused, tensors) of what `wanted` finds, or the refusal."""
    store, ranks = _store(root, keep=9)
    try:
        found = store.find(wanted)
        if found is None:
            return None
        tensors = {name: torch.zeros_like(t) for name, t in _tensors(0, ranks.rank).items()}
        store.load(found, tensors)
    except CheckpointError as error:
        return Refused(str(error))
    assert found.manifest.cursors[ranks.rank].rows == 64 * found.manifest.step - ranks.rank
    return found.folder.name, found.refused, tensors


def _found(root: Path, wanted: str = "auto") -> Any:
    """What both ranks find, which must be the same."""
    first, second = run_ranks(_find_and_load, 2, root, wanted, timeout_s=20)
    if isinstance(first, tuple):
        name, refused, _ = first
        assert second[:2] == (name, refused)
        step = int(name.removeprefix("step-"))
        for rank, (_, _, tensors) in enumerate((first, second)):
            expected = _tensors(step, rank)
            assert tensors.keys() == expected.keys()
            assert all(torch.equal(tensors[key], expected[key]) for key in expected)
        return name, refused
    assert first == second
    return first


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("saved") / "checkpoints"
    run_ranks(_save, 2, root, [3, 20], timeout_s=20)
    return root


@pytest.fixture
def root(saved: Path, tmp_path: Path) -> Path:
    """A copy of checkpoints of steps 3 and 20."""
    return Path(shutil.copytree(saved, tmp_path / "checkpoints"))


_OLD, _NEW = "step-000000003", "step-000000020"


def test_the_newest_is_the_one_with_most_steps_not_the_youngest(root: Path) -> None:
    (root / f"{_NEW}.tmp-0123abcd").mkdir()  # what a kill leaves
    (root / f"{_NEW}0.tmp-0123abcd").mkdir()
    (root / "step-21").mkdir()
    now = 2_000_000_000
    os.utime(root / _OLD, (now, now))
    assert _found(root) == (_NEW, ())
    assert _found(root, str(root / _OLD)) == (_OLD, ())


def test_never_and_an_empty_folder_find_nothing(root: Path, tmp_path: Path) -> None:
    assert _found(root, "never") is None
    assert _found(tmp_path / "nothing here") is None


def _truncate(folder: Path) -> None:
    with (folder / "__0_0.distcp").open("r+b") as file:
        file.truncate(100)


class _Evil:
    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self._trace),)


def _poison(folder: Path) -> None:
    evil = pickle.dumps(_Evil(folder.parent.parent / "the pickle was run"))
    (folder / ".metadata").write_bytes(evil)


def _lose_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_truncate, "__0_0.distcp: size or sha256 differs from the manifest's"),
        (_poison, ".metadata: size or sha256 differs from the manifest's"),
        (_lose_manifest, "manifest.json: can't be read"),
    ],
)
def test_a_damaged_one_is_refused_and_the_one_before_it_taken(
    root: Path, damage: Callable[[Path], None], reason: str
) -> None:
    damage(root / _NEW)
    name, refused = _found(root)
    assert name == _OLD
    assert len(refused) == 1
    assert f"{root / _NEW}/{reason}" in refused[0]
    assert not (root.parent / "the pickle was run").exists()


def test_when_none_is_good_the_run_does_not_start_from_nothing(root: Path) -> None:
    _truncate(root / _NEW)
    _poison(root / _OLD)
    found = _found(root)
    assert isinstance(found, Refused)
    first, *reasons, last = found.message.splitlines()
    assert first == "no checkpoint of this run is usable:"
    assert [_NEW in reasons[0], _OLD in reasons[1], len(reasons)] == [True, True, 2]
    assert last == "use --resume never to start again"
    assert not (root.parent / "the pickle was run").exists()


def test_a_path_that_is_asked_for_is_never_replaced_by_another(root: Path) -> None:
    _truncate(root / _NEW)
    found = _found(root, str(root / _NEW))
    assert isinstance(found, Refused)
    assert "size or sha256 differs" in found.message


def test_the_last_ones_are_kept(tmp_path: Path) -> None:
    names = [f"step-{step:09d}" for step in range(1, 5)]
    root = tmp_path / "new/checkpoints"
    for found in run_ranks(_save, 2, root, [1, 2, 3, 4], 2, timeout_s=20):
        assert found == [names[:1], names[:2], names[1:3], names[2:4]]
    assert run_ranks(_save, 2, root, [4], 1, timeout_s=20)[0] == [names[3:]]


def test_a_damaged_newer_one_does_not_push_out_what_is_saved_after_it(root: Path) -> None:
    _truncate(root / _NEW)
    found = run_ranks(_save, 2, root, [5], 1, timeout_s=20)[0]
    assert found == [["step-000000005", _NEW]]
    assert _found(root)[0] == "step-000000005"


def _go_on_from(root: Path, wanted: str) -> None:
    store, _ = _store(root, keep=9)
    found = store.find(wanted)
    assert found is not None
    store.go_on_from(found)


def test_going_on_from_an_older_one_hides_the_newer(root: Path) -> None:
    run_ranks(_go_on_from, 2, root, str(root / _OLD), timeout_s=20)
    assert _found(root) == (_OLD, ())
    aside = [name for name in os.listdir(root) if name.startswith("abandoned-")]
    assert len(aside) == 1, "nothing is deleted"
    assert aside[0].startswith(f"abandoned-{_NEW}-")


def test_going_on_from_another_run_leaves_this_one_alone(root: Path, saved: Path) -> None:
    run_ranks(_go_on_from, 2, root, str(saved / _OLD), timeout_s=20)
    assert sorted(os.listdir(root)) == [_OLD, _NEW]


def _save_on_a_full_disk(root: Path, bad_rank: int) -> Any:
    store, ranks = _store(root, keep=1)
    if ranks.rank == bad_rank:

        def full(*_: Any, **__: Any) -> Any:
            raise OSError(errno.ENOSPC, "No space left on device")

        FileSystemWriter.write_data = full
    try:
        _save_one(store, ranks, 30)
    except CheckpointError as error:
        return Refused(str(error))
    return None


@pytest.mark.parametrize("bad_rank", [0, 1])
def test_a_failed_save_is_told_on_all_ranks_and_leaves_no_trace(root: Path, bad_rank: int) -> None:
    for refused in run_ranks(_save_on_a_full_disk, 2, root, bad_rank, timeout_s=20):
        assert isinstance(refused, Refused)
        assert "No space left on device" in refused.message
        assert "earlier checkpoints are as they were" in refused.message
    assert sorted(os.listdir(root)) == [_OLD, _NEW]
    assert _found(root) == (_NEW, ())


def _load_what_does_not_fit(root: Path, tensors: dict[str, Tensor]) -> Any:
    store, _ = _store(root, keep=9)
    found = store.find("auto")
    assert found is not None
    try:
        store.load(found, tensors)
    except CheckpointError as error:
        return Refused(str(error))
    return tensors


@pytest.mark.parametrize(
    "tensors", [{"shared": torch.zeros(4)}, {"other": torch.zeros(3)}], ids=["shape", "name"]
)
def test_tensors_that_do_not_fit_are_refused_on_all_ranks(
    root: Path, tensors: dict[str, Tensor]
) -> None:
    for refused in run_ranks(_load_what_does_not_fit, 2, root, tensors, timeout_s=20):
        assert isinstance(refused, Refused)
        assert f"{root / _NEW}: does not fit this model: " in refused.message
