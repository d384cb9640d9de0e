"""How a doorway's process ends: its code, and nothing that was said is lost."""

from __future__ import annotations

import subprocess
import sys

import pytest

_MAIN = """
import logging, sys, threading, time
from launch.exits import end_process

def main():
    logging.basicConfig(stream=sys.stdout)
    logging.warning("logged")
    print("printed", end="")
    print("said", file=sys.stderr, end="")
    # A thread that would keep the interpreter, and must not keep the process.
    threading.Thread(target=time.sleep, args=(600,)).start()
    {ending}

end_process(main)
"""


@pytest.mark.parametrize(
    ("ending", "code", "more"),
    [
        ("return 0", 0, ""),
        ("return 143", 143, ""),
        ("raise SystemExit(3)", 3, ""),
        ("raise SystemExit()", 0, ""),
        ("raise SystemExit('text')", 1, ""),
        ("raise ValueError('a bug')", 1, "ValueError: a bug"),
        ("raise KeyboardInterrupt", 1, "KeyboardInterrupt"),
    ],
)
def test_the_code_and_every_word(ending: str, code: int, more: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _MAIN.format(ending=ending)],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ended.returncode == code
    assert ended.stdout == "WARNING:root:logged\nprinted"
    assert ended.stderr.startswith("said")
    assert more in ended.stderr
