"""What one moment of a run gives to its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from marigold_rec.batch import Cursor


@dataclass(frozen=True)
class Snapshot:
    """The live state between two steps; it must not change before it is copied or written."""

    tensors: dict[str, Tensor]
    """By stable names; sharded ones are DTensors."""
    step: int
    """Steps taken."""
    cursors: tuple[Cursor, ...]
    """Each rank's place in the data."""
    data: str
    """The training files' fingerprint."""
    exempt: frozenset[str] = frozenset()
    """Names of tensors that may hold values that are not finite."""
    has_begun: bool = True
    """What a run does once, before its first step, is done: the heads' start."""
    figures: Mapping[str, float] = field(default_factory=dict[str, float])
    """Of the newest windows; the manifest notes those of the first rank."""
