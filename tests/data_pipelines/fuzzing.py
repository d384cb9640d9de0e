"""Random damage to Parquet files and configs: each must be refused in our words, or do no harm.

Every case runs in a child process, so that a crash of a parser (or a hang) is noticed and told, and
is a function of its seed: `python benchmarks/fuzz.py --first SEED --count 1` repeats it.
"""

from __future__ import annotations

import io
import multiprocessing as mp
import os
import random
import resource
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from data_pipelines.catalog.scan import scan
from data_pipelines.order.partition import Piece
from data_pipelines.preflight.columns import check_data, needed_columns
from data_pipelines.reading.row_groups import RowGroups
from data_pipelines.validate.split import validate_split
from marigold_rec.config import load_config
from marigold_rec.config.data import SplitConfig
from marigold_rec.errors import ConfigError, DataError, MarigoldError
from tests.support.parquet import click_log, log_config

HARMLESS, REFUSED = "harmless", "refused"
_MEMORY = 8 * 1024**3
_CONFIGS = Path(__file__).resolve().parents[2] / "configs"
_ROWS = 60

Case = Callable[[int, Path], str]
"""(seed, an empty file to write into) -> HARMLESS, REFUSED, or what went wrong."""


# Parquet files


@cache
def _original(kind: int) -> bytes:
    options = [
        {},
        {"compression": "none", "use_dictionary": False},
        {"compression": "zstd", "data_page_version": "2.0"},
        {"compression": "gzip", "version": "1.0"},
    ][kind % 4]
    written = io.BytesIO()
    rows = [20, 60, 25][kind % 3]
    table = click_log(_ROWS, seed=3)
    pq.write_table(table, written, row_group_size=rows, write_page_checksum=True, **options)
    return written.getvalue()


@cache
def _page_headers(kind: int) -> list[int]:
    """Where the first page of every column chunk begins."""
    metadata = pq.read_metadata(io.BytesIO(_original(kind)))
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    chunks = [group.column(index) for group in groups for index in range(metadata.num_columns)]
    return [min(c.dictionary_page_offset or c.data_page_offset, c.data_page_offset) for c in chunks]


_CONFIG = log_config()
_COLUMNS = needed_columns(_CONFIG)


def damaged_file(seed: int, file: Path) -> str:
    """What training makes of a damaged file, and validation."""
    rng = random.Random(seed)
    kind = seed % 12
    data = _original(kind)
    for _ in range(1 if rng.random() < 0.9 else 2):
        data = _damaged(data, kind, rng)
    file.write_bytes(data)
    try:
        found = _read(file)
        wrong = _difference(found)
        outcome = HARMLESS if wrong is None else f"wrong values: {wrong}"
    except MarigoldError as error:
        outcome = REFUSED if str(file) in str(error) else f"names no file: {error}"
    report, _ = validate_split(
        _CONFIG, SplitConfig(path=str(file)), all_columns=False, progress=lambda rows, of: None
    )
    if report.is_good and outcome != HARMLESS:
        return f"{outcome}; and validation finds nothing"
    return outcome


def _damaged(data: bytes, kind: int, rng: random.Random) -> bytes:
    damaged = bytearray(data)
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    if not 0 < footer < len(data):
        footer = len(data) // 2
    where = rng.choice(["footer", "footer", "data", "header", "anywhere"])
    low, high = {
        "footer": (footer, len(data)),
        "data": (0, footer),
        "anywhere": (0, len(data)),
        "header": (0, len(data)),
    }[where]
    at = rng.randrange(low, high) if high > low else 0
    if where == "header":
        at = min(rng.choice(_page_headers(kind)) + rng.randrange(40), len(data) - 1)
    size = rng.choice([1, 1, 2, 4, 8, 64])
    how = rng.choice(["flip", "flip", "byte", "cut", "insert", "zero", "delete", "swap"])
    if how == "flip":
        damaged[at] ^= 1 << rng.randrange(8)
    elif how == "byte":
        damaged[at] = rng.randrange(256)
    elif how == "cut":
        del damaged[at:]
    elif how == "insert":
        damaged[at:at] = rng.randbytes(size)
    elif how == "zero":
        damaged[at : at + size] = bytes(len(damaged[at : at + size]))
    elif how == "delete":
        del damaged[at : at + size]
    else:
        other = rng.randrange(len(data))
        here, there = damaged[at : at + size], damaged[other : other + size]
        if len(here) == len(there):
            damaged[at : at + size], damaged[other : other + size] = there, here
    return bytes(damaged) or b"P"


def _read(file: Path) -> pa.Table:
    """As a reader's thread does, all row groups."""
    catalog = scan(str(file), columns=_COLUMNS)
    if problems := check_data(catalog, _CONFIG):
        raise DataError([f"{file}: {problem}" for problem in problems])
    groups = RowGroups(catalog, _COLUMNS, verify_checksums=True, keep=1)
    if catalog.num_rows == 0:
        raise DataError(f"{file}: 0 rows")  # fewer than one step takes
    pieces = [Piece(index, 0, rows) for index, rows in enumerate(catalog.rows_per_group)]
    return pa.concat_tables([groups.read(piece) for piece in pieces])


@cache
def _expected() -> pa.Table:
    return click_log(_ROWS, seed=3).select(_COLUMNS)


def _difference(found: pa.Table) -> str | None:
    expected = _expected()
    if found.num_rows != expected.num_rows:
        return f"{found.num_rows} rows"
    for name in _COLUMNS:
        if _plain(found.column(name)) != _plain(expected.column(name)):
            return f"column {name}, {found.column(name).type}"
    return None


def _plain(column: pa.ChunkedArray) -> str:
    """As text, in which NaN equals NaN. The type may differ where the values mean the same."""
    text = column.cast(pa.string()) if column.type == pa.binary() else column
    if text.type == pa.list_(pa.binary()):
        text = column.cast(pa.list_(pa.string()))
    return repr(text.to_pylist())


# Configs

_NASTY = ["null", "[]", "{}", "-1", "1e400", ".nan", "no", "''", "!!python/object:os.system x",
          "&a [*a]", "*b", "\t", "\0", "\x85", "é", "'", '"', "|", ">", "%", "@", "[" * 2000,
          "{" * 2000, "- " * 2000, "9" * 5000, "? ", ": ", "<<: *x", "0x1F", "2024-01-01",
          "12:30:45", "1_000", "~", "---", "..."]  # fmt: skip


@cache
def _configs() -> list[str]:
    return [path.read_text(encoding="utf-8") for path in sorted(_CONFIGS.glob("*.yaml"))]


def damaged_config(seed: int, file: Path) -> str:
    rng = random.Random(seed)
    text = rng.choice(_configs())
    for _ in range(rng.randrange(1, 4)):
        text = _scrambled(text, rng)
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        load_config(file)
    except ConfigError as error:
        return REFUSED if str(error).strip() else "refused without a word"
    return HARMLESS


def _scrambled(text: str, rng: random.Random) -> str:
    lines = text.split("\n")
    at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    how = rng.choice(["drop", "double", "swap", "value", "key", "indent", "character", "cut"])
    if how == "drop":
        del lines[at]
    elif how == "double":
        lines.insert(other, lines[at])
    elif how == "swap":
        lines[at], lines[other] = lines[other], lines[at]
    elif how == "value":
        key = lines[at].partition(":")[0]
        lines[at] = f"{key}: {rng.choice(_NASTY)}"
    elif how == "key":
        lines[at] = lines[at].replace(":", f"{rng.choice(_NASTY)}:", 1)
    elif how == "indent":
        lines[at] = " " * rng.randrange(9) + lines[at].strip()
    elif how == "character":
        where = rng.randrange(len(text) or 1)
        return (
            text[:where]
            + chr(rng.choice([rng.randrange(128), rng.randrange(0x3000)]))
            + text[where + 1 :]
        )
    else:
        return text[: rng.randrange(len(text) or 1)]
    return "\n".join(lines)


# The fuzzer itself


def own_failures(seed: int, file: Path) -> str:
    """One of each kind of failure: a fuzzer that finds nothing must be known to find something."""
    if seed == 1:
        os.kill(os.getpid(), signal.SIGSEGV)
    if seed == 3:
        time.sleep(600)
    if seed == 4:
        raise ZeroDivisionError("a bug")
    return HARMLESS


CASES: dict[str, Case] = {
    "files": damaged_file,
    "configs": damaged_config,
    "own failures": own_failures,
}


# Child processes


@dataclass
class Fuzzed:
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    """`<kind> seed <n>: <what went wrong>`."""


def fuzz(kind: str, first: int, count: int, timeout_s: float = 60.0) -> Fuzzed:
    """Cases `first` to `first` + `count` - 1; none of them can end or stop this process."""
    found = Fuzzed()
    for seed, outcome in _outcomes(kind, first, first + count, timeout_s):
        is_good = outcome in (HARMLESS, REFUSED)
        found.counts[outcome if is_good else outcome.split(":")[0]] += 1
        if not is_good:
            found.failures.append(f"{kind} seed {seed}: {outcome}")
    return found


def _outcomes(kind: str, first: int, stop: int, timeout_s: float) -> Iterator[tuple[int, str]]:
    # Not forked: a forked child would have this process's threads' locks and none of the threads.
    context = mp.get_context("spawn")
    seed = first
    while seed < stop:
        ours, theirs = context.Pipe(duplex=False)
        with tempfile.NamedTemporaryFile() as said:
            child = context.Process(
                target=_child, args=(kind, seed, stop, theirs, said.name), daemon=True
            )
            child.start()
            theirs.close()
            try:
                while seed < stop:
                    if not ours.poll(timeout_s):
                        yield seed, f"hang: nothing for {timeout_s:g} s"
                        break
                    yield seed, ours.recv()
                    seed += 1
            except EOFError:
                child.join()
                last = Path(said.name).read_text(errors="replace").strip().splitlines()[-1:]
                yield seed, f"crash: exit code {child.exitcode} ({''.join(last)})"
            child.kill()
            child.join()
            seed += 1


def _child(kind: str, first: int, stop: int, results: Connection, said: str) -> None:
    os.dup2(os.open(said, os.O_WRONLY), 2)  # what C++ says as it ends the process
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))  # no damaged size takes it all
    with tempfile.TemporaryDirectory() as folder, suppress(BrokenPipeError):
        for seed in range(first, stop):
            file = Path(folder) / f"{seed}.parquet"
            try:
                outcome = CASES[kind](seed, file)
            except BaseException as error:  # whatever it is, it is not one of ours
                outcome = f"traceback: {type(error).__name__}: {str(error)[:300]}"
            file.unlink(missing_ok=True)
            results.send(outcome)
