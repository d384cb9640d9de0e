"""A night's files: which are read, in what order, and what the ranks see of them."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_pipelines.catalog.catalog import Catalog
from data_pipelines.order.due_files import due_moment_us, due_order
from data_pipelines.preflight.split import look_at_split, split_problems
from data_pipelines.reading.reader import ParquetReader
from data_pipelines.validate.__main__ import main as validate
from marigold_rec.batch import Batch, Cursor
from marigold_rec.config import Config, dump_config
from marigold_rec.config.due import Due
from tests.support.parquet import log_config, write_file

UTC = datetime.UTC
DAYS = [datetime.date(2024, 1, day) for day in range(1, 6)]
ROWS = 96
GROUP = 8
HOUR_US = 3_600_000_000
TASKS: list[dict[str, Any]] = [
    {"name": "ctr", "kind": "binary", "label": "click"},
    {"name": "cvr", "kind": "binary", "label": "bought", "given": "ctr", "matures_h": 48},
]
NIGHT = (DAYS[3], DAYS[4])
"""Of the fourth day: its clicks, and the conversions of the second day's."""


def midnight(day: datetime.date) -> datetime.datetime:
    return datetime.datetime.combine(day, datetime.time(tzinfo=UTC))


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five days, each a file of 12 row groups of 8 rows, one row every quarter of an hour."""
    folder = tmp_path_factory.mktemp("log")
    for number, day in enumerate(DAYS):
        first = int(midnight(day).timestamp() * 1000)
        rng = np.random.default_rng(number)
        table = pa.table(
            {
                "row_id": np.arange(number * ROWS, (number + 1) * ROWS),
                "user": rng.integers(0, 50, ROWS),
                "at": first + np.arange(ROWS) * 900_000,
                "click": rng.integers(0, 2, ROWS),
                "bought": rng.integers(0, 2, ROWS),
            }
        )
        write_file(folder / f"dt={day}" / "part-0.parquet", table, GROUP)
    return folder


def config_of(due: tuple[datetime.date, datetime.date] | None = NIGHT, **data: Any) -> Config:
    train: dict[str, Any] = {"dates": [DAYS[1], DAYS[3]]}
    if due is not None:
        train["due"] = [midnight(day) for day in due]
    section = {"weight": None, "time": "at", "time_unit": "ms", "train": train, "batch_size": 16}
    section |= {"shuffle_rows": 32, **data}
    features = [{"name": "user", "kind": "hash", "rows": 64, "dim": 4}]
    return log_config(features=features, tasks=TASKS, **section)


def look(config: Config, log: Path, name: str = "train") -> tuple[Catalog, list[str]]:
    split = config.data.train if name == "train" else config.data.eval
    assert split is not None
    return look_at_split(name, config, split, str(log))


def reader_of(config: Config, log: Path, rank: int = 0, world: int = 1) -> ParquetReader:
    catalog, problems = look(config, log)
    assert problems == []
    return ParquetReader(
        catalog,
        config,
        rank=rank,
        world_size=world,
        extra_columns=("row_id",),
        due=config.data.train.due,
    )


def ids(batches: list[Batch]) -> list[int]:
    return [row for batch in batches for row in batch.columns["row_id"].to_pylist()]


def test_a_day_without_a_due_label_is_not_read(log: Path):
    catalog, problems = look(config_of(), log)
    assert problems == []
    assert [file.day for file in catalog.files] == [DAYS[1], DAYS[3]]
    assert catalog.not_due == (f"{log}/dt={DAYS[2]}/part-0.parquet",)
    assert catalog.num_rows == 2 * ROWS


def test_without_a_window_all_is_as_ever(log: Path):
    catalog, problems = look(config_of(None), log)
    assert problems == []
    assert catalog.num_rows == 3 * ROWS
    assert catalog.order is None
    assert catalog.not_due == ()


def test_row_groups_of_the_same_hours_are_read_together(log: Path):
    catalog, _ = look(config_of(), log)
    groups = ROWS // GROUP
    assert catalog.order is not None
    # Those of the old day (0 to 11) and of the new one (12 to 23), hour by hour.
    assert catalog.order == tuple(x for hour in range(groups) for x in (hour, hour + groups))
    located = [catalog.locate(number) for number in range(4)]
    assert [(file.day, group) for file, group in located] == [
        (DAYS[1], 0), (DAYS[3], 0), (DAYS[1], 1), (DAYS[3], 1)
    ]  # fmt: skip
    assert catalog.rows_per_group == (GROUP,) * 2 * groups


def test_every_batch_holds_labels_of_both_tasks(log: Path):
    """In the order of files the first half would hold conversions only, the second clicks only."""
    batches = list(reader_of(config_of(), log).batches())
    assert len(batches) == 12
    for batch in batches:
        assert (batch.observed_BT.sum(0) >= 2).all()
    reader = reader_of(config_of(), log)
    list(reader.batches())
    assert reader.counts["not_due/ctr"] == ROWS


def test_the_order_is_part_of_the_fingerprint(log: Path):
    catalog, _ = look(config_of(), log)
    unordered = Catalog(
        catalog.storage, catalog.files, catalog.schema, catalog.all_null, (), (), order=None
    )
    assert catalog.fingerprint != unordered.fingerprint
    assert catalog.fingerprint == look(config_of(), log)[0].fingerprint


@pytest.mark.parametrize("world", [1, 2, 3])
def test_nights_learn_every_label_once_on_all_ranks(log: Path, world: int):
    """Five nights and two more, each over the days that its window needs."""
    learned = np.zeros((len(DAYS) * ROWS, 2), int)
    for night in range(len(DAYS) + 2):
        day = DAYS[0] + datetime.timedelta(days=night)
        dates = [max(DAYS[0], day - datetime.timedelta(days=2)), min(DAYS[-1], day)]
        due = [midnight(day), midnight(day + datetime.timedelta(days=1))]
        config = config_of(train={"dates": dates, "due": due}, batch_size=8)
        for rank in range(world):
            reader = reader_of(config, log, rank, world)
            batches = list(reader.batches())
            assert len(batches) == reader.steps_per_epoch
            for batch in batches:
                rows = batch.columns["row_id"].to_pylist()
                learned[rows] += batch.observed_BT.numpy()[: len(rows)].astype(int)
    tables = [pq.ParquetFile(log / f"dt={day}" / "part-0.parquet").read() for day in DAYS]
    clicked = np.concatenate([table.column("click").to_numpy() for table in tables])
    assert (learned[:, 0] == 1).all()
    assert (learned[:, 1] == clicked).all()


def test_a_resume_goes_on_in_the_same_order(log: Path):
    config = config_of()
    for rank in range(2):
        whole = list(reader_of(config, log, rank, 2).batches())
        for step in range(len(whole)):
            cursor = Cursor(0, 0) if step == 0 else whole[step - 1].cursor
            rest = list(reader_of(config, log, rank, 2).batches(cursor))
            assert ids(rest) == ids(whole[step:])
            assert [b.observed_BT.tolist() for b in rest] == [
                b.observed_BT.tolist() for b in whole[step:]
            ]


def test_nothing_due_at_all_is_refused(log: Path):
    config = config_of(time_unit="us")
    _, problems = look(config, log)
    assert problems == [
        f"data.train ({log}, 2024-01-02 to 2024-01-04): due: no label of any task becomes "
        "due from 2024-01-04T00:00:00+00:00 to 2024-01-05T00:00:00+00:00: by column 'at' the rows "
        "run from 1970-01-20T17:22:33+00:00 to 1970-01-20T17:26:51+00:00; look at due, dates and "
        "data.time_unit"
    ]


def test_days_that_are_not_read_are_told(log: Path):
    due = [midnight(day) for day in NIGHT]
    config = config_of(train={"dates": [DAYS[2], DAYS[3]], "due": due})
    catalog, problems = look(config, log)
    assert problems == []
    assert catalog.warnings == (
        "data.train.due: labels that become due in it are of rows from 2024-01-02 to 2024-01-04, "
        "but data.train.dates are 2024-01-03 to 2024-01-04: what the other days hold is passed "
        "over",
    )
    assert look(config_of(), log)[0].warnings == ()


def test_row_groups_too_large_to_be_mixed_are_told(log: Path):
    (warning,) = look(config_of(shuffle_rows=15), log)[0].warnings
    assert warning.startswith("data.shuffle_rows: 15 rows are less than 2 row groups (of up to 8 ")
    assert "raise it to 16" in warning
    assert look(config_of(shuffle_rows=16), log)[0].warnings == ()
    assert look(config_of(shuffle_rows=0), log)[0].warnings == ()


def test_evaluation_may_share_files_if_its_labels_are_due_later(log: Path):
    evaluation = {"dates": [DAYS[2], DAYS[4]], "due": [midnight(NIGHT[1]), "2024-01-06"]}
    config = config_of(eval=evaluation)
    train, held_out = look(config, log)[0], look(config, log, "eval")[0]
    assert split_problems(train, held_out, config) == ([], [])
    # All of its files, in their order: another model's tasks may be due at other times.
    assert held_out.num_rows == 3 * ROWS
    assert held_out.order is None
    config = config_of(None, eval={"dates": [DAYS[3], DAYS[4]]})
    train, held_out = look(config, log)[0], look(config, log, "eval")[0]
    errors, _ = split_problems(train, held_out, config)
    assert "1 of its 2 files are training files too" in errors[0]


def test_files_without_statistics_are_all_read_by_their_days(log: Path, tmp_path: Path):
    for day in DAYS:
        table = pq.ParquetFile(log / f"dt={day}" / "part-0.parquet").read()
        write_file(tmp_path / f"dt={day}" / "part-0.parquet", table, GROUP, write_statistics=False)
    catalog, problems = look(config_of(), tmp_path)
    assert problems == []
    assert catalog.num_rows == 3 * ROWS
    # Of the day between, nothing is due: where its groups stand makes no difference to the others.
    between = range(ROWS // GROUP, 2 * ROWS // GROUP)
    groups = ROWS // GROUP
    assert catalog.order is not None
    assert [x for x in catalog.order if x not in between] == [
        x for hour in range(groups) for x in (hour, hour + 2 * groups)
    ]


def test_the_validator_judges_times_too(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    table = pq.ParquetFile(log / f"dt={DAYS[3]}" / "part-0.parquet").read()
    at = table.column("at").to_pylist()
    at[5] = None
    index = table.column_names.index("at")
    table = table.set_column(index, "at", pa.array(at, pa.int64()))
    write_file(tmp_path / "log" / f"dt={DAYS[3]}" / "part-0.parquet", table, GROUP)
    file = tmp_path / "config.yaml"
    command = [str(tmp_path / "log"), "--config", str(file)]
    file.write_text(dump_config(config_of()))
    assert validate([*command, "data.max_invalid_labels=0.05"]) == 0
    file.write_text(dump_config(config_of()))
    assert validate(command) == 0  # no night's window: only labels with an event depend on times
    tasks = [TASKS[0], {**TASKS[1], "event_time": "at"}]
    with_event = config_of().model_copy(update={"tasks": log_config(tasks=tasks).tasks})
    file.write_text(dump_config(with_event))
    capsys.readouterr()
    assert validate(command) == 3
    assert "data.time: column 'at': every row needs its event time, but 1 of 96 are not" in (
        capsys.readouterr().out
    )
    file.write_text(dump_config(config_of(time_unit=None)))
    assert validate(command) == 3
    assert "its unit is not known: set data.time_unit" in capsys.readouterr().out


def due_of(since_h: float, until_h: float) -> Due:
    start = midnight(DAYS[0])
    return (
        start + datetime.timedelta(hours=since_h),
        start + datetime.timedelta(hours=until_h),
    )


def test_a_row_is_read_when_its_first_label_in_the_window_is_due():
    tasks = config_of().tasks
    start = int(midnight(DAYS[0]).timestamp()) * 1_000_000
    due = due_of(72, 96)

    def found(hours: float) -> float:
        moment = due_moment_us(start + int(hours * HOUR_US), tasks, due)
        return (moment - start) / HOUR_US

    assert [found(h) for h in (24, 30, 47.5)] == [72, 78, 95.5]  # conversions of two days ago
    assert [found(h) for h in (72, 95)] == [72, 95]  # clicks of the new day
    assert [found(h) for h in (0, 50)] == [72, 72]  # nothing is due of them
    assert due_moment_us(None, tasks, due) == start + 72 * HOUR_US


def test_over_a_long_window_the_days_stay_in_their_order():
    """Where clicks and conversions of a row are due in one window, it is read at its own time."""
    start = int(midnight(DAYS[0]).timestamp()) * 1_000_000
    moments = [start + day * 24 * HOUR_US for day in range(8)]
    order = due_order(moments, config_of().tasks, due_of(48, 24 * 8))
    # The first two days are replayed beside days 2 and 3; from there on old to new.
    assert order == (0, 2, 1, 3, 4, 5, 6, 7)
