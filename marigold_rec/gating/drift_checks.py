"""The new days' distributions against the nights before, column by column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from marigold_rec.config.gate import DriftLimits
from marigold_rec.gating.data_checks import is_constant
from marigold_rec.gating.psi import numbers_psi, values_psi
from marigold_rec.gating.verdict import Check, limited, stated
from marigold_rec.profile import ColumnProfile, Profile
from marigold_rec.reporting.wording import shown
from marigold_rec.transforms.arrow_types import same_meaning

_LEAST_NIGHTS = 2
"""From one night nobody knows which columns change every day."""


def drift_checks(limits: DriftLimits, today: Profile, nights: Sequence[Profile]) -> Iterator[Check]:
    if limits.max_psi is None:
        return
    for name, column in today.columns.items():
        if name in limits.ignore or not set(column.roles) & {"category", "number"}:
            continue
        known = [
            night.columns[name]
            for night in nights
            if name in night.columns
            and same_meaning(night.columns[name].type, column.type)
            and night.columns[name].count >= limits.min_values
        ]
        yield _drift_check(limits, limits.max_psi, name, column, known)


def _drift_check(
    limits: DriftLimits,
    most: float,
    name: str,
    column: ColumnProfile,
    known: Sequence[ColumnProfile],
) -> Check:
    rule, shown_name = "drift.max_psi", shown(name)
    if column.count < limits.min_values or len(known) < _LEAST_NIGHTS:
        why = (
            f"{column.count:,} values, fewer than {limits.min_values:,}"
            if column.count < limits.min_values
            else f"fewer than {_LEAST_NIGHTS} nights before to compare with"
        )
        return stated(rule, "data", name, "not_judged", f"column {shown_name}: drift: {why}")
    if is_constant(column) and all(is_constant(night) for night in known):
        return stated(
            rule, "data", name, "not_judged",
            f"column {shown_name}: drift: one value on every night, another one each",
        )  # fmt: skip
    found = min(column_psi(column, night) for night in known)
    usual = max(
        min(column_psi(night, other) for other in known if other is not night) for night in known
    )
    limit = max(most, limits.times_usual * usual)
    return limited(
        rule, "data", name, found,
        f"column {shown_name}: its distribution differs by PSI {found:.3f} from the nearest of "
        f"{len(known)} nights before, which differ by up to {usual:.3f} from each other; "
        f"{limit:.3f} is allowed",
        _look_at(column, known[-1]), high=limit,
    )  # fmt: skip


def column_psi(today: ColumnProfile, night: ColumnProfile) -> float:
    """The largest of what the column is read as; 0 where there is nothing to compare."""
    found = [0.0]
    if "category" in today.roles and today.values and night.values:
        found.append(values_psi(today.values, night.values))
    if "number" in today.roles and today.numbers and night.numbers:
        found.append(numbers_psi(today.numbers, night.numbers))
    if today.lengths and night.lengths:
        found.append(numbers_psi(today.lengths, night.lengths))
    return max(found)


def _look_at(column: ColumnProfile, night: ColumnProfile) -> str:
    if "number" in column.roles and column.numbers and night.numbers:
        return (
            f"its mean is {column.numbers.mean:.4g}, and was {night.numbers.mean:.4g} the night "
            "before: look for another unit or source"
        )
    if column.values and night.values:
        (now, share), (then, old) = column.values.top[0], night.values.top[0]
        return (
            f"most frequent is {shown(now)} ({share:.1%}), the night before {shown(then)} "
            f"({old:.1%}): look for hours, files or values that are missing"
        )
    return "look for values that are missing"
