"""Lists a local folder through its links, each file as what it leads to.

Caches and version control (Hugging Face hub, DVC, git-annex) keep a log as links to files, and
shared disks keep days as links to folders.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from marigold_rec.parquet.names import is_hidden

_Id = tuple[int, int]
"""Device and inode: what is the same behind two names."""
_Folder = tuple[str, frozenset[_Id]]
"""A path, and all folders that it lies in."""
_LOST_AND_FOUND = "lost+found"


@dataclass
class Walked:
    files: dict[str, os.stat_result] = field(default_factory=dict)
    """Path -> state of the file itself, behind all links."""
    broken: dict[str, str] = field(default_factory=dict)
    """Path -> why nobody knows what is there: a link to nowhere, a folder that can't be read."""
    repeated: list[str] = field(default_factory=list)
    """Paths of links to a folder that they lie in, or that another link has led to already."""
    linked: list[str] = field(default_factory=list)
    """Paths, behind all links, of the folders that links have led to."""


def walk(root: str) -> Walked:
    """Every file at or below `root`; a folder is entered once by its own name and once by links.

    Raises OSError: there is nothing at `root`, or it can't be read.
    """
    found = Walked()
    state = os.stat(root)
    if not os.path.isdir(root):
        found.files[root] = state
        return found
    os.scandir(root).close()
    links: list[_Folder] = []
    _enter((root, frozenset()), found, links)
    entered: set[_Id] = set()
    for path, above in links:  # grows: a folder behind a link may hold links, too
        folder = _id(os.stat(path))
        if folder in above or folder in entered:
            found.repeated.append(path)
            continue
        entered.add(folder)
        found.linked.append(os.path.realpath(path))
        _enter((path, above), found, links)
    return found


def _enter(first: _Folder, found: Walked, links: list[_Folder]) -> None:
    """Adds all files below; links to folders are only added to `links`."""
    folders = [first]
    while folders:
        path, above = folders.pop()
        try:
            inside = above | {_id(os.stat(path))}
            with os.scandir(path) as scanned:
                entries = sorted(scanned, key=lambda entry: entry.name)
        except OSError as error:
            name = os.path.basename(path)
            if not is_hidden(name) and name != _LOST_AND_FOUND:
                found.broken[path] = f"a folder that can't be read ({error.strerror})"
            continue
        for entry in entries:
            if entry.is_symlink():
                _follow(entry.path, inside, found, links)
            elif entry.is_dir():
                folders.append((entry.path, inside))
            else:
                found.files[entry.path] = entry.stat()


def _follow(link: str, above: frozenset[_Id], found: Walked, links: list[_Folder]) -> None:
    try:
        state = os.stat(link)
    except OSError as error:  # also a circle of links
        found.broken[link] = f"a link that leads nowhere ({error.strerror})"
        return
    if os.path.isdir(link):
        links.append((link, above))
    else:
        found.files[link] = state


def _id(state: os.stat_result) -> _Id:
    return state.st_dev, state.st_ino
