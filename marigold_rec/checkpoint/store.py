"""Saves, finds, loads and prunes checkpoints of a run.

A save that runs beside the training uses a process group of its own: its collectives can't get
between those of the steps. `finalize_save` says what became of it, on all ranks alike.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict_loader import load as load_distributed

from marigold_rec.checkpoint.background import InBackground
from marigold_rec.checkpoint.dcp_metadata import VerifiedReader, read_dcp_metadata
from marigold_rec.checkpoint.finding import Found, newest_good
from marigold_rec.checkpoint.folders import abandon, checkpoint_folders, require_space
from marigold_rec.checkpoint.locks import shared_lock
from marigold_rec.checkpoint.manifest import Manifest, read_manifest
from marigold_rec.checkpoint.mirror import Mirror
from marigold_rec.checkpoint.mirroring import Mirroring
from marigold_rec.checkpoint.retention import Cleanup, cleanup_stale
from marigold_rec.checkpoint.snapshot import Snapshot
from marigold_rec.checkpoint.spans import Placed, PlacingPlanner
from marigold_rec.checkpoint.staging import Shards, Staging, bytes_to_write, live_shards
from marigold_rec.checkpoint.writing import (
    State,
    Written,
    reason,
    write_checkpoint,
)
from marigold_rec.config.dumping import config_hash
from marigold_rec.config.schema import Config
from marigold_rec.distributed.ranks import Ranks
from marigold_rec.distributed.together import on_every_rank, on_first_rank
from marigold_rec.errors import CheckpointError
from marigold_rec.versions import installed_versions

# Ranks wait for the one that writes most: of sharded tables some hold many times what others do.
_PATIENCE_S = 3600


@dataclass(frozen=True)
class Saved:
    """Describes a checkpoint that is safe now."""

    step: int
    folder: Path
    notes: tuple[str, ...]


@dataclass(frozen=True)
class SaveFailed:
    """Describes a save that failed: one of `in_a_row`. Earlier checkpoints are as they were."""

    step: int
    error: CheckpointError
    in_a_row: int


class CheckpointStore:
    """Holds the checkpoints below one folder (on a file system that all ranks share)."""

    def __init__(
        self,
        root: Path,
        ranks: Ranks,
        config: Config,
        *,
        schema_hash: str | None = None,
        plan: Mapping[str, str] | None = None,
        files: Mapping[str, bytes] | None = None,
    ) -> None:
        """Notes `schema_hash` and `plan` in the manifests, puts `files` into every checkpoint."""
        self.files = dict(files or {})
        self._schema_hash = schema_hash
        self._plan = dict(plan or {})
        self._root = root
        self._ranks = ranks
        self._config = config
        self._staging = Staging(ranks.device)
        self._group: dist.ProcessGroup | None = None
        self._under_way: tuple[int, InBackground[Written]] | None = None
        self._failed_in_a_row = 0
        self._mirroring: Mirroring | None = None
        """On the first rank, once `find` has opened the mirror."""

    def expect_saves(self, tensors: Mapping[str, Tensor]) -> None:
        """Gets the memory that saves of `tensors` beside the training will need, in a thread."""
        if self._config.checkpoint.asynchronous:
            self._staging.reserve(live_shards(tensors))

    def save(self, snapshot: Snapshot) -> Saved:
        """Saves at once. Collective.

        Raises CheckpointError (a full disk, say) or NumericsError on all ranks, and leaves nothing
        then.
        """
        assert self._under_way is None, "finalize_save first"
        tensors, manifest = snapshot.tensors, self._manifest(snapshot)
        self._require_space(tensors)
        state = State(tensors, live_shards(tensors), snapshot.exempt, self.files)
        written = write_checkpoint(
            state, manifest, self._root, self._config.checkpoint, self._own_group()
        )
        return self._saved(snapshot.step, written)

    def begin_save(self, snapshot: Snapshot) -> Saved | SaveFailed | None:
        """Begins a save: returns None as soon as the values are copied; `finalize_save` ends it.

        Returns the outcome at once with checkpoint.asynchronous off, or if nothing could be begun.
        Collective. Raises CheckpointError after more than checkpoint.max_failed_saves failures in
        a row, or NumericsError.
        """
        assert self._under_way is None, "finalize_save first"
        tensors = snapshot.tensors
        try:
            if not self._config.checkpoint.asynchronous:
                return self.save(snapshot)
            self._require_space(tensors)
            copies = on_every_rank(lambda: self._copied(tensors), self._ranks.control)
        except CheckpointError as error:
            return self._failed(snapshot.step, error)
        state, group = State(tensors, copies, snapshot.exempt, self.files), self._own_group()
        manifest, keep = self._manifest(snapshot), self._config.checkpoint
        self._under_way = (
            snapshot.step,
            InBackground(
                lambda: write_checkpoint(state, manifest, self._root, keep, group),
                name=f"checkpoint of step {snapshot.step}",
            ),
        )
        return None

    @property
    def save_finished(self) -> bool:
        """This rank's part of a save is over: call `finalize_save` once all ranks agree to."""
        return self._under_way is not None and self._under_way[1].is_over

    def finalize_save(self) -> Saved | SaveFailed | None:
        """Waits for the save under way and returns its outcome; None if there was none.

        Collective. Raises what `begin_save` raises.
        """
        if self._under_way is None:
            return None
        (step, work), self._under_way = self._under_way, None
        try:
            written = on_every_rank(work.result, self._ranks.control)
        except CheckpointError as error:
            return self._failed(step, error)
        return self._saved(step, written)

    def finish_mirror(self) -> None:
        """Waits for the copy of the newest checkpoint. Collective.

        The log and `mirror_warnings` say what is amiss.
        """
        if self._config.checkpoint.mirror is not None:
            on_first_rank(self._finish_mirror, self._own_group())

    def mirror_scalars(self) -> dict[str, float | None]:
        """Returns scalars for the log of the first rank; empty without a mirror."""
        mirroring = self._mirroring
        return (
            {}
            if mirroring is None
            else {"checkpoint/failed_mirror_copies": float(mirroring.failed_copies)}
        )

    def mirror_warnings(self) -> list[str]:
        """Returns warnings for the summary of the first rank."""
        return [] if self._mirroring is None else self._mirroring.warnings()

    def close(self) -> None:
        """Waits for a save under way, whatever has happened, and frees the copy's memory.

        Not collective, raises nothing: other ranks may have gone. `finalize_save` may still be
        called.
        """
        if self._under_way is not None:
            self._under_way[1].wait()
        self._staging.release()

    def cleanup_stale(self) -> Cleanup:
        """Deletes what killed runs have left here. Collective; before this run's first save.

        The caller holds the lock of the run's folder: it proves that nobody is writing them.
        """
        keep = self._config.checkpoint.keep
        return on_first_rank(lambda: cleanup_stale(self._root, keep), self._ranks.control)

    def find(self, wanted: str) -> Found | None:
        """Returns the checkpoint `wanted`: `auto` (the newest good one), `never`, or a path.

        From here on saves are mirrored, where the config says so. Collective. Raises
        CheckpointError when a path is named that does not verify, ConfigError when there is no such
        mirror.
        """
        group = self._ranks.control
        if self._config.checkpoint.mirror is not None:
            group = self._own_group()  # fetching may take longer than others wait
            on_first_rank(self._open_mirror, group)
        if wanted == "never":
            return None
        return on_first_rank(lambda: self._find(wanted), group)

    def load(self, found: Found, tensors: Mapping[str, Tensor | Placed]) -> None:
        """Fills `tensors` in place. Collective. Raises CheckpointError when they don't fit."""
        control = self._ranks.control
        metadata = on_every_rank(lambda: read_dcp_metadata(found.folder, found.manifest), control)
        try:
            with ExitStack() as stack:
                # A run that goes on beside this one, and prunes, leaves it alone.
                on_every_rank(lambda: stack.enter_context(shared_lock(found.folder)), control)
                load_distributed(
                    dict(tensors),
                    storage_reader=VerifiedReader(found.folder, metadata),
                    planner=PlacingPlanner(),
                    process_group=control,
                )
        except CheckpointError:
            raise
        except (CheckpointException, Exception) as error:  # the first is no Exception
            raise CheckpointError(
                f"{found.folder}: does not fit this model: {reason(error)}; "
                "has the config changed since? use another run.name, or --resume never"
            ) from error

    def go_on_from(self, found: Found) -> None:
        """Puts this run's checkpoints that are newer than `found` out of the way of `auto`.

        They were refused, or belong to steps that will be taken anew. Collective.
        """
        on_first_rank(lambda: self._abandon_after(found.folder), self._ranks.control)
        if self._config.checkpoint.mirror is not None:
            on_first_rank(lambda: self._abandon_copies_after(found), self._own_group())

    def _copied(self, tensors: dict[str, Tensor]) -> Shards:
        try:
            return self._staging.copy(live_shards(tensors))
        except (RuntimeError, MemoryError) as error:  # torch's own lack of memory is the first
            self._staging.release()
            raise CheckpointError(
                f"{self._root}: the state can't be copied to host memory: {reason(error)}; "
                "use checkpoint.asynchronous=false, or give each rank more memory"
            ) from error

    def _saved(self, step: int, written: Written) -> Saved:
        self._failed_in_a_row = 0
        if self._mirroring is not None:
            self._mirroring.offer(written.folder)
        return Saved(step, written.folder, written.notes)

    def _failed(self, step: int, error: CheckpointError) -> SaveFailed:
        self._failed_in_a_row += 1
        if self._failed_in_a_row > self._config.checkpoint.max_failed_saves:
            raise CheckpointError(
                f"step {step}: {self._failed_in_a_row} saves in a row have failed "
                "(checkpoint.max_failed_saves is "
                f"{self._config.checkpoint.max_failed_saves}): {error}"
            ) from error
        return SaveFailed(step, error, self._failed_in_a_row)

    def _require_space(self, tensors: dict[str, Tensor]) -> None:
        control, keep = self._ranks.control, self._config.checkpoint.keep
        num_bytes = torch.tensor(bytes_to_write(tensors, is_first=self._ranks.is_first))
        dist.all_reduce(num_bytes, group=control)
        on_first_rank(lambda: require_space(self._root, int(num_bytes), keep), control)

    def _manifest(self, snapshot: Snapshot) -> Manifest:
        return Manifest(
            step=snapshot.step,
            saved_at=datetime.datetime.now(datetime.UTC),
            world_size=self._ranks.world_size,
            cursors=snapshot.cursors,
            has_begun=snapshot.has_begun,
            data=snapshot.data,
            schema_hash=self._schema_hash,
            plan=self._plan,
            figures=dict(snapshot.figures),
            config_hash=config_hash(self._config),
            config=self._config.model_dump(mode="json"),
            versions=installed_versions(),
            files={},
        )

    def _own_group(self) -> dist.ProcessGroup:
        """Made at the first save, which all ranks begin together."""
        if self._group is None:
            config = self._config
            mirror_s = config.checkpoint.mirror_patience_s
            patience_s = max(_PATIENCE_S, config.distributed.timeout_s, mirror_s + 60)
            group = dist.new_group(backend="gloo", timeout=datetime.timedelta(seconds=patience_s))
            assert isinstance(group, dist.ProcessGroup)
            self._group = group
        return self._group

    def _find(self, wanted: str) -> Found | None:
        if wanted != "auto":
            folder = Path(wanted)
            return Found(folder, read_manifest(folder), ())
        mirror = None if self._mirroring is None else self._mirroring.mirror
        return newest_good(self._root, mirror, self._config.checkpoint.keep)

    def _open_mirror(self) -> None:
        checkpoint = self._config.checkpoint
        if self._mirroring is None and checkpoint.mirror is not None:
            mirror = Mirror(checkpoint.mirror, self._config.run.name)
            self._mirroring = Mirroring(mirror, checkpoint)

    def _finish_mirror(self) -> None:
        if self._mirroring is not None:
            self._mirroring.finish(self._config.checkpoint.mirror_patience_s)

    def _abandon_copies_after(self, found: Found) -> None:
        is_ours = found.folder.resolve().parent == self._root.resolve()
        if self._mirroring is not None and is_ours:
            self._mirroring.abandon_after(found.folder, found.manifest.step)

    def _abandon_after(self, folder: Path) -> None:
        if folder.resolve().parent != self._root.resolve():
            return
        for newer in checkpoint_folders(self._root):
            if newer.name > folder.name:
                abandon(newer)
