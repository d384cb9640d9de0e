"""The new days' rows and columns against the nights before: what plainly broken data looks like."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

from marigold_rec.config.gate import DataLimits
from marigold_rec.gating.nights import nights_alike
from marigold_rec.gating.verdict import Check, limited, stated
from marigold_rec.profile import ColumnProfile, Profile
from marigold_rec.reporting.wording import shown
from marigold_rec.transforms.arrow_types import same_meaning

_FEATURES = ("category", "number")
_EXPECTED_OTHERS = 50
"""Rows of another value that a usual night of as many rows has, before one value is no chance."""


def row_checks(limits: DataLimits, today: Profile, nights: Sequence[Profile]) -> Iterator[Check]:
    yield limited(
        "data.min_rows", "data", None, today.rows,
        f"{today.name} has {today.rows:,} rows; at least {limits.min_rows:,} are expected",
        "look whether the log arrived", low=limits.min_rows,
    )  # fmt: skip
    if limits.min_rows_share is None and limits.max_rows_share is None:
        return
    if not nights:
        yield stated(
            "data.min_rows_share", "data", None, "not_judged",
            "rows per day: there is no night before to compare with",
        )  # fmt: skip
        return
    alike = nights_alike(today, nights)
    usual = median(night.rows_per_day for night in alike.nights)
    share = today.rows_per_day / usual
    found = (
        f"{today.name} has {today.rows_per_day:,.0f} rows per day, {share:.0%} of the usual "
        f"{usual:,.0f} ({_number(len(alike.nights), alike.what)})"
    )
    if limits.min_rows_share is not None:
        yield limited(
            "data.min_rows_share", "data", None, share,
            f"{found}; at least {limits.min_rows_share:.0%} are expected",
            "look for files or hours that are missing, or raise no alarm on such days with "
            "data.min_rows_share",
            low=limits.min_rows_share,
        )  # fmt: skip
    if limits.max_rows_share is not None:
        if not alike.is_same_part:
            yield stated(
                "data.max_rows_share", "data", None, "not_judged",
                f"{found}: too many rows can't be told from a weekend's end",
            )  # fmt: skip
            return
        yield limited(
            "data.max_rows_share", "data", None, share,
            f"{found}; at most {limits.max_rows_share:.0%} are expected",
            "look for rows that were written twice",
            high=limits.max_rows_share,
        )  # fmt: skip


def column_checks(limits: DataLimits, today: Profile, nights: Sequence[Profile]) -> Iterator[Check]:
    """Missing columns, changed types, rising nulls, and columns that became constant."""
    for name in today.missing:
        yield stated(
            "data.types", "data", name, "failed", f"column {shown(name)} is missing",
            "mend the log, or take it out of the config",
        )  # fmt: skip
    for name, column in today.columns.items():
        known = [night for night in nights if name in night.columns]
        if limits.types and known:
            yield _type_check(name, column, known[-1])
        if not set(column.roles) & {*_FEATURES, "weight"} or not today.rows:
            continue
        # Of another type, its values are other values.
        known = [n for n in known if same_meaning(n.columns[name].type, column.type)]
        if limits.max_null_rise is not None and known:
            yield _null_check(name, today, known, limits.max_null_rise)
        if limits.constant and known and set(column.roles) & {*_FEATURES}:
            yield _constant_check(name, today, known)


def _type_check(name: str, column: ColumnProfile, night: Profile) -> Check:
    then = night.columns[name].type
    return stated(
        "data.types", "data", name, "passed" if same_meaning(then, column.type) else "failed",
        f"column {shown(name)} is {column.type}"
        + ("" if then == column.type else f", and was {then} on {night.name}"),
        "write it as before, or change the pinned schema and forget the profiles before",
    )  # fmt: skip


def _null_check(name: str, today: Profile, known: Sequence[Profile], most: float) -> Check:
    usual = max(night.null_share(name) for night in known)
    share = today.null_share(name)
    return limited(
        "data.max_null_rise", "data", name, share,
        f"column {shown(name)}: {share:.1%} of the rows have no value, at most {usual:.1%} had "
        f"none on the {_number(len(known), 'nights before')}; {usual + most:.1%} are allowed",
        "look at the job that joins this column",
        high=usual + most,
    )  # fmt: skip


def _constant_check(name: str, today: Profile, known: Sequence[Profile]) -> Check:
    column = today.columns[name]
    rule, shown_name = "data.constant", shown(name)
    varied = [night for night in known if not is_constant(night.columns[name])]
    if not is_constant(column):
        return stated(
            rule, "data", name, "passed",
            f"column {shown_name} has {column.distinct:,} different values",
        )  # fmt: skip
    if len(varied) < len(known):
        return stated(
            rule, "data", name, "passed",
            f"column {shown_name} has one value only, as on {known[-1].name} or a night before",
        )  # fmt: skip
    others = min(_share_of_others(night.columns[name]) for night in known) * today.rows
    value = _only_value(column)
    if others < _EXPECTED_OTHERS:
        return stated(
            rule, "data", name, "not_judged",
            f"column {shown_name} is {value} everywhere, but other values are so rare that this "
            "may be chance",
        )  # fmt: skip
    counts = min(night.columns[name].distinct for night in known)
    return stated(
        rule, "data", name, "failed",
        f"column {shown_name} is {value} everywhere; it had at least {counts:,} different values "
        f"on the {_number(len(known), 'nights before')}",
        "look at the job that makes this column",
    )  # fmt: skip


def is_constant(column: ColumnProfile) -> bool:
    """One value or none, whatever the share of nulls."""
    lengths = column.lengths
    is_one_length = lengths is None or lengths.least == lengths.greatest
    return column.distinct_is_exact and column.distinct <= 1 and is_one_length


def _share_of_others(column: ColumnProfile) -> float:
    if column.values is None or column.lengths is not None:
        return 1.0 if column.values is not None else 0.0
    return 1.0 - column.values.top[0][1]


def _only_value(column: ColumnProfile) -> str:
    if column.values is None:
        return "without a value" if column.lengths is None else "an empty list"
    return shown(column.values.top[0][0])


def _number(count: int, what: str) -> str:
    return f"{count} {what.removesuffix('s') if count == 1 else what}"
