"""Programs without the seconds in which each of them imports torch and torchrec.

`Forked` starts one from the fork server (tests/support/forking.py); where that program starts
`python SCRIPT ...` itself, `ForkedPython` in the place of its Popen forks it once more.
"""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from tests.support.forking import die_with_parent, fork_server, redirect_output

# The descriptors that a new interpreter would not have: the store's sockets, the server's pipes.
_FIRST_OWN, _LAST = 3, 4096
_POLL_S = 0.02


class Forked:
    """A process that calls `main`, whose words go to the end of `log`. What tests need of a Popen.

    `main` is picklable. Its int is the process's exit code, None is 0.
    """

    def __init__(self, name: str, main: Callable[..., int | None], *args: Any, log: Path) -> None:
        log.touch()
        self._name, self._log = name, log
        self._process = fork_server().Process(
            target=_main, args=(main, args, dict(os.environ), os.getcwd(), log),
            name=name, daemon=True,
        )  # fmt: skip
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if (code := self.poll()) is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired(self._name, timeout)
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


def _main(
    main: Callable[..., int | None],
    args: tuple[Any, ...],
    environ: dict[str, str],
    folder: str,
    log: Path,
) -> NoReturn:
    try:
        die_with_parent()
        redirect_output(log)
        os.environ.clear()
        os.environ.update(environ)
        os.chdir(folder)
        _end(main(*args) or 0)
    except BaseException as error:
        _end(_code_of(error))


class ForkedPython:
    """What torchrun and a night use of subprocess.Popen, for `python [-u] [-m] PROGRAM ...`."""

    def __init__(
        self,
        args: Sequence[str],
        env: dict[str, str] | None = None,
        *,
        stdout: Any = None,
        preexec_fn: Callable[[], None] | None = None,
        **_settings: Any,
    ) -> None:
        assert args[0] == sys.executable, args
        self.args = args
        self.returncode: int | None = None
        self.stdout: BinaryIO | None = None
        read, write = os.pipe() if stdout == subprocess.PIPE else (None, None)
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            program = [arg for arg in args[1:2] if arg != "-u"] + list(args[2:])
            _become(program, dict(os.environ if env is None else env), write, preexec_fn)
        if read is not None and write is not None:
            os.close(write)
            self.stdout = open(read, "rb")  # noqa: SIM115 - whoever asked for it closes it

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
                raise subprocess.TimeoutExpired(list(self.args), timeout)
            time.sleep(_POLL_S)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


def _become(
    program: list[str],
    environ: dict[str, str],
    output: int | None,
    before: Callable[[], None] | None,
) -> NoReturn:
    """The forked process goes on as a new interpreter would with this program."""
    try:
        os.setsid()
        die_with_parent()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if before is not None:
            before()
        if output is not None:
            os.dup2(output, 1)
            os.dup2(output, 2)
        os.closerange(_FIRST_OWN, _LAST)
        os.environ.clear()
        os.environ.update(environ)
        import torch

        torch.set_num_threads(int(environ.get("OMP_NUM_THREADS", "1")))
        if program[0] == "-m":
            sys.argv = program[1:]
            fork_ranks()  # where the module is torchrun
            runpy.run_module(program[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = program
            sys.path[0] = str(Path(program[0]).resolve().parent)
            runpy.run_path(program[0], run_name="__main__")
        _end(0)
    except BaseException as error:
        _end(_code_of(error))


def fork_ranks() -> None:
    """A torchrun in this process forks its ranks."""
    from torch.distributed.elastic.multiprocessing.subprocess_handler import subprocess_handler

    setattr(subprocess_handler, "Popen", ForkedPython)  # noqa: B010 - its own type is narrower


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
