"""Copies on a store that can't rename: complete or not there, never more than asked, verified."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from marigold_rec.batch import Cursor
from marigold_rec.checkpoint.finding import newest_good
from marigold_rec.checkpoint.manifest import Manifest, manifest_bytes
from marigold_rec.checkpoint.mirror import Mirror, refuse_taken_mirror
from marigold_rec.checkpoint.mirroring import Mirroring
from marigold_rec.config import Config
from marigold_rec.config.schema import CheckpointConfig
from marigold_rec.errors import CheckpointError, ConfigError
from marigold_rec.file_entry import file_entry
from tests.checkpoint import buckets
from tests.checkpoint.buckets import Bucket, BucketFileSystem, Fault
from tests.support.runs import config_tree
from tests.support.sealing import reseal, tree_of

_FILES = ("__0_0.distcp", "__1_0.distcp", ".metadata")


@pytest.fixture(autouse=True)
def bucket() -> Iterator[None]:
    Bucket().install()
    yield
    BucketFileSystem.fault = None


def _mirror(tmp_path: Path) -> Mirror:
    return Mirror(f"bucket://{tmp_path}/bucket", "night")


def _checkpoint(root: Path, step: int, **more: Any) -> Path:
    """A folder that verifies; what its files hold is nobody's business here."""
    folder = root / f"step-{step:09d}"
    folder.mkdir(parents=True)
    for name in _FILES:
        (folder / name).write_bytes(f"{name} of {step}".encode() * 100)
    manifest = Manifest(
        step=step,
        saved_at=datetime(2026, 3, 1, tzinfo=UTC),
        world_size=1,
        cursors=(Cursor(0, 64 * step),),
        has_begun=True,
        data="files",
        config_hash="hash",
        config={"data": {"batch_size": 64}},
        versions={},
        files={name: file_entry(folder / name) for name in _FILES},
        **more,
    )
    (folder / "manifest.json").write_bytes(manifest_bytes(manifest))
    return folder


def _there(tmp_path: Path, step: int) -> list[str]:
    return sorted(p.name for p in (tmp_path / f"bucket/night/step-{step:09d}").glob("*"))


def _keep(**settings: Any) -> CheckpointConfig:
    return CheckpointConfig.model_validate(settings)


def test_the_marker_is_put_last_and_a_copy_comes_back_to_the_byte(tmp_path: Path) -> None:
    folder, mirror = _checkpoint(tmp_path / "here", 7), _mirror(tmp_path)
    mirror.upload(folder)
    assert buckets.PUTS[-1] == "step-000000007/manifest.json"
    assert sorted(buckets.PUTS[:-1]) == sorted(f"step-000000007/{name}" for name in _FILES)
    assert mirror.steps() == [7]
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    shutil.rmtree(tmp_path / "here")
    found = newest_good(tmp_path / "here", mirror)
    assert found is not None
    assert found.fetched_from == f"bucket://{tmp_path}/bucket/night"
    assert {path.name: path.read_bytes() for path in found.folder.iterdir()} == before
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["step-000000007"]


@pytest.mark.parametrize("put", [1, 2, 3, 4])
def test_a_copy_that_fails_at_any_put_is_not_there(tmp_path: Path, put: int) -> None:
    folder, mirror = _checkpoint(tmp_path / "here", 7), _mirror(tmp_path)
    BucketFileSystem.fault = Fault("fail", at_put=put)
    with pytest.raises(CheckpointError, match=r"bucket/night: ConnectionError: 503 Slow Down"):
        mirror.upload(folder)
    assert mirror.steps() == []
    assert newest_good(tmp_path / "elsewhere", mirror) is None
    mirror.upload(folder)
    assert mirror.steps() == [7]
    assert _there(tmp_path, 7) == sorted([*_FILES, "manifest.json"])


def test_a_file_that_arrives_shorter_is_noticed_before_the_marker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, mirror = _checkpoint(tmp_path / "here", 7), _mirror(tmp_path)

    def cut(self: Any, path1: str, path2: str, **kwargs: Any) -> None:
        Path(path2).parent.mkdir(parents=True, exist_ok=True)
        Path(path2).write_bytes(Path(path1).read_bytes()[:-1])

    monkeypatch.setattr(BucketFileSystem, "put_file", cut)
    with pytest.raises(CheckpointError, match=r"bytes there, expected 1,[0-9]{3}"):
        mirror.upload(folder)
    assert mirror.steps() == []


def test_what_a_killed_copy_left_is_cleaned_and_nothing_else(tmp_path: Path) -> None:
    here, mirror = tmp_path / "here", _mirror(tmp_path)
    for step in (1, 2, 3, 4):
        mirror.upload(_checkpoint(here, step))
    there = tmp_path / "bucket/night"
    (there / "step-000000002/manifest.json").unlink()
    (there / "step-000000003/manifest.json").write_text('{"step": 3, "fi')  # half of a local file
    (there / "notes").mkdir()
    assert mirror.cleanup_stale(keep=2) == 2
    assert mirror.steps() == [1, 4]
    assert sorted(path.name for path in there.iterdir()) == [
        "notes",
        "step-000000001",
        "step-000000004",
    ]


def test_the_mirror_keeps_what_the_run_does_and_deletes_the_marker_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, mirror = tmp_path / "here", _mirror(tmp_path)
    auc = {1: 0.6, 2: 0.9, 3: 0.7, 4: 0.8, 5: 0.7}
    for step, figure in auc.items():
        mirror.upload(_checkpoint(here, step, figures={"window_auc/ctr": figure}))
    deleted: list[str] = []
    remove = BucketFileSystem.rm_file
    monkeypatch.setattr(
        BucketFileSystem, "rm_file", lambda fs, path: (deleted.append(path), remove(fs, path))
    )
    monkeypatch.setattr(BucketFileSystem, "rm", _refuse)
    with pytest.raises(CheckpointError, match="403"):
        mirror.prune(5, _keep(keep=2, keep_best_by="window_auc/ctr"))
    assert [Path(path).parts[-2:] for path in deleted] == [("step-000000001", "manifest.json")]
    assert mirror.steps() == [2, 3, 4, 5], "half a deletion still looks like a copy"
    monkeypatch.undo()
    mirror.prune(5, _keep(keep=2, keep_best_by="window_auc/ctr"))
    assert mirror.steps() == [2, 4, 5]
    mirror.prune(4, _keep(keep=1))
    assert mirror.steps() == [4, 5], "what is newer than the one just saved is not its to delete"


def _refuse(*args: Any, **kwargs: Any) -> None:
    raise PermissionError("403 Forbidden")


def test_a_damaged_copy_is_refused_and_the_one_before_taken(tmp_path: Path) -> None:
    here, mirror = tmp_path / "here", _mirror(tmp_path)
    for step in (1, 2):
        mirror.upload(_checkpoint(here, step))
    victim = tmp_path / "bucket/night/step-000000002/__0_0.distcp"
    content = bytearray(victim.read_bytes())
    content[50] ^= 1
    victim.write_bytes(content)
    found = newest_good(tmp_path / "elsewhere", mirror)
    assert found is not None
    assert found.manifest.step == 1
    [refused] = found.refused
    assert "the mirror's copy: " in refused
    assert "size or sha256 differs" in refused
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["step-000000001"]


@pytest.mark.parametrize("name", ["../../evil", "/tmp/evil", "..", "a/b"])
def test_a_copy_can_not_write_elsewhere(tmp_path: Path, name: str) -> None:
    here, mirror = tmp_path / "here", _mirror(tmp_path)
    mirror.upload(_checkpoint(here, 1))
    marker = tmp_path / "bucket/night/step-000000001/manifest.json"
    tree = tree_of(marker)
    tree["files"][name] = tree["files"].pop(".metadata")
    reseal(marker, **tree)
    with pytest.raises(CheckpointError, match="is not allowed"):
        mirror.fetch(1, tmp_path / "elsewhere", 1)
    assert not (tmp_path / "elsewhere").exists()


def test_the_newest_of_both_is_chosen(tmp_path: Path) -> None:
    here, mirror = tmp_path / "here", _mirror(tmp_path)
    for step in (1, 2, 3):
        mirror.upload(_checkpoint(here, step))
    _checkpoint(here, 4)
    found = newest_good(here, mirror)
    assert found is not None
    assert (found.manifest.step, found.fetched_from) == (4, None)
    shutil.rmtree(here / "step-000000004")
    found = newest_good(here, mirror)
    assert found is not None
    assert (found.manifest.step, found.fetched_from) == (3, None), "fetched what lies here"
    (here / "step-000000003/__0_0.distcp").write_bytes(b"damaged")
    found = newest_good(here, mirror)
    assert found is not None
    assert (found.manifest.step, found.fetched_from) == (3, mirror.url)
    assert len(found.refused) == 1
    assert sorted(path.name for path in here.iterdir()) == [
        f"step-{step:09d}" for step in (1, 2, 3)
    ]


def test_a_mirror_that_can_not_be_read_is_no_reason_to_start_from_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = _mirror(tmp_path)
    monkeypatch.setattr(BucketFileSystem, "ls", _refuse)
    with pytest.raises(CheckpointError, match=r"mirror can't be read: .*403 Forbidden"):
        newest_good(tmp_path / "here", mirror)
    _checkpoint(tmp_path / "here", 1)
    found = newest_good(tmp_path / "here", mirror)
    assert found is not None
    assert found.manifest.step == 1
    assert "403 Forbidden" in found.refused[0]


def test_copies_of_steps_that_are_taken_anew_count_no_more(tmp_path: Path) -> None:
    here, mirror = tmp_path / "here", _mirror(tmp_path)
    for step in range(1, 7):
        mirror.upload(_checkpoint(here, step))
    assert mirror.abandon_after(2) == [3, 4, 5, 6]
    assert mirror.steps() == [1, 2]
    assert mirror.cleanup_stale(keep=2) == 2
    assert _there(tmp_path, 6) == sorted([*_FILES, "abandoned-manifest.json"])
    assert _there(tmp_path, 4) == []
    mirror.upload(here / "step-000000005")
    assert _there(tmp_path, 5) == sorted([*_FILES, "manifest.json"])


def test_a_run_that_begins_anew_does_not_mix_with_an_earlier_ones_copies(tmp_path: Path) -> None:
    tree = config_tree(Path("/log"), tmp_path)
    tree["run"]["name"] = "night"
    refuse_taken_mirror(Config.model_validate(tree))
    tree["checkpoint"] = {"mirror": f"bucket://{tmp_path}/bucket"}
    refuse_taken_mirror(Config.model_validate(tree))
    _mirror(tmp_path).upload(_checkpoint(tmp_path / "here", 3))
    with pytest.raises(ConfigError, match=r"an earlier run of this name \(steps 3\): delete or"):
        refuse_taken_mirror(Config.model_validate(tree))


@pytest.mark.parametrize("url", ["nonsense://somewhere/runs", "s3://bucket/runs", "s3://"])
def test_a_url_that_nothing_here_can_open_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"^checkpoint\.mirror: .* can't be opened: .*; expected"):
        Mirror(url, "night")


def _paused(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Uploads wait for the event that comes back."""
    go_on, upload = threading.Event(), Mirror.upload

    def waiting(mirror: Mirror, folder: Path) -> None:
        assert go_on.wait(20)
        upload(mirror, folder)

    monkeypatch.setattr(Mirror, "upload", waiting)
    return go_on


def _until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_one_at_a_time_and_a_newer_one_takes_the_place_of_one_that_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, mirror = tmp_path / "here", _mirror(tmp_path)
    folders = [_checkpoint(here, step) for step in (1, 2, 3, 4)]
    go_on = _paused(monkeypatch)
    mirroring = Mirroring(mirror, _keep(keep=9))
    for folder in folders:
        mirroring.offer(folder)  # returns at once: nothing has been copied yet
    assert mirror.steps() == []
    go_on.set()
    mirroring.finish(20)
    # Which one the thread had begun with when it was looked at is its own affair.
    assert mirror.steps() in ([1, 4], [4])
    assert mirroring.warnings() == []


def test_a_checkpoint_is_not_pruned_while_it_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from marigold_rec.checkpoint.retention import prune

    here, mirror = tmp_path / "here", _mirror(tmp_path)
    first = _checkpoint(here, 1)
    entered, go_on = threading.Event(), threading.Event()
    upload = Mirror.upload

    def waiting(mirror: Mirror, folder: Path) -> None:
        entered.set()
        assert go_on.wait(20)
        upload(mirror, folder)

    monkeypatch.setattr(Mirror, "upload", waiting)
    mirroring = Mirroring(mirror, _keep(keep=1))
    mirroring.offer(first)
    assert entered.wait(20)
    prune(here, _checkpoint(here, 2), keep=1, every_n_hours=None)
    assert first.exists(), "pruned while it was read"
    go_on.set()
    mirroring.finish(20)
    assert mirror.steps() == [1]
    prune(here, here / "step-000000002", keep=1, every_n_hours=None)
    assert not first.exists()


def test_a_failed_copy_is_counted_and_the_next_one_heals_it(tmp_path: Path) -> None:
    here, mirror = tmp_path / "here", _mirror(tmp_path)
    mirroring = Mirroring(mirror, _keep())
    BucketFileSystem.fault = Fault("fail", name="step-000000001/__1_0.distcp")
    mirroring.offer(_checkpoint(here, 1))
    mirroring.finish(20)
    assert mirroring.failed_copies == 1
    last, count = mirroring.warnings()
    assert last.startswith("checkpoint.mirror: step-000000001 is not mirrored: ")
    assert "503 Slow Down" in last
    assert count.startswith("checkpoint.mirror: 1 copies to ")
    mirroring.offer(_checkpoint(here, 2))
    mirroring.finish(20)
    assert mirror.steps() == [2]
    assert mirroring.warnings() == [count]


def test_the_end_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = _paused(monkeypatch)
    mirroring = Mirroring(_mirror(tmp_path), _keep())
    mirroring.offer(_checkpoint(tmp_path / "here", 1))
    mirroring.finish(0.2)
    assert "after 0.2 s (checkpoint.mirror_patience_s)" in mirroring.warnings()[0]
    go_on.set()
    _until(lambda: _mirror(tmp_path).steps() == [1])
