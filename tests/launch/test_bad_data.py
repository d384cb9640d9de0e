"""Data that must be refused: its exact message, and exit code 3 on every rank of a real run.

In the messages {log} stands for the data folder, and <arrow> for pyarrow's own words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests.support.launches import PATIENT, codes, launch_train, summary
from tests.support.runs import click_log, config_tree, write_config

TRAIN, EVAL = "2024-01-01", "2024-01-02"
TRAIN_ROWS, EVAL_ROWS, GROUP_ROWS = 640, 320, 100
FIRST, SECOND, HELD_OUT = (
    f"dt={TRAIN}/part-00000.parquet",
    f"dt={TRAIN}/part-00001.parquet",
    f"dt={EVAL}/part-00000.parquet",
)
# So each rank's rows come in several blocks, of 64 rows.
SMALL_WINDOWS = "data.shuffle_rows=64"


def write(file: Path, table: pa.Table) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(
        table,
        file,
        row_group_size=GROUP_ROWS,
        write_page_checksum=True,
        # So that a flipped bit is a changed value and not a broken page.
        compression="none",
        use_dictionary=False,
    )


def write_good_log(log: Path) -> None:
    """A day of two files to train on, and a day to evaluate on."""
    table = click_log(TRAIN_ROWS)
    write(log / FIRST, table.slice(0, TRAIN_ROWS // 2))
    write(log / SECOND, table.slice(TRAIN_ROWS // 2))
    write(log / HELD_OUT, click_log(EVAL_ROWS, seed=1))


def change(file: Path, column: str, values: Callable[[pa.ChunkedArray], pa.Array]) -> None:
    table = pq.ParquetFile(file).read()
    index = table.column_names.index(column)
    write(file, table.set_column(index, column, values(table.column(column))))


def put(file: Path, column: str, rows: slice, value: object) -> None:
    """Writes `value` into some rows of a column."""

    def changed(old: pa.ChunkedArray) -> pa.Array:
        values = old.to_pylist()
        values[rows] = [value] * len(values[rows])
        return pa.array(values, old.type)

    change(file, column, changed)


def rename(file: Path, **names: str) -> None:
    table = pq.ParquetFile(file).read()
    write(file, table.rename_columns([names.get(name, name) for name in table.column_names]))


def drop(file: Path, column: str) -> None:
    write(file, pq.ParquetFile(file).read().drop_columns([column]))


def cut(file: Path, size: int) -> None:
    file.write_bytes(file.read_bytes()[:size])


def flip_a_bit(file: Path, column: str, group: int) -> None:
    row_group = pq.read_metadata(file).row_group(group)
    chunks = [row_group.column(index) for index in range(row_group.num_columns)]
    chunk = next(chunk for chunk in chunks if chunk.path_in_schema == column)
    data = bytearray(file.read_bytes())
    data[chunk.data_page_offset + chunk.total_compressed_size - 2] ^= 0x10
    file.write_bytes(data)


def all_files(log: Path) -> list[Path]:
    return [log / FIRST, log / SECOND, log / HELD_OUT]


# What is wrong: each takes the folder of a good log and spoils it.


def folder_is_missing(log: Path) -> None:
    log.rename(log.with_name("elsewhere"))


def folder_is_empty(log: Path) -> None:
    folder_is_missing(log)
    log.mkdir()


def only_other_files(log: Path) -> None:
    folder_is_empty(log)
    (log / "clicks.csv").write_text("user,item,click\n")
    (log / "notes.txt").write_text("later")


def not_by_day(log: Path) -> None:
    (log / f"dt={TRAIN}").rename(log / "train")
    (log / f"dt={EVAL}").rename(log / "eval")


def no_evaluation_day(log: Path) -> None:
    (log / HELD_OUT).unlink()


def unchanged(_log: Path) -> None:
    """The fault lies in what is asked of a good log."""


def columns_renamed(log: Path) -> None:
    for file in all_files(log):
        rename(file, user="usr", watch_s="seconds")


def price_is_text(log: Path) -> None:
    for file in all_files(log):
        change(file, "price", lambda old: pc.cast(old, pa.string()))


def id_is_a_float(log: Path) -> None:
    for file in all_files(log):
        change(file, "item", lambda old: pc.cast(old, pa.float64()))


def label_is_text(log: Path) -> None:
    for file in all_files(log):
        change(file, "conversion", lambda old: pc.cast(old, pa.string()))


def broken_files(log: Path) -> None:
    cut(log / FIRST, 3000)
    cut(log / SECOND, 0)


def no_parquet(log: Path) -> None:
    (log / SECOND).write_text("user,item,click\n1,2,0\n")


def retyped_in_the_second_file(log: Path) -> None:
    change(log / SECOND, "user", lambda old: pc.cast(old, pa.string()))


def retyped_in_the_evaluation_data(log: Path) -> None:
    """Both types can be hashed, but not into the same rows."""
    change(log / HELD_OUT, "user", lambda old: pc.cast(old, pa.string()))


def removed_in_the_second_file(log: Path) -> None:
    drop(log / SECOND, "price")


def label_is_null(log: Path) -> None:
    for file in (log / FIRST, log / SECOND):
        put(file, "conversion", slice(None), None)


def evaluation_label_is_null(log: Path) -> None:
    put(log / HELD_OUT, "watch_s", slice(None), None)


def no_rows(log: Path) -> None:
    for file in (log / FIRST, log / SECOND):
        write(file, pq.ParquetFile(file).read().slice(0, 0))


def id_beyond_its_table(log: Path) -> None:
    """In rank 1's half of the second window of 128 rows: rank 0 never sees it."""
    put(log / FIRST, "item", slice(200, 202), 150)


def negative_id_in_the_evaluation_data(log: Path) -> None:
    put(log / HELD_OUT, "history", slice(319, 320), [4, -1])


def clicks_in_percent(log: Path) -> None:
    """In rank 1's part of the last window."""
    put(log / SECOND, "click", slice(256, 320), 100)


def negative_watch_times(log: Path) -> None:
    put(log / FIRST, "watch_s", slice(0, 64), -1.0)


def schema_of_another_night(log: Path) -> None:
    """Every file of this night is alike: only the pinned schema knows that `user` was text."""
    columns = [{"name": "user", "type": "string"}, {"name": "item", "type": "int64"}]
    (log.parent / "schema.json").write_text(json.dumps({"columns": columns}))


def a_flipped_bit(log: Path) -> None:
    flip_a_bit(log / SECOND, "price", 2)


@dataclass(frozen=True)
class Bad:
    spoil: Callable[[Path], None]
    message: str
    overrides: tuple[str, ...] = ()


TRAIN_SPLIT = f"data.train ({{log}}, {TRAIN} to {TRAIN})"
EVAL_SPLIT = f"data.eval ({{log}}, {EVAL} to {EVAL})"
COLUMNS = "row, user, item, history, price, click, conversion, watch_s"

BEFORE_TRAINING = [
    Bad(
        folder_is_missing,
        "{log}: there is no such file or folder; check data.path",
    ),
    Bad(
        folder_is_empty,
        "{log}: no Parquet file (*.parquet, *.parq, *.pq) is there; check data.path",
    ),
    Bad(
        only_other_files,
        "{log}: no Parquet file (*.parquet, *.parq, *.pq) is there (2 other files, e.g. "
        "{log}/clicks.csv); check data.path",
    ),
    Bad(
        unchanged,
        "s4://bucket/log: can't be listed (ValueError: Protocol not known: s4); check data.path "
        "and the access to it",
        ("data.path=s4://bucket/log",),
    ),
    Bad(
        not_by_day,
        "{log}: dates 2024-01-01 to 2024-01-01 are asked for, but no file lies in a folder named "
        "dt=YYYY-MM-DD; leave the dates out or partition the data by day",
    ),
    Bad(
        no_evaluation_day,
        "{log}: no Parquet file for 2024-01-02; there is 1 day: 2024-01-01",
    ),
    Bad(
        unchanged,
        "{log}: no Parquet file for 2 of the 3 days from 2023-12-30 to 2024-01-01: 2023-12-30, "
        "2023-12-31; there are 2 days: 2024-01-01, 2024-01-02",
        ("data.train.dates=[2023-12-30, 2024-01-01]",),
    ),
    Bad(
        unchanged,
        f"data.eval: 2 of its 3 files are training files too, e.g. {{log}}/{FIRST}; evaluation "
        "must not see training rows: give each split its own days or folder",
        ("data.train={path: '{log}/dt=2024-01-01'}", "data.eval={path: '{log}'}"),
    ),
    Bad(
        unchanged,
        "{log}: 640 rows are fewer than one step takes: 2 ranks x batch_size 321 = 642; lower "
        "data.batch_size, use fewer ranks or give more data",
        ("data.batch_size=321",),
    ),
    Bad(
        no_rows,
        "{log}: 0 rows are fewer than one step takes: 2 ranks x batch_size 64 = 128; lower "
        "data.batch_size, use fewer ranks or give more data",
    ),
    Bad(
        broken_files,
        "2 of 2 files are broken:\n"
        f"{{log}}/{FIRST}: 3,000 bytes, no readable Parquet footer (<arrow>)\n"
        f"{{log}}/{SECOND}: 0 bytes\n"
        "write them again or move them away",
    ),
    Bad(
        no_parquet,
        "1 of 2 files are broken:\n"
        f"{{log}}/{SECOND}: 22 bytes, no readable Parquet footer (<arrow>)\n"
        "write them again or move them away",
    ),
    Bad(
        broken_files,
        "2 of 2 files would be skipped, more than data.max_skipped_files (50.00%) allows:\n"
        f"{{log}}/{FIRST}: 3,000 bytes, no readable Parquet footer (<arrow>)\n"
        f"{{log}}/{SECOND}: 0 bytes\n"
        "write them again, move them away or raise the share",
        ("data.on_bad_file=skip", "data.max_skipped_files=0.5"),
    ),
    Bad(
        schema_of_another_night,
        f"{{log}}/{FIRST}: column 'user' is int64, expected string as in {{log}}/../schema.json\n"
        f"{{log}}/{SECOND}: column 'user' is int64, expected string as in {{log}}/../schema.json\n"
        "write these files again alike, or move them away",
        ("data.schema_file={log}/../schema.json",),
    ),
    Bad(
        unchanged,
        "data.time: evaluation must come after training, but column 'row' runs to 639 in the "
        f"training file {{log}}/{SECOND} and begins at 0 in the evaluation file {{log}}/{HELD_OUT};"
        " mend the splits, or set data.allow_time_overlap",
        ("data.time=row",),
    ),
    Bad(
        columns_renamed,
        f"{TRAIN_SPLIT}: features.user: there is no column 'user'; did you mean 'usr'?\n"
        f"{TRAIN_SPLIT}: tasks.watch_time.label: there is no column 'watch_s'; known here: row, "
        "usr, item, history, price, click, conversion, seconds",
    ),
    Bad(
        unchanged,
        f"{TRAIN_SPLIT}: data.weight: there is no column 'importance'; known here: {COLUMNS}",
        ("data.weight=importance",),
    ),
    Bad(
        price_is_text,
        f"{TRAIN_SPLIT}: features.price_band: column 'price' is string; a bucketize feature needs "
        "a number or a list of numbers\n"
        f"{TRAIN_SPLIT}: features.price: column 'price' is string; a dense feature needs a number",
    ),
    Bad(
        id_is_a_float,
        f"{TRAIN_SPLIT}: features.item: column 'item' is double; an id feature needs an integer "
        "or a list of integers; floats lose ids beyond 2**53 and differ from integers: write the "
        "column as a nullable integer (pandas makes floats of integers with gaps: "
        '.astype("Int64") before it writes)',
    ),
    Bad(
        label_is_text,
        f"{TRAIN_SPLIT}: tasks.cvr.label: column 'conversion' is string; it must be a number or "
        "a boolean",
    ),
    Bad(
        retyped_in_the_second_file,
        f"{{log}}/{SECOND}: column 'user' is string, expected int64 as in {{log}}/{FIRST}\n"
        "write these files again alike, or move them away",
    ),
    Bad(
        removed_in_the_second_file,
        f"{{log}}/{SECOND}: column 'price' is missing; {{log}}/{FIRST} has it as float\n"
        "write these files again alike, or move them away",
    ),
    Bad(
        retyped_in_the_evaluation_data,
        f"{{log}}/{HELD_OUT}: column 'user' is string, expected int64 as in {{log}}/{FIRST}\n"
        "write the evaluation data again with the columns of training",
    ),
    Bad(
        label_is_null,
        f"{TRAIN_SPLIT}: tasks.cvr.label: column 'conversion' is null in all 640 rows; there is "
        "nothing to learn from or to be judged by",
    ),
    Bad(
        evaluation_label_is_null,
        f"{EVAL_SPLIT}: tasks.watch_time.label: column 'watch_s' is null in all 320 rows; there "
        "is nothing to learn from or to be judged by",
    ),
]

# These are met by one rank only, in a background thread.
WHILE_READING = [
    Bad(
        id_beyond_its_table,
        "features.item: 2 of 64 ids in column 'item' are outside [0, 150), the first is 150; give "
        "the table more rows, use kind: hash, or choose out_of_range: drop or clamp; found in "
        f"{{log}}/{FIRST} row group 1, {{log}}/{FIRST} row group 2",
    ),
    Bad(
        negative_id_in_the_evaluation_data,
        "features.history: 1 of 49 ids in column 'history' are outside [0, 150), the first is -1; "
        "give the table more rows, use kind: hash, or choose out_of_range: drop or clamp; found "
        f"in {{log}}/{HELD_OUT} row group 3",
    ),
    Bad(
        clicks_in_percent,
        "tasks.ctr: labels in column 'click': a binary label must be 0 or 1, but 64 of 320 are not "
        "(20.00%), e.g. 100; mend the column or raise data.max_invalid_labels (1.00%); found in "
        f"{{log}}/{SECOND} row group 2, {{log}}/{SECOND} row group 3",
    ),
    Bad(
        negative_watch_times,
        "tasks.watch_time: labels in column 'watch_s': a duration must lie in [0, max_s = "
        "86400] seconds, but 33 of 160 are not (20.62%), e.g. -1; mend the column or raise "
        f"data.max_invalid_labels (1.00%); found in {{log}}/{FIRST} row group 0",
    ),
    Bad(
        a_flipped_bit,
        f"{{log}}/{SECOND} row group 2: cannot be read (OSError: <arrow>); the file is damaged or "
        "out of reach; write it again, or move it away and restart",
    ),
]


def named(bad: Bad) -> str:
    return " ".join([bad.spoil.__name__, *(text.split("=")[0] for text in bad.overrides)])


@pytest.mark.parametrize("bad", BEFORE_TRAINING + WHILE_READING, ids=named)
def test_it_is_refused_on_every_rank(tmp_path: Path, bad: Bad):
    log, runs = tmp_path / "log", tmp_path / "runs"
    write_good_log(log)
    bad.spoil(log)
    config = write_config(config_tree(log, runs), tmp_path / "config.yaml")
    overrides = [text.replace("{log}", str(log)) for text in bad.overrides]
    ended = launch_train(config, PATIENT, SMALL_WINDOWS, *overrides)
    before, _, message = ended[0].said.partition("DataError: ")
    assert shown(message.removesuffix("\n"), log) == bad.message
    assert "Traceback" not in before
    assert codes(ended) == [3, 3]
    assert "Error" not in ended[1].said  # rank 0 speaks for all
    ending = summary(runs / "test")
    assert (ending["status"], ending["exit_code"]) == ("failed", 3)
    assert shown(ending["error"], log) == bad.message


def test_the_log_is_good_before_it_is_spoiled(tmp_path: Path):
    """Else the table above would prove little."""
    log, runs = tmp_path / "log", tmp_path / "runs"
    write_good_log(log)
    config = write_config(config_tree(log, runs), tmp_path / "config.yaml")
    assert codes(launch_train(config, PATIENT, SMALL_WINDOWS)) == [0, 0]
    assert summary(runs / "test")["status"] == "done"


def test_a_bad_file_may_be_skipped_and_is_named(tmp_path: Path):
    log, runs = tmp_path / "log", tmp_path / "runs"
    write_good_log(log)
    cut(log / SECOND, 3000)
    config = write_config(config_tree(log, runs), tmp_path / "config.yaml")
    skip = ("data.on_bad_file=skip", "data.max_skipped_files=0.5")
    ended = launch_train(config, PATIENT, SMALL_WINDOWS, *skip)
    assert codes(ended) == [0, 0]
    assert f"skipped: {log}/{SECOND}: 3,000 bytes, no readable Parquet footer" in ended[0].said
    assert "training test: 320 rows" in ended[0].said


def test_times_that_overlap_may_be_allowed(tmp_path: Path):
    log, runs = tmp_path / "log", tmp_path / "runs"
    write_good_log(log)
    config = write_config(config_tree(log, runs), tmp_path / "config.yaml")
    allowed = ("data.time=row", "data.allow_time_overlap=true", "--dry-run")
    ended = launch_train(config, PATIENT, SMALL_WINDOWS, *allowed)
    assert codes(ended) == [0, 0]
    assert "column 'row' runs to 639 in the training file" in ended[0].said


def test_a_dry_run_refuses_bad_data_too_and_writes_nothing(tmp_path: Path):
    log, runs = tmp_path / "log", tmp_path / "runs"
    write_good_log(log)
    put(log / FIRST, "item", slice(0, 1), -1)
    config = write_config(config_tree(log, runs), tmp_path / "config.yaml")
    ended = launch_train(config, PATIENT, SMALL_WINDOWS, "--dry-run")
    assert codes(ended) == [3, 3]
    assert "DataError: features.item: 1 of 64 ids in column 'item' are outside" in ended[0].said
    assert not runs.exists()


def shown(message: str, log: Path) -> str:
    message = message.replace(str(log), "{log}")
    # What Arrow says of a broken file is its own affair.
    message = re.sub(r"(no readable Parquet footer) \(.*\)", r"\1 (<arrow>)", message)
    return re.sub(r"(cannot be read \(OSError:) .*?\);", r"\1 <arrow>);", message)
