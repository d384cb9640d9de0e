"""Profiles against pandas, however the files are cut; samples and estimates at their limits."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_pipelines.profile.__main__ import main
from data_pipelines.profile.columns import NUM_TOP_VALUES, ColumnTally
from data_pipelines.profile.split import column_roles, profile_split
from data_pipelines.statistics.distinct import DistinctCount
from data_pipelines.statistics.moments import Moments
from data_pipelines.statistics.sample import PlaceSample
from marigold_rec.config import dump_config
from marigold_rec.errors import DataError
from marigold_rec.gating import Profile
from marigold_rec.profile import ColumnProfile
from marigold_rec.transforms.hashing import mix64
from tests.support.parquet import click_log, log_config, write_file

DAY = datetime.date(2024, 1, 1)


def write_days(folder: Path, *tables: pa.Table, row_group_rows: int = 40) -> None:
    for index, table in enumerate(tables):
        day = DAY + datetime.timedelta(days=index)
        write_file(folder / f"dt={day}/part-0.parquet", table, row_group_rows)


def profiled(table: pa.Table, folder: Path, **data: Any) -> Profile:
    write_days(folder, table)
    return profile_split(log_config(**data), str(folder), (DAY, DAY))


def tallied(*pieces: pa.Array) -> ColumnProfile:
    tally = ColumnTally(pieces[0].type)
    for piece in pieces:
        tally.add(piece)
    return tally.profile(("number",))


def test_the_columns_equal_pandas(tmp_path: Path):
    table = click_log(400, seed=3)
    found = profiled(table, tmp_path)
    frame = table.to_pandas()
    assert (found.rows, found.files, found.missing) == (400, 1, ())
    assert sorted(found.columns) == list(found.columns) == sorted(column_roles(log_config()))
    for name, column in found.columns.items():
        values = frame[name]
        if column.lengths is not None:
            given = values.dropna()
            flat = pd.Series([x for row in given for x in row], dtype=object).dropna()
            assert column.lengths.count == len(given)
            assert column.lengths.mean == pytest.approx(given.map(len).mean())
        else:
            flat = values.dropna()
        assert column.nulls == int(values.isna().sum()), name
        assert column.count == len(flat), name
        assert column.distinct == flat.nunique(), name
        assert column.distinct_is_exact
        assert column.values is not None
        shares = flat.value_counts(normalize=True)
        top = dict(column.values.top)
        assert list(top.values()) == pytest.approx(shares.iloc[: len(top)].tolist()), name
        assert column.values.rest == pytest.approx(shares.iloc[NUM_TOP_VALUES:].sum())
        if column.numbers is not None:
            numbers = flat.astype(float)
            numbers = numbers[np.isfinite(numbers)]
            assert column.numbers.mean == pytest.approx(numbers.mean()), name
            assert column.numbers.std == pytest.approx(numbers.std(ddof=0)), name
            assert column.numbers.least == numbers.min()
            assert column.numbers.greatest == numbers.max()
            quantiles = numbers.quantile(np.linspace(0, 1, 101), interpolation="lower")
            # Other definitions of a quantile differ by one value's place at most.
            ranks = numbers.rank(method="max", pct=True)
            for step, quantile in zip(
                np.linspace(0, 1, 101), column.numbers.quantiles, strict=True
            ):
                assert ranks[numbers == quantile].iloc[0] >= step - 1e-9, name
            assert len(quantiles) == len(column.numbers.quantiles)


def test_the_labels_equal_pandas(tmp_path: Path):
    table = click_log(400, seed=4)
    found = profiled(table, tmp_path).labels
    frame = table.to_pandas()
    assert found["ctr"].observed == 400
    assert found["ctr"].mean == pytest.approx(frame.click.mean())
    assert found["ctr"].positives == frame.click.sum()
    watch = frame.watch_s[frame.conversion == 1].dropna()
    task = next(task for task in log_config().tasks if task.name == "watch")
    assert task.observed_if == "conversion"
    valid = watch[watch >= 0]
    assert found["watch"].observed == len(valid)
    assert found["watch"].mean == pytest.approx(valid.mean())
    assert found["watch"].std == pytest.approx(valid.std(ddof=0))


def test_invalid_labels_are_counted_and_not_averaged(tmp_path: Path):
    table = click_log(100, seed=5)
    clicks = table.column("click").to_pylist()
    clicks[:7] = [7] * 7
    index = table.column_names.index("click")
    table = table.set_column(index, "click", pa.array(clicks, pa.int8()))
    found = profiled(table, tmp_path).labels["ctr"]
    assert (found.invalid, found.observed) == (7, 93)
    assert found.invalid_example == 7
    assert found.mean == pytest.approx(np.mean(clicks[7:]))


def test_row_groups_and_files_do_not_matter(tmp_path: Path):
    table = click_log(300, seed=6)
    write_file(tmp_path / "a/dt=2024-01-01/part-0.parquet", table, 300)
    write_file(tmp_path / "b/dt=2024-01-01/part-0.parquet", table.slice(0, 101), 7)
    write_file(tmp_path / "b/dt=2024-01-01/part-1.parquet", table.slice(101), 64)
    one, two = (profile_split(log_config(), str(tmp_path / x), (DAY, DAY)) for x in "ab")
    assert one.columns.keys() == two.columns.keys()
    for name, column in one.columns.items():
        other = two.columns[name]
        assert column.values == other.values, name
        if column.numbers and other.numbers:
            # Sums of pieces round in another order.
            assert column.numbers.mean == pytest.approx(other.numbers.mean)
            assert column.numbers.quantiles == other.numbers.quantiles
        assert (column.nulls, column.distinct) == (other.nulls, other.distinct)


def test_the_same_files_give_the_same_bytes(tmp_path: Path):
    write_days(tmp_path, click_log(200, seed=7))
    first, again = (profile_split(log_config(), str(tmp_path), (DAY, DAY)) for _ in range(2))
    assert first.json_text() == again.json_text()
    assert Profile.model_validate_json(first.json_text()) == first


def test_missing_and_retyped_columns_are_told_of(tmp_path: Path):
    table = click_log(50, seed=8).drop_columns(["amount"])
    index = table.column_names.index("conversion")
    text = pa.array(["yes"] * 50)
    found = profiled(table.set_column(index, "conversion", text), tmp_path)
    assert found.missing == ("amount",)
    assert found.columns["conversion"].type == "string"
    # cvr's label and watch's condition can't be read; ctr's can.
    assert list(found.labels) == ["ctr"]


def test_a_day_without_rows(tmp_path: Path):
    found = profiled(click_log(0), tmp_path)
    assert found.rows == 0
    assert found.columns["amount"].numbers is None
    assert found.columns["amount"].values is None
    assert found.labels["ctr"].mean is None
    assert Profile.model_validate_json(found.json_text()) == found


def test_damage_is_refused_with_the_file(tmp_path: Path):
    write_days(tmp_path, click_log(300, seed=9))
    file = tmp_path / f"dt={DAY}/part-0.parquet"
    data = bytearray(file.read_bytes())
    group = pq.read_metadata(file).row_group(0)
    chunks = [group.column(index) for index in range(group.num_columns)]
    chunk = next(chunk for chunk in chunks if chunk.path_in_schema == "amount")
    # In the page's values: only its checksum can tell.
    data[chunk.data_page_offset + chunk.total_compressed_size - 3] ^= 0x10
    file.write_bytes(data)
    with pytest.raises(DataError, match=rf"{file}: can't be profiled"):
        profile_split(log_config(), str(tmp_path), (DAY, DAY))


def test_roles_follow_the_config():
    roles = column_roles(log_config(weight="weight"))
    assert roles["user"] == ("category",)
    assert roles["amount"] == ("number",)
    assert roles["click"] == ("label",)
    assert roles["weight"] == ("weight",)


NASTY = [
    (pa.array([1.0, np.nan, None, np.inf, -0.0, 0.0]), 2, 4, 3, 3),
    (pa.array([2**64 - 1, 0, None], pa.uint64()), 1, 2, 2, 2),
    (pa.array([True, False, None, True]), 1, 3, 2, 3),
    (pa.array([1e308, -1e308, 3.0]), 0, 3, 3, 1),
]


@pytest.mark.parametrize(("values", "nulls", "count", "distinct", "numbers"), NASTY)
def test_nasty_numbers(values: pa.Array, nulls: int, count: int, distinct: int, numbers: int):
    found = tallied(values)
    assert (found.nulls, found.count, found.distinct) == (nulls, count, distinct)
    assert found.numbers is not None
    assert found.numbers.count == numbers
    assert np.isfinite(found.numbers.std)


def test_text_bytes_times_and_lists():
    assert tallied(pa.array(["a", "ü", "a", None])).distinct == 2
    assert tallied(pa.array([b"\xff\x00", b"\xff"])).values.top[0][0] == "ff00"  # pyright: ignore[reportOptionalMemberAccess]
    times = tallied(pa.array([0, 5, 5], pa.timestamp("ms")))
    assert times.numbers is not None
    assert (times.distinct, times.numbers.greatest) == (2, 5.0)
    lists = tallied(pa.array([[1, 2], [], None, [2, None]], pa.list_(pa.int64())))
    assert lists.lengths is not None
    assert (lists.nulls, lists.count, lists.distinct) == (1, 3, 2)
    assert (lists.lengths.count, lists.lengths.greatest) == (3, 2.0)
    nested = tallied(pa.array([[[1]], None], pa.list_(pa.list_(pa.int64()))))
    assert (nested.nulls, nested.values, nested.distinct_is_exact) == (1, None, False)


def test_long_texts_that_begin_alike_stay_two():
    found = tallied(pa.array(["x" * 500 + "a", "x" * 500 + "b"]))
    assert found.values is not None
    names = [name for name, _ in found.values.top]
    assert len(set(names)) == 2
    assert max(map(len, names)) == 100


def test_a_sample_is_bounded_fair_and_the_same_however_cut():
    rows = np.arange(50_000)
    whole, cut = PlaceSample(pa.int64(), 1000), PlaceSample(pa.int64(), 1000)
    whole.add(pa.array(rows))
    for start in range(0, len(rows), 777):
        cut.add(pa.array(rows[start : start + 777]))
    found = whole.values().to_numpy()
    assert np.array_equal(found, cut.values().to_numpy())
    assert 400 < len(found) <= 1000
    assert np.all(np.diff(found) > 0)
    # Neither the beginning nor one place of each slate of five is preferred.
    assert abs(found.mean() / 25_000 - 1) < 0.1
    assert np.bincount(found % 5).min() > 0.14 * len(found)


def test_what_fits_is_kept_whole():
    sample = PlaceSample(pa.string(), 10)
    sample.add(pa.array(list("abcdefghij")))
    assert sample.values().to_pylist() == list("abcdefghij")


@pytest.mark.parametrize("size", [1, 4095, 20_000, 300_000])
def test_distinct_values(size: int):
    count = DistinctCount()
    hashes = mix64(np.arange(size, dtype=np.uint64))
    for start in range(0, size, 10_000):
        count.add(hashes[start : start + 10_000])
        count.add(hashes[start : start + 5000])
    assert count.is_exact == (size < 4096)
    # 5 standard errors
    assert count.count == size if count.is_exact else abs(count.count / size - 1) < 0.08


def test_moments_of_pieces_far_from_zero():
    values = 1e9 + np.random.default_rng(0).normal(size=10_000)
    moments = Moments()
    for piece in np.array_split(values, 13):
        moments.add(piece)
    moments.add(np.empty(0))
    assert moments.count == 10_000
    assert moments.mean == pytest.approx(values.mean(), rel=1e-12)
    assert moments.std == pytest.approx(values.std(), rel=1e-6)


@pytest.fixture
def config_file(tmp_path: Path) -> str:
    file = tmp_path / "config.yaml"
    file.write_text(dump_config(log_config()))
    return str(file)


def test_the_command(tmp_path: Path, config_file: str, capsys: pytest.CaptureFixture[str]):
    write_days(tmp_path / "log", click_log(60, seed=1), click_log(60, seed=2))
    out = tmp_path / "profile.json"
    log = str(tmp_path / "log")
    dates = ["--dates", "2024-01-02", "2024-01-02"]
    assert main([log, "--config", config_file, *dates, "--out", str(out)]) == 0
    assert capsys.readouterr().out.startswith("2024-01-02: 60 rows, ")
    found = Profile.model_validate_json(out.read_text())
    day = DAY + datetime.timedelta(days=1)
    assert found == profile_split(log_config(), log, (day, day))
    assert json.loads(out.read_text())["format"] == 1
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["features.item.rowz=3"], 2, "unknown key"),
        (["--dates", "2024-02-01", "2024-02-01"], 3, "no Parquet file for"),
        (["--out", "/nowhere/profile.json"], 2, "--out: can't write /nowhere/profile.json"),
    ],
)
def test_the_command_refuses(
    tmp_path: Path,
    config_file: str,
    arguments: list[str],
    code: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
):
    write_days(tmp_path / "log", click_log(20, seed=1))
    out = ["--out", str(tmp_path / "profile.json")]
    assert main([str(tmp_path / "log"), "--config", config_file, *out, *arguments]) == code
    assert message in capsys.readouterr().err
    assert not (tmp_path / "profile.json").exists()
