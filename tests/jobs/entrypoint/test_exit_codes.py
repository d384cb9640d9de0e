"""A command's process exits with the right code, and loses no output."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from jobs.entrypoint.exit_codes import exit_with
from marigold_rec.errors import ConfigError, DataError, MarigoldError
from tests.support.launches import codes, launch_evaluate, launch_train

_MAIN = """
import logging, sys, threading, time
from jobs.entrypoint.exit_codes import run_and_exit

def main():
    logging.basicConfig(stream=sys.stdout)
    logging.warning("logged")
    print("printed", end="")
    print("said", file=sys.stderr, end="")
    # A thread that would keep the interpreter, and must not keep the process.
    threading.Thread(target=time.sleep, args=(600,)).start()
    {ending}

run_and_exit(main)
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


@pytest.mark.parametrize(
    "error",
    [ConfigError("data.batch_sise: unknown key"), DataError("click: found 2\nexpected 0, 1")],
)
def test_torchruns_account_ends_with_the_error(
    error: MarigoldError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "error.json"
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(file))
    with pytest.raises(SystemExit) as end:
        exit_with(error)
    assert end.value.code == error.exit_code
    failure = ProcessFailure(local_rank=0, pid=1, exitcode=error.exit_code, error_file=str(file))
    *_, border = lines = str(ChildFailedError("launch/train.py", {0: failure})).splitlines()
    said = f"{type(error).__name__}: {error}".splitlines()
    assert set(border) == {"="}
    assert [line.removeprefix("  ") for line in lines[-1 - len(said) : -1]] == [
        f"traceback : {said[0]}", *said[1:]
    ]  # fmt: skip
    assert "File " not in json.loads(file.read_text())["message"]["extraInfo"]["py_callstack"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "said"),
    [
        (("launch/train.py", "--config", "nowhere.yaml"), "nowhere.yaml"),
        (("launch/evaluate.py", "--checkpoint", "nowhere", "--out", "out"), "nowhere"),
    ],
    ids=["train", "evaluate"],
)
def test_the_last_line_of_a_torchrun_is_ours(program: tuple[str, ...], said: str) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    ended = subprocess.run([*torchrun, *program], capture_output=True, text=True, timeout=100)
    assert ended.returncode == 1
    last = [line for line in ended.stderr.splitlines() if set(line) != {"="}][-1]
    assert "Error: " in last
    assert said in last


@pytest.mark.parametrize("launch", [launch_train, launch_evaluate])
def test_a_wrong_flag_is_told_once(launch: Any) -> None:
    first, second = launch("--nope", "--config", "x", num_ranks=2)
    assert codes([first, second]) == [2, 2]
    assert first.said.count("usage: ") == 1
    assert "error: " in first.said
    assert second.said == ""
