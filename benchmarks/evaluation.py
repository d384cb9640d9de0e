"""Measures what the figures of an offline evaluation cost: time and peak memory.

    python benchmarks/evaluation.py

A made-up log of 20M scored rows of one binary task and about 1M users, some a thousand times as
active as others, as score files. `read` is one pass over them, `floor` what no exact way that sorts
is faster than, `ours` the evaluation. Each in a process of its own, one after the other, the files
read once before. CPU seconds are those of all threads, the kernel's for them included: unlike
seconds they hardly hang on what else the machine does. Prints JSON: medians over the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from process_memory import peak_resident_mib

_ROOT = Path(__file__).resolve().parents[1]
_SCORE_COLUMNS = ("column.user_id", "weight", "score.ctr", "label.ctr")
_BATCH = 8192
_ROWS_PER_USER = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=list(PROGRAMS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(_measured(PROGRAMS[arguments.only], arguments.folder)))
        return
    print(json.dumps(_all_programs(arguments.rows, arguments.rounds), indent=1))


def _all_programs(num_rows: int, rounds: int) -> dict[str, Any]:
    load = os.getloadavg()[0]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in PROGRAMS}
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        users = write_scores(folder, num_rows)
        _in_own_process("read", folder)  # the files are in the page cache from here on
        for _ in range(rounds):
            for name in PROGRAMS:
                found[name].append(_in_own_process(name, folder))
                print(name, found[name][-1], file=sys.stderr, flush=True)
        scores_mib = _part(folder).stat().st_size / 2**20
    return {
        "load": load,
        "rows": num_rows,
        "users": users,
        "scores_mib": scores_mib,
        "rounds": rounds,
        "programs": {name: _median(runs) for name, runs in found.items()},
    }


def write_scores(folder: Path, num_rows: int) -> int:
    """Writes score files as launch/evaluate.py does: calibrated scores around a click rate of 4 %.

    Returns the number of users.
    """
    sys.path.insert(0, str(_ROOT))
    from marigold_rec.analysis.score_files import ScoreWriter

    generator = np.random.default_rng(0)
    num_users = max(num_rows // _ROWS_PER_USER, 1)
    ids = generator.permutation(num_users).astype(np.int64) * 1_000_003 + 10**12
    seen = np.zeros(num_users, np.bool_)
    _part(folder).parent.mkdir()
    writer = ScoreWriter(
        _part(folder).parent, rank=0, world_size=1, tasks=["ctr"], columns={"user_id": pa.int64()}
    )
    for start in range(0, num_rows, _BATCH):
        n = min(_BATCH, num_rows - start)
        # Activity as u^-0.5 gives: the most active of 1M users has about 20 000 of 20M rows.
        user = (num_users * generator.random(n) ** 2).astype(np.int64)
        seen[user] = True
        logit = generator.normal(-3.6, 0.9, n) + 0.6 * np.sin(user)
        score = (1 / (1 + np.exp(-logit))).astype(np.float32)[:, None]
        label = (generator.random(n) < score[:, 0]).astype(np.float32)[:, None]
        ones = np.ones(n, np.float32)
        columns = {"user_id": pa.array(ids[user])}
        writer.add(score, label, np.ones_like(label, bool), ones, columns)
    writer.close()
    return int(seen.sum())


def read(folder: Path) -> dict[str, float]:
    """One pass over the score files' columns, a row group at a time, which stays nowhere."""
    timer = _Timer()
    source = pq.ParquetFile(_part(folder), memory_map=True)
    for group in range(source.num_row_groups):
        source.read_row_group(group, columns=list(_SCORE_COLUMNS))
    return timer.found()


def ours(folder: Path) -> dict[str, float]:
    """What `launch/evaluate.py` does with score files: from them to a task's part of the report."""
    sys.path.insert(0, str(_ROOT))
    from jobs.evaluation.clusters import cluster_codes
    from jobs.evaluation.memory import enough_memory
    from marigold_rec.analysis.evaluation import Settings, judge
    from marigold_rec.analysis.score_files import ScoreFiles
    from marigold_rec.analysis.targets import Target

    pa.chunked_array([[0]]).to_numpy()  # imports pandas, where that is installed
    target = Target("ctr", "binary", "observed", "ctr", None, ("ctr",))
    timer = _Timer()
    files = ScoreFiles(_part(folder).parent)
    with enough_memory(files.num_rows, None, _part(folder).parent) as scratch:
        user_N = cluster_codes(files, "user_id", ["user_id"])
        users_s = timer.seconds()
        settings = Settings(user_N, None, slicings=(), ndcg_at=(), confidence=0.95)
        [task] = judge(files, None, [target], (), settings).tasks
    found = timer.found() | {"users_s": users_s}
    found["judge_s"] = found["seconds"] - users_s
    found["scratch_mib"] = 0.0 if scratch is None else scratch.num_bytes / 2**20
    return found | {name: f.value for name, f in task.figures.items() if f.value is not None}


def floor(folder: Path) -> dict[str, float]:
    """What no exact way that sorts is faster than: the pass, and a sort of one integer per row for
    users, for the ranking and for the ranking within users, two of them at a time."""
    timer = _Timer()
    source = pq.ParquetFile(_part(folder), memory_map=True)
    keys = np.empty(source.metadata.num_rows, np.uint64)
    first = 0
    for group in range(source.num_row_groups):
        column = source.read_row_group(group, columns=list(_SCORE_COLUMNS))["score.ctr"]
        bits = column.to_numpy().view(np.uint32).astype(np.uint64)
        keys[first : first + len(bits)] = bits * np.uint64(0x9E3779B97F4A7C15)
        first += len(bits)
    other, half = keys.copy(), keys.copy()
    parts = (keys, other, half[: len(half) // 2], half[len(half) // 2 :])
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(np.ndarray.sort, parts))
    return timer.found()


PROGRAMS: dict[str, Callable[[Path], dict[str, float]]] = {
    "read": read,
    "floor": floor,
    "ours": ours,
}


class _Timer:
    """Seconds, and CPU seconds of the process, since it was made."""

    def __init__(self) -> None:
        self._wall, self._used = time.perf_counter(), self._now()

    def seconds(self) -> float:
        return time.perf_counter() - self._wall

    def found(self) -> dict[str, float]:
        user_s, kernel_s = (now - then for now, then in zip(self._now(), self._used, strict=True))
        return {"seconds": self.seconds(), "cpu_s": user_s + kernel_s, "user_s": user_s}

    @staticmethod
    def _now() -> tuple[float, float]:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return used.ru_utime, used.ru_stime


def _part(folder: Path) -> Path:
    return folder / "scores" / "part-00000-of-00001.parquet"


def _measured(program: Callable[[Path], dict[str, float]], folder: Path) -> dict[str, float]:
    found = program(folder)  # it takes the time itself, after its imports
    return found | {"peak_mib": peak_resident_mib()}


def _in_own_process(name: str, folder: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, "--only", name, "--folder", str(folder)]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(found.stdout.splitlines()[-1])


def _median(runs: list[dict[str, Any]]) -> dict[str, float]:
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


if __name__ == "__main__":
    main()
