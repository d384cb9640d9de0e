"""Where the log lies: the user's, or the embedded synthetic one, which is made on first use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from data_pipelines.synthetic import ensure_log
from marigold_rec.config import Config


def data_root(config: Config, say: Callable[[str], object]) -> str:
    """data.path, or the folder of the embedded log below run.dir."""
    if config.data.path is not None:
        return config.data.path
    folder, is_new = ensure_log(config.data.synthetic, Path(config.run.dir) / ".synthetic")
    done = "made" if is_new else "using"
    say(f"data.path is null: {done} the embedded synthetic click log in {folder}")
    return str(folder)
