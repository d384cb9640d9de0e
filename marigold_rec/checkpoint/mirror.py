"""Copies of a run's checkpoints on another file system, an object store say: <URL>/<run.name>/.

An object store can't rename, so that a copy becomes valid by its last file: `manifest.json` is put
when all others lie there in their sizes, and is the first to be deleted. A folder without one is
what a killed copy has left. One process writes below a run's name: the lock of the run's folder
keeps others out on this machine, and nothing does on others.
"""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from fsspec.core import url_to_fs

from marigold_rec.checkpoint.folders import (
    STEP_FOLDER,
    folder_name,
    make_visible,
    require_space,
    sync_all,
    temporary_name,
)
from marigold_rec.checkpoint.manifest import MANIFEST_NAME, Manifest, parse_manifest, read_manifest
from marigold_rec.checkpoint.retention import Kept, kept_of, steps_to_keep
from marigold_rec.config.schema import CheckpointConfig, Config
from marigold_rec.errors import CheckpointError, ConfigError

Given = ParamSpec("Given")
Result = TypeVar("Result")

# The manifest of a copy that counts no more: it belongs to steps that were taken anew.
_ABANDONED_NAME = "abandoned-manifest.json"
_MOST_MANIFEST_BYTES = 1 << 26


def _told(
    method: Callable[Concatenate[Mirror, Given], Result],
) -> Callable[Concatenate[Mirror, Given], Result]:
    """What a file system says becomes a CheckpointError: each kind raises errors of its own."""

    @functools.wraps(method)
    def telling(self: Mirror, /, *args: Given.args, **kwargs: Given.kwargs) -> Result:
        try:
            return method(self, *args, **kwargs)
        except CheckpointError:
            raise
        except Exception as error:
            what = str(error) or repr(error)
            raise CheckpointError(f"{self.url}: {type(error).__name__}: {what}") from error

    return telling


class Mirror:
    """The copies of one run. Every method raises CheckpointError, and none renames anything."""

    def __init__(self, url: str, run_name: str) -> None:
        """Raises ConfigError when nothing here can open such a URL."""
        self.url = f"{url}{'' if url.endswith('/') else '/'}{run_name}"
        try:
            # Listings are not kept: a look must see what lies there now.
            self._files, root = url_to_fs(self.url, use_listings_cache=False)
        except Exception as error:  # a protocol that is not known or not installed, bad credentials
            raise ConfigError(
                f"checkpoint.mirror: {url} can't be opened: {error}; expected a folder or a URL "
                "that the installed fsspec packages know (s3:// needs s3fs, gs:// gcsfs)"
            ) from error
        self._root = root.rstrip("/")
        self._known: dict[int, Kept] = {}

    @_told
    def steps(self) -> list[int]:
        """Those of the complete copies, by their markers alone."""
        return [step for step in self._folders() if self._files.exists(self._marker(step))]

    @_told
    def upload(self, folder: Path) -> None:
        """Copies the checkpoint in `folder`, which is complete. Not visible before its end."""
        text = (folder / MANIFEST_NAME).read_bytes()
        manifest = parse_manifest(text, folder / MANIFEST_NAME)
        # Half of an earlier copy, or the same step, reached on another way.
        self._delete(manifest.step)
        target = self._of(manifest.step)
        self._files.makedirs(target, exist_ok=True)
        for name in manifest.files:
            self._files.put_file(str(folder / name), f"{target}/{name}")
        for name, entry in manifest.files.items():
            self._require_size(f"{target}/{name}", entry.bytes)
        self._files.pipe_file(self._marker(manifest.step), text)
        self._require_size(self._marker(manifest.step), len(text))

    @_told
    def fetch(self, step: int, root: Path, keep: int) -> Path:
        """Brings a copy back below `root`, verified byte by byte; returns its folder there."""
        manifest = self._manifest(step)
        sizes = {name: entry.bytes for name, entry in manifest.files.items()}
        for name, size in sizes.items():
            self._require_size(f"{self._of(step)}/{name}", size)
        require_space(root, sum(sizes.values()), keep)
        temporary = root / temporary_name(folder_name(step))
        temporary.mkdir(parents=True)
        try:
            for name in (*sizes, MANIFEST_NAME):
                self._files.get_file(f"{self._of(step)}/{name}", str(temporary / name))
            if read_manifest(temporary) != manifest:
                raise CheckpointError(f"{self._marker(step)}: has changed while it was fetched")
            sync_all(temporary)
            make_visible(temporary, root / folder_name(step))
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        return root / folder_name(step)

    @_told
    def prune(self, newest: int, keep: CheckpointConfig) -> None:
        """Deletes what need not stay now that `newest` is there, as beside the run itself."""
        until_now = [step for step in self.steps() if step <= newest]
        saved = [self._kept(step) for step in until_now]
        stay = steps_to_keep(saved, keep.keep, keep.keep_every_n_hours, keep.keep_best_by)
        for step in until_now:
            if step not in stay:
                self._delete(step)

    @_told
    def abandon_after(self, step: int) -> list[int]:
        """Takes the markers from the copies of later steps: they will be taken anew."""
        later = [other for other in self.steps() if other > step]
        for other in later:
            text = self._files.cat_file(self._marker(other))
            self._files.pipe_file(f"{self._of(other)}/{_ABANDONED_NAME}", text)
            self._files.rm_file(self._marker(other))
            self._known.pop(other, None)
        return later

    @_told
    def cleanup_stale(self, keep: int) -> int:
        """Deletes half copies and all but the newest `keep` abandoned ones; returns how many."""
        half = [step for step in self._folders() if not self._is_marked(step)]
        abandoned = [
            step for step in half if self._files.exists(f"{self._of(step)}/{_ABANDONED_NAME}")
        ]
        gone = sorted(set(half) - set(abandoned[-keep:]))
        for step in gone:
            self._delete(step)
        return len(gone)

    def _folders(self) -> list[int]:
        try:
            paths = self._files.ls(self._root, detail=False)
        except FileNotFoundError:
            return []
        names = (STEP_FOLDER.match(str(path).rstrip("/").rsplit("/", 1)[-1]) for path in paths)
        return sorted(int(name[1]) for name in names if name)

    def _is_marked(self, step: int) -> bool:
        """Whether the marker is a whole one: a folder of files may have been left half of it."""
        try:
            json.loads(self._files.cat_file(self._marker(step)))
        except (FileNotFoundError, ValueError, RecursionError):
            return False
        return True

    def _manifest(self, step: int) -> Manifest:
        marker = self._marker(step)
        if self._files.info(marker)["size"] > _MOST_MANIFEST_BYTES:
            raise CheckpointError(f"{marker}: too large for a manifest")
        manifest = parse_manifest(self._files.cat_file(marker), marker)
        if manifest.step != step:
            raise CheckpointError(f"{marker}: is of step {manifest.step}, not of its folder's name")
        if bad := [name for name in manifest.files if name != Path(name).name or name == ".."]:
            raise CheckpointError(f"{marker}: the file name {bad[0]!r} is not allowed")
        return manifest

    def _kept(self, step: int) -> Kept:
        if step not in self._known:
            self._known[step] = kept_of(step, self._files.cat_file(self._marker(step)))
        return self._known[step]

    def _require_size(self, path: str, expected: int) -> None:
        found = self._files.info(path)["size"]
        if found != expected:
            raise CheckpointError(f"{path}: {found:,} bytes there, expected {expected:,}")

    def _delete(self, step: int) -> None:
        self._known.pop(step, None)
        if self._files.exists(self._marker(step)):
            self._files.rm_file(self._marker(step))
        if self._files.exists(self._of(step)):
            self._files.rm(self._of(step), recursive=True)

    def _of(self, step: int) -> str:
        return f"{self._root}/{folder_name(step)}"

    def _marker(self, step: int) -> str:
        return f"{self._of(step)}/{MANIFEST_NAME}"


def refuse_taken_mirror(config: Config) -> None:
    """Raises ConfigError where a run that begins anew would mix its copies with an earlier one's.

    They can't be moved aside without a rename, and what is not asked for is not deleted.
    """
    if config.checkpoint.mirror is None:
        return
    mirror = Mirror(config.checkpoint.mirror, config.run.name)
    if steps := mirror.steps():
        raise ConfigError(
            f"--resume never: the mirror {mirror.url} holds checkpoints of an earlier run of this "
            f"name (steps {', '.join(map(str, steps))}): delete or move them, or choose another "
            "run.name or checkpoint.mirror"
        )
