"""The life cycle of embedding rows, night by night; see docs/operations.md."""

from __future__ import annotations

from pydantic import Field

from marigold_rec.config.section import Section


class TableLifeCycle(Section):
    """Of one table. With both null its rows are counted, and nothing else happens."""

    evict_after_days: int | None = Field(default=None, ge=1, le=36_500)
    """A row that is not seen for more days than this begins anew: at its initial values, without
    optimizer state. null: never."""
    admit_after: int | None = Field(default=None, ge=2, le=2**32 - 1)
    """Ids whose row was seen fewer times share row 0 of the table. null: every id has its row at
    once."""


class LifeCycleConfig(Section):
    """launch/nightly.py follows it; a run alone knows no history of rows."""

    tables: dict[str, TableLifeCycle] = Field(default={})
    """Table -> rules; all its features are of kind hash."""
    rows: str | None = Field(default=None, min_length=1)
    """Folder that a night's stage `rows` has made; the night sets it for its training. null:
    nothing is evicted, every id is admitted."""

    @property
    def evicting(self) -> tuple[str, ...]:
        """The tables whose rows are evicted."""
        return tuple(n for n, rules in self.tables.items() if rules.evict_after_days is not None)

    @property
    def admitting(self) -> tuple[str, ...]:
        """The tables whose rows are admitted by how often they were seen."""
        return tuple(n for n, rules in self.tables.items() if rules.admit_after is not None)
