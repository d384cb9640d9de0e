"""The last ones stay, one of every so many hours, and nothing that a killed run has left."""

from __future__ import annotations

import itertools
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from marigold_rec.checkpoint.locks import shared_lock
from marigold_rec.checkpoint.retention import Cleanup, Kept, cleanup_stale, prune, steps_to_keep
from marigold_rec.errors import CheckpointError
from marigold_rec.sealed import sealed
from tests.checkpoint.phases import load_newest, save_each
from tests.support.ranks import run_ranks

_START = datetime(2026, 3, 1, 22, 0, tzinfo=UTC)


def _saved(*hours: float | None) -> list[Kept]:
    """Checkpoints of steps 1, 2, ... by the hours after the start when they were saved."""
    return [
        Kept(step, None if h is None else _START + timedelta(hours=h))
        for step, h in enumerate(hours, 1)
    ]


def _as_sealed(text: str) -> bytes:
    """The text itself where it is no object with fields."""
    return sealed(json.loads(text)) if len(text) > 2 and text[0] == "{" else text.encode()


def _folder(root: Path, step: int, hours: float | None = None) -> Path:
    folder = root / f"step-{step:09d}"
    folder.mkdir(parents=True)
    saved_at = None if hours is None else (_START + timedelta(hours=hours)).isoformat()
    (folder / "manifest.json").write_bytes(sealed({"saved_at": saved_at}))
    return folder


def _steps(root: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("step-")) for path in root.glob("step-*"))


@pytest.mark.parametrize(
    ("hours", "keep", "every", "stay"),
    [
        ((0, 1, 2, 3), 2, None, {3, 4}),
        ((0, 1, 2, 3), 9, None, {1, 2, 3, 4}),
        ((0, 1, 2, 3, 4, 5, 6), 1, 3, {1, 4, 7}),
        ((0, 2.9, 3.1, 6.0, 6.2), 1, 3, {1, 3, 5}),
        ((0, 1, 2, 3), 1, 0.5, {1, 2, 3, 4}),
        ((None, None, 2, 3), 1, 1, {3, 4}),  # those of earlier versions don't say when
        ((5, 1, 2, 12), 1, 1, {1, 4}),  # a clock that was put back
        ((), 1, 1, set()),
    ],
)
def test_which_stay(
    hours: tuple[float | None, ...], keep: int, every: float | None, stay: set[int]
) -> None:
    saved = _saved(*hours)
    assert steps_to_keep(saved, keep, every) == stay
    assert steps_to_keep(saved[::-1], keep, every) == stay, "the order of the disk matters"


@pytest.mark.parametrize(("keep", "every"), [*itertools.product((1, 2, 3), (0.7, 1.0, 2.5))])
def test_pruning_at_each_save_leaves_no_greater_gap_than_asked(keep: int, every: float) -> None:
    """One save each half hour over two days, each followed by a prune."""
    saved: list[Kept] = []
    for each in _saved(*(i / 2 for i in range(96))):
        saved.append(each)
        stay = steps_to_keep(saved, keep, every)
        saved = [one for one in saved if one.step in stay]
        assert {one.step for one in saved[-keep:]} == {
            step for step in range(each.step - keep + 1, each.step + 1) if step > 0
        }
    times = [one.saved_at for one in saved if one.saved_at is not None]
    gaps = [(after - before) / timedelta(hours=1) for before, after in itertools.pairwise(times)]
    assert max(gaps) < every + 0.5
    assert len(saved) <= 48 / every + keep + 1


@pytest.mark.parametrize(
    ("figure", "values", "best"),
    [
        ("window_auc/ctr", (0.6, 0.8, 0.7, 0.6), 2),
        ("window_ne/ctr", (0.9, 0.7, 0.8, 0.9), 2),
        ("window_mae_s/watch_time", (9.0, 30.0, 10.0, 11.0), 1),
        ("window_calibration/ctr", (0.5, 1.9, 1.2, 2.1), 3),  # twice is as bad as half
        ("window_calibration/ctr", (0.9, 1.05, 0.0, 1.2), 2),
        ("window_auc/ctr", (0.8, 0.8, 0.7, 0.7), 2),  # of equals the one that learned more
        ("window_auc/ctr", (None, 0.1, None, None), 2),
        ("window_auc/ctr", (None, None, None, None), 4),
        ("window_auc/cvr", (0.1, 0.2, 0.3, None), 3),
    ],
)
def test_the_best_stays_beside_the_last(
    figure: str, values: tuple[float | None, ...], best: int
) -> None:
    saved = [
        Kept(step, None, {} if value is None else {figure: value, "window_auc/other": 1.0 / step})
        for step, value in enumerate(values, 1)
    ]
    assert steps_to_keep(saved, 1, None, figure) == {4, best}
    assert steps_to_keep(saved[::-1], 1, None, figure) == {4, best}


def test_pruning_at_each_save_always_leaves_the_best_so_far() -> None:
    saved: list[Kept] = []
    aucs = [0.5 + (37 * step % 101) / 300 for step in range(60)]
    for step, auc in enumerate(aucs):
        saved.append(Kept(step, None, {"window_auc/ctr": auc}))
        stay = steps_to_keep(saved, 2, None, "window_auc/ctr")
        saved = [one for one in saved if one.step in stay]
        assert max(one.figures["window_auc/ctr"] for one in saved) == max(aucs[: step + 1])
        assert len(saved) <= 3


def test_figures_that_are_none_are_passed_over(tmp_path: Path) -> None:
    """What a manifest may hold: no number, no finite number, no figures, nothing readable."""
    contents = ['{"figures": {"window_auc/ctr": "0.9"}}', '{"figures": {"window_auc/ctr": NaN}}',
                '{"figures": [0.9]}', "[]", "{", '{"figures": {"window_auc/ctr": 0.6}}',
                '{"figures": {"window_auc/ctr": 0.5}}', "{}"]  # fmt: skip
    for step, content in enumerate(contents, 1):
        (_folder(tmp_path, step) / "manifest.json").write_bytes(_as_sealed(content))
    newest = tmp_path / f"step-{len(contents):09d}"
    prune(tmp_path, newest, keep=1, every_n_hours=None, best_by="window_auc/ctr")
    assert _steps(tmp_path) == [6, 8]


def test_prune_leaves_the_one_that_is_read(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        _folder(tmp_path, step)
    newest = tmp_path / "step-000000003"
    with shared_lock(tmp_path / "step-000000001"):
        prune(tmp_path, newest, keep=1, every_n_hours=None)
        assert _steps(tmp_path) == [1, 3]
    prune(tmp_path, newest, keep=1, every_n_hours=None)
    assert _steps(tmp_path) == [3]


def test_what_has_been_pruned_before_it_could_be_held_is_said_to_be_gone(tmp_path: Path) -> None:
    with (
        pytest.raises(CheckpointError, match="has its run deleted it"),
        shared_lock(tmp_path / "step-1"),
    ):
        pass


def test_prune_goes_by_the_manifests_not_by_the_files_times(tmp_path: Path) -> None:
    for step, hours in ((1, 0.0), (2, 1.0), (3, 5.0), (4, 5.5), (5, 6.0)):
        folder = _folder(tmp_path, step, hours)
        os.utime(folder / "manifest.json", (2e9 - step, 2e9 - step))
    prune(tmp_path, tmp_path / "step-000000005", keep=1, every_n_hours=4)
    assert _steps(tmp_path) == [1, 3, 5]


def test_prune_leaves_what_is_newer_or_not_a_checkpoint(tmp_path: Path) -> None:
    for step in (1, 2, 9):
        _folder(tmp_path, step)
    (tmp_path / "step-2").mkdir()
    (tmp_path / "notes").mkdir()
    prune(tmp_path, tmp_path / "step-000000002", keep=1, every_n_hours=None)
    assert sorted(os.listdir(tmp_path)) == ["notes", "step-000000002", "step-000000009", "step-2"]


def test_cleanup_deletes_what_is_ours_and_nothing_else(tmp_path: Path) -> None:
    for name in ("step-000000004.tmp-0123abcd", "step-000000009.tmp-ffffffff"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__0_0.distcp").write_bytes(b"half")
    for step, hours in ((7, 3.0), (8, 1.0), (9, None), (10, 2.0)):
        _folder(tmp_path, step, hours).rename(tmp_path / f"abandoned-step-{step:09d}-0123abcd")
    _folder(tmp_path, 3)
    for foreign in ("step-4.tmp-0123abcd", "step-000000004.tmp", "abandoned-notes", "mine.tmp-1"):
        (tmp_path / foreign).mkdir()
    assert cleanup_stale(tmp_path, keep=2) == Cleanup(stale=2, abandoned=2)
    assert sorted(os.listdir(tmp_path)) == [
        "abandoned-notes",
        "abandoned-step-000000007-0123abcd",
        "abandoned-step-000000010-0123abcd",
        "mine.tmp-1",
        "step-000000003",
        "step-000000004.tmp",
        "step-4.tmp-0123abcd",
    ]
    assert cleanup_stale(tmp_path, keep=2) == Cleanup()
    assert cleanup_stale(tmp_path / "nothing here", keep=2) == Cleanup()


def test_what_can_not_be_deleted_does_not_stop_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "step-000000004.tmp-0123abcd").mkdir()
    monkeypatch.setattr("marigold_rec.checkpoint.retention.shutil.rmtree", refuse)
    problem = cleanup_stale(tmp_path, keep=1).problem
    assert problem is not None
    assert "can't be deleted ([Errno 13] Permission denied" in problem


def test_the_one_gone_on_from_stays_until_a_newer_is_good(tmp_path: Path) -> None:
    """With room for one only, and a first save that fails."""
    root = tmp_path / "new"
    run_ranks(save_each, 2, root, [3], (), timeout_s=20)
    (_, lying), _ = run_ranks(_fail_then_save, 2, root, timeout_s=20)
    assert lying == ["step-000000003"]
    (_, lying), _ = run_ranks(_save_keeping_one, 2, root, timeout_s=20)
    assert lying == ["step-000000021"]
    assert run_ranks(load_newest, 2, root, timeout_s=20)[0][0] == 21


def _fail_then_save(root: Path) -> object:
    from tests.checkpoint.phases import AtPhase, disk_full

    return save_each(root, [20], (AtPhase("rename", 20, 0, disk_full),), keep=1)


def _save_keeping_one(root: Path) -> object:
    return save_each(root, [21], (), keep=1)


def test_each_checkpoint_says_when_it_was_saved(tmp_path: Path) -> None:
    before = datetime.now(UTC)
    run_ranks(save_each, 2, tmp_path / "new", [3], (), timeout_s=20)
    manifest = json.loads((tmp_path / "new/step-000000003/manifest.json").read_text())
    assert before < datetime.fromisoformat(manifest["saved_at"]) < datetime.now(UTC)
