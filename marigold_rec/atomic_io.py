"""Writes small files and links atomically, also across a power cut, and reads them back."""

from __future__ import annotations

import os
from collections.abc import Mapping
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
    write_together(path.parent, {path.name: text})


def write_together(folder: Path, texts: Mapping[str, str]) -> None:
    """Writes all files under temporary names before it renames any: a full disk leaves the old
    ones, and never a mix of old and new."""
    temporary = {folder / f".{name}.tmp": folder / name for name in texts}
    try:
        for path, text in zip(temporary, texts.values(), strict=True):
            path.write_text(text, encoding="utf-8")
            fsync(path)
        for path, final in temporary.items():
            path.replace(final)
    finally:
        for path in temporary:
            path.unlink(missing_ok=True)
    fsync(folder)


def link_atomically(link: Path, target: str) -> None:
    """Makes the symbolic link `link` point to `target`, in one step."""
    temporary = link.with_name(f".{link.name}.tmp")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(link)
    fsync(link.parent)


def fsync(path: Path) -> None:
    """Returns when the file, or the folder's list of names, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
