"""A save that fails or is killed, at each phase and rank: the earlier checkpoint stays good."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from marigold_rec.checkpoint import Cleanup
from tests.checkpoint.phases import (
    ON_EVERY_RANK,
    WHERE,
    AtPhase,
    die_by_kill,
    disk_full,
    load_newest,
    save_each,
    short_files,
)
from tests.support.ranks import rank_outcomes, run_ranks

_OLD, _NEW = "step-000000003", "step-000000020"
_ANYWHERE = [
    *((phase, 0) for phase in WHERE),
    # Rank 1's are alike: one of them shows that rank 0 hears of it.
    *(
        pytest.param(phase, 1, marks=() if phase == "writing" else pytest.mark.slow)
        for phase in ON_EVERY_RANK
    ),
]
_ON_DISK = [
    *((phase, 0) for phase in WHERE if phase not in ("staging", "checking", "prune")),
    ("writing", 1),
    pytest.param("hashing", 1, marks=pytest.mark.slow),
]


def _save_with_faults(root: Path, steps: list[int], faults: Any, checkpoint: Any) -> Any:
    return save_each(root, steps, faults, **checkpoint)


def _saves(root: Path, steps: list[int], *faults: AtPhase, **checkpoint: Any) -> Any:
    """What was said of each save, which must be the same on both ranks, and what lies there."""
    first, second = run_ranks(_save_with_faults, 2, root, steps, faults, checkpoint, timeout_s=20)
    assert first == second, "the ranks tell different stories"
    return first


@pytest.mark.parametrize("asynchronous", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("phase", "rank"), _ON_DISK)
def test_a_full_disk_fails_one_save_and_the_next_succeeds(
    tmp_path: Path, phase: str, rank: int, asynchronous: bool
) -> None:
    full = AtPhase(phase, 20, rank, disk_full)
    root = tmp_path / "new"
    outcomes, lying = _saves(root, [3, 20, 21], full, asynchronous=asynchronous, keep=9)
    assert [outcome[:2] for outcome in outcomes] == [("saved", 3), ("failed", 1), ("saved", 21)]
    assert "No space left on device" in outcomes[1][2]
    assert "earlier checkpoints are as they were" in outcomes[1][2]
    assert lying == [_OLD, "step-000000021"], "something partial stays visible"


@pytest.mark.parametrize("max_failed_saves", [0, 2])
def test_too_many_failed_saves_in_a_row_end_the_run(tmp_path: Path, max_failed_saves: int) -> None:
    full = [AtPhase("writing", step, 1, disk_full) for step in (4, 6, 7, 8)]
    outcomes, lying = _saves(
        tmp_path / "new", [3, 4, 5, 6, 7, 8, 9], *full, max_failed_saves=max_failed_saves
    )
    if max_failed_saves == 0:
        assert [outcome[0] for outcome in outcomes] == ["saved", "CheckpointError"]
        assert lying == [_OLD]
        return
    assert [outcome[:2] for outcome in outcomes[:-1]] == [
        ("saved", 3), ("failed", 1), ("saved", 5), ("failed", 1), ("failed", 2),
    ]  # fmt: skip
    assert outcomes[-1][0] == "CheckpointError"
    assert outcomes[-1][1].startswith(
        "step 8: 3 saves in a row have failed (checkpoint.max_failed_saves"
    )
    assert lying == [_OLD, "step-000000005"]


def test_an_old_one_that_can_not_be_deleted_is_no_miss(tmp_path: Path) -> None:
    outcomes, lying = _saves(tmp_path / "new", [3, 20], AtPhase("prune", 20, 0, disk_full), keep=1)
    assert [outcome[0] for outcome in outcomes] == ["saved", "saved"]
    assert "an old checkpoint can't be deleted" in outcomes[1][2]
    assert lying == [_OLD, _NEW]


def test_too_little_space_is_told_before_anything_is_written(tmp_path: Path) -> None:
    first, second = run_ranks(_save_on_a_small_disk, 2, tmp_path / "new", timeout_s=20)
    assert first == second
    (_, missed), lying = first
    assert missed[:2] == ("failed", 1)
    assert "a checkpoint needs about 8.03e-05 GiB, 7.45e-05 GiB are free" in missed[2]
    assert "nothing was written" in missed[2]
    assert "checkpoint.keep (2)" in missed[2]
    assert lying == [_OLD]


def _save_on_a_small_disk(root: Path) -> Any:
    import shutil

    from marigold_rec.checkpoint import writing

    usage, calls = shutil.disk_usage(root.parent), []

    def small(_path: Any) -> Any:
        calls.append(1)
        return usage if len(calls) == 1 else usage._replace(free=80_000)

    writing.shutil.disk_usage = small
    return save_each(root, [3, 20], ())


def test_a_file_that_can_not_grow_fails_the_save(tmp_path: Path) -> None:
    """The kernel itself refuses, with a limit on one rank's files: no fake writer."""
    limited = AtPhase("checking", 20, 1, short_files)
    outcomes, lying = _saves(tmp_path / "new", [3, 20], limited, keep=9)
    assert [outcome[:2] for outcome in outcomes] == [("saved", 3), ("failed", 1)]
    assert "File too large" in outcomes[1][2]
    assert lying == [_OLD]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system that holds one checkpoint and a bit."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("a tmpfs can't be mounted here (no root)")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def _save_in_spite_of_the_estimate(root: Path, steps: list[int]) -> Any:
    from marigold_rec.checkpoint import store

    store.require_space = lambda *_: None
    return save_each(root, steps, ())


@pytest.mark.parametrize("is_estimated", [True, False])
def test_a_disk_that_is_really_full(small_disk: Path, is_estimated: bool) -> None:
    work: Callable[..., Any] = save_each if is_estimated else _save_in_spite_of_the_estimate
    arguments = ([3, 20], ()) if is_estimated else ([3, 20],)
    first, second = run_ranks(work, 2, small_disk / "new", *arguments, timeout_s=20)
    assert first == second
    outcomes, lying = first
    assert [outcome[:2] for outcome in outcomes] == [("saved", 3), ("failed", 1)]
    expected = "nothing was written" if is_estimated else "No space left on device"
    assert expected in outcomes[1][2]
    assert lying == [_OLD]
    assert run_ranks(load_newest, 2, small_disk / "new", timeout_s=20)[0][0] == 3


@pytest.mark.parametrize(("phase", "rank"), _ANYWHERE)
def test_a_kill_at_any_phase_leaves_a_good_checkpoint(
    tmp_path: Path, phase: str, rank: int
) -> None:
    root = tmp_path / "new"
    kill = AtPhase(phase, 20, rank, die_by_kill)
    outcomes = rank_outcomes(
        _save_with_faults, 2, root, [3, 20], (kill,), {"keep": 1}, timeout_s=20, grace_s=3
    )
    assert "SIGKILL" in str(outcomes[rank].error)
    newest = 20 if phase == "prune" else 3
    for step, cleanup, lying in run_ranks(load_newest, 2, root, timeout_s=20):
        assert step == newest
        assert lying == ([_OLD, _NEW] if phase == "prune" else [_OLD])
        is_begun = phase not in ("staging", "checking", "prune")
        # Where only its peer has died, rank 0 deletes the temporary folder itself.
        assert cleanup == Cleanup(stale=int(is_begun and rank == 0))


def test_a_kill_between_two_deletions_hides_what_is_half_deleted(tmp_path: Path) -> None:
    root = tmp_path / "new"
    rank_outcomes(_die_in_a_deletion, 2, root, timeout_s=20, grace_s=3)
    step, cleanup, lying = run_ranks(load_newest, 2, root, timeout_s=20)[0]
    assert (step, cleanup, lying) == (20, Cleanup(stale=1), [_NEW])


def _die_in_a_deletion(root: Path) -> None:
    from marigold_rec.checkpoint import retention

    def half(folder: Path) -> None:
        (folder / "__0_0.distcp").unlink()
        die_by_kill(None)

    retention.shutil.rmtree = half
    save_each(root, [3, 20], (), keep=1)
