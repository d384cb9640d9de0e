"""The torch / torchrec / fbgemm triple: checked at import, and explained by a small doctor.

torchrec 1.X pairs with fbgemm-gpu 1.X and torch 2.(X+5). A wrong triple otherwise fails much later,
with `Could not load this library` or `undefined symbol`. fbgemm comes as two distributions with the
same import package: `fbgemm-gpu` (CUDA) and `fbgemm-gpu-cpu`; torchrec names only the first, so a
plain `pip install torchrec` on a CPU machine brings a build that does not load.

`python -m marigold_rec.versions` prints what is installed and whether it loads.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import platform
import sys
from collections.abc import Callable

from marigold_rec.errors import EnvironmentMismatchError

TORCH = "2.13"
TORCHREC = "1.8"
FBGEMM = "1.8"

# name of a distribution -> its installed version, or None
Lookup = Callable[[str], str | None]


def installed_version(name: str) -> str | None:
    """The version in the distribution's metadata; nothing is imported."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def installed_versions() -> dict[str, str]:
    """Distribution -> version of what decides a run's figures, for checkpoints and reports."""
    triple = ("torch", "torchrec", "fbgemm-gpu-cpu", "fbgemm-gpu")
    names = ("marigold-rec", *triple, "pyarrow", "numpy")
    return {name: found for name in names if (found := installed_version(name)) is not None}


def find_problems(lookup: Lookup = installed_version, system: str | None = None) -> list[str]:
    """One line for each thing that is missing, wrong or does not fit; empty when all is well."""
    system = platform.system() if system is None else system
    if system != "Linux":
        return [f"operating system: found {system}, expected Linux (torchrec and fbgemm need it)"]
    torch, torchrec = lookup("torch"), lookup("torchrec")
    cpu, cuda = lookup("fbgemm-gpu-cpu"), lookup("fbgemm-gpu")
    problems = [_compare("torch", torch, TORCH), _compare("torchrec", torchrec, TORCHREC)]
    if cpu is not None and cuda is not None:
        problems.append(
            f"fbgemm: found both fbgemm-gpu-cpu {cpu} and fbgemm-gpu {cuda}, expected only one: "
            "they overwrite each other's files"
        )
    elif cuda is not None:
        problems.append(_compare("fbgemm-gpu", cuda, FBGEMM))
        if torch is not None and torch.endswith("+cpu"):
            problems.append(
                f"fbgemm-gpu {cuda} is the CUDA build, but torch {torch} is the CPU build"
            )
    else:
        problems.append(_compare("fbgemm-gpu-cpu", cpu, FBGEMM, "fbgemm-gpu-cpu or fbgemm-gpu"))
    return [problem for problem in problems if problem]


def check_triple(lookup: Lookup = installed_version, system: str | None = None) -> None:
    """Raises EnvironmentMismatchError naming what is wrong and the command that mends it."""
    problems = find_problems(lookup, system)
    if problems:
        raise EnvironmentMismatchError(
            "the installed torch / torchrec / fbgemm builds do not fit together:\n"
            + "".join(f"  {problem}\n" for problem in problems)
            + _remedy(lookup)
        )


def _compare(name: str, found: str | None, expected: str, label: str | None = None) -> str:
    if found is None:
        return f"{label or name}: not installed, expected {expected}.*"
    release = found.partition("+")[0]
    if release == expected or release.startswith(expected + "."):
        return ""
    return f"{name}: found {found}, expected {expected}.*"


def _remedy(lookup: Lookup) -> str:
    if lookup("fbgemm-gpu-cpu") is not None and lookup("fbgemm-gpu") is None:
        return "To mend it: ./launch/setup.sh cpu"
    torch = lookup("torch")
    if lookup("fbgemm-gpu") is not None and not (torch or "").endswith("+cpu"):
        return "To mend it: ./launch/setup.sh cuda (without an NVIDIA GPU: ./launch/setup.sh cpu)"
    return "To mend it: ./launch/setup.sh cpu (with an NVIDIA GPU: ./launch/setup.sh cuda)"


def _load_problem() -> str | None:
    """What goes wrong when torchrec is imported and one of fbgemm's operators is run."""
    try:
        import torch
        import torchrec  # noqa: F401 - loads fbgemm's libraries

        lengths = torch.tensor([2, 0, 3])
        offsets = torch.ops.fbgemm.asynchronous_complete_cumsum(lengths)
    except Exception as error:  # whatever a foreign library raises is the finding
        return f"{type(error).__name__}: {error}"
    if offsets.tolist() != [0, 2, 2, 5]:
        return f"asynchronous_complete_cumsum gave {offsets.tolist()}, expected [0, 2, 2, 5]"
    return None


def _doctor(brief: bool) -> int:
    problems = find_problems()
    load_problem = None if problems else _load_problem()
    ok = not problems and load_problem is None
    names = ["torch", "torchrec", "fbgemm-gpu-cpu", "fbgemm-gpu"]
    if brief and ok:
        found = ", ".join(
            f"{name} {version}" for name in names if (version := installed_version(name))
        )
        print(f"Python {platform.python_version()}, {found}")
        return 0
    expected = [f"{TORCH}.*", f"{TORCHREC}.*", f"{FBGEMM}.* (CPU)", f"{FBGEMM}.* (CUDA)"]
    print(f"{'package':<16} {'installed':<16} expected")
    print(f"{'Python':<16} {platform.python_version():<16} 3.11 or 3.12")
    for name, wanted in zip(names, expected, strict=True):
        print(f"{name:<16} {installed_version(name) or '-':<16} {wanted}")
    if not problems:
        print(f"{'fbgemm loads':<16} {'yes' if load_problem is None else 'NO: ' + load_problem}")
    if load_problem is None and not problems:
        import torch

        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        print(f"{'CUDA devices':<16} {gpus}")
    for problem in problems:
        print(f"wrong: {problem}")
    print("all well" if ok else _remedy(installed_version))
    return 0 if ok else 1


def _main() -> int:
    parser = argparse.ArgumentParser(prog="python -m marigold_rec.versions", description=__doc__)
    parser.add_argument("--brief", action="store_true", help="one line when all is well")
    return _doctor(parser.parse_args().brief)


if __name__ == "__main__":
    sys.exit(_main())
