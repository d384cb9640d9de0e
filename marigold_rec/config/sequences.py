"""What every encoder of a sequence is told: which features make it, and what it attends with."""

from __future__ import annotations

from marigold_rec.config.names import Name
from marigold_rec.config.section import Section


class EncoderSettings(Section):
    """The base of the encoders' settings (models/encoders)."""

    feature: Name | None = None
    """The list feature; null: the one of the sequence's name."""
    query: tuple[Name, ...] = ()
    """Features that are no lists, to attend with: the item shown, say."""
