"""The stage `rows`: which rows of the tables the night's training evicts, and which it admits.

  rows/<table>.npz    the row history after the night's new days
  rows/evicted.npz    rows that begin anew before the training
  rows/admitted.npz   rows of their own; the others' ids share one
  rows/facts.json     how many of each
  rows/sha256.json    vouches for the others: whoever reads one holds it against this list first

A history follows the published models, as the training does: it goes on from the base model's. A
base without one (the life cycle was not switched on then) gets it made from the days of its night
and of those before it, as far as the log still has them.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from data_pipelines.id_counts.row_history import RowHistory, RowTally, Settled
from data_pipelines.id_counts.seen_rows import seen_rows
from jobs.nightly.durable import read_durable, sync_folder
from jobs.nightly.folder import NightFolder
from jobs.nightly.partitions import Partitions
from jobs.nightly.plan import Days, NightPlan, days_between
from marigold_rec.config import Config, load_config
from marigold_rec.config.life_cycle import TableLifeCycle
from marigold_rec.errors import ConfigError
from marigold_rec.transforms.file_list import require_listed, write_file_list
from marigold_rec.transforms.row_bits import (
    ADMITTED_NAME,
    EVICTED_NAME,
    RowBits,
    row_bits_bytes,
)

FACTS_NAME = "facts.json"
_MADE_ANEW = "the next night makes the history of rows anew from the days of the log"


@dataclass(frozen=True)
class Log:
    """Where the days are, and how to read them."""

    data_root: str
    partitions: Partitions
    is_stopped: Callable[[], bool]
    say: Callable[[str], None]
    at: Callable[[str], None] = lambda point: None
    """As Night.at."""


def make_rows(config: Config, plan: NightPlan, folder: NightFolder, log: Log) -> None:
    """Writes `folder.rows`, whole or not at all; nothing where no table has a life cycle.

    Raises DataError, CheckpointError (a base's history can't be read), StoppedError.
    """
    shutil.rmtree(folder.rows, ignore_errors=True)
    rules = config.life_cycle.tables
    if not rules:
        return
    sizes = {table.name: table.rows for table in config.tables}
    tallies = {name: RowTally(_base_history(name, sizes[name], plan, folder, log))
               for name in rules}  # fmt: skip
    _add_days(tallies, config, plan.train, log)
    settled = {name: tallies[name].settle(rules[name], plan.train[1]) for name in rules}
    _write(config, settled, folder, log.at)
    for name, found in settled.items():
        log.say(f"rows of {name}: {sentence(found.facts, rules[name])}")


def read_facts(folder: NightFolder) -> dict[str, dict[str, int]]:
    """By table; empty where no table has a life cycle, or the data was refused."""
    file = folder.rows / FACTS_NAME
    is_done = "rows" in folder.seconds  # an earlier attempt's folder may still be there
    if not is_done or not file.exists():
        return {}
    to_do = "do it again with --from rows"
    require_listed(file, to_do)
    return read_durable(file, dict[str, dict[str, int]], to_do) or {}


def sentence(facts: Mapping[str, int], rules: TableLifeCycle) -> str:
    """What a log or a page says of a table's facts."""
    rows, seen = facts["rows"], facts["ever_seen"]
    said = f"{seen:,} of {rows:,} ever seen ({seen / rows:.1%}), {facts['seen']:,} on the new days"
    if rules.evict_after_days is not None:
        said += (
            f"; {facts['evicted']:,} ({facts['evicted'] / rows:.1%}) begin anew after more than "
            f"{rules.evict_after_days} days unseen"
        )
    if rules.admit_after is not None:
        said += f"; {facts['rare']:,} seen fewer than {rules.admit_after} times share row 0"
    return said


def _base_history(
    table: str, rows: int, plan: NightPlan, folder: NightFolder, log: Log
) -> RowHistory:
    """The base model's, for a table of `rows` rows now."""
    history: RowHistory | None = None
    to_read: list[tuple[Config, NightPlan]] = []
    for before in _chain(plan, folder.root):
        before_plan, config = before.plan, _training_config(before)
        if before_plan is None or config is None or _rows_then(table, config) is None:
            break  # the table is younger than that night's model, or nobody knows
        if (file := before.rows / f"{table}.npz").exists():
            require_listed(file, f"move {before.rows} away, and {_MADE_ANEW}")
            history = RowHistory.read(file)
            break
        to_read.append((config, before_plan))
    for config, before_plan in reversed(to_read):
        then = _rows_then(table, config)
        assert then is not None
        tally = RowTally(_carried(history, then))
        _add_days({table: tally}, config, before_plan.train, log, only_there=True)
        history = tally.settle(TableLifeCycle(), before_plan.train[1]).history
    return _carried(history, rows)


def _chain(plan: NightPlan, root: Path) -> Iterator[NightFolder]:
    """The nights whose models the training goes on from, the newest first."""
    model = plan.base
    while model is not None:
        night = NightFolder(root, model.night)
        yield night
        model = None if night.plan is None else night.plan.base


def _training_config(night: NightFolder) -> Config | None:
    try:
        return load_config(night.path / "train.yaml")
    except ConfigError:
        return None


def _rows_then(table: str, config: Config) -> int | None:
    """None: it was no hashed table of that model."""
    if {f.kind for f in config.sparse_features if f.table_name == table} != {"hash"}:
        return None
    return next(t.rows for t in config.tables if t.name == table)


def _carried(history: RowHistory | None, rows: int) -> RowHistory:
    """Empty where the table itself begins anew."""
    grown = None if history is None else history.grown(rows)
    return RowHistory.empty(rows) if grown is None else grown


def _add_days(
    tallies: Mapping[str, RowTally],
    config: Config,
    days: Days,
    log: Log,
    *,
    only_there: bool = False,
) -> None:
    spans: list[Days] = [days]
    if only_there:
        there = set(log.partitions.complete())
        wanted = days_between(*days)
        spans = [(day, day) for day in wanted if day in there]
        log.say(
            f"rows of {', '.join(tallies)}: the base model has no history: made from {len(spans)} "
            f"of the {len(wanted)} days {days[0]} to {days[1]}; the others are not there any more"
        )
    path = config.data.train.path or log.data_root
    for span in spans:
        for day, table, rows_V in seen_rows(config, tallies, path, span, is_stopped=log.is_stopped):
            tallies[table].add(day, rows_V)


def _write(
    config: Config, settled: Mapping[str, Settled], folder: NightFolder, at: Callable[[str], None]
) -> None:
    partial = folder.path / ".rows.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, found in settled.items():
        found.history.write(partial / f"{name}.npz")
    life_cycle = config.life_cycle
    evicted = {name: RowBits.of(settled[name].evicted_N) for name in life_cycle.evicting}
    admitted = {name: RowBits.of(settled[name].admitted_N) for name in life_cycle.admitting}
    (partial / EVICTED_NAME).write_bytes(row_bits_bytes(evicted))
    (partial / ADMITTED_NAME).write_bytes(row_bits_bytes(admitted))
    facts = {name: found.facts for name, found in settled.items()}
    (partial / FACTS_NAME).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    write_file_list(partial)
    for file in partial.iterdir():
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
    sync_folder(partial)
    at("rows:written")
    partial.rename(folder.rows)
    sync_folder(folder.path)
