"""Ties processes to their parent, so that a kill leaves no training behind.

SIGKILL, as the kernel's out-of-memory killer sends it, gives a parent no chance to stop its
children: ranks would keep training, or wait minutes for a store that died with torchrun, in a
folder that the next start needs.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)
_LOOK_S = 0.5
# As torchrun itself gives its ranks from a signal on, to save and leave.
_TO_LEAVE_S = 30.0


def terminate_with_parent() -> Callable[[], None]:
    """Returns a preexec_fn for a Popen: the program gets SIGTERM when its parent dies.

    More exactly: when the parent's thread that calls Popen dies. Call it from the main thread.
    """
    parent = os.getpid()

    def request() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before the request, which then never fires
            os.kill(os.getpid(), signal.SIGTERM)

    return request


def exit_with_torchrun(to_leave_s: float = _TO_LEAVE_S) -> None:
    """Stops this rank when its torchrun dies: SIGTERM, so that all ranks agree on a last step and
    save, and SIGKILL after `to_leave_s`, because a rank may hang without its peers.

    Before a start's first save there is no process group to save with, and torchrun held the store
    that makes one: then the ranks exit with an error instead. Without torchrun it does nothing: a
    training started by a shell may outlive the shell.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        arguments = (os.getppid(), to_leave_s)
        threading.Thread(target=_watch, args=arguments, name="parent", daemon=True).start()


def _watch(parent: int, to_leave_s: float) -> None:
    # A thread and not prctl: it also sees the end of a rank that does not leave.
    while os.getppid() == parent:
        time.sleep(_LOOK_S)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(to_leave_s)
    os.kill(os.getpid(), signal.SIGKILL)
