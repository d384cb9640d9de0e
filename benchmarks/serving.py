"""Latency and throughput of serving on one core, beside the same model in plain eager PyTorch.

    python benchmarks/serving.py

The model of configs/ctr_cvr.yaml with random values, asked for rows of its synthetic log as Arrow
tables; everything counts that a request takes, from the table to numpy arrays. `eager` is what one
would write without this library's serving: the same transforms, one nn.EmbeddingBag per table, the
network's modules and heads under inference_mode. The contenders take turns, call by call in rounds,
so that other work on the machine slows all alike; figures are medians over the rounds.

Writes benchmarks/results/serving.md and serving.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(_ROOT))

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from data_pipelines.synthetic import ensure_log  # noqa: E402
from marigold_rec.config import load_config  # noqa: E402
from marigold_rec.serving import Predictor  # noqa: E402
from marigold_rec.serving.artefact import Precision  # noqa: E402
from marigold_rec.transforms import FeatureTransforms, JaggedIds  # noqa: E402
from tests.serving.artefacts import Model  # noqa: E402

_PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
_SIZES = (1, 64, 1024)

Ask = Callable[[pa.Table], Any]


class Eager(nn.Module):
    """The plain way, with the values of `model`."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.transforms = FeatureTransforms(model.config.features, model.tables)
        self.features = [feature.table_name for feature in model.config.sparse_features]
        self.bags = nn.ModuleDict(
            {
                table.name: nn.EmbeddingBag.from_pretrained(
                    model.weight(table.name), mode=table.pooling
                )
                for table in model.tables
            }
        )
        self.dense = model.dense

    def forward(self, table: pa.Table) -> np.ndarray:
        """predictions_BT."""
        with torch.inference_mode():
            found = self.transforms(table)
            pooled = [
                self.bags[name](torch.from_numpy(ids.values), _offsets(ids))
                for name, ids in zip(self.features, found.sparse, strict=True)
            ]
            return self.dense(torch.cat(pooled, dim=1), torch.from_numpy(found.dense_BD)).numpy()


def _offsets(ids: JaggedIds) -> Tensor:
    if ids.lengths is None:
        return torch.arange(len(ids.values))
    lengths_B = torch.from_numpy(ids.lengths).long()
    return lengths_B.cumsum(0) - lengths_B


def contenders(folder: Path) -> tuple[dict[str, Ask], pa.Table, dict[str, int]]:
    """By name; rows to ask for; bytes of the tables."""
    config = load_config(
        _ROOT / "configs/ctr_cvr.yaml",
        ("data.synthetic.days=1", "data.synthetic.rows_per_day=20000"),
    )
    log, _ = ensure_log(config.data.synthetic, folder)
    files = sorted(log.glob("dt=*/*.parquet"))
    rows = pa.concat_tables([pq.ParquetFile(file).read() for file in files])
    model = Model(config)
    asks: dict[str, Ask] = {"eager": Eager(model)}
    sizes: dict[str, int] = {}
    for precision in _PRECISIONS:
        out = model.export(folder / precision, precision, rows.schema)
        asks[precision] = Predictor(out).predict
        sizes[precision] = sum(path.stat().st_size for path in (out / "tables").iterdir())
    some = rows.slice(0, 1024)
    expected = asks["eager"](some)
    for i, task in enumerate(config.task_names):
        np.testing.assert_allclose(asks["fp32"](some)[task], expected[:, i], rtol=1e-5, atol=1e-6)
    asks["transforms alone"] = FeatureTransforms(config.features, model.tables)
    return asks, rows, sizes


def measure(asks: dict[str, Ask], rows: pa.Table, size: int, calls: int, rounds: int) -> Any:
    """Contender -> p50_ms, p99_ms, rows_per_s."""
    pieces = [rows.slice(i * size % (len(rows) - size), size) for i in range(calls)]
    for ask in asks.values():
        for piece in pieces[:3]:
            ask(piece)
    found: dict[str, list[np.ndarray]] = {name: [] for name in asks}
    for _ in range(rounds):
        spent = {name: np.empty(calls) for name in asks}
        for number, piece in enumerate(pieces):
            first = number % len(asks)  # nobody always comes after the same one
            for name, ask in [*asks.items()][first:] + [*asks.items()][:first]:
                started = time.perf_counter()
                ask(piece)
                spent[name][number] = time.perf_counter() - started
        for name, times in spent.items():
            found[name].append(times)
    return {
        name: {
            "p50_ms": 1e3 * statistics.median(float(np.percentile(r, 50)) for r in by_round),
            "p99_ms": 1e3 * statistics.median(float(np.percentile(r, 99)) for r in by_round),
            "rows_per_s": statistics.median(size * calls / float(r.sum()) for r in by_round),
        }
        for name, by_round in found.items()
    }


def page(result: dict[str, Any]) -> str:
    lines = [
        "# Serving on one core",
        "",
        f"`python benchmarks/serving.py` ({result['rounds']} rounds, contenders in turn, call by "
        f"call; medians of the rounds; load average {result['load_before']:.1f} before and "
        f"{result['load_after']:.1f} after, {result['cores']} cores; torch {result['torch']}, one "
        "thread)",
        "",
        "The model of configs/ctr_cvr.yaml (MMoE, three tasks, ten sparse and five dense features),"
        " from an Arrow table to numpy arrays. `eager`: the same transforms, nn.EmbeddingBag and "
        "the network's modules. `transforms alone` is part of every other line.",
        "",
        "| rows in a call | contender | p50 ms | p99 ms | rows/s | p50 of eager |",
        "|---|---|---|---|---|---|",
    ]
    for size, by_name in result["sizes"].items():
        for name, figures in by_name.items():
            ratio = figures["p50_ms"] / by_name["eager"]["p50_ms"]
            lines.append(
                f"| {size} | {name} | {figures['p50_ms']:.3g} | {figures['p99_ms']:.3g} | "
                f"{figures['rows_per_s']:,.0f} | {ratio:.2f} |"
            )
    full = result["table_bytes"]["fp32"]
    lines += ["", "| tables | bytes | of fp32 |", "|---|---|---|"]
    lines += [
        f"| {name} | {size:,} | {size / full:.1%} |" for name, size in result["table_bytes"].items()
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--calls", type=int, default=200, help="of each contender in a round")
    parser.add_argument("--out", type=Path, default=_ROOT / "benchmarks/results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pa.set_cpu_count(1)
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        asks, rows, table_bytes = contenders(Path(folder))
        sizes = {
            size: measure(asks, rows, size, arguments.calls, arguments.rounds) for size in _SIZES
        }
    result = {
        "rounds": arguments.rounds,
        "calls": arguments.calls,
        "load_before": load_before,
        "load_after": os.getloadavg()[0],
        "cores": os.cpu_count(),
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "sizes": sizes,
        "table_bytes": table_bytes,
    }
    text = page(result)
    (arguments.out / "serving.md").write_text(text)
    (arguments.out / "serving.json").write_text(json.dumps(result, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    main()
