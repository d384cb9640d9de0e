"""One voice of many ranks, before any rank knows another."""

from __future__ import annotations

import argparse
import os
import signal
import threading
from typing import Any, NoReturn

# Ranks start seconds apart on a busy machine.
_FOR_FIRST_RANK_S = 10.0


def rank_of_environment() -> int:
    """0 without torchrun."""
    return int(os.environ.get("RANK", "0"))


def let_first_rank_speak() -> None:
    """torchrun stops all ranks when the first of them has left: the others wait before they go.

    Its SIGTERM ends the wait, and not the process, which then ends with its own exit code: where
    this rank was the first to fail, torchrun shows that code as the cause.
    """
    if rank_of_environment() != 0 and "TORCHELASTIC_RUN_ID" in os.environ:
        is_stopped = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: is_stopped.set())
        is_stopped.wait(_FOR_FIRST_RANK_S)


class Parser(argparse.ArgumentParser):
    """Says help and errors once, from rank 0, and ends every rank alike."""

    def _print_message(self, message: str, file: Any = None) -> None:
        if rank_of_environment() == 0:
            super()._print_message(message, file)

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        let_first_rank_speak()
        super().exit(status, message)
