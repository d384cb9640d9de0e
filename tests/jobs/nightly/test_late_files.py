"""The next nightly run reports once, with their rows, files of a day that was trained on."""

from __future__ import annotations

import datetime
import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.nightly.folder import NightlyFolder
from jobs.nightly.late_files import late_days, record_files
from jobs.nightly.partitions import Partitions, newest
from jobs.nightly.plan import DataWindow, Model, NightlyPlan
from marigold_rec.errors import EXIT_CONFIG
from tests.jobs.nightly.test_nightly import nightly
from tests.support.runs import click_log, config_tree, write_config


def day(number: int) -> datetime.date:
    return datetime.date(2024, 1, number)


def write(root: Path, number: int, name: str = "part-0.parquet", rows: int = 10) -> Path:
    file = root / "log" / f"dt={day(number)}" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"a": range(rows)}), file)
    return file


def night(root: Path, number: int, base: int | None) -> list[str]:
    """Runs the stage for training on the day before `number`; returns its sentences."""
    model = None
    if base is not None:
        model = Model(
            night=day(base), trained_until=day(base - 1), origin=day(1), checkpoint="c",
            manifest_sha256="0",
        )  # fmt: skip
    train = day(1 if base is None else base), day(number - 1)
    plan = NightlyPlan(
        night=day(number), train=train, train_window=DataWindow(dates=train, due=None),
        evaluation=(day(number), day(number)),
        evaluation_window=DataWindow(dates=(day(number), day(number)), due=None),
        origin=day(1), holdout=None, base=model, previous_candidate=None, config_hash="0",
    )  # fmt: skip
    folder = NightlyFolder(root, day(number))
    folder.begin(plan)
    record_files(plan, folder, Partitions(str(root / "log"), None))
    return [found.sentence for found in late_days(folder)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three days, and the nights of the second and the third."""
    for number in range(1, 4):
        write(tmp_path, number)
    assert night(tmp_path, 2, None) == []
    assert night(tmp_path, 3, 2) == []
    return tmp_path


def test_the_next_night_tells_rows_and_files_and_the_one_after_it_nothing(
    root: Path, caplog: pytest.LogCaptureFixture
):
    write(root, 1, "late.parquet", rows=1234)
    write(root, 4)
    caplog.set_level("WARNING", "marigold_rec")
    (told,) = night(root, 4, 3)
    assert "nightly run 2024-01-02 has trained on 2024-01-01" in told
    assert "(1,234 rows)" in told
    assert "dt=2024-01-01/late.parquet" in told
    assert told in caplog.text
    assert "move them into the folder of a day" in caplog.text
    assert night(root, 4, 3) == [told]  # the same night once more, after a kill
    write(root, 5)
    assert night(root, 5, 4) == []


def test_the_day_that_judges_is_learned_later_and_so_is_what_comes_to_it(root: Path):
    write(root, 3, "late.parquet")
    write(root, 4)
    assert night(root, 4, 3) == []


def test_a_file_that_was_written_again(root: Path):
    write(root, 2, rows=77)
    write(root, 4)
    (told,) = night(root, 4, 3)
    assert "1 were rewritten (77 rows)" in told


def test_what_is_no_late_file(root: Path):
    for file in (root / "log").rglob("*.parquet"):  # a copy of the log
        os.utime(file, (1, 1))
    shutil.rmtree(root / "log/dt=2024-01-01")  # kept no longer
    write(root, 4)
    assert night(root, 4, 3) == []


def test_a_damaged_note_costs_no_night(root: Path):
    (NightlyFolder(root, day(2)).path / "files.json").write_text("[")
    write(root, 1, "late.parquet")
    write(root, 2, "late.parquet")
    write(root, 4)
    (told,) = night(root, 4, 3)
    assert "2024-01-02" in told


def test_days_after_tomorrow_are_no_new_days():
    today = day(5)
    assert newest([day(4), day(5), day(6)], today) == (day(6), [])
    assert newest([day(4), day(7), day(9)], today) == (day(4), [day(7), day(9)])
    assert newest([day(7)], today) == (None, [day(7)])
    assert newest([], today) == (None, [])


def test_auto_names_the_stray_day(tmp_path: Path):
    file = tmp_path / "log/dt=2099-01-01/part-0.parquet"
    file.parent.mkdir(parents=True)
    pq.write_table(click_log(20), file)
    tree = config_tree(tmp_path / "log", tmp_path / "runs")
    del tree["data"]["train"], tree["data"]["eval"]
    ended = nightly(write_config(tree, tmp_path / "config.yaml"), "--date", "auto")
    assert ended.returncode == EXIT_CONFIG
    assert "skipped: the partition 2099-01-01" in ended.stderr
    assert "name the day" in ended.stderr
