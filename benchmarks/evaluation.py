"""What the figures of an offline evaluation cost: time and peak memory, against other programs.

    python benchmarks/evaluation.py
    python benchmarks/evaluation.py --beyond-memory    # as root, where cgroups (v1) can be made

A made-up log of 20M scored rows of one binary task and about 1M users, some a thousand times as
active as others: as the product's score files (what `read` and `ours` take), and as one plain file
of pyarrow's defaults (the others). Each program in a process of its own, one after the other, the
files read once before. CPU seconds are those of all threads, the kernel's for them included: unlike
seconds they hardly hang on what else the machine does. With --beyond-memory only: 100M rows, with
all of the machine's memory and in a cgroup that allows a part of what they need. Writes
benchmarks/results/evaluation.json and .md; what the other mode found stays there.
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

_ROOT = Path(__file__).resolve().parents[1]
_JSON = Path(__file__).resolve().parent / "results" / "evaluation.json"
_COLUMNS = ("user_id", "ctr.score", "ctr.label", "baseline.score")
_SCORE_COLUMNS = ("column.user_id", "weight", "score.ctr", "label.ctr")
_PLAIN = "plain.parquet"
_BATCH = 8192
_SAMPLE_USERS = 3_000
_CHUNK = 1_000_000

_MANY_ROWS, _ROWS_PER_USER = 100_000_000, 50
_LIMIT_MIB = 1024
_COSTS = {"seconds", "cpu_s", "user_s", "users_s", "judge_s", "scratch_mib", "peak_mib"}
_CGROUP = Path("/sys/fs/cgroup/memory/marigold_evaluation")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-results", action="store_true", help="only print")
    parser.add_argument("--beyond-memory", action="store_true")
    parser.add_argument("--only", choices=list(PROGRAMS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(_measured(PROGRAMS[arguments.only], arguments.folder)))
        return
    before = json.loads(_JSON.read_text()) if _JSON.exists() else {}
    if arguments.beyond_memory:
        result = before | {"beyond_memory": _beyond_memory()}
    else:
        result = before | _all_programs(arguments.rows, arguments.rounds)
    print(json.dumps(result, indent=1))
    if not arguments.no_results:
        _JSON.parent.mkdir(exist_ok=True)
        _JSON.write_text(json.dumps(result, indent=1) + "\n")
        _JSON.with_suffix(".md").write_text(_markdown(result))


def _all_programs(num_rows: int, rounds: int) -> dict[str, Any]:
    load = os.getloadavg()[0]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in PROGRAMS}
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        users = write_scores(folder / _PLAIN, num_rows)
        write_score_files(folder)
        for name in ("read", "read_plain"):  # the files are in the page cache from here on
            _in_own_process(name, folder)
        for _ in range(rounds):
            for name in PROGRAMS:
                found[name].append(_in_own_process(name, folder))
                print(name, found[name][-1], flush=True)
        plain_mib = (folder / _PLAIN).stat().st_size / 2**20
        scores_mib = _part(folder).stat().st_size / 2**20
    return {
        "command": "python benchmarks/evaluation.py",
        "load": load,
        "rows": num_rows,
        "users": users,
        "scores_mib": scores_mib,
        "plain_mib": plain_mib,
        "rounds": rounds,
        "programs": {name: _median(runs) for name, runs in found.items()},
    }


def _beyond_memory() -> dict[str, Any]:
    """The same rows with and without a limit; the figures must be equal to the bit."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        users = write_scores(folder / _PLAIN, _MANY_ROWS, _ROWS_PER_USER)
        write_score_files(folder)
        (folder / _PLAIN).unlink()
        scores_mib = _part(folder).stat().st_size / 2**20
        free = _in_own_process("ours", folder)
        _CGROUP.mkdir()
        try:
            (_CGROUP / "memory.limit_in_bytes").write_text(str(_LIMIT_MIB * 2**20))
            limited = _in_own_process("ours", folder, cgroup=_CGROUP)
            failures = int((_CGROUP / "memory.failcnt").read_text())
        finally:
            _CGROUP.rmdir()
    assert all(free[name] == limited[name] for name in free if name not in _COSTS)
    return {
        "load": load,
        "rows": _MANY_ROWS,
        "users": users,
        "scores_mib": scores_mib,
        "limit_mib": _LIMIT_MIB,
        "times_at_limit": failures,
        "free": free,
        "limited": limited,
    }


def write_scores(file: Path, num_rows: int, rows_per_user: int = 20) -> int:
    """Returns the number of users. Calibrated scores around a click rate of 4 %."""
    generator = np.random.default_rng(0)
    num_users = max(num_rows // rows_per_user, 1)
    ids = generator.permutation(num_users).astype(np.int64) * 1_000_003 + 10**12
    # Activity as u^-0.5 gives: the most active of 1M users has about 20 000 of 20M rows.
    schema = pa.schema([("user_id", pa.int64()), *[(name, pa.float32()) for name in _COLUMNS[1:]]])
    seen = np.zeros(num_users, np.bool_)
    with pq.ParquetWriter(file, schema) as writer:
        for start in range(0, num_rows, _CHUNK):
            n = min(_CHUNK, num_rows - start)
            user = (num_users * generator.random(n) ** 2).astype(np.int64)
            seen[user] = True
            logit = generator.normal(-3.6, 0.9, n) + 0.6 * np.sin(user)
            score = 1 / (1 + np.exp(-logit))
            label = generator.random(n) < score
            baseline = 1 / (1 + np.exp(-(logit + generator.normal(0, 0.4, n))))
            columns = [ids[user], *[c.astype(np.float32) for c in (score, label, baseline)]]
            writer.write_table(pa.table(columns, schema=schema))
    return int(seen.sum())


def write_score_files(folder: Path) -> None:
    """The rows of the plain file as `launch/evaluate.py` writes them."""
    sys.path.insert(0, str(_ROOT))
    from marigold_rec.analysis.score_files import ScoreWriter

    columns = {"user_id": pa.int64()}
    scores = _part(folder).parent
    scores.mkdir()
    writer = ScoreWriter(scores, rank=0, world_size=1, tasks=["ctr"], columns=columns)
    for batch in pq.ParquetFile(folder / _PLAIN).iter_batches(batch_size=_BATCH):
        score, label = (batch[f"ctr.{name}"].to_numpy()[:, None] for name in ("score", "label"))
        ones = np.ones(batch.num_rows, np.float32)
        writer.add(score, label, np.ones_like(label, bool), ones, {"user_id": batch["user_id"]})
    writer.close()


def read(folder: Path) -> dict[str, float]:
    """One pass over the score files' columns, a row group at a time, which stays nowhere."""
    timer = _Timer()
    source = pq.ParquetFile(_part(folder), memory_map=True)
    for group in range(source.num_row_groups):
        source.read_row_group(group, columns=list(_SCORE_COLUMNS))
    return timer.found()


def read_plain(folder: Path) -> dict[str, float]:
    """The same of the plain file, in batches."""
    timer = _Timer()
    source = pq.ParquetFile(folder / _PLAIN)
    for _ in source.iter_batches(batch_size=1 << 20, columns=list(_COLUMNS)):
        pass
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


def scikit_learn(folder: Path) -> dict[str, float]:
    """Three figures, without intervals or users."""
    from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

    timer = _Timer()
    source = pq.ParquetFile(folder / _PLAIN)
    score, label = _floats(source, "ctr.score"), _floats(source, "ctr.label")
    found = {
        "auc": float(roc_auc_score(label, score)),
        "pr_auc": float(average_precision_score(label, score)),
        "log_loss": float(log_loss(label, score)),
    }
    return found | timer.found()


def gauc_loop(folder: Path) -> dict[str, float]:
    """As TorchEasyRec's GroupedAUC (tzrec/metrics/grouped_auc.py): one user after the other.

    All rows sorted by user, then torchmetrics' AUC of each user with both classes, plain mean. The
    loop here is over a sample of the users; the time is what all of them would take.
    """
    import torch
    from torchmetrics.functional.classification.auroc import _binary_auroc_compute

    timer = _Timer()
    source = pq.ParquetFile(folder / _PLAIN)
    user = torch.tensor(source.read(["user_id"])["user_id"].to_numpy())
    score = torch.tensor(_floats(source, "ctr.score"))
    label = torch.tensor(_floats(source, "ctr.label")).long()
    user, order = torch.sort(user)
    score, label = score[order], label[order]
    counts = torch.unique_consecutive(user, return_counts=True)[1]
    scores, labels = (torch.split(column, counts.tolist()) for column in (score, label))
    num_users = len(counts)
    sample = np.random.default_rng(0).permutation(num_users)[:_SAMPLE_USERS]
    loop_started = time.perf_counter()
    aucs = []
    for i in sample.tolist():
        if 0 < float(labels[i].float().mean()) < 1:
            aucs.append(float(_binary_auroc_compute((scores[i], labels[i]), None)))
    found = timer.found()
    not_run = (time.perf_counter() - loop_started) * (num_users / len(sample) - 1)
    return {
        "seconds": found["seconds"] + not_run,
        "cpu_s": found["cpu_s"] + not_run,
        "extrapolated_s": not_run,
        "gauc_unweighted_of_sample": float(np.mean(aucs)),
        "sample_users": float(len(sample)),
    }


PROGRAMS: dict[str, Callable[[Path], dict[str, float]]] = {
    "read": read,
    "read_plain": read_plain,
    "floor": floor,
    "ours": ours,
    "scikit_learn": scikit_learn,
    "gauc_loop": gauc_loop,
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


def _floats(source: pq.ParquetFile, name: str) -> Any:
    return source.read([name])[name].to_numpy()


def _measured(program: Callable[[Path], dict[str, float]], folder: Path) -> dict[str, float]:
    found = program(folder)  # it takes the time itself, after its imports
    # Not getrusage: its maximum starts with that of the process that started this one.
    status = Path("/proc/self/status").read_text().splitlines()
    peak_kib = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    return found | {"peak_mib": peak_kib / 1024}


def _in_own_process(name: str, folder: Path, cgroup: Path | None = None) -> dict[str, Any]:
    command = [sys.executable, __file__, "--only", name, "--folder", str(folder)]
    if cgroup is not None:
        command = ["sh", "-c", f'echo $$ > {cgroup}/cgroup.procs; exec "$@"', "sh", *command]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(found.stdout.splitlines()[-1])


def _median(runs: list[dict[str, Any]]) -> dict[str, float]:
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def _markdown(result: dict[str, Any]) -> str:
    programs = result["programs"]
    whats = {
        "read": "one pass of reading the product's score files (user, weight, score, label; zstd), "
        "a row group at a time, dropped",
        "read_plain": "one pass of reading a plain file (user, label, two scores; snappy), dropped",
        "floor": "a floor: the first pass, and three sorts of an integer per row, by two threads",
        "ours": "ours, from score files to a task's part of the report: all binary figures, GAUC, "
        "intervals by user, curves",
        "scikit_learn": "scikit-learn: AUC, average precision, log loss; no users, no intervals",
        "gauc_loop": "GAUC as TorchEasyRec computes it: a Python loop over the users "
        f"({programs['gauc_loop']['sample_users']:,.0f} users run, the others extrapolated)",
    }
    lines = [
        "# Figures of an offline evaluation",
        "",
        f"`{result['command']}` ({result['rows']:,} rows, {result['users']:,} users, "
        f"{result['scores_mib']:,.0f} MiB of score files, {result['plain_mib']:,.0f} MiB of plain "
        f"Parquet; 2 cores, load average {result['load']:.1f} at the start; medians of "
        f"{result['rounds']} interleaved rounds, each in a process of its own; the memory is the "
        "process's peak, its libraries included)",
        "",
        "| what | seconds | times `read` | CPU seconds | peak memory |",
        "|---|---|---|---|---|",
    ]
    for name, what in whats.items():
        seconds, peak = programs[name]["seconds"], programs[name]["peak_mib"]
        ratio = seconds / programs["read"]["seconds"]
        cpu_s = programs[name]["cpu_s"]
        cells = (what, f"{seconds:,.2f}", f"{ratio:,.1f}", f"{cpu_s:,.2f}", f"{peak:,.0f} MiB")
        lines.append(f"| {' | '.join(cells)} |")
    ours = programs["ours"]
    lines += [
        "",
        f"Of ours: users read and numbered {ours['users_s']:.2f} s, the rest "
        f"{ours['judge_s']:.2f} s; {ours['seconds'] / programs['read_plain']['seconds']:.1f} times "
        "the pass over the plain file. Imports are in no time.",
        "",
        f"Three times `read` is not reached. Of ours' {ours['cpu_s']:.2f} CPU seconds "
        f"{ours['cpu_s'] - ours['user_s']:.2f} are the kernel's, most of them for memory that is "
        "touched for the first time (in three profiled runs a quarter to two fifths of all). The "
        f"others alone are {_own_cpu(programs, 'ours'):.1f} times those of `read`, whatever the "
        f"load; those of the floor {_own_cpu(programs, 'floor'):.1f} times. What ours does beside "
        "reading and sorting: numbering users, sums by user, a write to its user for each row of "
        "the ranking.",
        "",
        *_beyond_memory_lines(result),
    ]
    return "\n".join(lines)


def _own_cpu(programs: dict[str, Any], name: str) -> float:
    """CPU seconds without the kernel's, in those of `read`: with two threads, too, the time can
    hardly be less than in this proportion."""
    return programs[name]["user_s"] / programs["read"]["user_s"]


def _beyond_memory_lines(result: dict[str, Any]) -> list[str]:
    if "beyond_memory" not in result:
        return []
    found = result["beyond_memory"]
    free, limited = found["free"], found["limited"]
    return [
        "## More rows than memory",
        "",
        f"`{result['command']} --beyond-memory`: {found['rows']:,} rows, {found['users']:,} users, "
        f"{found['scores_mib']:,.0f} MiB of score files, load average {found['load']:.1f} at the "
        "start.",
        "",
        "| memory | seconds | CPU seconds | peak of the process | files beside it |",
        "|---|---|---|---|---|",
        *(
            f"| {name} | {run['seconds']:,.0f} | {run['cpu_s']:,.0f} | {run['peak_mib']:,.0f} MiB "
            f"| {run['scratch_mib']:,.0f} MiB |"
            for name, run in (
                ("all of the machine's", free),
                (f"a cgroup of {found['limit_mib']:,} MiB", limited),
            )
        ),
        "",
        f"All figures are equal to the bit. The limited process met its limit "
        f"{found['times_at_limit']:,} times; its peak includes pages of files and libraries that "
        "the cgroup does not count.",
        "",
    ]


if __name__ == "__main__":
    main()
