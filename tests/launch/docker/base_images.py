"""Stand-ins for base images: a fresh Debian of Debian's own packages, and a borrowed one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlparse

from tests.launch.docker.image_root import ImageRoot

# The release that the base of the cpu target is made of, and what the image has beyond a minimal
# Debian that the Dockerfile counts on: Python 3.11 with venv, and certificates for pip.
_RELEASE = "bookworm"
_PACKAGES = "python3,python3-venv,ca-certificates"
# What a build needs to know of this machine's way to the package registries.
_PIP_SETTINGS = ("cert", "extra-index-url", "find-links", "index-url", "trusted-host")


class NoBaseError(RuntimeError):
    """No stand-in can be made here, and why."""


def fresh_debian(folder: Path, scratch: Path) -> ImageRoot:
    """A minimal Debian in `folder`, made by mmdebstrap, which is fetched but not installed."""
    tool = shutil.which("mmdebstrap") or str(_fetched_mmdebstrap(scratch))
    done = subprocess.run(
        ["perl", tool, "--quiet", "--mode=root", "--variant=apt", f"--include={_PACKAGES}",
         "--dpkgopt=force-unsafe-io", _RELEASE, str(folder)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    if done.returncode != 0:
        raise NoBaseError(f"mmdebstrap ended with {done.returncode}: {done.stdout[-2000:]}")
    return ImageRoot(folder)


def _fetched_mmdebstrap(scratch: Path) -> Path:
    if shutil.which("apt-get") is None or shutil.which("perl") is None:
        raise NoBaseError("needs mmdebstrap, or apt-get and perl")
    (scratch / "lists/partial").mkdir(parents=True)
    # Lists of our own: the machine's are left as they are.
    lists = ["-o", f"Dir::State::Lists={scratch}/lists", "-o", "APT::Sandbox::User=root"]
    for words in (["update"], ["download", "mmdebstrap"]):
        done = subprocess.run(
            ["apt-get", *lists, *words], cwd=scratch, capture_output=True, text=True
        )
        if done.returncode != 0:
            raise NoBaseError(f"apt-get {' '.join(words)}: {done.stderr[-1000:]}")
    [package] = scratch.glob("mmdebstrap_*.deb")
    subprocess.run(["dpkg-deb", "-x", str(package), str(scratch / "tool")], check=True)
    return scratch / "tool/usr/bin/mmdebstrap"


def borrowed_system(folder: Path) -> ImageRoot:
    """This machine's /usr, read-only, under an /etc of its own: made at once."""
    (folder / "etc").mkdir(parents=True)
    (folder / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (folder / "etc/group").write_text("root:x:0:\n")
    for name in ("bin", "sbin", "lib", "lib64"):
        (folder / name).symlink_to(f"usr/{name}")
    return ImageRoot(folder, {"/usr": Path("/usr")})


def way_to_registries(root: ImageRoot, pip: Path) -> tuple[dict[str, str], dict[str, str]]:
    """(environment, build arguments) that lead pip in the root where pip leads here; the folders
    and files that they name are made visible in the root."""
    said = subprocess.run([pip, "config", "list"], capture_output=True, text=True, check=True)
    env = {}
    for line in said.stdout.splitlines():
        key, _, value = line.partition("=")
        setting, value = key.rpartition(".")[2], value.strip("'\"")
        if setting in _PIP_SETTINGS:
            env[f"PIP_{setting.upper().replace('-', '_')}"] = value
            for word in value.split():
                # An index on disk names files beside it.
                is_index = word.startswith("file:")
                path = Path(urlparse(word).path).parent if is_index else Path(word)
                if path.is_absolute() and path.exists():
                    root.seen[str(path)] = path
    arguments = {name: env.pop(name) for name in ["PIP_EXTRA_INDEX_URL"] if name in env}
    return env, arguments
