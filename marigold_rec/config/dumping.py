"""Writes a config as text, and hashes it."""

from __future__ import annotations

import hashlib
import json

from marigold_rec.config.schema import Config
from marigold_rec.config.yaml_text import dump_yaml


def dump_config(config: Config) -> str:
    """The whole effective config as YAML, which `load_config` reads back to an equal Config."""
    return dump_yaml(config.model_dump(mode="json"))


def config_hash(config: Config) -> str:
    """A stable hash (16 hex digits) of every setting."""
    text = json.dumps(config.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
