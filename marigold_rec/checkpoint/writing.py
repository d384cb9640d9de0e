"""One checkpoint on its way to the disk: check, write, hash, manifest, rename, prune.

It becomes visible by the rename. Before it, a kill leaves a temporary folder and an error leaves
nothing; the earlier checkpoints stay as they were either way.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.state_dict_saver import save as save_distributed
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

from marigold_rec.checkpoint.dcp_metadata import METADATA_NAME
from marigold_rec.checkpoint.folders import folder_name, make_visible, sync_all, temporary_name
from marigold_rec.checkpoint.manifest import (
    MANIFEST_NAME,
    Manifest,
    manifest_bytes,
)
from marigold_rec.checkpoint.retention import prune
from marigold_rec.checkpoint.staging import Shards, ShardsPlanner, not_finite
from marigold_rec.config.schema import CheckpointConfig
from marigold_rec.distributed.together import on_every_rank, on_first_rank
from marigold_rec.errors import CheckpointError, NumericsError
from marigold_rec.file_entry import FileEntry, file_entry

Result = TypeVar("Result")

_MOST_NAMES = 8


@dataclass(frozen=True)
class State:
    """What a checkpoint is to hold."""

    tensors: Mapping[str, Tensor]
    """Names, shapes and places."""
    shards: Shards
    """The values of this rank's pieces: the tensors' own, or copies."""
    exempt: frozenset[str]
    """Names of tensors that may hold values that are not finite."""
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Small files beside the tensors; the first rank writes its own."""


@dataclass(frozen=True)
class Written:
    folder: Path
    notes: tuple[str, ...]
    """What went wrong after the checkpoint was safe."""


def write_checkpoint(
    state: State, manifest: Manifest, root: Path, keep: CheckpointConfig, group: dist.ProcessGroup
) -> Written:
    """Writes `state` below `root`; `manifest` lacks the files, which are added here.

    Collective on `group` alone, so that it may run beside other groups' collectives. On all ranks
    alike raises CheckpointError (a full disk, say) or NumericsError, and leaves nothing then.
    """
    check_finite(state, manifest.step, group)
    final = root / folder_name(manifest.step)
    temporary = on_first_rank(lambda: _make_temporary(root, final.name), group)
    try:
        on_every_rank(
            _wrap_errors(temporary, lambda: write_tensors(state, temporary, group)), group
        )
        # Each rank hashes what it wrote; rank 0 adds the metadata and publishes.
        hashing = _wrap_errors(temporary, lambda: hash_files(temporary, f"__{group.rank()}_"))
        manifest = manifest.model_copy(update={"files": _gathered(hashing, group)})
        publishing = _wrap_errors(
            temporary, lambda: _publish(temporary, final, manifest, state.files)
        )
        on_first_rank(publishing, group)
    except Exception:
        if group.rank() == 0:
            shutil.rmtree(temporary, ignore_errors=True)
        raise
    return Written(final, on_first_rank(lambda: _prune(root, final, keep), group))


def check_finite(state: State, step: int, group: dist.ProcessGroup) -> None:
    """Raises NumericsError on all ranks when a value on any of them is not finite. Collective."""
    mine = on_every_rank(lambda: not_finite(state.shards, state.exempt), group)
    found: list[list[str]] = [[] for _ in range(group.size())]
    dist.all_gather_object(found, mine, group=group)
    bad = [f"{name} (rank {rank})" for rank, names in enumerate(found) for name in names]
    if bad:
        more = f" and {len(bad) - _MOST_NAMES} more" if len(bad) > _MOST_NAMES else ""
        raise NumericsError(
            f"step {step}: not finite: {', '.join(bad[:_MOST_NAMES])}{more}. No checkpoint is made "
            "of them; the earlier ones are good. Go on from there with a lower optimizer.*.lr or "
            "with optimizer.dense.clip_norm"
        )


def write_tensors(state: State, temporary: Path, group: dist.ProcessGroup) -> None:
    save_distributed(
        dict(state.tensors),
        storage_writer=_Writer(temporary),
        planner=ShardsPlanner(state.shards),
        process_group=group,
    )


def hash_files(temporary: Path, prefix: str) -> dict[str, FileEntry]:
    return {p.name: file_entry(p) for p in temporary.iterdir() if p.name.startswith(prefix)}


def write_manifest(temporary: Path, manifest: Manifest) -> None:
    (temporary / MANIFEST_NAME).write_bytes(manifest_bytes(manifest))
    sync_all(temporary)


class _Writer(FileSystemWriter):
    """DCP's writer of files, which tells what the disk has said."""

    def __init__(self, folder: Path) -> None:
        # Copying ahead, DCP would open CUDA streams from this thread, and all ranks on device 0.
        super().__init__(folder, per_thread_copy_ahead=0)

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        try:
            return super().write_data(plan, planner)
        except Exception as error:
            # torch.save covers it by an error of its own: "unexpected pos 704 vs 598".
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, OSError):
                cause = cause.__cause__ or cause.__context__
            raise (cause or error) from error


def _publish(temporary: Path, final: Path, manifest: Manifest, beside: Mapping[str, bytes]) -> None:
    absent = [name for name in manifest.files if not (temporary / name).is_file()]
    if absent:
        raise CheckpointError(
            f"{temporary}: other ranks wrote {', '.join(absent)}, but not to this folder: "
            "run.dir must be on a file system that all nodes share"
        )
    files = manifest.files | hash_files(temporary, METADATA_NAME)
    for name, content in beside.items():
        (temporary / name).write_bytes(content)
        files[name] = file_entry(temporary / name)
    write_manifest(temporary, manifest.model_copy(update={"files": files}))
    make_visible(temporary, final)


def _prune(root: Path, final: Path, keep: CheckpointConfig) -> tuple[str, ...]:
    """The checkpoint is good by now: an old one that has to stay is no reason to miss it."""
    try:
        prune(root, final, keep.keep, keep.keep_every_n_hours, keep.keep_best_by)
    except OSError as error:
        return (f"{root}: an old checkpoint can't be deleted ({error})",)
    return ()


def _wrap_errors(temporary: Path, work: Callable[[], Result]) -> Callable[[], Result]:
    """What the disk, the memory or DCP say to `work` becomes a CheckpointError."""

    def told() -> Result:
        try:
            return work()
        except (
            CheckpointException,
            OSError,
            RuntimeError,
            MemoryError,
        ) as error:  # 1: no Exception
            raise CheckpointError(
                f"{temporary}: can't be written: {reason(error)}; "
                "earlier checkpoints are as they were"
            ) from error

    return told


def _make_temporary(root: Path, name: str) -> Path:
    temporary = root / temporary_name(name)
    try:
        temporary.mkdir(parents=True)
    except OSError as error:
        raise CheckpointError(f"{temporary}: can't be made ({error.strerror})") from error
    return temporary


def reason(error: BaseException) -> str:
    """The last line of an error's text: what DCP wraps around it says nothing to a user."""
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else repr(error)


def _gathered(
    hashing: Callable[[], dict[str, FileEntry]], group: dist.ProcessGroup
) -> dict[str, FileEntry]:
    """The files of all ranks, each hashed where it was written. Collective."""
    mine = on_every_rank(hashing, group)
    all_ranks: list[dict[str, FileEntry]] = [{} for _ in range(group.size())]
    dist.all_gather_object(all_ranks, mine, group=group)
    return {name: entry for entries in all_ranks for name, entry in entries.items()}
