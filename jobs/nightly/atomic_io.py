"""Writes small files atomically, also across a power cut, and reads them back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from marigold_rec.errors import CheckpointError

T = TypeVar("T")


def read_json(file: Path, kind: type[T], remedy: str) -> T | None:
    """Reads a JSON file as a `kind`; None if there is no such file.

    Raises CheckpointError, which ends with the `remedy`, for anything else that is not a `kind`:
    an empty or truncated file, other keys, brackets a thousand deep, a folder.
    """
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CheckpointError(f"{file}: can't be read ({error.strerror}); {remedy}") from error
    try:
        return TypeAdapter(kind).validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        if first["loc"] == ("format",):
            expected = first.get("ctx", {}).get("expected")
            raise CheckpointError(
                f"{file}: was written by another version (its format is not {expected}); {remedy}"
            ) from error
        where = ".".join(map(str, first["loc"][:5]))
        what = f"{where}: {first['msg']}" if where else first["msg"]
        raise CheckpointError(f"{file}: is damaged ({what}); {remedy}") from error


def write_atomically(path: Path, text: str) -> None:
    """Replaces `path` in one step, and syncs it to disk."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    fsync_folder(path.parent)


def link_atomically(link: Path, target: str) -> None:
    """Makes the symbolic link `link` point to `target`, in one step."""
    temporary = link.with_name(f".{link.name}.tmp")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(link)
    fsync_folder(link.parent)


def fsync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
