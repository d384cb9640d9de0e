"""Ends a process with the right message and exit code. Imports no torch: a wrong config fails at
once."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from jobs.entrypoint.first_rank import rank_from_env, wait_for_first_rank
from jobs.processes.parents import exit_with_torchrun
from marigold_rec.errors import MarigoldError


def exit_with(error: MarigoldError) -> NoReturn:
    """Prints the error once, from rank 0, and exits with its code.

    torchrun stops all ranks as soon as one has exited, so the other ranks wait for rank 0 to print.
    torchrun's own report of the failure ends with the error, as the last line that the user sees.
    """
    _write_torchrun_error(error)
    if rank_from_env() == 0:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    wait_for_first_rank()
    raise SystemExit(error.exit_code) from None


def _write_torchrun_error(error: MarigoldError) -> None:
    """Writes the file from which torchrun reports why a rank has failed.

    This does the work of torchrun's ErrorHandler, without importing torch, and with our message in
    place of the call stack, which torchrun would print instead of it.
    """
    if file := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        message = f"{type(error).__name__}: {error}"
        extra = {"py_callstack": message, "timestamp": str(int(time.time()))}
        text = json.dumps({"message": {"message": message, "extraInfo": extra}})
        with contextlib.suppress(OSError):
            Path(file).write_text(text, encoding="utf-8")


def run_and_exit(main: Callable[[], int]) -> NoReturn:
    """Runs `main` and exits with its code, without the interpreter's shutdown (os._exit).

    gloo's and the store's native threads outlive the process groups, and shutting the interpreter
    down beneath them aborted one of about a hundred runs that had finished and written everything
    ("terminate called without an active exception"): a scheduler would have called it failed.
    All files are written by now; buffers are flushed here. A rank that has lost its torchrun exits,
    too: see exit_with_torchrun.
    """
    exit_with_torchrun()
    try:
        code = main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
