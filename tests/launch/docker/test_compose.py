"""launch/docker/compose.yaml against the schema of compose files, and what a night needs of it.

The schema comes with check-jsonschema, which takes it from the compose specification. No engine has
read the file: interpolation and `<<` are done here as the specification says.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.launch.docker.recipe import read_stages

ROOT = Path(__file__).resolve().parents[3]
FILE = ROOT / "launch/docker/compose.yaml"
TEXT = FILE.read_text()
TREE: dict[str, Any] = yaml.safe_load(TEXT)  # with the merges done
SERVICES = sorted(TREE["services"])


def _check(path: Path) -> subprocess.CompletedProcess[str]:
    tool = Path(sys.prefix) / "bin/check-jsonschema"
    return subprocess.run(
        [tool, "--builtin-schema", "vendor.compose-spec", path],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_it_fits_the_schema() -> None:
    done = _check(FILE)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("stop_grace_period:", "stop_grace_perod:"),
        ("shm_size: 2gb", "shm_size: [2gb]"),
        ("create_host_path:", "create_hostpath:"),
        ("target: cuda", "targett: cuda"),
        ('restart: "no"', "restarts: never"),
    ],
)
def test_a_slip_is_refused(old: str, new: str, tmp_path: Path) -> None:
    assert old in TEXT
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(TEXT.replace(old, new))
    assert _check(wrong).returncode == 1


@pytest.mark.parametrize("name", SERVICES)
def test_a_night(name: str) -> None:
    service = TREE["services"][name]
    program, *rest = service["command"][1:]
    assert (ROOT / program).is_file()
    assert rest[:4] == ["--config", "configs/nightly.yaml", "--date", "auto"]
    assert (ROOT / rest[1]).is_file()
    data, runs = service["volumes"]
    assert (data["target"], data["read_only"]) == ("/work/data", True)
    assert runs == {"type": "volume", "source": "runs", "target": "/work/runs"}
    assert {"data.path=/work/data", "run.dir=/work/runs"} <= set(rest)
    assert "runs" in TREE["volumes"]


@pytest.mark.parametrize("name", SERVICES)
def test_exit_codes_are_left_to_whoever_started_it(name: str) -> None:
    """`on-failure` would start a refused night again and again: compose knows no exit codes."""
    assert TREE["services"][name]["restart"] == "no"


@pytest.mark.parametrize("name", SERVICES)
def test_a_stop_leaves_time_to_save(name: str) -> None:
    service = TREE["services"][name]
    minutes = re.fullmatch(r"(\d+)m", service["stop_grace_period"])
    assert minutes is not None
    assert int(minutes[1]) * 60 >= 120  # more than nightly.py's 60 s and torchrun's 30 s
    assert service["stop_signal"] == "SIGTERM"
    assert "init" not in service  # tini is in the image


@pytest.mark.parametrize("name", SERVICES)
def test_it_is_not_root_and_writes_only_where_it_may(name: str) -> None:
    service = TREE["services"][name]
    assert (service["user"], service["read_only"]) == ("10001:10001", True)
    assert (service["tmpfs"], service["environment"]["HOME"]) == (["/tmp"], "/tmp")
    assert service["cap_drop"] == ["ALL"]


def test_targets_and_context_are_the_dockerfiles() -> None:
    stages = read_stages((ROOT / "Dockerfile").read_text())
    for service in TREE["services"].values():
        assert service["build"]["target"] in stages
        context = (FILE.parent / service["build"]["context"]).resolve()
        assert context == ROOT
        assert service["image"].endswith(f"marigold-rec:{service['build']['target']}}}")


def test_only_known_variables_are_asked_for() -> None:
    asked = set(re.findall(r"\$\{(\w+)", TEXT))
    assert asked == {"MARIGOLD_DATA", "MARIGOLD_IMAGE", "OMP_NUM_THREADS"}
    # Without a data folder it says so; it never makes an empty one.
    assert "${MARIGOLD_DATA:?" in TEXT
    assert TREE["services"]["nightly"]["volumes"][0]["bind"] == {"create_host_path": False}
