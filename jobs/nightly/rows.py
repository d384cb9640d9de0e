"""The stage `rows` decides which table rows the training evicts, and which it admits.

  rows/<table>.npz    the row history after the new days
  rows/evicted.npz    rows that are reset before the training
  rows/admitted.npz   ids with a row of their own; all other ids share one
  rows/facts.json     how many of each
  rows/sha256.json    hashes of the others, checked before any of them is read

A history follows the published models, like the training: it continues the base model's. If the
base has none (its life cycle was not switched on), its history is rebuilt from the days of its run
and of those before it, as far as the log still has them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from data_pipelines.id_counts.row_history import LifeCycleDecision, RowCounter, RowHistory
from data_pipelines.id_counts.seen_rows import seen_rows
from jobs.nightly.folder import NightlyFolder
from jobs.nightly.partitions import Partitions
from jobs.nightly.plan import Days, NightlyPlan, days_between
from marigold_rec.atomic_io import fsync, read_json
from marigold_rec.config.life_cycle import TableLifeCycle
from marigold_rec.config.loading import load_config
from marigold_rec.config.schema import Config
from marigold_rec.errors import ConfigError
from marigold_rec.transforms.file_list import require_listed, write_file_list
from marigold_rec.transforms.row_bits import (
    ADMITTED_NAME,
    EVICTED_NAME,
    RowBits,
    row_bits_bytes,
)

FACTS_NAME = "facts.json"
_REBUILT = "the next nightly run rebuilds the row history from the days of the log"


@dataclass(frozen=True)
class DaySource:
    """The click log's days, and how to read them."""

    data_root: str
    partitions: Partitions
    is_stopped: Callable[[], bool]
    log: Callable[[str], None]
    fault_hook: Callable[[str], None] = lambda point: None
    """As NightlyRun.fault_hook."""


def make_row_history(
    config: Config, plan: NightlyPlan, folder: NightlyFolder, source: DaySource
) -> None:
    """Writes `folder.rows` atomically; nothing if no table has a life cycle.

    Raises DataError, CheckpointError (the base's history can't be read), StoppedError.
    """
    shutil.rmtree(folder.rows, ignore_errors=True)
    rules = config.life_cycle.tables
    if not rules:
        return
    sizes = {table.name: table.rows for table in config.tables}
    counters = {name: RowCounter(_base_history(name, sizes[name], plan, folder, source))
                for name in rules}  # fmt: skip
    _add_days(counters, config, plan.train, source)
    decided = {name: counters[name].decide(rules[name], plan.train[1]) for name in rules}
    _write(config, decided, folder, source.fault_hook)
    for name, found in decided.items():
        source.log(f"rows of {name}: {describe_facts(found.facts, rules[name])}")


def read_facts(folder: NightlyFolder) -> dict[str, dict[str, int]]:
    """Reads facts.json, by table; empty if no table has a life cycle, or the data was refused."""
    file = folder.rows / FACTS_NAME
    is_done = "rows" in folder.seconds  # an earlier attempt's folder may still be there
    if not is_done or not file.exists():
        return {}
    remedy = "make it again with --from rows"
    require_listed(file, remedy)
    return read_json(file, dict[str, dict[str, int]], remedy) or {}


def describe_facts(facts: Mapping[str, int], rules: TableLifeCycle) -> str:
    """Describes a table's facts in one sentence."""
    rows, seen = facts["rows"], facts["ever_seen"]
    text = f"{seen:,} of {rows:,} ever seen ({seen / rows:.1%}), {facts['seen']:,} on the new days"
    if rules.evict_after_days is not None:
        text += (
            f"; {facts['evicted']:,} ({facts['evicted'] / rows:.1%}) evicted after more than "
            f"{rules.evict_after_days} days unseen"
        )
    if rules.admit_after is not None:
        text += f"; {facts['rare']:,} seen fewer than {rules.admit_after} times share row 0"
    return text


def _base_history(
    table: str, rows: int, plan: NightlyPlan, folder: NightlyFolder, source: DaySource
) -> RowHistory:
    """Returns the base model's history, for a table of `rows` rows now."""
    history: RowHistory | None = None
    to_read: list[tuple[Config, NightlyPlan]] = []
    for before in _chain(plan, folder.root):
        before_plan, config = before.plan, _training_config(before)
        if before_plan is None or config is None or _rows_then(table, config) is None:
            break  # the table is younger than that run's model, or unknown
        if (file := before.rows / f"{table}.npz").exists():
            require_listed(file, f"move {before.rows} away, and {_REBUILT}")
            history = RowHistory.read(file)
            break
        to_read.append((config, before_plan))
    for config, before_plan in reversed(to_read):
        then = _rows_then(table, config)
        assert then is not None
        counter = RowCounter(_carry_over(history, then))
        _add_days({table: counter}, config, before_plan.train, source, only_complete=True)
        history = counter.decide(TableLifeCycle(), before_plan.train[1]).history
    return _carry_over(history, rows)


def _chain(plan: NightlyPlan, root: Path) -> Iterator[NightlyFolder]:
    """Yields the runs whose models the training continues, the newest first."""
    model = plan.base
    while model is not None:
        night = NightlyFolder(root, model.night)
        yield night
        model = None if night.plan is None else night.plan.base


def _training_config(night: NightlyFolder) -> Config | None:
    try:
        return load_config(night.path / "train.yaml")
    except ConfigError:
        return None


def _rows_then(table: str, config: Config) -> int | None:
    """Returns the table's rows in that model; None if it was not a hashed table there."""
    if {f.kind for f in config.sparse_features if f.table_name == table} != {"hash"}:
        return None
    return next(t.rows for t in config.tables if t.name == table)


def _carry_over(history: RowHistory | None, rows: int) -> RowHistory:
    """Fits a history to `rows` rows; empty if the table itself starts again."""
    resize = None if history is None else history.resize(rows)
    return RowHistory.empty(rows) if resize is None else resize


def _add_days(
    counters: Mapping[str, RowCounter],
    config: Config,
    days: Days,
    source: DaySource,
    *,
    only_complete: bool = False,
) -> None:
    spans: list[Days] = [days]
    if only_complete:
        complete = set(source.partitions.complete())
        wanted = days_between(*days)
        spans = [(day, day) for day in wanted if day in complete]
        source.log(
            f"rows of {', '.join(counters)}: the base model has no history: rebuilt from "
            f"{len(spans)} of the {len(wanted)} days {days[0]} to {days[1]}; the other days are no "
            "longer in the log"
        )
    path, is_stopped = config.data.train.path or source.data_root, source.is_stopped
    for span in spans:
        for day, table, rows_V in seen_rows(config, counters, path, span, is_stopped=is_stopped):
            counters[table].add(day, rows_V)


def _write(
    config: Config,
    decided: Mapping[str, LifeCycleDecision],
    folder: NightlyFolder,
    fault_hook: Callable[[str], None],
) -> None:
    partial = folder.path / ".rows.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, found in decided.items():
        found.history.write(partial / f"{name}.npz")
    life_cycle = config.life_cycle
    evicted = {name: RowBits.of(decided[name].evicted_N) for name in life_cycle.evicting}
    admitted = {name: RowBits.of(decided[name].admitted_N) for name in life_cycle.admitting}
    (partial / EVICTED_NAME).write_bytes(row_bits_bytes(evicted))
    (partial / ADMITTED_NAME).write_bytes(row_bits_bytes(admitted))
    facts = {name: found.facts for name, found in decided.items()}
    (partial / FACTS_NAME).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    write_file_list(partial)
    for file in partial.iterdir():
        fsync(file)
    fsync(partial)
    fault_hook("rows:written")
    partial.rename(folder.rows)
    fsync(folder.path)
