"""The stage `rows` alone: histories along the chain of published models, without training."""

from __future__ import annotations

import datetime
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_pipelines.id_counts.row_history import RowHistory
from jobs.nightly.folder import NightlyFolder
from jobs.nightly.partitions import Partitions
from jobs.nightly.plan import DataWindow, Model, NightlyPlan
from jobs.nightly.rows import DaySource, make_row_history, read_facts
from marigold_rec.config import Config, dump_config
from marigold_rec.config.loading import config_from
from marigold_rec.errors import CheckpointError, StoppedError
from marigold_rec.transforms.hashing import HashRows
from marigold_rec.transforms.row_bits import read_row_bits
from tests.support.runs import click_log, config_tree, write_days

RULES = {"user": {"evict_after_days": 2, "admit_after": 4}}


def day(number: int) -> datetime.date:
    return datetime.date(2024, 1, number)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Makes six days; day n has only some users, so that many go and come back."""
    days: dict[str, pa.Table] = {}
    for number in range(1, 7):
        table = click_log(900, seed=number)
        users = table["user"].to_numpy()
        days[str(day(number))] = table.filter(pa.array(users % (number + 1) < 2))
    return write_days(tmp_path_factory.mktemp("rows") / "log", days)


class Nights:
    """Makes plans and folders of runs as launch/nightly.py leaves them, without the training."""

    def __init__(self, log: Path, root: Path, rules: dict[str, Any] = RULES) -> None:
        self.log, self.root, self.rules = log, root, rules
        self.said: list[str] = []

    def config(self, *overrides: str) -> Config:
        tree = config_tree(self.log, self.root) | {"life_cycle": {"tables": self.rules}}
        del tree["data"]["train"], tree["data"]["eval"]
        return config_from(tree, overrides, where="a test")

    def night(
        self,
        first: int,
        last: int,
        base: NightlyPlan | None,
        *overrides: str,
        log: Path | None = None,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> tuple[NightlyPlan, NightlyFolder]:
        """Runs the stage for the days `first` to `last`; the next day evaluates."""
        config, span = self.config(*overrides), (day(first), day(last))
        after = (day(last + 1), day(last + 1))
        plan = NightlyPlan(
            night=day(last + 1), train=span, train_window=DataWindow(dates=span, due=None),
            evaluation=after, evaluation_window=DataWindow(dates=after, due=None), origin=day(1),
            holdout=None, base=None if base is None else self._model(base), previous_candidate=None,
            config_hash="0",
        )  # fmt: skip
        folder = NightlyFolder(self.root, plan.night)
        folder.begin(plan)
        (folder.path / "train.yaml").write_text(dump_config(config))
        where = str(log or self.log)
        make_row_history(
            config,
            plan,
            folder,
            DaySource(where, Partitions(where, None), is_stopped, self.said.append),
        )
        folder.mark_done("rows", 0.1)
        return plan, folder

    def _model(self, plan: NightlyPlan) -> Model:
        return Model(
            night=plan.night, trained_until=plan.train[1], origin=plan.origin,
            checkpoint="nowhere", manifest_sha256="0",
        )  # fmt: skip


def users_of(log: Path, number: int, rows: int = 401) -> Counter[int]:
    """Counts each row's occurrences on one day."""
    table = pq.ParquetFile(log / f"dt={day(number)}" / "part-00000.parquet").read()
    return Counter(HashRows("user", rows)(table["user"].combine_chunks()).rows_V.tolist())


def history_of(folder: NightlyFolder, table: str = "user") -> RowHistory:
    return RowHistory.read(folder.rows / f"{table}.npz")


def test_a_chain_of_nights(log: Path, tmp_path: Path) -> None:
    nights = Nights(log, tmp_path)
    one, first = nights.night(1, 1, None)
    two, second = nights.night(2, 3, one)
    _, third = nights.night(4, 5, two)
    days = {n: users_of(log, n) for n in range(1, 6)}
    assert history_of(first).seen_N.tolist() == [days[1][r] for r in range(401)]
    tables = nights.config().tables

    last, seen = np.zeros(401, int), np.zeros(401, int)
    evicted: dict[str, list[int]] = {}
    for name, new in {"first": (1,), "second": (2, 3), "third": (4, 5)}.items():
        evicted[name] = []
        for row in range(401):
            back = min((n for n in new if days[n][row]), default=max(new))
            if row and last[row] and back - last[row] > 2:
                evicted[name].append(row)
                last[row] = seen[row] = 0
            for n in new:
                seen[row] += days[n][row]
                last[row] = n if days[n][row] else last[row]
    found = history_of(third)
    assert found.seen_N.tolist() == seen.tolist()
    assert found.last_N.tolist() == [day(n).toordinal() if n else 0 for n in last]
    for name, folder in {"first": first, "second": second, "third": third}.items():
        bits = read_row_bits(folder.rows / "evicted.npz", tables)["user"]
        assert np.flatnonzero(bits.span(0, 401)).tolist() == evicted[name]
    assert len(evicted["third"]) > 20, "else little was tested"
    admitted = read_row_bits(third.rows / "admitted.npz", tables)["user"].span(0, 401)
    assert np.flatnonzero(admitted[1:]).tolist() == np.flatnonzero(seen[1:] >= 4).tolist()
    assert 20 < admitted.sum() < 380

    facts = read_facts(third)["user"]
    assert facts["evicted"] == len(evicted["third"])
    assert facts["rare"] == int(((seen < 4) & (seen > 0))[1:].sum())
    [said] = nights.said[-1:]
    assert f"; {facts['evicted']} (" in said
    assert "evicted after more than 2 days unseen" in said
    assert f"; {facts['rare']} seen fewer than 4 times share row 0" in said


def test_again_is_the_same_and_a_night_that_was_stopped_leaves_nothing(
    log: Path, tmp_path: Path
) -> None:
    nights = Nights(log, tmp_path)
    one, first = nights.night(1, 2, None)
    before = {p.name: p.read_bytes() for p in first.rows.iterdir()}
    assert set(before) == {
        "user.npz", "evicted.npz", "admitted.npz", "facts.json", "sha256.json"
    }  # fmt: skip
    calls = iter([False, True])
    with pytest.raises(StoppedError):
        nights.night(1, 2, None, is_stopped=lambda: next(calls))
    assert not first.rows.exists()
    nights.night(1, 2, None)
    assert {p.name: p.read_bytes() for p in first.rows.iterdir()} == before
    assert not (first.path / ".rows.partial").exists()
    _, second = nights.night(3, 3, one)
    own = (second.rows / "user.npz").read_bytes()
    for other in (b"damaged", (first.rows / "user.npz").read_bytes()):
        (second.rows / "user.npz").write_bytes(other)
        with pytest.raises(CheckpointError, match=r"user.npz: its sha256 .*move .*rows away"):
            nights.night(4, 4, second.plan)
    (second.rows / "user.npz").write_bytes(own)
    nights.night(4, 4, second.plan)


def test_a_base_without_a_history_gets_it_from_the_days_of_its_nights(
    log: Path, tmp_path: Path
) -> None:
    kept, lost = Nights(log, tmp_path / "kept"), Nights(log, tmp_path / "lost")
    found: list[RowHistory] = []
    for nights in (kept, lost):
        one, first = nights.night(1, 1, None)
        two, second = nights.night(2, 3, one)
        if nights is lost:
            for folder in (first, second):
                shutil.rmtree(folder.rows)
        _, third = nights.night(4, 4, two)
        found.append(history_of(third))
    # By day 3 nobody can have been away for more than two days: no eviction is forgotten.
    assert np.array_equal(found[0].last_N, found[1].last_N)
    assert np.array_equal(found[0].seen_N, found[1].seen_N)
    assert "rebuilt from 1 of the 1 days 2024-01-01 to 2024-01-01" in lost.said[-3]
    assert "rebuilt from 2 of the 2 days 2024-01-02 to 2024-01-03" in lost.said[-2]


def test_days_that_are_gone_from_the_log_are_told(log: Path, tmp_path: Path) -> None:
    there = tmp_path / "log"
    shutil.copytree(log, there)
    nights = Nights(there, tmp_path / "nights")
    one, first = nights.night(1, 2, None)
    shutil.rmtree(first.rows)
    shutil.rmtree(there / f"dt={day(1)}")
    _, second = nights.night(3, 3, one)
    expected = users_of(log, 2) + users_of(log, 3)
    assert history_of(second).seen_N.tolist() == [expected[r] for r in range(401)]
    assert "rebuilt from 1 of the 2 days" in nights.said[-2]


def test_a_table_that_grew_keeps_its_history_and_another_size_begins_anew(
    log: Path, tmp_path: Path
) -> None:
    nights = Nights(log, tmp_path)
    one, first = nights.night(1, 1, None)
    _, second = nights.night(2, 2, one, "features.user.rows=802")
    old, new = users_of(log, 1), users_of(log, 2, 802)
    # On day 2 users came after one day at most: nothing is evicted.
    expected = [old[row % 401] + new[row] for row in range(802)]
    assert history_of(second).seen_N.tolist() == expected
    _, second = nights.night(2, 2, one, "features.user.rows=500")
    new = users_of(log, 2, 500)
    assert history_of(second).seen_N.tolist() == [new[row] for row in range(500)]
    assert history_of(first).seen_N.sum() == sum(old.values())


def test_a_younger_table_has_no_history_of_days_before_it(log: Path, tmp_path: Path) -> None:
    nights = Nights(log, tmp_path)
    one, _ = nights.night(1, 1, None)
    nights.rules = RULES | {"things": {"evict_after_days": 1}}

    def with_things(*overrides: str) -> Config:
        found: dict[str, Any] = config_tree(log, tmp_path) | {
            "life_cycle": {"tables": nights.rules}
        }
        found["features"].append(
            {"name": "thing", "kind": "hash", "rows": 50, "column": "item", "table": "things"}
        )
        del found["data"]["train"], found["data"]["eval"]
        return config_from(found, overrides, where="a test")

    nights.config = with_things
    _, second = nights.night(2, 2, one)
    table = pq.ParquetFile(log / f"dt={day(2)}" / "part-00000.parquet").read()
    things = HashRows("things", 50)(table["item"].combine_chunks()).rows_V
    assert (
        history_of(second, "things").seen_N.tolist() == np.bincount(things, minlength=50).tolist()
    )
    assert history_of(second).seen_N.sum() > len(table), "that of user goes on"


def test_it_does_nothing_where_no_table_has_a_life_cycle(log: Path, tmp_path: Path) -> None:
    nights = Nights(log, tmp_path, rules={})
    _, folder = nights.night(1, 1, None, log=Path("/nowhere"))
    assert not folder.rows.exists()
    assert read_facts(folder) == {}
    assert nights.said == []
