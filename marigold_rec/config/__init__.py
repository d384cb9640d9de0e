"""One typed, frozen config tree, its YAML loading and `key=value` overrides."""

from marigold_rec.config.dumping import config_hash, dump_config
from marigold_rec.config.loading import load_config
from marigold_rec.config.schema import Config
from marigold_rec.config.tables import Table, resolve_tables

__all__ = ["Config", "Table", "config_hash", "dump_config", "load_config", "resolve_tables"]
