"""Checkpoints: complete or invisible, verified before they are read."""

from marigold_rec.checkpoint.compatibility import config_differences
from marigold_rec.checkpoint.dcp_metadata import read_dcp_metadata
from marigold_rec.checkpoint.finding import Found, newest_good, open_checkpoint
from marigold_rec.checkpoint.manifest import Manifest, read_manifest
from marigold_rec.checkpoint.retention import Cleanup
from marigold_rec.checkpoint.snapshot import Snapshot
from marigold_rec.checkpoint.store import CheckpointStore, Saved, SaveFailed

__all__ = [
    "CheckpointStore",
    "Found",
    "Manifest",
    "SaveFailed",
    "Saved",
    "Snapshot",
    "Cleanup",
    "config_differences",
    "newest_good",
    "open_checkpoint",
    "read_dcp_metadata",
    "read_manifest",
]
