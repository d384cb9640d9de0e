"""What the figures of an offline evaluation cost: time and peak memory, against other programs.

    python benchmarks/evaluation.py

A made-up log of 20M scored rows of one binary task and about 1M users, some a thousand times as
active as others: as the product's score files (what `read` and `ours` take), and as one plain file
of pyarrow's defaults (the others). Each program in a process of its own, one after the other, the
files read once before. CPU seconds are those of all threads, the kernel's for them included: unlike
seconds they hardly hang on what else the machine does. Writes benchmarks/results/evaluation.json
and .md.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

_ROOT = Path(__file__).resolve().parents[1]
_RESULTS = Path(__file__).resolve().parent / "results"
_COLUMNS = ("user_id", "ctr.score", "ctr.label", "baseline.score")
_SCORE_COLUMNS = ("column.user_id", "weight", "score.ctr", "label.ctr")
_PLAIN = "plain.parquet"
_BATCH = 8192
_SAMPLE_USERS = 3_000
_CHUNK = 1_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-results", action="store_true", help="only print")
    parser.add_argument("--only", choices=list(PROGRAMS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(_measured(PROGRAMS[arguments.only], arguments.folder)))
        return
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in PROGRAMS}
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        users = write_scores(folder / _PLAIN, arguments.rows)
        write_score_files(folder)
        for name in ("read", "read_plain"):  # the files are in the page cache from here on
            _in_own_process(name, folder)
        for _ in range(arguments.rounds):
            for name in PROGRAMS:
                found[name].append(_in_own_process(name, folder))
                print(name, found[name][-1], flush=True)
        plain_mib = (folder / _PLAIN).stat().st_size / 2**20
        scores_mib = _part(folder).stat().st_size / 2**20
    result = {
        "command": "python benchmarks/evaluation.py",
        "rows": arguments.rows,
        "users": users,
        "scores_mib": scores_mib,
        "plain_mib": plain_mib,
        "rounds": arguments.rounds,
        "programs": {name: _median(runs) for name, runs in found.items()},
    }
    print(json.dumps(result, indent=1))
    if not arguments.no_results:
        _RESULTS.mkdir(exist_ok=True)
        (_RESULTS / "evaluation.json").write_text(json.dumps(result, indent=1) + "\n")
        (_RESULTS / "evaluation.md").write_text(_markdown(result))


def write_scores(file: Path, num_rows: int) -> int:
    """Returns the number of users. Calibrated scores around a click rate of 4 %."""
    generator = np.random.default_rng(0)
    num_users = max(num_rows // 20, 1)
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
    from launch.evaluating.clusters import cluster_codes
    from marigold_rec.analysis.evaluation import Settings, judge
    from marigold_rec.analysis.score_files import ScoreFiles
    from marigold_rec.analysis.targets import Target

    pa.chunked_array([[0]]).to_numpy()  # imports pandas, where that is installed
    target = Target("ctr", "binary", "observed", "ctr", None, ("ctr",))
    timer = _Timer()
    files = ScoreFiles(_part(folder).parent)
    user_N = cluster_codes(files, "user_id", ["user_id"])
    users_s = timer.seconds()
    settings = Settings(user_N, None, slicings=(), ndcg_at=(), confidence=0.95)
    [task] = judge(files, None, [target], (), settings).tasks
    found = timer.found() | {"users_s": users_s}
    found["judge_s"] = found["seconds"] - users_s
    return found | {name: f.value for name, f in task.figures.items() if f.value is not None}


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
    "ours": ours,
    "scikit_learn": scikit_learn,
    "gauc_loop": gauc_loop,
}


class _Timer:
    """Seconds, and CPU seconds of the process, since it was made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), self._cpu_s()

    def seconds(self) -> float:
        return time.perf_counter() - self._wall

    def found(self) -> dict[str, float]:
        return {"seconds": self.seconds(), "cpu_s": self._cpu_s() - self._cpu}

    @staticmethod
    def _cpu_s() -> float:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return used.ru_utime + used.ru_stime


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


def _in_own_process(name: str, folder: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, "--only", name, "--folder", str(folder)]
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
        f"Parquet; 2 cores; medians of {result['rounds']} "
        "interleaved rounds, each in a process of its own; the memory is the process's peak, "
        "its libraries included)",
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
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
