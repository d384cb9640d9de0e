"""Reads .npz files of ours: no pickle, no file left open, damage told in plain words."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from marigold_rec.errors import CheckpointError
from marigold_rec.plain_zip import require_plain_zip

_ERRORS = (
    OSError, ValueError, KeyError, TypeError, EOFError, SyntaxError, RecursionError,
    NotImplementedError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def read_npz(file: Path, what: str, to_do: str) -> dict[str, np.ndarray]:
    """The arrays of `file`, by name. Raises CheckpointError, which says `what` it is to hold and
    what `to_do`.

    Not np.load: it also takes what is no .npz, and leaves a damaged one open. A checksum in the zip
    finds damage.
    """
    found: dict[str, np.ndarray] = {}
    try:
        with file.open("rb") as opened, zipfile.ZipFile(opened) as archive:
            require_plain_zip(opened)
            for name in archive.namelist():
                with archive.open(name) as member:
                    array = np.lib.format.read_array(member, allow_pickle=False)
                found[name.removesuffix(".npy")] = array
    except _ERRORS as error:
        raise CheckpointError(
            f"{file}: {what} can't be read ({type(error).__name__}: {error}); {to_do}"
        ) from error
    return found
