"""Lets rank 0 alone print, before the process groups exist."""

from __future__ import annotations

import argparse
import os
import signal
import threading
from typing import Any, NoReturn

# Ranks start seconds apart on a busy machine.
_FOR_FIRST_RANK_S = 10.0


def rank_from_env() -> int:
    """Reads this process's rank; 0 without torchrun."""
    return int(os.environ.get("RANK", "0"))


def wait_for_first_rank() -> None:
    """Waits, on ranks other than 0, before they exit: torchrun stops all ranks once one has exited.

    torchrun's SIGTERM ends the wait, and not the process, which then exits with its own code: where
    this rank was the first to fail, torchrun shows that code as the cause.
    """
    if rank_from_env() != 0 and "TORCHELASTIC_RUN_ID" in os.environ:
        is_stopped = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: is_stopped.set())
        is_stopped.wait(_FOR_FIRST_RANK_S)


class Parser(argparse.ArgumentParser):
    """Prints help and errors once, from rank 0, and exits every rank with the same code."""

    def _print_message(self, message: str, file: Any = None) -> None:
        if rank_from_env() == 0:
            super()._print_message(message, file)

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        wait_for_first_rank()
        super().exit(status, message)
