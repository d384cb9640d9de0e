"""Files of equal bytes: the same rows, learned twice."""

from __future__ import annotations

import hashlib
from collections import defaultdict

from data_pipelines.catalog.catalog import Catalog, DataFile

_PIECE = 1024**2


def duplicated_files(catalog: Catalog) -> list[list[str]]:
    """Groups of paths. Reads only files that have size and row groups in common with another."""
    alike: defaultdict[tuple[object, ...], list[DataFile]] = defaultdict(list)
    for file in catalog.files:
        if sum(file.rows_per_group):
            alike[file.size, file.rows_per_group, file.bytes_per_group].append(file)
    same: defaultdict[str, list[str]] = defaultdict(list)
    for files in alike.values():
        if len(files) > 1:
            for file in files:
                same[_digest(catalog, file.path)].append(file.path)
    return [paths for paths in same.values() if len(paths) > 1]


def _digest(catalog: Catalog, path: str) -> str:
    digest = hashlib.sha256()
    with catalog.storage.file_system.open(path, "rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()
