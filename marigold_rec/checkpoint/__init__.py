"""Checkpoints: complete or invisible, verified before they are read."""

from marigold_rec.checkpoint.compatibility import config_differences
from marigold_rec.checkpoint.dcp_metadata import read_dcp_metadata
from marigold_rec.checkpoint.finding import Found, newest_good
from marigold_rec.checkpoint.manifest import Manifest, read_manifest
from marigold_rec.checkpoint.retention import Tidied
from marigold_rec.checkpoint.snapshot import Snapshot
from marigold_rec.checkpoint.store import CheckpointStore, Missed, Saved

__all__ = [
    "CheckpointStore",
    "Found",
    "Manifest",
    "Missed",
    "Saved",
    "Snapshot",
    "Tidied",
    "config_differences",
    "newest_good",
    "read_dcp_metadata",
    "read_manifest",
]
