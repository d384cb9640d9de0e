"""The history decides, the pointer follows, and there is a way back."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.nightly.folder import Ending, NightlyFolder
from jobs.nightly.models import artefact_digest
from jobs.nightly.page import status_lines
from jobs.nightly.plan import Model
from jobs.nightly.publishing import Published
from jobs.nightly.retention import drop_old_models
from marigold_rec.errors import CheckpointError, ConfigError


def day(number: int) -> datetime.date:
    return datetime.date(2024, 1, number)


def with_models(root: Path, *numbers: int) -> Published:
    for number in numbers:
        folder = NightlyFolder(root, day(number))
        step = folder.train / "checkpoints" / "step-000000007"
        step.mkdir(parents=True)
        (step / "manifest.json").write_text(f'{{"of": {number}}}')
        folder.artefact.mkdir()
        (folder.artefact / "artefact.json").write_text(f'{{"of": {number}}}')
        (folder.path / "night.html").write_text("")
        folder.end(
            Ending(
                night=day(number), status="refused", exit_code=6, sentence="", seconds={}, rows={}
            )
        )
    return Published(root)


def model_of(root: Path, number: int) -> Model:
    checkpoint = f"nights/{day(number)}/train/checkpoints/step-000000007"
    manifest = root / checkpoint / "manifest.json"
    digest = hashlib.sha256(manifest.read_bytes()).hexdigest() if manifest.exists() else "gone"
    return Model(
        night=day(number),
        trained_until=day(number),
        origin=day(1),
        checkpoint=checkpoint,
        manifest_sha256=digest,
    )


def note(published: Published, number: int) -> None:
    root = published.pointer.parents[1]
    folder = NightlyFolder(root, day(number))
    folder.path.mkdir(parents=True, exist_ok=True)
    published.publish(model_of(root, number), artefact_digest(folder))


def publish(published: Published, number: int) -> None:
    note(published, number)
    published.sync_pointer()


def test_the_pointer_leads_to_the_night_in_use(tmp_path: Path) -> None:
    published = with_models(tmp_path, 2, 3)
    assert published.current is None
    publish(published, 2)
    publish(published, 3)
    assert published.current == day(3)
    assert (published.pointer / "night.html").resolve() == tmp_path / "nights/2024-01-03/night.html"
    assert not os.path.isabs(os.readlink(published.pointer)), "the folder can be moved"


def test_publishing_again_changes_nothing(tmp_path: Path) -> None:
    published = with_models(tmp_path, 2)
    publish(published, 2)
    before = published.history
    publish(published, 2)
    assert published.history == before


def test_a_kill_between_history_and_pointer_is_mended(tmp_path: Path) -> None:
    published = with_models(tmp_path, 2, 3)
    publish(published, 2)
    note(published, 3)  # and no sync_pointer
    assert published.pointer.resolve().name == "2024-01-02"
    later = Published(tmp_path)
    later.sync_pointer()
    assert later.pointer.resolve().name == "2024-01-03"


def test_rolling_back_goes_one_model_back_each_time(tmp_path: Path) -> None:
    published = with_models(tmp_path, 2, 3, 4, 5)
    for number in (2, 3, 4):
        publish(published, number)
    assert published.roll_back() == (day(3), ())
    assert published.pointer.resolve().name == "2024-01-03"
    assert published.roll_back() == (day(2), ())
    with pytest.raises(ConfigError, match="no earlier model"):
        published.roll_back()
    publish(published, 5)
    assert published.in_use() == (day(2), day(5))
    assert [change.what for change in published.history] == [
        *["published"] * 3, "rolled back", "rolled back", "published",
    ]  # fmt: skip


def test_no_rollback_to_a_model_that_is_gone(tmp_path: Path) -> None:
    published = with_models(tmp_path, 3)
    for number in (2, 3):
        publish(published, number)
    with pytest.raises(ConfigError, match=r"2024-01-02.*keep_published"):
        published.roll_back()
    assert published.current == day(3)


def test_a_damaged_history_is_no_empty_one(tmp_path: Path) -> None:
    published = with_models(tmp_path, 2)
    publish(published, 2)
    (tmp_path / "published" / "history.json").write_text('[{"what": "publ')
    with pytest.raises(CheckpointError, match="damaged"):
        _ = published.current


@pytest.mark.parametrize(
    "text",
    [
        *("", "{}", "null", '[{"what": "publ', "[[]]", "[" * 20_000, "\ufeff[]"),
        '[{"what": "rolled back", "night": "2024-01-02", "at": ""}]',
    ],
)
def test_no_damaged_history_ends_in_a_guess(tmp_path: Path, text: str) -> None:
    published = with_models(tmp_path, 2)
    publish(published, 2)
    (tmp_path / "published" / "history.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"history\.json.*backup"):
        published.check()


def test_a_history_of_a_rollback_only_is_damaged(tmp_path: Path) -> None:
    published = with_models(tmp_path, 2, 3)
    publish(published, 2)
    publish(published, 3)
    published.roll_back()
    file = tmp_path / "published" / "history.json"
    file.write_text(json.dumps(json.loads(file.read_text())[-1:]))
    with pytest.raises(CheckpointError, match="not in use before"):
        _ = published.current


def emptied(root: Path) -> None:
    (root / "published" / "history.json").write_text("[]")


def removed(root: Path) -> None:
    (root / "published" / "history.json").unlink()


def all_removed(root: Path) -> None:
    """Removes the pointer too: the runs' own folders still name what was published."""
    shutil.rmtree(root / "published")


def older(root: Path) -> None:
    """Restores a backup of the day before."""
    file = root / "published" / "history.json"
    file.write_text(json.dumps(json.loads(file.read_text())[:1]))


@pytest.mark.parametrize("change", [emptied, removed, all_removed, older])
def test_a_history_without_what_was_published_is_refused(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    published = with_models(tmp_path, 2, 3)
    publish(published, 2)
    publish(published, 3)
    published.check()
    change(tmp_path)
    with pytest.raises(CheckpointError, match=r"2024-01-03, whose model was published"):
        published.check()


def test_a_pointer_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    published = with_models(tmp_path, 2)
    publish(published, 2)
    published.pointer.unlink()
    published.pointer.mkdir()
    with pytest.raises(CheckpointError, match=r"current: .*symbolic link; move it away"):
        published.check()


def retrained(root: Path, number: int) -> None:
    folder = NightlyFolder(root, day(number)).train / "checkpoints" / "step-000000007"
    (folder / "manifest.json").write_text("another")


def exported_again(root: Path, number: int) -> None:
    (NightlyFolder(root, day(number)).artefact / "artefact.json").write_text("another")


def no_artefact(root: Path, number: int) -> None:
    shutil.rmtree(NightlyFolder(root, day(number)).artefact)


CHANGES = [retrained, exported_again, no_artefact]


@pytest.mark.parametrize("change", CHANGES)
def test_a_rollback_passes_over_what_was_not_published(
    tmp_path: Path, change: Callable[[Path, int], None]
) -> None:
    published = with_models(tmp_path, 2, 3, 4)
    for number in (2, 3, 4):
        publish(published, number)
    change(tmp_path, 3)
    night, passed = published.roll_back()
    assert night == published.current == day(2)
    assert published.pointer.resolve().name == "2024-01-02"
    assert len(passed) == 1
    assert "2024-01-03" in passed[0]
    with pytest.raises(ConfigError, match="no earlier model"):
        published.roll_back()


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_is_learned_from_a_model_that_was_not_published(
    tmp_path: Path, change: Callable[[Path, int], None]
) -> None:
    published = with_models(tmp_path, 2)
    publish(published, 2)
    assert published.base() == model_of(tmp_path, 2)
    change(tmp_path, 2)
    with pytest.raises(CheckpointError, match="2024-01-02"):
        published.base()


def test_a_kill_behind_the_history_publishes_no_second_time(tmp_path: Path) -> None:
    """The stage is done, whatever its run has recorded: a rollback may come before it resumes."""
    published = with_models(tmp_path, 2, 3)
    publish(published, 2)
    note(published, 3)
    Published(tmp_path).sync_pointer()
    assert NightlyFolder(tmp_path, day(3)).was_published


@pytest.mark.parametrize("text", ["", "[]", "[" * 20_000, '{"sentence": "three"}', "\x00"])
def test_one_bad_night_does_not_hide_the_others(tmp_path: Path, text: str) -> None:
    published = with_models(tmp_path, 2, 3, 4)
    publish(published, 2)
    NightlyFolder(tmp_path, day(3)).night_file.write_text(text)
    NightlyFolder(tmp_path, day(4)).night_file.unlink()
    (NightlyFolder(tmp_path, day(4)).path / "stages.json").write_text(text)
    lines = list(status_lines(tmp_path, published))
    assert [line[2:12] for line in lines[:3]] == [str(day(n)) for n in (2, 3, 4)]
    assert "night.json" in lines[1]
    assert "stages.json" in lines[2]
    assert lines[3].startswith("in use: the model of 2024-01-02")
    assert all(len(line) < 200 for line in lines)
    # It neither keeps the others from being deleted, nor is it deleted itself.
    dropped = drop_old_models(tmp_path, published, keep_published=1, keep_nights=1)
    assert dropped == []


def test_a_damaged_history_hides_no_night(tmp_path: Path) -> None:
    published = with_models(tmp_path, 2)
    publish(published, 2)
    (tmp_path / "published" / "history.json").write_text("{}")
    lines = status_lines(tmp_path, published)
    assert next(lines).startswith("  2024-01-02")
    with pytest.raises(CheckpointError, match=r"history\.json"):
        next(lines)


def test_old_models_go_and_their_reports_stay(tmp_path: Path) -> None:
    published = with_models(tmp_path, 1, 2, 3, 4, 5, 6)
    for number in (1, 2, 4):
        publish(published, number)
    dropped = drop_old_models(tmp_path, published, keep_published=2, keep_nights=1)
    assert [path.name for path in dropped] == ["2024-01-01", "2024-01-03", "2024-01-05"]
    assert (tmp_path / "nights/2024-01-01/night.html").exists()
    kept = [
        n for n in range(1, 7) if (tmp_path / f"nights/2024-01-0{n}/train/checkpoints").exists()
    ]
    assert kept == [2, 4, 6]
    assert drop_old_models(tmp_path, published, keep_published=2, keep_nights=1) == []


def test_a_night_that_is_not_finished_keeps_what_it_has(tmp_path: Path) -> None:
    published = with_models(tmp_path, 1, 2)
    NightlyFolder(tmp_path, day(1)).night_file.unlink()
    assert drop_old_models(tmp_path, published, keep_published=1, keep_nights=1) == []
