"""Which of the nights before count, and which of them are like tonight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from marigold_rec.profile import Profile

_SATURDAY = 5


@dataclass(frozen=True)
class Alike:
    nights: tuple[Profile, ...]
    what: str
    """What they have in common with tonight, in words."""
    is_same_part: bool
    """Whether they are of the same part of the week."""


def nights_before(today: Profile, before: Sequence[Profile], most: int) -> tuple[Profile, ...]:
    """Those that end before `today` begins and hold rows, the oldest first, the newest `most`.

    Without dates nothing tells what came before what: then in the order given, each other
    fingerprint than tonight's. Of several profiles of the same days the last given counts.
    """
    known = [night for night in before if night.rows]
    if today.dates is None:
        earlier = [night for night in known if night.fingerprint != today.fingerprint]
        return tuple(earlier[-most:])
    first = today.dates[0]
    dated = {night.dates: night for night in known if night.dates and night.dates[1] < first}
    return tuple(dated[days] for days in sorted(dated))[-most:]


def nights_alike(today: Profile, nights: Sequence[Profile]) -> Alike:
    """The same weekday, else the same part of the week, else all."""
    weekday = _weekday(today)
    if weekday is not None:
        same = tuple(night for night in nights if _weekday(night) == weekday)
        name = f"{today.dates[0]:%A}" if today.dates else ""
        if same:
            return Alike(same, f"{name}s" if len(same) > 1 else f"{name} before", True)
        is_weekend = weekday >= _SATURDAY
        part = tuple(
            night
            for night in nights
            if (other := _weekday(night)) is not None and (other >= _SATURDAY) == is_weekend
        )
        if part:
            return Alike(part, "weekend days" if is_weekend else "working days", True)
        return Alike(tuple(nights), "nights before, of another part of the week", False)
    return Alike(tuple(nights), "nights before", bool(nights))


def _weekday(night: Profile) -> int | None:
    """None: of several days, or of unknown ones."""
    if night.dates is None or night.num_days > 1:
        return None
    return night.dates[0].weekday()
