"""Saves, finds, loads and prunes checkpoints of a run.

A checkpoint is written under a temporary name, its manifest last, and becomes visible by one
rename: a kill at any point leaves the earlier ones as they were.
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict_loader import load as load_distributed
from torch.distributed.checkpoint.state_dict_saver import save as save_distributed

from marigold_rec.batch import Cursor
from marigold_rec.checkpoint.manifest import (
    MANIFEST_NAME,
    FileEntry,
    Manifest,
    file_entry,
    manifest_text,
    read_manifest,
)
from marigold_rec.config import Config, config_hash
from marigold_rec.distributed import Ranks, on_every_rank, on_first_rank
from marigold_rec.errors import CheckpointError
from marigold_rec.versions import installed_versions

_NAME = re.compile(r"^step-(\d{9})$")


@dataclass(frozen=True)
class Found:
    """The newest checkpoint that verifies, and why newer ones were refused."""

    folder: Path
    manifest: Manifest
    refused: tuple[str, ...]


def newest_good(root: Path) -> Found | None:
    """The newest checkpoint below `root` that verifies; None when there is none at all.

    Raises CheckpointError when there are some, and none verifies.
    """
    refused: list[str] = []
    folders = [p for p in root.glob("step-*") if _NAME.match(p.name)]
    for folder in sorted(folders, reverse=True):  # by step, never by time stamp
        try:
            return Found(folder, read_manifest(folder), tuple(refused))
        except CheckpointError as error:
            refused.append(str(error))
    if refused:
        raise CheckpointError(
            "no checkpoint of this run is usable:\n"
            + "\n".join(refused)
            + "\nuse --resume never to start again"
        )
    return None


class CheckpointStore:
    """The checkpoints below one folder (on a file system that all ranks share)."""

    def __init__(self, root: Path, ranks: Ranks, config: Config) -> None:
        self._root = root
        self._ranks = ranks
        self._config = config

    def save(
        self, tensors: dict[str, Tensor], *, step: int, cursors: tuple[Cursor, ...], data: str
    ) -> Path:
        """Saves `tensors` as the checkpoint of `step`; `data` is the training files' fingerprint.

        Collective. Raises CheckpointError on all ranks (a full disk, say) and leaves nothing then.
        """
        control = self._ranks.control
        final = self._root / f"step-{step:09d}"
        temporary = on_first_rank(lambda: self._make_temporary(final.name), control)
        try:
            on_every_rank(lambda: self._write(tensors, temporary), control)
            # Each rank hashes what it wrote; rank 0 adds the metadata and publishes.
            mine = on_every_rank(lambda: _entries(temporary, f"__{self._ranks.rank}_"), control)
            written = _gathered(mine, self._ranks)
            manifest = Manifest(
                step=step,
                world_size=self._ranks.world_size,
                cursors=cursors,
                data=data,
                config_hash=config_hash(self._config),
                config=self._config.model_dump(mode="json"),
                versions=installed_versions(),
                files=written,
            )
            on_first_rank(lambda: self._publish(temporary, final, manifest), control)
        except Exception:
            if self._ranks.is_first:
                shutil.rmtree(temporary, ignore_errors=True)
            raise
        return final

    def find(self, wanted: str) -> Found | None:
        """The checkpoint that `wanted` names: `auto` (the newest good one), `never`, or a path.

        Collective. Raises CheckpointError when a path is named that does not verify.
        """
        if wanted == "never":
            return None
        return on_first_rank(lambda: self._find(wanted), self._ranks.control)

    def load(self, found: Found, tensors: dict[str, Tensor]) -> None:
        """Fills `tensors` in place. Collective. Raises CheckpointError when they don't fit."""
        try:
            # The metadata is a pickle; its bytes have been verified against the manifest.
            load_distributed(
                dict(tensors), checkpoint_id=str(found.folder), process_group=self._ranks.control
            )
        except (CheckpointException, Exception) as error:  # the first is no Exception
            raise CheckpointError(
                f"{found.folder}: does not fit this model: {_reason(error)}; "
                "has the config changed since? use another run.name, or --resume never"
            ) from error

    def _find(self, wanted: str) -> Found | None:
        if wanted != "auto":
            folder = Path(wanted)
            return Found(folder, read_manifest(folder), ())
        return newest_good(self._root)

    def go_on_from(self, found: Found) -> None:
        """Puts this run's checkpoints that are newer than `found` out of the way of `auto`.

        They were refused, or belong to steps that will be taken anew. Collective.
        """
        on_first_rank(lambda: self._abandon_after(found.folder), self._ranks.control)

    def _abandon_after(self, folder: Path) -> None:
        if folder.resolve().parent != self._root.resolve():
            return
        for newer in self._root.glob("step-*"):
            if _NAME.match(newer.name) and newer.name > folder.name:
                newer.rename(newer.with_name(f"abandoned-{newer.name}-{uuid.uuid4().hex[:8]}"))

    def _write(self, tensors: dict[str, Tensor], temporary: Path) -> None:
        try:
            save_distributed(
                dict(tensors), checkpoint_id=str(temporary), process_group=self._ranks.control
            )
        except (CheckpointException, OSError) as error:  # the first is no Exception
            raise CheckpointError(
                f"{temporary}: can't be written: {_reason(error)}; "
                "earlier checkpoints are as they were"
            ) from error

    def _make_temporary(self, name: str) -> Path:
        temporary = self._root / f"{name}.tmp-{uuid.uuid4().hex[:8]}"
        try:
            temporary.mkdir(parents=True)
        except OSError as error:
            raise CheckpointError(f"{temporary}: can't be made ({error.strerror})") from error
        return temporary

    def _publish(self, temporary: Path, final: Path, manifest: Manifest) -> None:
        absent = [name for name in manifest.files if not (temporary / name).is_file()]
        if absent:
            raise CheckpointError(
                f"{temporary}: other ranks wrote {', '.join(absent)}, but not to this folder: "
                "run.dir must be on a file system that all nodes share"
            )
        files = manifest.files | _entries(temporary, ".metadata")
        manifest = manifest.model_copy(update={"files": files})
        with (temporary / MANIFEST_NAME).open("w", encoding="utf-8") as file:
            file.write(manifest_text(manifest))
        for path in (*temporary.iterdir(), temporary):
            _sync(path)
        if final.exists():  # the same step saved again: the same state, so the newer may win
            shutil.rmtree(final)
        temporary.rename(final)
        _sync(self._root)
        # Later steps are of a run that went another way (a newer checkpoint was refused): counted
        # in, they would push out what has just been saved.
        until_now = sorted(
            p for p in self._root.iterdir() if _NAME.match(p.name) and p.name <= final.name
        )
        for old in until_now[: -self._config.checkpoint.keep]:
            shutil.rmtree(old)


def _reason(error: BaseException) -> str:
    """The last line of an error's text: what DCP wraps around it says nothing to a user."""
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else repr(error)


def _entries(folder: Path, prefix: str) -> dict[str, FileEntry]:
    return {p.name: file_entry(p) for p in folder.iterdir() if p.name.startswith(prefix)}


def _gathered(mine: dict[str, FileEntry], ranks: Ranks) -> dict[str, FileEntry]:
    all_ranks: list[dict[str, FileEntry]] = [{} for _ in range(ranks.world_size)]
    dist.all_gather_object(all_ranks, mine, group=ranks.control)
    return {name: entry for entries in all_ranks for name, entry in entries.items()}


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
