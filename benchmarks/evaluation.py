"""What the figures of an offline evaluation cost: time and peak memory, against other programs.

    python benchmarks/evaluation.py

A made-up log of 20M scored rows of one binary task and about 1M users, some a thousand times as
active as others, in one Parquet file. Each program in a process of its own, one after the other,
the file read once before. Writes benchmarks/results/evaluation.json and .md.
"""

from __future__ import annotations

import argparse
import json
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
_SAMPLE_USERS = 3_000
_CHUNK = 1_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-results", action="store_true", help="only print")
    parser.add_argument("--only", choices=list(PROGRAMS), help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(_measured(PROGRAMS[arguments.only], arguments.file)))
        return
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in PROGRAMS}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scores.parquet"
        users = write_scores(file, arguments.rows)
        _in_own_process("read", file)  # the file is in the page cache from here on
        for _ in range(arguments.rounds):
            for name in PROGRAMS:
                found[name].append(_in_own_process(name, file))
                print(name, found[name][-1], flush=True)
        file_mib = file.stat().st_size / 2**20
    result = {
        "command": "python benchmarks/evaluation.py",
        "rows": arguments.rows,
        "users": users,
        "file_mib": file_mib,
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


def read(file: Path) -> dict[str, float]:
    """One pass over the columns, which stay nowhere."""
    num_rows = 0
    started = time.perf_counter()
    for batch in pq.ParquetFile(file).iter_batches(batch_size=1 << 20, columns=list(_COLUMNS)):
        num_rows += batch.num_rows
    return {"seconds": time.perf_counter() - started, "rows": num_rows}


def ours(file: Path) -> dict[str, float]:
    """All figures with the influence of each user, and the curves."""
    sys.path.insert(0, str(_ROOT))
    from marigold_rec.analysis.binary_report import binary_report
    from marigold_rec.analysis.codes import user_codes
    from marigold_rec.analysis.rows import Rows

    pa.chunked_array([[0]]).to_numpy()  # imports pandas, where that is installed
    times = [time.perf_counter()]
    source = pq.ParquetFile(file)
    user = source.read(["user_id"])["user_id"]
    times.append(time.perf_counter())
    user_N = user_codes(user)
    del user
    times.append(time.perf_counter())
    score_N, label_N = _floats(source, "ctr.score"), _floats(source, "ctr.label")
    pa.default_memory_pool().release_unused()
    times.append(time.perf_counter())
    estimates, _ = binary_report(Rows(score_N, label_N, user_N=user_N))
    times.append(time.perf_counter())
    read_users, codes, read_others, figures = np.diff(times).tolist()
    found = {"read_s": read_users + read_others, "codes_s": codes, "figures_s": figures}
    found["seconds"] = times[-1] - times[0]
    return found | {name: e.value for name, e in estimates.items() if e.value is not None}


def scikit_learn(file: Path) -> dict[str, float]:
    """Three figures, without intervals or users."""
    from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

    started = time.perf_counter()
    source = pq.ParquetFile(file)
    score, label = _floats(source, "ctr.score"), _floats(source, "ctr.label")
    found = {
        "auc": float(roc_auc_score(label, score)),
        "pr_auc": float(average_precision_score(label, score)),
        "log_loss": float(log_loss(label, score)),
    }
    return found | {"seconds": time.perf_counter() - started}


def gauc_loop(file: Path) -> dict[str, float]:
    """As TorchEasyRec's GroupedAUC (tzrec/metrics/grouped_auc.py): one user after the other.

    All rows sorted by user, then torchmetrics' AUC of each user with both classes, plain mean. The
    loop here is over a sample of the users; the time is what all of them would take.
    """
    import torch
    from torchmetrics.functional.classification.auroc import _binary_auroc_compute

    started = time.perf_counter()
    source = pq.ParquetFile(file)
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
    ended = time.perf_counter()
    not_run = (ended - loop_started) * (num_users / len(sample) - 1)
    return {
        "seconds": ended - started + not_run,
        "extrapolated_s": not_run,
        "gauc_unweighted_of_sample": float(np.mean(aucs)),
        "sample_users": float(len(sample)),
    }


PROGRAMS: dict[str, Callable[[Path], dict[str, float]]] = {
    "read": read,
    "ours": ours,
    "scikit_learn": scikit_learn,
    "gauc_loop": gauc_loop,
}


def _floats(source: pq.ParquetFile, name: str) -> Any:
    return source.read([name])[name].to_numpy()


def _measured(program: Callable[[Path], dict[str, float]], file: Path) -> dict[str, float]:
    found = program(file)  # it takes the time itself, after its imports
    # Not getrusage: its maximum starts with that of the process that started this one.
    status = Path("/proc/self/status").read_text().splitlines()
    peak_kib = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    return found | {"peak_mib": peak_kib / 1024}


def _in_own_process(name: str, file: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, "--only", name, "--file", str(file)]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(found.stdout.splitlines()[-1])


def _median(runs: list[dict[str, Any]]) -> dict[str, float]:
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def _markdown(result: dict[str, Any]) -> str:
    programs = result["programs"]
    whats = {
        "read": "one pass of reading the four columns (pyarrow), batches dropped",
        "ours": "ours: read, all binary figures, GAUC, influences of all users, curves",
        "scikit_learn": "scikit-learn: AUC, average precision, log loss; no users, no intervals",
        "gauc_loop": "GAUC as TorchEasyRec computes it: a Python loop over the users "
        f"({programs['gauc_loop']['sample_users']:,.0f} users run, the others extrapolated)",
    }
    lines = [
        "# Figures of an offline evaluation",
        "",
        f"`{result['command']}` ({result['rows']:,} rows, {result['users']:,} users, "
        f"{result['file_mib']:,.0f} MiB of Parquet; 2 cores; medians of {result['rounds']} "
        "interleaved rounds, each in a process of its own; the memory is the process's peak, "
        "its libraries included)",
        "",
        "| what | seconds | times one read | peak memory |",
        "|---|---|---|---|",
    ]
    for name, what in whats.items():
        seconds, peak = programs[name]["seconds"], programs[name]["peak_mib"]
        ratio = seconds / programs["read"]["seconds"]
        lines.append(f"| {what} | {seconds:,.1f} | {ratio:,.1f} | {peak:,.0f} MiB |")
    parts = ", ".join(
        f"{name} {programs['ours'][f'{name}_s']:.1f} s" for name in ("read", "codes", "figures")
    )
    lines += ["", f"Of ours: {parts}. Imports are in no time.", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
