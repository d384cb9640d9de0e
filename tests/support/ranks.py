"""Runs a function on N real gloo ranks: a hang is a failure in seconds, and says where it hangs.

The ranks are forked (tests/support/forking.py), so that a two-rank test takes tenths of a second.
"""

from __future__ import annotations

import faulthandler
import math
import os
import pickle
import random
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from tests.support.forking import die_with_parent, fork_server, redirect_output
from tests.support.patience import IDLE_S, LIMIT_S, MOST_S, Patience

# How long the others may go on after a rank has failed: they often fail, or hang, because of it.
_GRACE_S = 5.0
_POLL_S = 0.02


class RanksHungError(AssertionError):
    """Some ranks did not finish in time; the message holds their stacks."""


class RankDiedError(AssertionError):
    """A rank ended without a result or an exception (a signal, os._exit), or with one that cannot
    be pickled.
    """


@dataclass(frozen=True)
class Outcome:
    """What one rank ended with: a value, or an error with its traceback and its time."""

    rank: int
    value: Any = None
    error: BaseException | None = None
    traceback: str = ""
    failed_at: float = 0.0


def run_ranks(
    fn: Callable[..., Any],
    world_size: int,
    *args: Any,
    timeout_s: float = LIMIT_S,
    init_group: bool = True,
    idle_s: float = IDLE_S,
) -> list[Any]:
    """Calls the module-level `fn(*args)` on `world_size` ranks: their results in rank order.

    Each rank has the torchrun variables (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, ...), the
    caller's other variables, one thread, the seed 0 and, unless `init_group` is false, a gloo
    process group. The error of the rank that failed first is raised again, with that rank's
    traceback as a note. When all ranks have done nothing for `idle_s`, or past `timeout_s` (not
    counting what a loaded machine takes: tests.support.patience), every rank is killed, and
    RanksHungError names those that hung and where. `fn`, its arguments and its result have to be
    picklable.
    """
    outcomes = rank_outcomes(
        fn,
        world_size,
        *args,
        timeout_s=timeout_s,
        init_group=init_group,
        idle_s=idle_s,
        grace_s=_GRACE_S,
    )
    failed = sorted((o for o in outcomes if o.error is not None), key=lambda o: o.failed_at)
    if failed:
        first = failed[0]
        assert first.error is not None
        first.error.add_note(f"raised on rank {first.rank} of {world_size}:\n{first.traceback}")
        raise first.error
    return [o.value for o in outcomes]


def rank_outcomes(
    fn: Callable[..., Any],
    world_size: int,
    *args: Any,
    timeout_s: float = LIMIT_S,
    init_group: bool = True,
    idle_s: float = IDLE_S,
    grace_s: float | None = None,
) -> list[Outcome]:
    """As run_ranks, but returns what became of each rank: for tests where all of them should raise.

    With `grace_s`, ranks that still run that long after another one's failure are killed and count
    as having failed after it; without it they have until `timeout_s`.
    """
    assert timeout_s <= MOST_S, f"{timeout_s} s: a test that hangs has to end within 30 s"
    context = fork_server()
    with tempfile.TemporaryDirectory(prefix="ranks-") as folder_name:
        folder = Path(folder_name)
        port = free_port()
        processes = []
        for rank in range(world_size):
            setup = _Setup(
                rank, world_size, port, str(folder), dict(os.environ), os.getcwd(), init_group
            )
            # As bytes: unpickled in the rank's own try, where a failing import is reported.
            call = pickle.dumps((fn, args))
            process = context.Process(
                target=_rank_main, args=(setup, call), name=f"rank-{rank}", daemon=True
            )
            processes.append(process)
        try:
            for process in processes:
                process.start()
            verdict = _wait(processes, folder, Patience(timeout_s, idle_s), grace_s)
            running = [rank for rank, process in enumerate(processes) if process.is_alive()]
            stacks = _stacks(processes, running, folder)
        finally:
            for process in processes:
                if process.pid is not None and process.is_alive():
                    process.kill()
            for process in processes:
                if process.pid is not None:
                    process.join()
            _replay_output(folder, world_size)
        outcomes = [_outcome(rank, process, folder) for rank, process in enumerate(processes)]
    failed = [o for o in outcomes if o.error is not None and o.rank not in running]
    if running and (grace_s is None or not failed):
        # A rank that has its value waits for its peers only: it is not the one to blame.
        hung = [rank for rank in running if outcomes[rank].error is not None] or running
        raise RanksHungError(
            f"rank {', '.join(map(str, hung))} of {world_size} {verdict or 'did not finish'}"
            + "".join(f"\nrank {o.rank} had failed: {o.error!r}" for o in failed)
            + f"; stacks:\n{stacks}"
        )
    return outcomes


def free_port() -> int:
    """A TCP port of the loopback interface that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class _Setup:
    rank: int
    world_size: int
    port: int
    folder: str
    environ: dict[str, str]
    cwd: str
    init_group: bool


def _rank_main(setup: _Setup, call: bytes) -> None:
    folder = Path(setup.folder)
    try:
        die_with_parent()
        redirect_output(folder / f"{setup.rank}.out")
        stacks = open(folder / f"{setup.rank}.stacks", "w")  # noqa: SIM115 - stays open for the signal handler
        faulthandler.register(signal.SIGUSR1, file=stacks, all_threads=True)
        _set_environment(setup)
        import torch
        import torch.distributed as dist

        torch.set_num_threads(1)
        random.seed(0)
        torch.manual_seed(0)
        if setup.init_group:
            dist.init_process_group(
                "gloo",
                init_method=f"file://{folder}/store",
                rank=setup.rank,
                world_size=setup.world_size,
            )
        fn, args = pickle.loads(call)
        value = fn(*args)
        _write(folder / f"{setup.rank}.value", pickle.dumps(value))
        if dist.is_initialized():
            dist.barrier()  # gloo aborts the peers of a process that leaves early
            dist.destroy_process_group()
    except BaseException as error:
        if (folder / f"{setup.rank}.value").exists():
            return  # the peers failed: theirs is the error to report
        text = traceback.format_exc()
        _write(
            folder / f"{setup.rank}.error",
            pickle.dumps((_picklable(error, text), text, time.monotonic())),
        )
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _set_environment(setup: _Setup) -> None:
    """The caller's environment and folder (the server has those of its start), and torchrun's."""
    os.environ.clear()
    os.environ.update(setup.environ)
    os.environ.update(
        RANK=str(setup.rank),
        LOCAL_RANK=str(setup.rank),
        GROUP_RANK="0",
        WORLD_SIZE=str(setup.world_size),
        LOCAL_WORLD_SIZE=str(setup.world_size),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(setup.port),
        OMP_NUM_THREADS="1",
    )
    os.chdir(setup.cwd)


def _picklable(error: BaseException, text: str) -> BaseException:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RankDiedError(
            f"{type(error).__name__}: {error} (this error cannot be pickled)\n{text}"
        )
    return error


def _write(path: Path, payload: bytes) -> None:
    """Whole or not at all: the parent may look at any moment."""
    part = path.with_suffix(path.suffix + ".part")
    part.write_bytes(payload)
    part.rename(path)


def _wait(
    processes: Sequence[ForkServerProcess],
    folder: Path,
    patience: Patience,
    grace_s: float | None,
) -> str | None:
    """Until all have ended, or why they are not waited for any longer."""
    deadline = math.inf
    while any(process.is_alive() for process in processes):
        if grace_s is not None and math.isinf(deadline) and _has_failed(processes, folder):
            deadline = time.monotonic() + grace_s
        if time.monotonic() > deadline:
            return f"went on for {grace_s:g} s after another had failed"
        if verdict := patience.verdict([p.pid for p in processes if p.pid is not None]):
            return verdict
        time.sleep(_POLL_S)
    return None


def _has_failed(processes: Sequence[ForkServerProcess], folder: Path) -> bool:
    crashed = any(process.exitcode not in (None, 0) for process in processes)
    return crashed or any((folder / f"{rank}.error").exists() for rank in range(len(processes)))


def _stacks(processes: Sequence[ForkServerProcess], running: list[int], folder: Path) -> str:
    """Where each rank that is still running stands now."""
    for rank in running:
        pid = processes[rank].pid
        if pid is not None and (folder / f"{rank}.stacks").exists():
            os.kill(pid, signal.SIGUSR1)
    if running:
        time.sleep(0.3)
    texts = []
    for rank in running:
        path = folder / f"{rank}.stacks"
        texts.append(
            f"--- rank {rank}\n" + (path.read_text() if path.exists() else "(not started)\n")
        )
    return "".join(texts)


def _outcome(rank: int, process: ForkServerProcess, folder: Path) -> Outcome:
    error_path, value_path = folder / f"{rank}.error", folder / f"{rank}.value"
    if error_path.exists():
        error, text, failed_at = pickle.loads(error_path.read_bytes())
        return Outcome(rank, error=error, traceback=text, failed_at=failed_at)
    if value_path.exists():
        return Outcome(rank, value=pickle.loads(value_path.read_bytes()))
    code = process.exitcode
    how = (
        f"killed by {signal.Signals(-code).name}"
        if code is not None and code < 0
        else f"exit code {code}"
    )
    died = RankDiedError(
        f"rank {rank} ended without a result ({how})\n{_tail(folder / f'{rank}.out')}"
    )
    return Outcome(rank, error=died, failed_at=float("inf") if code == -signal.SIGKILL else 0.0)


def _tail(path: Path, num_lines: int = 40) -> str:
    if not path.exists():
        return ""
    return "\n".join(path.read_text(errors="replace").splitlines()[-num_lines:])


def _replay_output(folder: Path, world_size: int) -> None:
    """The ranks' output as the test's own, so that pytest shows it beside a failure."""
    for rank in range(world_size):
        text = _tail(folder / f"{rank}.out", num_lines=400)
        if text:
            print(f"--- output of rank {rank}\n{text}")
