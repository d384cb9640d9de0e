"""In which hours a day's rows happened, counted from its midnight in UTC."""

from __future__ import annotations

from collections import Counter
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.types as pat

from data_pipelines.catalog.listing import Dates
from data_pipelines.labels.due import times_of
from data_pipelines.labels.event_time import is_time
from marigold_rec.profile import EventHours
from marigold_rec.transforms.columns import lone_array

_HOUR_US, _DAY_US = 3_600_000_000, 86_400_000_000
_FAR_H = 100


class EventHoursTally:
    def __init__(self, column: str, unit: str | None, dates: Dates) -> None:
        self._column, self._unit = column, unit
        self._midnight_us = (dates[0] - date(1970, 1, 1)).days * _DAY_US
        self._end_h = 24 * ((dates[1] - dates[0]).days + 1)
        self._hours: Counter[int] = Counter()

    def add(self, table: pa.Table) -> None:
        times = times_of(lone_array(table.column(self._column)), self._unit)
        hours = (times.us_B[times.is_known_B] - self._midnight_us) // _HOUR_US
        found, rows = np.unique(np.clip(hours, -_FAR_H, self._end_h + _FAR_H), return_counts=True)
        self._hours.update(dict(zip(found.tolist(), rows.tolist(), strict=True)))

    def event_hours(self) -> EventHours:
        return EventHours(column=self._column, rows=tuple(sorted(self._hours.items())))


def event_hours_tally(
    column: str | None, unit: str | None, dates: Dates | None, schema: pa.Schema
) -> EventHoursTally | None:
    """None where nothing tells when a row happened, or what its day is."""
    if column is None or dates is None or column not in schema.names:
        return None
    kind = schema.field(column).type
    if not is_time(kind) or (unit is None and not pat.is_timestamp(kind)):
        return None
    return EventHoursTally(column, unit, dates)
