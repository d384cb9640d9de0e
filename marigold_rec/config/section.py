"""The base of every section of the config tree."""

from __future__ import annotations

from marigold_rec.record import Record


class Section(Record, allow_inf_nan=False, validate_default=True):
    """Base of every section: frozen, no unknown keys, no NaN, no silent type conversion."""
