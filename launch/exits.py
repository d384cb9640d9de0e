"""Errors in plain words and exit codes. Without torch, so that a wrong config is told at once."""

from __future__ import annotations

import os
import sys
import time
from typing import NoReturn

from launch.arguments import Arguments
from marigold_rec.config import Config, load_config
from marigold_rec.errors import ConfigError, MarigoldError

# Ranks start seconds apart on a busy machine.
_FOR_FIRST_RANK_S = 10.0


def load_config_or_exit(arguments: Arguments) -> Config:
    """The config, or exit code 2 with every problem on stderr (once, from rank 0)."""
    try:
        return load_config(arguments.config, arguments.overrides)
    except ConfigError as error:
        end_with(error)


def end_with(error: MarigoldError) -> NoReturn:
    """Says the error, once, from rank 0, and ends the process with the error's code.

    torchrun kills all ranks when the first of them has left, so that the others let rank 0 speak.
    """
    if rank_of_environment() == 0:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    elif "TORCHELASTIC_RUN_ID" in os.environ:
        time.sleep(_FOR_FIRST_RANK_S)
    raise SystemExit(error.exit_code) from None


def rank_of_environment() -> int:
    """0 without torchrun."""
    return int(os.environ.get("RANK", "0"))
