"""Small files that are there whole or not at all, also after a power cut, and how they are read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from marigold_rec.errors import CheckpointError

T = TypeVar("T")


def read_durable(file: Path, kind: type[T], remedy: str) -> T | None:
    """Reads a JSON file as a `kind`; None where there is no such file.

    Raises CheckpointError, which ends with the `remedy`, for everything else that is not a `kind`:
    an empty or cut file, other keys, brackets a thousand deep, a folder.
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
        where = ".".join(map(str, first["loc"][:5]))
        what = f"{where}: {first['msg']}" if where else first["msg"]
        raise CheckpointError(f"{file}: is damaged ({what}); {remedy}") from error


def write_durably(path: Path, text: str) -> None:
    """Replaces `path` in one step."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def point_durably(link: Path, target: str) -> None:
    """Makes the symbolic link `link` point to `target`, in one step for those who follow it."""
    temporary = link.with_name(f".{link.name}.tmp")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(link)
    sync_folder(link.parent)


def sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
