"""Finds which table rows are in use (life_cycle): a nightly run decides, checkpoints keep it."""

from __future__ import annotations

from pathlib import Path

from marigold_rec.checkpoint.finding import Found
from marigold_rec.config.schema import Config
from marigold_rec.training.monitoring.run_log import LOGGER
from marigold_rec.transforms.row_bits import ADMITTED_NAME, RowBits, read_night_bits, read_row_bits


def admitted_for_training(config: Config) -> dict[str, RowBits]:
    """Reads the rows that the nightly run has admitted, by table; empty: all rows."""
    life_cycle = config.life_cycle
    if life_cycle.rows is None:
        if life_cycle.tables:
            LOGGER.warning(
                "life_cycle: only launch/nightly.py keeps the row history: this run evicts no row "
                "and admits every id"
            )
        return {}
    if not life_cycle.admitting:
        return {}
    folder = Path(life_cycle.rows)
    return read_night_bits(folder, ADMITTED_NAME, config.tables, needed=life_cycle.admitting)


def admitted_in_checkpoint(found: Found, config: Config) -> dict[str, RowBits]:
    """Reads the rows that the checkpoint's training admitted, by table; empty: all rows."""
    if ADMITTED_NAME not in found.manifest.files:
        return {}
    return read_row_bits(found.folder / ADMITTED_NAME, config.tables)
