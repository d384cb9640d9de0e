"""The wheel is for those who serve: marigold_rec alone, and an artefact is scored with no more."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.serving.artefacts import Model, small_config
from tests.support.runs import click_log, write_days

ROOT = Path(__file__).resolve().parents[2]
OURS = ("marigold_rec", "models", "data_pipelines", "jobs", "launch")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `pip install` of the project's wheel puts into site-packages."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in OURS:  # a copy, since building leaves files beside the sources
        shutil.copytree(ROOT / name, folder / "src" / name)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "src" / name)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation",
         "--disable-pip-version-check", "--wheel-dir", str(folder), str(folder / "src")],
        check=True, capture_output=True, timeout=100,
    )  # fmt: skip
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


@pytest.mark.slow
def test_it_holds_marigold_rec_alone(installed: Path) -> None:
    names = {path.name for path in installed.iterdir() if path.suffix != ".dist-info"}
    assert names == {"marigold_rec"}
    sources = {p.relative_to(ROOT) for p in (ROOT / "marigold_rec").rglob("*.py")}
    templates = {p.relative_to(ROOT) for p in (ROOT / "marigold_rec").glob("*/templates/*.*")}
    files = {path.relative_to(installed) for path in installed.rglob("*")}
    assert templates
    assert sources | templates <= files


@pytest.mark.slow
def test_it_scores_an_artefact_where_nothing_else_of_ours_is_installed(
    installed: Path, tmp_path: Path
) -> None:
    log = write_days(tmp_path / "log", {"2024-01-01": click_log(300)})
    Model(small_config()).export(tmp_path / "artefact")
    code = f"""
import sys
from importlib.util import find_spec
from marigold_rec.serving.__main__ import main
print([name for name in {OURS} if find_spec(name)], file=sys.stderr)
sys.exit(main(sys.argv[1:]))
"""
    # -S: of site-packages only its packages, not the .pth of an editable install of this checkout.
    libraries = sysconfig.get_paths()["purelib"]
    ended = subprocess.run(
        [sys.executable, "-S", "-c", code, "artefact", "--data", str(log), "--out", "scores"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(installed), libraries])},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert ended.returncode == 0, ended.stderr
    assert "['marigold_rec']" in ended.stderr.splitlines(), ended.stderr
    assert pq.read_metadata(tmp_path / "scores").num_rows == 300
