"""What `docker build .` sends (.dockerignore as Docker's own client reads it), and COPY."""

from __future__ import annotations

import fnmatch
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from docker.utils.build import exclude_paths

from tests.launch.docker.recipe import RecipeError


class Context:
    """The files of a folder that its .dockerignore lets through."""

    def __init__(self, folder: Path, ignore: str | None = None) -> None:
        """`ignore` stands in for the folder's .dockerignore."""
        self._folder = folder
        if ignore is None:
            ignore = (folder / ".dockerignore").read_text()
        lines = [line.strip() for line in ignore.splitlines()]
        patterns = [line for line in lines if line and not line.startswith("#")]
        sent = exclude_paths(str(folder), patterns)
        # A client always sends these two, for the builder; COPY does not see them if ignored.
        sent -= {"Dockerfile", ".dockerignore"} if "*" in patterns else set()
        self.files = sorted(name for name in sent if not (folder / name).is_dir())

    def copy(self, sources: Sequence[str], target: str, root: Path, workdir: str) -> None:
        """COPY: files, or what is in a folder, to `target` below `root`, with their modes."""
        into = root / os.path.join(workdir, target).lstrip("/")
        for source in sources:
            for name, inner in self._found(os.path.normpath(source.lstrip("/"))):
                is_new_name = (
                    inner is None and not target.endswith(("/", ".")) and len(sources) == 1
                )
                place = into if is_new_name else into / (inner or os.path.basename(name))
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(self._folder / name, place)

    def _found(self, source: str) -> list[tuple[str, str | None]]:
        """(file of the context, its name in the folder that is copied, None for a file)."""
        prefix = "" if source == "." else f"{source}/"
        found: list[tuple[str, str | None]] = [
            (name, name[len(prefix) :]) for name in self.files if name.startswith(prefix)
        ]
        found += [
            (name, None)
            for name in self.files
            if os.path.dirname(name) == os.path.dirname(source)
            and fnmatch.fnmatchcase(os.path.basename(name), os.path.basename(source))
        ]
        if not found:
            raise RecipeError(
                f"COPY {source}: nothing in the context; is it missing, or left out by "
                ".dockerignore?"
            )
        return found
