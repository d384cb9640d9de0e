"""torchrun without the seconds in which each of its processes imports torch and torchrec.

The command line, the agent, its rendezvous and its restarts are torchrun's own. But the agent is
forked (tests/support/forking.py), and where it starts `python -u SCRIPT ...` for a rank it forks
itself instead: a start, and each restart, takes tenths of a second. That the same programs run from
a bare interpreter is shown elsewhere (tests/training/test_stop.py, tests/launch/test_slurm.py).
"""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any, NoReturn

from tests.support.forking import die_with_parent, fork_server, redirect_output

# The descriptors that a new interpreter would not have: the store's sockets, the server's pipes.
_FIRST_OWN, _LAST = 3, 4096
_POLL_S = 0.02


class Torchrun:
    """`torchrun ARGUMENTS`, whose words go to the end of `log`. What tests need of a Popen."""

    def __init__(self, *arguments: str, log: Path) -> None:
        log.touch()
        self._log = log
        self._process = fork_server().Process(
            target=_agent_main,
            args=(arguments, dict(os.environ), os.getcwd(), log),
            name="torchrun",
            daemon=True,
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if (code := self.poll()) is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired("torchrun", timeout)
        print(f"--- {self._log.name}\n{self._log.read_text()}")  # pytest shows it with a failure
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """torchrun passes it on to its ranks, as a kill would not."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _agent_main(
    arguments: tuple[str, ...], environ: dict[str, str], folder: str, log: Path
) -> NoReturn:
    try:
        die_with_parent()
        redirect_output(log)
        os.environ.clear()
        os.environ.update(environ)
        os.chdir(folder)
        from torch.distributed.elastic.multiprocessing.subprocess_handler import subprocess_handler
        from torch.distributed.run import main

        setattr(subprocess_handler, "Popen", _ForkedPython)  # noqa: B010 - its own type is narrower
        sys.argv = ["torchrun", *arguments]
        main()
        _end(0)
    except BaseException as error:
        _end(_code_of(error))


class _ForkedPython:
    """What torchrun uses of subprocess.Popen, for `python -u SCRIPT ARGUMENTS`."""

    def __init__(self, args: tuple[str, ...], env: dict[str, str], **_settings: Any) -> None:
        assert args[:2] == (sys.executable, "-u"), args
        self.args = args
        self.returncode: int | None = None
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _become(args[2:], env)

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        started = time.monotonic()
        while (code := self.poll()) is None:
            if timeout is not None and time.monotonic() - started > timeout:
                raise subprocess.TimeoutExpired(self.args, timeout)
            time.sleep(_POLL_S)
        return code


def _become(command: tuple[str, ...], environ: dict[str, str]) -> NoReturn:
    """The forked process goes on as a new interpreter would with this script."""
    try:
        os.setsid()
        die_with_parent()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.closerange(_FIRST_OWN, _LAST)
        os.environ.clear()
        os.environ.update(environ)
        import torch

        torch.set_num_threads(int(environ.get("OMP_NUM_THREADS", "1")))
        script = command[0]
        sys.argv = list(command)
        sys.path[0] = str(Path(script).resolve().parent)
        runpy.run_path(script, run_name="__main__")
        _end(0)
    except BaseException as error:
        _end(_code_of(error))


def _code_of(error: BaseException) -> int:
    """As the interpreter ends a process."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    traceback.print_exception(error)
    return 1


def _end(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
