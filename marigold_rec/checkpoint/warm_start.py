"""What of an older checkpoint a changed model takes over: decided before anything is loaded.

Rows, columns and tasks are matched by what they mean, not by where they stand: a hashed table that
grew to a multiple keeps every id's row, a task that moved keeps its tower, a new feature leaves the
columns of the old ones as they were. What the checkpoint lacks must be named in `warm_start.new`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from marigold_rec.checkpoint.spans import Span, Spans
from marigold_rec.config.features import SparseFeature
from marigold_rec.config.schema import Config
from marigold_rec.config.tables import table_of_key
from marigold_rec.network import Entries, NetworkLayout

_NETWORK = re.compile(r"^model/objective\.network\.(.+)$")
_BALANCER = re.compile(r"^model/objective\.(?:balancer|prober)\.(.+)$")

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Move:
    """What becomes of one table or parameter: a line of the printed plan."""

    unit: str
    """tables.<name>, network.<parameter> or balancer.<buffer>: what `warm_start.new` can name."""
    what: Literal["loaded", "resized", "new", "dropped"]
    then: Shape | None
    now: Shape | None
    note: str = ""


@dataclass(frozen=True)
class Load:
    """Where a live tensor's values are: in the saved tensor `source`, at `spans`."""

    source: str
    spans: Spans


@dataclass(frozen=True)
class WarmStart:
    """The plan. With `problems` nothing must be loaded."""

    moves: tuple[Move, ...]
    loads: Mapping[str, Load]
    """By the live tensor's name; the others keep their initial values."""
    problems: tuple[str, ...]
    reset: Mapping[str, int] = field(default_factory=dict)
    """Table -> rows that begin anew though the checkpoint has them (life_cycle)."""


@dataclass(frozen=True)
class Models:
    """What the checkpoint and this run say of their models."""

    then: Config
    now: Config
    layout_then: NetworkLayout
    layout_now: NetworkLayout


class _MisfitError(Exception):
    """Why a tensor can't be taken over."""


def plan_warm_start(
    models: Models, saved: Mapping[str, Shape], live: Mapping[str, Shape]
) -> WarmStart:
    """`saved`: the shapes of the checkpoint's tensors; `live`: of the model's, by the same names
    (tables with all their rows, however they are sharded)."""
    now = models.now
    moves: list[Move] = []
    loads: dict[str, Load] = {}
    problems: list[str] = []
    for name, shape in live.items():
        unit = _unit(name)
        if unit is None:
            continue
        source = _source(name, models)
        note = ""
        try:
            if source is None or source not in saved:
                raise _MisfitError("the checkpoint has none")
            spans = _spans(name, source, saved[source], shape, models)
        except _MisfitError as misfit:
            note = str(misfit)
            # A balancer finds its weights anew within some hundred steps: no reason to refuse.
            if not unit.startswith("balancer.") and not _is_named(unit, now.warm_start.new):
                problems.append(f"{unit}: {note}; name it in warm_start.new to begin anew with it")
        else:
            loads[name] = Load(source, spans)
        then_shape = saved.get(source) if source is not None else None
        what = "new" if name not in loads else "resized" if loads[name].spans else "loaded"
        moves.append(Move(unit, what, then_shape, shape, note))
    used = {load.source for load in loads.values()}
    for name, shape in saved.items():
        if (unit := _unit(name)) is not None and name not in used and name not in live:
            moves.append(Move(unit, "dropped", shape, None))
    known = {move.unit for move in moves}
    problems += [
        f"warm_start.new: {named} is no table or parameter of this model; it has "
        f"{', '.join(sorted(known))}"
        for named in now.warm_start.new
        if not any(_is_named(unit, [named]) for unit in known)
    ]
    return WarmStart(tuple(moves), loads, tuple(problems))


def _unit(name: str) -> str | None:
    if (table := _table(name)) is not None:
        return f"tables.{table}"
    for pattern, kind in ((_NETWORK, "network"), (_BALANCER, "balancer")):
        if found := pattern.match(name):
            return f"{kind}.{found[1]}"
    return None


def _table(name: str) -> str | None:
    return table_of_key(name.removeprefix("model/"))


def _is_named(unit: str, named: Iterable[str]) -> bool:
    return any(unit == name or unit.startswith(f"{name}.") for name in named)


def _source(name: str, models: Models) -> str | None:
    """The saved tensor that means the same: members of lists (heads, encoders) follow their names,
    and a table keeps its values when it begins, or ceases, to be read unpooled."""
    if (table := _table(name)) is not None:
        found = [t for t in models.then.tables if t.name == table]
        return f"model/{found[0].state_key}" if found else None
    if _NETWORK.match(name) is None:
        return name
    return _renumbered(name, models.layout_now.parts, models.layout_then.parts)


def _renumbered(
    name: str, parts_now: Mapping[str, Sequence[str]], parts_then: Mapping[str, Sequence[str]]
) -> str | None:
    """`name` with the numbers that its members had then; None: there was no such member. A list
    within another comes after it in `parts_now`."""
    words = name.split(".")
    first = 2  # model/objective . network . <path> . <number> . <rest>
    for path, members in parts_now.items():
        if not name.startswith(f"model/objective.network.{path}."):
            continue
        place = first + path.count(".") + 1
        member = members[int(words[place])]
        members_then = parts_then.get(".".join(words[first:place]), ())
        if member not in members_then:
            return None
        words[place] = str(members_then.index(member))
    return ".".join(words)


def _spans(name: str, source: str, saved: Shape, live: Shape, models: Models) -> Spans:
    """Empty where the tensor is as it was. Raises _MisfitError."""
    then, now = models.then, models.now
    if (table := _table(name)) is not None:
        return _table_spans(table, saved, live, then, now)
    if _BALANCER.match(name):
        if then.balancer != now.balancer or then.task_names != now.task_names:
            raise _MisfitError("another balancer or other tasks: it begins anew")
        return _unchanged(saved, live)
    if len(saved) != len(live):
        raise _MisfitError(f"it was {_by(saved)} and is {_by(live)}")
    no_axes: tuple[Entries | None, ...] = (None,) * len(live)
    axes_now = models.layout_now.axes.get(name.partition("network.")[2], no_axes)
    axes_then = models.layout_then.axes.get(source.partition("network.")[2], no_axes)
    spans: dict[int, Sequence[Span]] = {}
    for axis, (entries_then, entries_now) in enumerate(zip(axes_then, axes_now, strict=True)):
        if entries_then is not None and entries_now is not None and entries_then != entries_now:
            spans[axis] = _entry_spans(entries_then, entries_now)
    if any(saved[i] != live[i] for i in range(len(live)) if i not in spans):
        raise _MisfitError(f"it was {_by(saved)} and is {_by(live)}")
    return spans


def _unchanged(saved: Shape, live: Shape) -> Spans:
    if saved != live:
        raise _MisfitError(f"it was {_by(saved)} and is {_by(live)}")
    return {}


def _table_spans(table: str, saved: Shape, live: Shape, then: Config, now: Config) -> Spans:
    old, new = _feature_of(table, then), _feature_of(table, now)
    if old.kind != new.kind:
        raise _MisfitError(f"its ids were made by {old.kind}, and are by {new.kind}")
    if saved[1] != live[1]:
        raise _MisfitError(f"its rows were {saved[1]} wide and are {live[1]}")
    try:
        rows = new.carried_rows(old, saved[0], live[0])
    except ValueError as error:
        raise _MisfitError(str(error)) from error
    return {} if saved[0] == live[0] else {0: [Span(*span) for span in rows]}


def _feature_of(table: str, config: Config) -> SparseFeature:
    return next(f for f in config.sparse_features if f.table_name == table)


def _entry_spans(then: Entries, now: Entries) -> list[Span]:
    """Entries that are gone leave; new ones keep their initial values."""
    places: dict[tuple[str, int], int] = {}
    place = 0
    for name, width in then:
        places[name, width] = place
        place += width
    return list(_found(now, places))


def _found(
    entries: Iterable[tuple[str, int]], places: Mapping[tuple[str, int], int]
) -> Iterator[Span]:
    place = 0
    for name, width in entries:
        if (name, width) in places:
            yield Span(place, places[name, width], width)
        place += width


def _by(shape: Shape) -> str:
    return " x ".join(map(str, shape)) or "a number"
