"""A file's size and sha256, by which manifests of checkpoints, artefacts and folders know it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from marigold_rec.record import Record


class FileEntry(Record):
    bytes: int
    sha256: str


def file_entry(path: Path) -> FileEntry:
    """Reads the file in pieces. Raises OSError."""
    return FileEntry(bytes=path.stat().st_size, sha256=file_sha256(path))


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
