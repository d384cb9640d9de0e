"""Finds a resumed run's place in the data, also for another number of ranks than before."""

from __future__ import annotations

from marigold_rec.batch import Cursor, carried_on
from marigold_rec.checkpoint.finding import Found
from marigold_rec.checkpoint.manifest import Manifest
from marigold_rec.distributed.ranks import Ranks
from marigold_rec.errors import CheckpointError
from marigold_rec.training.batches import Reader
from marigold_rec.training.monitoring.run_log import LOGGER


def require_same_files(found: Found, reader: Reader) -> None:
    """Raises CheckpointError if the reader's files are not those that the cursors count in."""
    if found.manifest.data != reader.fingerprint:
        raise CheckpointError(
            f"{found.folder}: the training files are not those of its run (other names, sizes "
            "or row groups), so that its place in them means nothing: put the old files back, "
            "or use another run.name or --resume never"
        )


def resumed_cursor(manifest: Manifest, reader: Reader, ranks: Ranks) -> Cursor:
    """Returns this rank's place in the data; says so if other ranks have brought the run there.

    Another number of ranks shares out what is left of the epoch: no row is lost or repeated.
    """
    if manifest.world_size == ranks.world_size:
        return manifest.cursors[ranks.rank]
    cursor = carried_on(manifest.cursors)
    LOGGER.info(
        "step %d: saved by %d ranks, goes on with %d: they share out the rest of epoch %d",
        manifest.step,
        manifest.world_size,
        ranks.world_size,
        cursor.epoch,
    )
    rows_per_step = reader.batch_size * ranks.world_size
    if rows_per_step != manifest.rows_per_step:
        LOGGER.warning(
            "a step has %s rows from here on (%d ranks x data.batch_size), not %s as before: "
            "the learning rates were chosen for those; set data.batch_size to keep them, or "
            "look at optimizer.*.lr",
            f"{rows_per_step:,}",
            ranks.world_size,
            f"{manifest.rows_per_step:,}",
        )
    return cursor
