"""Whether the rows of a day are its own: not those of a day before, and of its own time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from marigold_rec.config.gate import DataLimits
from marigold_rec.gating.verdict import Check, limited, stated
from marigold_rec.profile import Content, Profile
from marigold_rec.reporting.wording import shown

_TELLING = 0.9
"""Share of rows that are like no other of their day, from which on repeated rows are no chance."""
_LEAST_SKETCH = 32
"""Of few rows nobody knows what share is repeated."""


def own_day_checks(
    limits: DataLimits, today: Profile, nights: Sequence[Profile]
) -> Iterator[Check]:
    if limits.max_repeated_rows is not None and today.content is not None:
        yield from _repeated(limits.max_repeated_rows, today, today.content, nights)
    if limits.max_outside_day is not None and today.event_hours is not None:
        yield _outside(limits, limits.max_outside_day, today)


def _repeated(
    most: float, today: Profile, content: Content, nights: Sequence[Profile]
) -> Iterator[Check]:
    """A judged day that was learned looks like progress; a learned day again counts twice."""
    rule = "data.max_repeated_rows"
    known = [(night, night.content) for night in nights if night.content is not None]
    equal = [night.name for night, other in known if other.digest == content.digest]
    look_at = "look for a partition that was copied or written under a wrong date"
    if equal:
        yield stated(
            rule, "data", None, "failed",
            f"its {today.rows:,} rows are those of {equal[-1]}, in whatever order", look_at,
        )  # fmt: skip
        return
    telling = [(night, other) for night, other in known if _tells(night, other)]
    if not telling or not _tells(today, content):
        yield stated(
            rule, "data", None, "not_judged",
            f"no day before has the same content; too few rows are like no other to tell what share"
            f" is repeated ({len(known)} days before)",
        )  # fmt: skip
        return
    night, share = max(
        ((night, repeated_share(content, other)) for night, other in telling),
        key=lambda found: found[1],
    )
    yield limited(
        rule, "data", None, share,
        f"about {share:.0%} of its rows are those of {night.name}; at most {most:.0%} are expected",
        look_at, high=most,
    )  # fmt: skip


def _tells(day: Profile, content: Content) -> bool:
    return content.distinct >= _TELLING * day.rows and len(content.smallest_hashes) >= _LEAST_SKETCH


def repeated_share(content: Content, other: Content) -> float:
    """Share of the different rows of `content` that `other` has too: of those with hashes below
    the smaller of both sketches' ends, which both have kept all of."""
    end = min(content.smallest_hashes[-1], other.smallest_hashes[-1])
    own = {value for value in content.smallest_hashes if value <= end}
    return len(own & set(other.smallest_hashes)) / len(own) if own else 0.0


def _outside(limits: DataLimits, most: float, today: Profile) -> Check:
    hours, slack = today.event_hours, limits.day_slack_h
    assert hours is not None
    first, end = -slack, 24 * today.num_days + slack
    outside = sum(rows for hour, rows in hours.rows if not first <= hour < end)
    known = sum(rows for _, rows in hours.rows)
    share = outside / known if known else 0.0
    return limited(
        "data.max_outside_day", "data", hours.column, share,
        f"{outside:,} of {known:,} rows happened more than {slack} h outside of the day, by column "
        f"{shown(hours.column)}; at most {most:.1%} are expected",
        "look for a partition that was written under a wrong date, or for another unit",
        high=most,
    )  # fmt: skip
