"""Finds the click log: the user's, or the embedded synthetic one, which is made on first use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from data_pipelines.synthetic.storage import ensure_log
from marigold_rec.config.data import SplitConfig
from marigold_rec.config.schema import Config
from marigold_rec.errors import ConfigError


def split_root(name: str, split: SplitConfig, config: Config, log: Callable[[str], object]) -> str:
    """Returns the path of the split `name`: its own, or data.path, or the embedded log.

    The embedded log is only for configs that name no log at all. Raises ConfigError when only the
    other split names its log: its path was probably forgotten.
    """
    if split.path is not None:
        return split.path
    return _root(f"data.{name}.path", config, log)


def data_root(config: Config, log: Callable[[str], object]) -> str:
    """Returns the path of all days, for nightly runs: data.path, or the embedded log.

    Raises ConfigError.
    """
    return _root(None, config, log)


def names_no_log(config: Config) -> bool:
    """Returns True if the config names no log: the embedded synthetic one is used."""
    data = config.data
    splits = [data.train, *([] if data.eval is None else [data.eval])]
    return data.path is None and all(split.path is None for split in splits)


def _root(key: str | None, config: Config, log: Callable[[str], object]) -> str:
    if config.data.path is not None:
        return config.data.path
    if not names_no_log(config):
        either = "" if key is None else f" or {key}"
        raise ConfigError(
            f"data.path: is null, but the other split names its log; set data.path{either} (the "
            "embedded synthetic log is only for a config that names no log at all)"
        )
    folder, is_new = ensure_log(config.data.synthetic, Path(config.run.dir) / ".synthetic")
    done = "made" if is_new else "using"
    log(f"data.path is null: {done} the embedded synthetic click log in {folder}")
    return str(folder)
