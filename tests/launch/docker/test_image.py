"""The Dockerfile: its text against the project, and the cpu target replayed in a fresh Debian.

The replay runs every RUN of the cpu target as root in a folder made of Debian's own packages, in
which nothing of this machine is but its way to the package registries, and then the image's own
ENTRYPOINT and CMD as the image's user on a read-only root. What it can't show: the base images
themselves (Debian's Python 3.11 stands in for the one of python:3.11.13-slim-bookworm), the cuda
target, and the layers that an engine makes of the steps.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.launch.docker.base_images import (
    NoBaseError,
    borrowed_system,
    fresh_debian,
    way_to_registries,
)
from tests.launch.docker.context import Context
from tests.launch.docker.image_root import ImageRoot, why_not
from tests.launch.docker.recipe import RecipeError, Stage, chain_to, read_stages
from tests.launch.docker.replay import replay

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "Dockerfile").read_text()
STAGES = read_stages(TEXT)
TARGETS = ("cpu", "cuda")
USER = 10001
needs_root = pytest.mark.skipif(why_not() is not None, reason=why_not() or "")


def chain(target: str) -> list[Stage]:
    return chain_to(target, STAGES)[1]


def words(target: str, name: str) -> list[str]:
    return [
        word for stage in chain(target) for s in stage.steps if s.name == name for word in s.words
    ]


@pytest.mark.parametrize("target", TARGETS)
def test_the_base_is_pinned_and_the_user_is_not_root(target: str) -> None:
    base = chain_to(target, STAGES)[0]
    # image:1.2[.3]-flavour or a digest; never latest, never a tag that moves with each release.
    assert re.fullmatch(r"[\w/]+(:\d+\.\d+\.\d+[\w.-]*|@sha256:[0-9a-f]{64})", base), base
    assert words(target, "USER")[-1] == f"{USER}:{USER}"
    assert f"--uid {USER} --gid {USER}" in words(target, "RUN")[0]


@pytest.mark.parametrize("target", TARGETS)
def test_tini_hands_signals_to_one_process(target: str) -> None:
    # With -g each rank would get a SIGTERM from tini and another from torchrun: no save.
    assert words(target, "ENTRYPOINT") == ["/usr/bin/tini", "--"]
    last = chain(target)[-1].steps
    assert [step.is_json for step in last if step.name in ("ENTRYPOINT", "CMD")] == [True, True]
    assert words(target, "HEALTHCHECK") == ["NONE"]


@pytest.mark.parametrize("target", TARGETS)
def test_what_it_sets_is_what_setup_reads(target: str) -> None:
    setup = (ROOT / "launch/setup.sh").read_text()
    pairs = words(target, "ENV")
    env = dict(zip(pairs[::2], pairs[1::2], strict=True))
    for name in env:
        if name.startswith("MARIGOLD_"):
            assert f"${{{name}" in setup, f"launch/setup.sh does not know {name}"
    assert env["PATH"].startswith(f"{env['MARIGOLD_VENV']}/bin:")
    assert [run for run in words(target, "RUN") if "setup.sh" in run] == [
        f"launch/setup.sh {target} --deps-only",
        f"launch/setup.sh {target}",
    ]


def test_our_code_comes_after_the_dependencies() -> None:
    """A change of our code must not install torch again: its layer sees three files only."""
    for target in TARGETS:
        steps = [step for stage in chain(target) for step in stage.steps]
        names = [(step.name, step.words) for step in steps]
        deps = names.index(("RUN", (f"launch/setup.sh {target} --deps-only",)))
        before = [word for name, found in names[:deps] if name == "COPY" for word in found]
        assert before == [
            "pyproject.toml",
            "./",
            "launch/setup.sh",
            "launch/constraints.txt",
            "launch/",
        ]
        assert ("COPY", (".", ".")) in names[deps:]


def test_the_context_holds_what_runs_and_nothing_else() -> None:
    files = Context(ROOT).files
    folders = {name.split("/")[0] for name in files}
    assert folders == {
        "LICENSE", "README.md", "pyproject.toml", "configs", "data_pipelines", "jobs", "launch",
        "marigold_rec", "models",
    }  # fmt: skip
    for program in ("train.py", "evaluate.py", "nightly.py", "setup.sh", "constraints.txt"):
        assert f"launch/{program}" in files
    assert "marigold_rec/reporting/templates/report.html.j2" in files
    assert not [name for name in files if "__pycache__" in name or name.endswith(".pyc")]


def test_hadolint_is_clean() -> None:
    done = _hadolint(ROOT / "Dockerfile")
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("python:3.11.13-slim-bookworm", "python", "DL3006"),
        ("WORKDIR /opt", "WORKDIR opt", "DL3000"),
        (" --yes --no-install-recommends", " --yes", "DL3015"),
    ],
)
def test_hadolint_would_say_so(old: str, new: str, rule: str, tmp_path: Path) -> None:
    assert old in TEXT
    (tmp_path / "Dockerfile").write_text(TEXT.replace(old, new))
    done = _hadolint(tmp_path / "Dockerfile")
    assert done.returncode == 1
    assert rule in done.stdout


def _hadolint(path: Path) -> subprocess.CompletedProcess[str]:
    tool = Path(sys.prefix) / "bin/hadolint"
    return subprocess.run([tool, "--no-color", path], capture_output=True, text=True)


@needs_root
@pytest.mark.parametrize(
    ("old", "new", "ignore", "says"),
    [
        ("COPY launch/setup.sh launch/constraints.txt launch/\n", "", "", "setup.sh: not found"),
        ("COPY pyproject.toml ./\n", "", "", "pyproject.toml"),
        ("", "", "!launch", "COPY launch/setup.sh: nothing in the context"),
        ("cpu --deps-only", "cpu --dependencies", "", "unknown argument '--dependencies'"),
    ],
)
def test_a_broken_dockerfile_fails(
    old: str, new: str, ignore: str, says: str, tmp_path: Path
) -> None:
    """On a borrowed system, as far as launch/setup.sh comes without a registry."""
    ignored = (ROOT / ".dockerignore").read_text()
    if ignore:
        assert f"{ignore}\n" in ignored
        ignored = ignored.replace(f"{ignore}\n", "")
    # The steps of the system's packages need a real one; these are replayed below.
    text = f"FROM system AS os-cpu\n{TEXT[TEXT.index('FROM os-cpu AS deps-cpu') :]}"
    assert not old or old in text
    with pytest.raises(RecipeError, match=re.escape(says)):
        replay(
            text.replace(old, new, 1) if old else text,
            "deps-cpu",
            Context(ROOT, ignored),
            lambda name: borrowed_system(tmp_path / "root"),
        )


@pytest.mark.slow
@pytest.mark.skipif(
    os.environ.get("MARIGOLD_REPLAY", "0") in ("", "0"),
    reason="takes minutes and package registries: MARIGOLD_REPLAY=1 runs it",
)
@needs_root
@pytest.mark.timeout(1800)
def test_the_cpu_image_trains(tmp_path: Path) -> None:
    try:
        _build_and_run(tmp_path)
    finally:
        shutil.rmtree(tmp_path / "root", ignore_errors=True)  # gigabytes, which pytest would keep


def _build_and_run(tmp_path: Path) -> None:
    registries: dict[str, dict[str, str]] = {"env": {}, "arguments": {}}

    def lay_base(name: str) -> ImageRoot:
        assert name == "python:3.11.13-slim-bookworm"
        root = _debian_or_skip(tmp_path)
        pip = Path(sys.prefix) / "bin/pip"
        found = way_to_registries(root, pip)
        registries["env"].update(found[0])
        registries["arguments"].update(found[1])
        return root

    image = replay(
        TEXT,
        "cpu",
        Context(ROOT),
        lay_base,
        build_arguments=registries["arguments"],
        host_env=registries["env"],
    )
    runs = tmp_path / "runs"
    runs.mkdir()
    os.chown(runs, USER, USER)
    # The runs' folder is the image user's, so that a new volume on it becomes theirs.
    made = (image.root.folder / "work/runs").stat()
    assert (made.st_uid, made.st_gid) == (USER, USER)
    volumes = {"/work/runs": runs}
    tiny = ["run.steps=4", "logging.tensorboard=false", "data.synthetic.rows_per_day=1000"]

    who = image.run(["sh", "-c", "id -u; command -v torchrun; python -m marigold_rec.versions"])
    assert who.returncode == 0, who.stdout
    assert who.stdout.splitlines()[:2] == [str(USER), "/opt/marigold/venv/bin/torchrun"]
    done = image.run([*image.command, *tiny], volumes=volumes)
    assert done.returncode == 0, done.stdout
    summary = json.loads((runs / "ctr_cvr/summary.json").read_text())
    assert (summary["status"], summary["step"], summary["world_size"]) == ("done", 4, 2)
    assert (runs / "ctr_cvr/summary.json").stat().st_uid == USER
    # launch/nightly.py is there, and an exit code comes through tini as it is.
    refused = image.run(
        ["python", "launch/nightly.py", "--config", "configs/nightly.yaml", "--date", "auto",
         "nightly.no_such_setting=1"],
        volumes=volumes,
    )  # fmt: skip
    assert refused.returncode == 2, refused.stdout
    assert "no_such_setting" in refused.stdout


def _debian_or_skip(folder: Path) -> ImageRoot:
    try:
        return fresh_debian(folder / "root", folder / "scratch")
    except NoBaseError as error:  # Debian's servers are not ours to test
        pytest.skip(f"no fresh Debian here: {error}")
