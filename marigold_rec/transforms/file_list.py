"""A folder that vouches for its files: `sha256.json`, sealed, holds the sha256 of each.

A checksum within a file finds a flipped bit; not that the file is another one's, of an earlier
night or of another run. It finds damage and mistakes, not malice.
"""

from __future__ import annotations

import json
from pathlib import Path

from marigold_rec.errors import CheckpointError
from marigold_rec.file_entry import file_sha256
from marigold_rec.sealed import sealed, unsealed

LIST_NAME = "sha256.json"


def write_file_list(folder: Path) -> None:
    """Lists all files that lie in `folder`; the last thing to be written there."""
    files = {p.name: file_sha256(p) for p in sorted(folder.iterdir()) if p.name != LIST_NAME}
    (folder / LIST_NAME).write_bytes(sealed({"files": files}))


def require_listed(file: Path, to_do: str) -> None:
    """Raises CheckpointError, which ends with what `to_do`: `file` is not the one that was listed,
    or can't be read, or the list is missing or damaged."""
    listing = file.parent / LIST_NAME
    try:
        listed = json.loads(unsealed(listing.read_bytes()))["files"][file.name]
        found = file_sha256(file)
    except KeyError as error:
        raise CheckpointError(f"{file}: {listing} does not list it; {to_do}") from error
    except OSError as error:
        raise CheckpointError(
            f"{error.filename or file}: can't be read ({error.strerror}); {to_do}"
        ) from error
    except ValueError as error:
        raise CheckpointError(f"{listing}: {error}; {to_do}") from error
    if found != listed:
        raise CheckpointError(f"{file}: its sha256 differs from {LIST_NAME}'s; {to_do}")
