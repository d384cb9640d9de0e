"""Where the log lies: the user's, or the embedded synthetic one, which is made on first use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from data_pipelines.synthetic import ensure_log
from marigold_rec.config import Config
from marigold_rec.config.data import SplitConfig
from marigold_rec.errors import ConfigError


def split_root(name: str, split: SplitConfig, config: Config, say: Callable[[str], object]) -> str:
    """Where the split `name` lies: its own path, or data.path, or the embedded log.

    The embedded log is for configs that name no log at all: who names one has forgotten the other.
    Raises ConfigError there.
    """
    if split.path is not None:
        return split.path
    return _root(f"data.{name}.path", config, say)


def data_root(config: Config, say: Callable[[str], object]) -> str:
    """Where all days lie, for the nightly: data.path, or the embedded log. Raises ConfigError."""
    return _root(None, config, say)


def names_no_log(config: Config) -> bool:
    """If True, the embedded synthetic log is meant."""
    data = config.data
    splits = [data.train, *([] if data.eval is None else [data.eval])]
    return data.path is None and all(split.path is None for split in splits)


def _root(key: str | None, config: Config, say: Callable[[str], object]) -> str:
    if config.data.path is not None:
        return config.data.path
    if not names_no_log(config):
        either = "" if key is None else f" or {key}"
        raise ConfigError(
            f"data.path: is null, though another split names its log; set data.path{either} (only "
            "a config that names no log at all is for the embedded synthetic one)"
        )
    folder, is_new = ensure_log(config.data.synthetic, Path(config.run.dir) / ".synthetic")
    done = "made" if is_new else "using"
    say(f"data.path is null: {done} the embedded synthetic click log in {folder}")
    return str(folder)
