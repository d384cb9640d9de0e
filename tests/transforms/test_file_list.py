"""A folder's list vouches for each file by its bytes, and for itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from marigold_rec.errors import CheckpointError
from marigold_rec.transforms.file_list import LIST_NAME, require_listed, write_file_list


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.npz", "b.npz"):
        (tmp_path / name).write_bytes(name.encode())
    write_file_list(tmp_path)
    return tmp_path


def test_what_was_listed_passes(folder: Path) -> None:
    for name in ("a.npz", "b.npz"):
        require_listed(folder / name, "do it again")


def test_every_flip_of_file_and_list_is_refused(folder: Path) -> None:
    file = folder / "a.npz"
    for flipped in (file, folder / LIST_NAME):
        content = flipped.read_bytes()
        for bit in range(8 * len(content)):
            damaged = bytearray(content)
            damaged[bit // 8] ^= 1 << bit % 8
            flipped.write_bytes(damaged)
            with pytest.raises(CheckpointError, match=r"; do it again$"):
                require_listed(file, "do it again")
        flipped.write_bytes(content)
    require_listed(file, "do it again")


def test_another_file_and_none_are_refused(folder: Path) -> None:
    (folder / "c.npz").write_bytes(b"a.npz")
    with pytest.raises(CheckpointError, match=r"c.npz: .*does not list it; again"):
        require_listed(folder / "c.npz", "again")
    (folder / "a.npz").write_bytes((folder / "b.npz").read_bytes())
    with pytest.raises(CheckpointError, match=r"a.npz: its sha256 differs"):
        require_listed(folder / "a.npz", "again")
    (folder / "b.npz").unlink()
    with pytest.raises(CheckpointError, match=r"b.npz: can't be read .*again"):
        require_listed(folder / "b.npz", "again")
    (folder / LIST_NAME).write_text(json.dumps({"files": {}}))
    with pytest.raises(CheckpointError, match=rf"{LIST_NAME}: .*again"):
        require_listed(folder / "a.npz", "again")
    (folder / LIST_NAME).unlink()
    with pytest.raises(CheckpointError, match=rf"{LIST_NAME}: can't be read"):
        require_listed(folder / "a.npz", "again")
