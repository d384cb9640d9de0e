"""Checkpoints: complete or invisible, verified before they are read."""

from marigold_rec.checkpoint.compatibility import config_differences
from marigold_rec.checkpoint.manifest import Manifest, read_manifest
from marigold_rec.checkpoint.store import CheckpointStore, Found, newest_good

__all__ = [
    "CheckpointStore",
    "Found",
    "Manifest",
    "config_differences",
    "newest_good",
    "read_manifest",
]
