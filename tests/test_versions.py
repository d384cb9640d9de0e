"""The check of the torch / torchrec / fbgemm triple."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from marigold_rec.errors import EnvironmentMismatchError
from marigold_rec.versions import Lookup, check_triple, find_problems

ROOT = Path(__file__).resolve().parents[1]
CPU = {"torch": "2.13.0+cpu", "torchrec": "1.8.0", "fbgemm-gpu-cpu": "1.8.0"}
CUDA = {"torch": "2.13.0", "torchrec": "1.8.0", "fbgemm-gpu": "1.8.0"}


def installed(packages: dict[str, str], **changes: str | None) -> Lookup:
    """A lookup over `packages`, changed by name (with _ for -); None removes a package."""
    changed = packages | {name.replace("_", "-"): version for name, version in changes.items()}
    return changed.get  # a removed package and one that never was both give None


@pytest.mark.parametrize(
    "lookup",
    [
        installed(CPU),
        installed(CUDA),
        installed(CUDA, torch="2.13.1+cu130"),
        installed(CUDA, torch="2.13.0a0+vendor.7"),
        installed(CPU, torch="2.13.0"),
        installed(CPU, torchrec="1.8.3", fbgemm_gpu_cpu="1.8.1"),
        installed(CPU, torch="2.13"),
    ],
)
def test_a_fitting_triple_passes(lookup: Lookup) -> None:
    check_triple(lookup, system="Linux")


@pytest.mark.parametrize(
    ("lookup", "problems", "remedy"),
    [
        (
            installed(CPU, torch="2.14.1+cpu"),
            ["torch: found 2.14.1+cpu, expected 2.13.*"],
            "./launch/setup.sh cpu",
        ),
        (
            installed(CPU, torch="2.130.0"),
            ["torch: found 2.130.0, expected 2.13.*"],
            "./launch/setup.sh cpu",
        ),
        (
            installed(CUDA, torchrec="1.7.0"),
            ["torchrec: found 1.7.0, expected 1.8.*"],
            "./launch/setup.sh cuda (without an NVIDIA GPU: ./launch/setup.sh cpu)",
        ),
        (
            installed(CPU, fbgemm_gpu_cpu="1.9.0"),
            ["fbgemm-gpu-cpu: found 1.9.0, expected 1.8.*"],
            "./launch/setup.sh cpu",
        ),
        (
            installed(CUDA, fbgemm_gpu="1.9.0"),
            ["fbgemm-gpu: found 1.9.0, expected 1.8.*"],
            "./launch/setup.sh cuda (without an NVIDIA GPU: ./launch/setup.sh cpu)",
        ),
        (
            installed(CPU, fbgemm_gpu_cpu=None),
            ["fbgemm-gpu-cpu or fbgemm-gpu: not installed, expected 1.8.*"],
            "./launch/setup.sh cpu (with an NVIDIA GPU: ./launch/setup.sh cuda)",
        ),
        (
            installed(CPU, fbgemm_gpu="1.8.0"),
            [
                "fbgemm: found both fbgemm-gpu-cpu 1.8.0 and fbgemm-gpu 1.8.0, expected only one: "
                "they overwrite each other's files"
            ],
            "./launch/setup.sh cpu (with an NVIDIA GPU: ./launch/setup.sh cuda)",
        ),
        (
            installed(CUDA, torch="2.13.0+cpu"),
            ["fbgemm-gpu 1.8.0 is the CUDA build, but torch 2.13.0+cpu is the CPU build"],
            "./launch/setup.sh cpu (with an NVIDIA GPU: ./launch/setup.sh cuda)",
        ),
        (
            installed({}),
            [
                "torch: not installed, expected 2.13.*",
                "torchrec: not installed, expected 1.8.*",
                "fbgemm-gpu-cpu or fbgemm-gpu: not installed, expected 1.8.*",
            ],
            "./launch/setup.sh cpu (with an NVIDIA GPU: ./launch/setup.sh cuda)",
        ),
    ],
)
def test_a_wrong_triple_is_refused_with_each_problem_and_the_remedy(
    lookup: Lookup, problems: list[str], remedy: str
) -> None:
    with pytest.raises(EnvironmentMismatchError) as caught:
        check_triple(lookup, system="Linux")
    head, *lines, last = str(caught.value).splitlines()
    assert head == "the installed torch / torchrec / fbgemm builds do not fit together:"
    assert [line.strip() for line in lines] == problems
    assert last == f"To mend it: {remedy}"


def test_another_operating_system_is_refused() -> None:
    with pytest.raises(EnvironmentMismatchError, match="found Darwin, expected Linux"):
        check_triple(installed(CPU), system="Darwin")


def test_this_environment_fits() -> None:
    assert find_problems() == []


def test_the_check_imports_no_torch() -> None:
    code = "import sys, marigold_rec; print('torch' in sys.modules)"
    assert _python("-c", code).stdout == "False\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [((), ["fbgemm loads     yes", "all well"]), (("--brief",), ["torch 2.13", "torchrec 1.8"])],
)
def test_the_doctor_loads_fbgemm(arguments: tuple[str, ...], expected: list[str]) -> None:
    result = _python("-m", "marigold_rec.versions", *arguments)
    assert result.returncode == 0, result.stdout + result.stderr
    assert all(text in result.stdout for text in expected), result.stdout
    assert "RuntimeWarning" not in result.stderr


def test_a_broken_environment_fails_the_import_but_not_the_doctor(tmp_path: Path) -> None:
    """Both fbgemm builds at once, by a second distribution's metadata in front of the real one."""
    metadata = tmp_path / "fbgemm_gpu-1.8.0.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: fbgemm-gpu\nVersion: 1.8.0\n")
    also = tmp_path / "fbgemm_gpu_cpu-1.8.0.dist-info" / "METADATA"
    also.parent.mkdir()
    also.write_text("Metadata-Version: 2.1\nName: fbgemm-gpu-cpu\nVersion: 1.8.0\n")
    failed = _python("-c", "import marigold_rec", path=tmp_path)
    assert failed.returncode == 1
    assert "found both fbgemm-gpu-cpu 1.8.0 and fbgemm-gpu 1.8.0" in failed.stderr
    doctor = _python("-m", "marigold_rec.versions", path=tmp_path)
    assert doctor.returncode == 1
    assert "wrong: fbgemm: found both" in doctor.stdout
    assert "./launch/setup.sh cpu" in doctor.stdout


def _python(*arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    if path is not None:
        command = ["env", f"PYTHONPATH={path}", *command]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=90, check=False
    )
