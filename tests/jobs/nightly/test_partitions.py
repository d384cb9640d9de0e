"""Complete days are found, and late ones waited for."""

from __future__ import annotations

import datetime
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.nightly.partitions import Partitions
from marigold_rec.errors import DataError


def day(number: int) -> datetime.date:
    return datetime.date(2024, 1, number)


def write_day(root: Path, number: int, *, marker: str | None = None) -> Path:
    folder = root / f"dt={day(number)}"
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"a": [number]}), folder / "part-0.parquet")
    if marker is not None:
        (folder / marker).touch()
    return folder


def wait(partitions: Partitions, number: int, wait_s: float, said: list[str]) -> None:
    partitions.wait_for(
        [day(number)], wait_s=wait_s, poll_s=0.05, is_stopped=lambda: False, log=said.append
    )


def test_a_day_counts_once_its_marker_is_there(tmp_path: Path) -> None:
    write_day(tmp_path, 1, marker="_SUCCESS")
    second = write_day(tmp_path, 2)
    assert Partitions(str(tmp_path), None).complete() == [day(1), day(2)]
    partitions = Partitions(str(tmp_path), "_SUCCESS")
    assert partitions.complete() == [day(1)]
    (second / "_SUCCESS").touch()
    assert partitions.complete() == [day(1), day(2)]


def test_a_late_day_is_waited_for(tmp_path: Path) -> None:
    write_day(tmp_path, 1)
    threading.Timer(0.3, write_day, [tmp_path, 2]).start()
    said: list[str] = []
    wait(Partitions(str(tmp_path), None), 2, 20.0, said)
    assert said == ["waiting for 2024-01-02 (at most 20 s)"]


def test_a_day_that_does_not_come_is_named(tmp_path: Path) -> None:
    write_day(tmp_path, 1)
    with pytest.raises(DataError, match=r"no _OK for 2024-01-03; no day is complete.*train_from"):
        wait(Partitions(str(tmp_path), "_OK"), 3, 0.0, [])
    with pytest.raises(DataError, match=r"no Parquet file for 2024-01-03 after 0 s; the newest"):
        wait(Partitions(str(tmp_path), None), 3, 0.1, [])


def test_a_signal_ends_the_waiting(tmp_path: Path) -> None:
    write_day(tmp_path, 1)
    started = time.monotonic()
    Partitions(str(tmp_path), None).wait_for(
        [day(9)],
        wait_s=3600.0,
        poll_s=3600.0,
        is_stopped=lambda: time.monotonic() > started + 0.3,
        log=lambda text: None,
    )


def test_a_day_that_was_written_again_has_another_state(tmp_path: Path) -> None:
    folder = write_day(tmp_path, 1)
    write_day(tmp_path, 2)
    partitions = Partitions(str(tmp_path), None)
    before = partitions.state(day(1)), partitions.state(day(2))
    pq.write_table(pa.table({"a": [1, 2]}), folder / "part-0.parquet")
    assert partitions.state(day(1)) != before[0]
    assert partitions.state(day(2)) == before[1]
