"""What every doorway does around its work: logging, errors in plain words, exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from torch.distributed.elastic.multiprocessing.errors import get_error_handler

from launch.arguments import Arguments
from launch.run_folder import run_folder
from marigold_rec.config import Config, load_config
from marigold_rec.errors import ConfigError, MarigoldError
from marigold_rec.training import start_logging


def load_config_or_exit(arguments: Arguments) -> Config:
    """The config, or exit code 2 with every problem on stderr (once, from rank 0)."""
    try:
        return load_config(arguments.config, arguments.overrides)
    except ConfigError as error:
        _say(error)
        raise SystemExit(error.exit_code) from None


@contextmanager
def doorway(config: Config, *, is_dry_run: bool) -> Iterator[None]:
    """Ends the process with the error's own exit code and its message, without a traceback.

    Other exceptions are bugs: they keep their traceback and end with 1. torchrun learns of both
    through its error file.
    """
    rank = _rank()
    start_logging(None if is_dry_run else run_folder(config), rank)
    handler = get_error_handler()
    handler.initialize()
    try:
        yield
    except MarigoldError as error:
        handler.record_exception(error)
        _say(error)
        raise SystemExit(error.exit_code) from None
    except Exception as error:
        handler.record_exception(error)
        raise


def _say(error: MarigoldError) -> None:
    if _rank() == 0:
        kind = type(error).__name__
        print(f"{kind}: {error}", file=sys.stderr, flush=True)


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))
