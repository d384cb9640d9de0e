"""Links are followed, once, and what can't be followed is named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from marigold_rec.parquet.walking import walk


def put(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def below(root: Path) -> set[str]:
    return {str(Path(path).relative_to(root)) for path in walk(str(root)).files}


def test_a_link_has_the_state_of_its_file(tmp_path: Path):
    blob = put(tmp_path / "blobs/1", "four")
    os.utime(blob, (1000, 1000))
    (tmp_path / "log").mkdir()
    (tmp_path / "log/a").symlink_to("../blobs/1")
    (tmp_path / "log/b").symlink_to("a")  # over two links
    files = walk(str(tmp_path / "log")).files
    assert {(state.st_size, state.st_mtime) for state in files.values()} == {(4, 1000)}
    assert len(files) == 2


def test_links_to_folders_outside(tmp_path: Path):
    put(tmp_path / "far/sub/1")
    (tmp_path / "log").mkdir()
    (tmp_path / "log/day").symlink_to(tmp_path / "far")
    found = walk(str(tmp_path / "log"))
    assert [*found.files] == [str(tmp_path / "log/day/sub/1")]
    assert found.linked == [str(tmp_path / "far")]


def test_loops_end(tmp_path: Path):
    put(tmp_path / "a/1")
    put(tmp_path / "b/2")
    (tmp_path / "a/up").symlink_to("..")
    (tmp_path / "a/b").symlink_to("../b")
    (tmp_path / "b/a").symlink_to("../a")
    (tmp_path / "b/self").symlink_to("self")
    found = walk(str(tmp_path))
    assert below(tmp_path) >= {"a/1", "b/2"}
    assert str(tmp_path / "a/up") in found.repeated
    assert str(tmp_path / "b/self") in found.broken


def test_many_folders_that_link_to_each_other_take_no_time(tmp_path: Path):
    names = [f"f{n}" for n in range(12)]
    for name in names:
        put(tmp_path / name / "file")
        for other in names:
            (tmp_path / name / other).symlink_to(f"../{other}")
    # Along all paths without a loop they would be 12! / e files.
    assert len(walk(str(tmp_path)).files) == 24


def test_links_to_nowhere_and_folders_that_cant_be_read(tmp_path: Path):
    (tmp_path / "gone.parquet").symlink_to("nowhere")
    locked = put(tmp_path / "locked/1").parent
    locked.chmod(0)
    try:
        broken = walk(str(tmp_path)).broken
    finally:
        locked.chmod(0o700)
    assert "nowhere" in broken[str(tmp_path / "gone.parquet")]
    if os.geteuid():
        assert str(locked) in broken


def test_a_file_and_nothing(tmp_path: Path):
    assert [*walk(str(put(tmp_path / "1"))).files] == [str(tmp_path / "1")]
    with pytest.raises(FileNotFoundError):
        walk(str(tmp_path / "none"))
