"""Faults at a named phase of a named save, on a named rank; and plain tensors to save."""

from __future__ import annotations

import errno
import os
import resource
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.filesystem import FileSystemWriter

from marigold_rec.batch import Cursor
from marigold_rec.checkpoint import CheckpointStore, Saved, SaveFailed, Snapshot, staging, writing
from marigold_rec.config import Config
from marigold_rec.distributed import Ranks
from tests.support.runs import config_tree

# In the order in which a save goes through them; the last four on the first rank only.
WHERE: dict[str, tuple[Any, str]] = {
    "staging": (staging.Staging, "copy"),
    "checking": (writing, "not_finite"),
    "writing": (FileSystemWriter, "write_data"),
    "hashing": (writing, "hash_files"),
    "metadata": (FileSystemWriter, "finish"),
    "manifest": (writing, "write_manifest"),
    "rename": (writing, "make_visible"),
    "prune": (writing, "prune"),
}
ON_EVERY_RANK = ("staging", "checking", "writing", "hashing")


@dataclass(frozen=True)
class AtPhase:
    """Calls `action(phase)` on one rank as the save of `step` (None: of any) enters a phase.

    A tests.support.launches.Fault. With `after`, as it leaves the phase.
    """

    phase: str
    step: int | None
    rank: int
    action: Callable[[Any], None]
    after: bool = False

    def install(self) -> None:
        if int(os.environ["RANK"]) != self.rank:
            return
        steps: list[int] = []
        for name in ("save", "begin_save"):
            self._note_steps(name, steps)
        owner, name = WHERE[self.phase]
        original = getattr(owner, name)

        def faulty(*args: Any, **kwargs: Any) -> Any:
            is_now = self.step in (None, steps[-1])
            if is_now and not self.after:
                self.action(self.phase)
            result = original(*args, **kwargs)
            if is_now and self.after:
                self.action(self.phase)
            return result

        setattr(owner, name, faulty)

    @staticmethod
    def _note_steps(name: str, steps: list[int]) -> None:
        original = getattr(CheckpointStore, name)

        def noting(store: CheckpointStore, snapshot: Snapshot) -> Any:
            steps.append(snapshot.step)
            return original(store, snapshot)

        setattr(CheckpointStore, name, noting)


def disk_full(_phase: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def die_by_kill(_phase: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def short_files(_phase: Any) -> None:
    """From here on this process can't write beyond 20 kB of a file; that needs no root."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))


def store_of(root: Path, **checkpoint: Any) -> tuple[CheckpointStore, Ranks]:
    tree = config_tree(Path("/log"), root)
    tree["checkpoint"] = checkpoint
    group, control = dist.group.WORLD, dist.new_group(backend="gloo")
    assert group is not None
    assert isinstance(control, dist.ProcessGroup)
    rank, size = group.rank(), group.size()
    ranks = Ranks(rank, size, size, torch.device("cpu"), group, control)
    return CheckpointStore(root, ranks, Config.model_validate(tree)), ranks


def some_tensors(step: int, rank: int) -> dict[str, Tensor]:
    """As a run's: one that all ranks share, and some of each rank's own."""
    return {
        "shared": torch.full((3,), float(step)),
        f"own/{rank}": torch.tensor([step, rank]),
        f"large/{rank}": torch.full((20_000,), step + rank / 2),
    }


def begin(store: CheckpointStore, ranks: Ranks, step: int) -> tuple[Any, dict[str, Tensor]]:
    """Begins the save of `step`: what begin_save said, and the live tensors."""
    tensors = some_tensors(step, ranks.rank)
    cursors = tuple(Cursor(0, 64 * step - rank) for rank in range(ranks.world_size))
    return store.begin_save(Snapshot(tensors, step, cursors, "files")), tensors


def said(outcome: Saved | SaveFailed | None) -> tuple[str, int, str] | None:
    """An outcome in words that ranks can compare."""
    if isinstance(outcome, Saved):
        return "saved", outcome.step, " ".join(outcome.notes)
    return None if outcome is None else ("failed", outcome.in_a_row, str(outcome.error))


def save_each(root: Path, steps: list[int], faults: tuple[AtPhase, ...], **checkpoint: Any) -> Any:
    """Saves each of `steps` beside some training: what was said of each, and what lies there.

    What an error says ends the list.
    """
    for fault in faults:
        fault.install()
    store, ranks = store_of(root, **checkpoint)
    outcomes: list[Any] = []
    try:
        for step in steps:
            begun, _ = begin(store, ranks, step)
            outcomes.append(said(begun or store.finalize_save()))
    except Exception as error:
        outcomes.append((type(error).__name__, str(error)))
    dist.barrier()
    return outcomes, sorted(os.listdir(root)) if root.exists() else []


def load_newest(root: Path) -> Any:
    """Tidies as a start does; the newest step, what was deleted, and whether all values are its."""
    store, ranks = store_of(root)
    cleanup = store.cleanup_stale()
    found = store.find("auto")
    assert found is not None
    tensors = {name: torch.zeros_like(t) for name, t in some_tensors(0, ranks.rank).items()}
    store.load(found, tensors)
    expected = some_tensors(found.manifest.step, ranks.rank)
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)
    return found.manifest.step, cleanup, sorted(os.listdir(root))
