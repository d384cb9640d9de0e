"""What every doorway does around its work: logging, errors in plain words, exit codes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch.distributed.elastic.multiprocessing.errors import get_error_handler

from jobs.entrypoint.exits import end_with, rank_of_environment
from jobs.entrypoint.run_folder import run_folder
from marigold_rec.config import Config
from marigold_rec.errors import MarigoldError
from marigold_rec.training import start_logging


@contextmanager
def doorway(config: Config, *, is_dry_run: bool) -> Iterator[None]:
    """Ends the process with the error's own exit code and its message, without a traceback.

    Other exceptions are bugs: they keep their traceback and end with 1. torchrun learns of both
    through its error file.
    """
    rank = rank_of_environment()
    try:
        start_logging(None if is_dry_run else run_folder(config), rank)
    except OSError:  # no place to write: rank 0 meets the same, and says it for all
        start_logging(None, rank)
    with errors_in_plain_words():
        yield


@contextmanager
def errors_in_plain_words() -> Iterator[None]:
    """Ends the process with a MarigoldError's exit code; torchrun learns of every error.

    A bug keeps its call stack there, a MarigoldError has plain words instead: see end_with.
    """
    handler = get_error_handler()
    handler.initialize()
    try:
        yield
    except MarigoldError as error:
        end_with(error)
    except Exception as error:
        handler.record_exception(error)
        raise
