"""Row histories against a plain account of every row's days, over several nights."""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data_pipelines.id_counts.row_history import LifeCycleDecision, RowCounter, RowHistory
from data_pipelines.id_counts.seen_rows import seen_rows
from marigold_rec.config.life_cycle import TableLifeCycle
from marigold_rec.config.loading import config_from
from marigold_rec.errors import CheckpointError, DataError, StoppedError
from marigold_rec.transforms.hashing import HashRows
from tests.support.runs import click_log, config_tree, write_days

DAY = datetime.date(2024, 1, 1)
ROWS = 40


def day(number: int) -> datetime.date:
    return DAY + datetime.timedelta(days=number - 1)


def night(
    before: RowHistory, events: dict[int, list[int]], rules: TableLifeCycle
) -> LifeCycleDecision:
    """Adds one run's days. `events`: day number -> rows."""
    counter = RowCounter(before)
    for number, rows in events.items():
        counter.add(day(number), np.array(rows, np.int64))
    return counter.decide(rules, day(max(events)))


class Account:
    """Does the same in plain Python: it keeps, for every row, the days since its reset."""

    def __init__(self, rules: TableLifeCycle) -> None:
        self.rules = rules
        self.days: dict[int, list[int]] = {row: [] for row in range(ROWS)}

    def night(self, log: pd.DataFrame) -> tuple[list[int], list[int]]:
        """Returns (evicted, admitted) rows; `log`: day, row."""
        until, evicted = int(log["day"].max()), []
        for row, days in self.days.items():
            new = log.loc[log["row"] == row, "day"].tolist()
            after = self.rules.evict_after_days
            back = min(new, default=until)
            is_shared = row == 0 and self.rules.admit_after is not None
            if after is not None and days and back - max(days) > after and not is_shared:
                evicted.append(row)
                days.clear()
            days += new
        needed = self.rules.admit_after or 0
        return evicted, [row for row, days in self.days.items() if row == 0 or len(days) >= needed]


@pytest.mark.parametrize("after", [None, 1, 3])
@pytest.mark.parametrize("admit", [None, 4])
def test_equals_a_plain_account_over_many_nights(after: int | None, admit: int | None) -> None:
    rules = TableLifeCycle(evict_after_days=after, admit_after=admit)
    random = np.random.default_rng(8)
    account, history, first, num_evicted = Account(rules), RowHistory.empty(ROWS), 1, 0
    for num_days in (2, 1, 1, 4, 1, 1, 3, 1):  # some nights make up for others
        days = range(first, first + num_days)
        first += num_days
        log = pd.DataFrame(
            [(d, r) for d in days for r in random.geometric(0.08, 15) % ROWS],
            columns=["day", "row"],
        )
        found = night(history, {d: log.loc[log["day"] == d, "row"].tolist() for d in days}, rules)
        evicted, admitted = account.night(log)
        history = found.history
        assert np.flatnonzero(found.evicted_N).tolist() == evicted
        assert np.flatnonzero(found.admitted_N).tolist() == admitted
        assert history.seen_N.tolist() == [len(account.days[r]) for r in range(ROWS)]
        last = [day(max(d)).toordinal() if d else 0 for d in account.days.values()]
        assert history.last_N.tolist() == last
        assert found.facts["evicted"] == len(evicted)
        assert found.facts["seen"] == log["row"].nunique()
        rare = [r for r, d in account.days.items() if d and r not in admitted]
        assert found.facts["rare"] == len(rare)
        num_evicted += len(evicted)
    assert (num_evicted > 5) == (after is not None), "else little was tested"


def test_an_outage_of_the_nights_evicts_nobody_who_was_seen_on_its_days() -> None:
    rules = TableLifeCycle(evict_after_days=2)
    history = night(RowHistory.empty(ROWS), {1: [1, 2, 3]}, rules).history
    found = night(history, {d: [1] if d < 9 else [1, 2] for d in range(2, 10)}, rules)
    assert np.flatnonzero(found.evicted_N).tolist() == [2, 3], "2 was away for eight days"
    assert found.history.seen_N[:4].tolist() == [0, 9, 1, 0]


def test_exactly_so_many_days_away_is_not_evicted() -> None:
    rules = TableLifeCycle(evict_after_days=3)
    history = night(RowHistory.empty(ROWS), {1: [5]}, rules).history
    assert not night(history, {4: [6]}, rules).evicted_N.any()
    assert night(history, {5: [6]}, rules).evicted_N[5]


def test_the_shared_row_is_never_evicted_where_rare_ids_use_it() -> None:
    history = night(RowHistory.empty(ROWS), {1: [0, 1]}, TableLifeCycle()).history
    both = TableLifeCycle(evict_after_days=1, admit_after=9)
    found = night(history, {9: [2]}, both)
    assert np.flatnonzero(found.evicted_N).tolist() == [1]
    assert np.flatnonzero(found.admitted_N).tolist() == [0]
    alone = night(history, {9: [2]}, TableLifeCycle(evict_after_days=1))
    assert np.flatnonzero(alone.evicted_N).tolist() == [0, 1]


def test_counts_stop_at_the_largest_number() -> None:
    most = 2**32 - 1
    before = RowHistory(np.full(3, day(1).toordinal(), np.int32), np.full(3, most - 1, np.uint32))
    found = night(before, {2: [0, 0, 0, 1]}, TableLifeCycle())
    assert found.history.seen_N.tolist() == [most, most, most - 1]


def test_a_grown_table_keeps_what_its_ids_shared() -> None:
    ids = np.arange(500, dtype=np.int64)
    import pyarrow as pa

    small, large = (HashRows("user", n)(pa.array(ids)).rows_V for n in (20, 60))
    before = night(RowHistory.empty(20), {1: small[:300].tolist()}, TableLifeCycle()).history
    resized = before.resize(60)
    assert resized is not None
    assert np.array_equal(resized.seen_N[large], before.seen_N[small])
    assert np.array_equal(resized.last_N[large], before.last_N[small])
    assert before.resize(20) is before
    assert before.resize(50) is None
    assert before.resize(10) is None


def test_a_history_is_read_as_it_was_written_and_damage_is_found(tmp_path: Path) -> None:
    history = night(RowHistory.empty(ROWS), {1: [1, 2, 2]}, TableLifeCycle()).history
    file = tmp_path / "user.npz"
    history.write(file)
    again = RowHistory.read(file)
    assert np.array_equal(again.last_N, history.last_N)
    assert np.array_equal(again.seen_N, history.seen_N)
    content = file.read_bytes()
    history.write(tmp_path / "twin.npz")
    assert (tmp_path / "twin.npz").read_bytes() == content
    for broken in (content[:-30], content[:200] + b"\x07" + content[201:], b"", b"no zip"):
        file.write_bytes(broken)
        with pytest.raises(CheckpointError, match=r"user\.npz: the row history can't be read"):
            RowHistory.read(file)


def test_the_seen_rows_are_those_of_training_each_day_for_itself(tmp_path: Path) -> None:
    logs = {f"2024-01-0{d}": click_log(900, seed=d) for d in (1, 2, 3)}
    tree = config_tree(write_days(tmp_path / "log", logs), tmp_path)
    tree["features"] += [
        {"name": "thing", "kind": "hash", "rows": 50, "column": "item", "table": "things"},
        {"name": "things_before", "kind": "hash", "column": "history", "table": "things"},
    ]
    config = config_from(tree, (), where="a test")
    found: dict[tuple[datetime.date, str], list[int]] = {}
    for at, table, rows in seen_rows(
        config,
        ["user", "things"],
        str(tmp_path / "log"),
        (day(2), day(3)),
        is_stopped=lambda: False,
    ):
        found.setdefault((at, table), []).extend(rows.tolist())
    assert {at for at, _ in found} == {day(2), day(3)}
    for number in (2, 3):
        log = logs[f"2024-01-0{number}"]
        users = HashRows("user", 401)(log["user"].combine_chunks()).rows_V
        assert sorted(found[day(number), "user"]) == sorted(users.tolist())
        items = [*log["item"].to_pylist(), *(i for bag in log["history"].to_pylist() for i in bag)]
        import pyarrow as pa

        things = HashRows("things", 50)(pa.array(items)).rows_V
        assert sorted(found[day(number), "things"]) == sorted(things.tolist())


def test_a_missing_column_and_a_signal_end_the_pass(tmp_path: Path) -> None:
    data = write_days(tmp_path / "log", {"2024-01-01": click_log(900)})
    config = config_from(config_tree(data, tmp_path), ("features.user.column=usr",), where="a test")
    span = (day(1), day(1))
    with pytest.raises(DataError, match="there is no column 'usr'; did you mean 'user'"):
        list(seen_rows(config, ["user"], str(data), span, is_stopped=lambda: False))
    config = config_from(config_tree(data, tmp_path), (), where="a test")
    calls = iter([False, True])
    with pytest.raises(StoppedError):
        list(seen_rows(config, ["user"], str(data), span, is_stopped=lambda: next(calls)))
