"""Errors in plain words and exit codes. Without torch, so that a wrong config is told at once."""

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

from jobs.entrypoint.first_rank import let_first_rank_speak, rank_of_environment
from jobs.processes.parents import leave_with_torchrun
from marigold_rec.errors import MarigoldError


def end_with(error: MarigoldError) -> NoReturn:
    """Says the error, once, from rank 0, and ends the process with the error's code.

    torchrun kills all ranks when the first of them has left, so that the others let it speak.
    Its own account of the failure ends with the error, as the last line that the user sees.
    """
    _tell_torchrun(error)
    if rank_of_environment() == 0:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    let_first_rank_speak()
    raise SystemExit(error.exit_code) from None


def _tell_torchrun(error: MarigoldError) -> None:
    """Writes the file from which torchrun tells why a rank has failed.

    As its own ErrorHandler does, but without torch, which a wrong config doesn't wait for, and with
    our words in the place of the call stack, which torchrun would print instead of them.
    """
    if file := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        said = f"{type(error).__name__}: {error}"
        extra = {"py_callstack": said, "timestamp": str(int(time.time()))}
        text = json.dumps({"message": {"message": said, "extraInfo": extra}})
        with contextlib.suppress(OSError):
            Path(file).write_text(text, encoding="utf-8")


def end_process(main: Callable[[], int]) -> NoReturn:
    """Runs a doorway's `main` and ends the process with its code; the interpreter has no end.

    gloo's and the store's native threads outlive the process groups, and tearing the interpreter
    down beneath them aborted one of about a hundred runs that had finished and written everything
    ("terminate called without an active exception"): a scheduler would have called it failed.
    Whatever must be written is written by now; what is buffered is flushed here. A rank that has
    lost its torchrun ends, too: see leave_with_torchrun.
    """
    leave_with_torchrun()
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
