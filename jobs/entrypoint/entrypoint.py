"""Wraps the work of every command: starts the logging, and turns errors into exit codes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch.distributed.elastic.multiprocessing.errors import get_error_handler

from jobs.entrypoint.exit_codes import exit_with, rank_from_env
from jobs.entrypoint.run_folder import run_folder
from marigold_rec.config.schema import Config
from marigold_rec.errors import MarigoldError
from marigold_rec.training.monitoring.run_log import start_logging


@contextmanager
def entrypoint(config: Config, *, is_dry_run: bool) -> Iterator[None]:
    """Starts the logging and handles errors: a MarigoldError prints its message and exits with its
    code, without a traceback.

    Other exceptions are bugs: they keep their traceback and exit with 1. torchrun gets both through
    its error file.
    """
    rank = rank_from_env()
    try:
        start_logging(None if is_dry_run else run_folder(config), rank)
    except OSError:  # can't write there: rank 0 fails the same way, and reports it for all
        start_logging(None, rank)
    with exit_on_error():
        yield


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Exits with a MarigoldError's exit code; torchrun's error file gets every error.

    There, a bug keeps its call stack; a MarigoldError has its message instead: see exit_with.
    """
    handler = get_error_handler()
    handler.initialize()
    try:
        yield
    except MarigoldError as error:
        exit_with(error)
    except Exception as error:
        handler.record_exception(error)
        raise
