"""This process's memory, resident and in use by the C library's count. Linux and glibc only."""

from __future__ import annotations

import ctypes
import resource
import threading
from pathlib import Path

_MIB = 2**20


def resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / _MIB


def peak_resident_mib() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(x.split()[1]) for x in lines if x.startswith("VmHWM")) / 1024


def reset_peak_resident() -> None:
    """What a process took at its worst so far must not hide what comes."""
    Path("/proc/self/clear_refs").write_text("5")


class _InUse(ctypes.Structure):
    """glibc's struct mallinfo2."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
            "fordblks", "keepcost",
        )
    ]  # fmt: skip


class PeakInUse(threading.Thread):
    """The most bytes that the C allocator has had in use while inside, looked at every millisecond.

    Resident memory also holds what was freed and not given back, which is different in every run.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._mallinfo = ctypes.CDLL(None).mallinfo2
        self._mallinfo.restype = _InUse
        self._ended = threading.Event()
        self.before = self.peak = self._in_use()

    def run(self) -> None:
        while not self._ended.wait(0.001):
            self.peak = max(self.peak, self._in_use())

    def end(self) -> float:
        """MiB at the peak above those at the start."""
        self._ended.set()
        self.join()
        return (self.peak - self.before) / _MIB

    def _in_use(self) -> int:
        found = self._mallinfo()
        return found.uordblks + found.hblkhd
