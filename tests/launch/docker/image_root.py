"""A folder that stands for an image's root, and processes that see it as theirs.

They run in mount and process namespaces of their own (`unshare`), so that the mounts and whatever
is left running go when the command ends; the network is the host's, as in `docker build --network
host`. Needs root.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

# As a container has them: names and time zones of the network, nothing else of the host's /etc.
_HOST_FILES = ("/etc/resolv.conf", "/etc/hosts")
_TOOLS = ("unshare", "mount", "chroot")


def why_not() -> str | None:
    """Why no image root can be used on this machine; None when one can."""
    if os.geteuid() != 0:
        return "needs root, for chroot and mounts"
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        return f"needs {', '.join(missing)} (package util-linux, coreutils)"
    tried = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "true"], capture_output=True, text=True
    )
    return None if tried.returncode == 0 else f"unshare is refused: {tried.stderr.strip()}"


@dataclass
class ImageRoot:
    """The folder, and host folders or files that are seen in it (place -> host path), read-only."""

    folder: Path
    seen: dict[str, Path] = field(default_factory=dict)

    def run(
        self,
        words: Sequence[str],
        *,
        env: Mapping[str, str],
        workdir: str = "/",
        user: str = "0:0",
        read_only: bool = False,
        volumes: Mapping[str, Path] | None = None,
        timeout_s: float = 600,
    ) -> subprocess.CompletedProcess[str]:
        """Runs `words` in the root. `read_only` also empties /tmp, as a tmpfs would; `volumes`
        (place -> host folder) stay writable. stdout and stderr come back as one."""
        script = [f"mount --bind {_q(self.folder)} {_q(self.folder)}"]
        for name in ("proc", "sys", "dev", "tmp"):
            (self.folder / name).mkdir(exist_ok=True)
        (self.folder / "tmp").chmod(0o1777)
        script.append(f"mount -t proc proc {_q(self.folder / 'proc')}")
        script.append(f"mount --rbind /dev {_q(self.folder / 'dev')}")
        script.append(f"mount --rbind /sys {_q(self.folder / 'sys')}")
        for place, host in {**{f: Path(f) for f in _HOST_FILES}, **self.seen}.items():
            inside = self._mount_point(place, host)
            script.append(f"mount --bind {_q(host)} {_q(inside)}")
            script.append(f"mount -o remount,bind,ro {_q(inside)}")
        for place, host in (volumes or {}).items():
            inside = self._mount_point(place, host)
            script.append(f"mount --bind {_q(host)} {_q(inside)}")
        if read_only:
            script.append(f"mount -t tmpfs -o mode=1777 tmpfs {_q(self.folder / 'tmp')}")
            script.append(f"mount -o remount,bind,ro {_q(self.folder)}")
        settings = [f"{name}={value}" for name, value in env.items()]
        inner = ["/bin/sh", "-c", 'cd "$0" && exec "$@"', workdir, *words]
        script.append(
            f"exec chroot --userspec={user} {_q(self.folder)} "
            + shlex.join(["/usr/bin/env", "-i", *settings, *inner])
        )
        return subprocess.run(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-e", "-c",
             "\n".join(script)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout_s,
        )  # fmt: skip

    def _mount_point(self, place: str, host: Path) -> Path:
        inside = self.folder / place.lstrip("/")
        if host.is_dir():
            inside.mkdir(parents=True, exist_ok=True)
        elif not inside.exists():
            inside.parent.mkdir(parents=True, exist_ok=True)
            inside.touch()
        return inside


def _q(path: Path) -> str:
    return shlex.quote(str(path))
