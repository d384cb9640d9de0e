"""The history decides, the pointer follows, and there is a way back."""

from __future__ import annotations

import datetime
import os
from pathlib import Path

import pytest

from launch.nights.folder import NightFolder
from launch.nights.publishing import Published
from launch.nights.retention import drop_old_models
from marigold_rec.errors import CheckpointError, ConfigError


def day(number: int) -> datetime.date:
    return datetime.date(2024, 1, number)


def with_models(root: Path, *numbers: int) -> Published:
    for number in numbers:
        folder = NightFolder(root, day(number))
        step = folder.train / "checkpoints" / "step-000000007"
        step.mkdir(parents=True)
        (step / "manifest.json").write_text("{}")
        folder.artefact.mkdir()
        (folder.path / "night.html").write_text("")
        folder.end({"sentence": "done"})
    return Published(root)


def publish(published: Published, number: int) -> None:
    published.publish(day(number))
    published.settle()


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
    published.publish(day(3))  # and no settle
    assert published.pointer.resolve().name == "2024-01-02"
    later = Published(tmp_path)
    later.settle()
    assert later.pointer.resolve().name == "2024-01-03"


def test_rolling_back_goes_one_model_back_each_time(tmp_path: Path) -> None:
    published = with_models(tmp_path, 2, 3, 4, 5)
    for number in (2, 3, 4):
        publish(published, number)
    assert published.roll_back() == day(3)
    assert published.pointer.resolve().name == "2024-01-03"
    assert published.roll_back() == day(2)
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
    with pytest.raises(ConfigError, match=r"2024-01-02 is not kept.*keep_published"):
        published.roll_back()
    assert published.current == day(3)


def test_a_damaged_history_is_no_empty_one(tmp_path: Path) -> None:
    published = with_models(tmp_path, 2)
    publish(published, 2)
    (tmp_path / "published" / "history.json").write_text('[{"what": "publ')
    with pytest.raises(CheckpointError, match="damaged"):
        _ = published.current


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
    NightFolder(tmp_path, day(1)).night_file.unlink()
    assert drop_old_models(tmp_path, published, keep_published=1, keep_nights=1) == []
