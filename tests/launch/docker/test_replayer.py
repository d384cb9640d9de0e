"""The replayer itself: it does what Docker documents, and a broken Dockerfile fails in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.launch.docker.base_images import borrowed_system
from tests.launch.docker.context import Context
from tests.launch.docker.image_root import why_not
from tests.launch.docker.recipe import RecipeError, chain_to, expand, read_stages
from tests.launch.docker.replay import Image, replay

ROOT = Path(__file__).resolve().parents[3]
needs_root = pytest.mark.skipif(why_not() is not None, reason=why_not() or "")

# Of the same kinds of steps as the real one, with a small script in place of launch/setup.sh.
RECIPE = """\
FROM some:base AS other
RUN false

FROM some:base AS os
RUN echo 10001 >/uid \\
    # a comment inside
    && mkdir -p /work

FROM os AS app
ENV WHERE=/opt/it NAME="a b"
ENV PATH=$WHERE/bin:$PATH
ARG INDEX="none"
WORKDIR /opt/app
COPY setup.sh constraints.txt launch/
RUN launch/setup.sh "$INDEX"
COPY . .
USER 10001:10001
HEALTHCHECK NONE
ENTRYPOINT ["/usr/bin/env"]
CMD ["sh", "-c", "it; id -u; touch /opt/app/x 2>/dev/null || echo read-only; touch /tmp/x"]
"""
SETUP = """\
#!/bin/sh
set -eu
grep -q pinned "$(dirname "$0")/constraints.txt"
mkdir -p "$WHERE/bin"
printf '#!/bin/sh\\necho "it is %s, %s"\\n' "$NAME" "$1" >"$WHERE/bin/it"
chmod 755 "$WHERE/bin/it"
"""


@pytest.fixture
def context(tmp_path: Path) -> Context:
    folder = tmp_path / "context"
    for name, text in {
        "setup.sh": SETUP,
        "constraints.txt": "pinned\n",
        "configs/one.yaml": "{}",
        "secret/key": "",
        "configs/__pycache__/one.pyc": "",
        ".dockerignore": "*\n!setup.sh\n!constraints.txt\n!configs\n**/__pycache__\n",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "setup.sh").chmod(0o755)
    return Context(folder)


def _build(text: str, context: Context, tmp_path: Path, **settings: str) -> Image:
    return replay(
        text,
        "app",
        context,
        lambda name: borrowed_system(tmp_path / "root"),
        build_arguments=settings,
    )


@needs_root
def test_the_image_is_what_its_steps_say(context: Context, tmp_path: Path) -> None:
    image = _build(RECIPE, context, tmp_path, INDEX="mine")
    assert image.env["WHERE"] == "/opt/it"
    assert image.env["PATH"].startswith("/opt/it/bin:/usr/local/sbin:")
    assert (image.workdir, image.user) == ("/opt/app", "10001:10001")
    done = image.run()
    assert (done.returncode, done.stdout.splitlines()) == (
        0,
        ["it is a b, mine", "10001", "read-only"],
    )
    app = tmp_path / "root/opt/app"
    copied = sorted(str(path.relative_to(app)) for path in app.rglob("*") if path.is_file())
    assert copied == [
        "configs/one.yaml", "constraints.txt", "launch/constraints.txt", "launch/setup.sh",
        "setup.sh",
    ]  # fmt: skip
    # Nothing went to the real root, and no mount is left.
    assert not Path("/uid").exists()
    assert str(tmp_path) not in Path("/proc/mounts").read_text()


@needs_root
@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("COPY setup.sh constraints.txt launch/", "COPY setup.sh launch/", "constraints.txt: No"),
        ("COPY setup.sh constraints.txt launch/\n", "", "launch/setup.sh: not found"),
        ("ENV WHERE=", "ENV WERE=", "WHERE: (parameter not set|unbound)"),
        ("COPY . .", "COPY secret .", r"COPY secret: nothing in the context"),
        ("COPY . .", "COPY models .", r"COPY models: nothing in the context"),
        ("mkdir -p /work", "mkdri -p /work", "mkdri: not found"),
        ("COPY . .", "COPY --from=os . .", "--from=os is not understood"),
        ("HEALTHCHECK NONE", "ONBUILD RUN true", "ONBUILD is not understood"),
        ("AS app", "AS application", "no stage 'app'; there are other, os, application"),
        ("$WHERE/bin:$PATH", "${WHERE:-/}/bin", "is not understood here"),
    ],
)
def test_a_broken_step_fails(
    old: str, new: str, says: str, context: Context, tmp_path: Path
) -> None:
    assert RECIPE.count(old) == 1
    with pytest.raises(RecipeError, match=says):
        _build(RECIPE.replace(old, new), context, tmp_path)


def test_the_parser_is_dockers() -> None:
    stages = read_stages(RECIPE)
    base, chain = chain_to("app", stages)
    assert (base, [stage.name for stage in chain]) == ("some:base", ["os", "app"])
    run = stages["os"].steps[0]
    assert run.name == "RUN"
    assert run.words[0].split() == ["echo", "10001", ">/uid", "&&", "mkdir", "-p", "/work"]
    assert [step.name for step in chain[1].steps].count("ENV") == 2


def test_words_are_expanded_as_docker_does() -> None:
    values = {"A": "x", "AB": "y"}
    assert expand("$A/${A}b:$AB:$NONE", values) == "x/xb:y:"


def test_copy_takes_a_folders_content(tmp_path: Path) -> None:
    folder = tmp_path / "context"
    for name in ("a/one", "a/b/two", "three.txt", "four.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    found = Context(folder, ignore="")
    root = tmp_path / "root"
    found.copy(["a"], "into", root, "/w")
    found.copy(["*.txt"], "texts/", root, "/w")
    found.copy(["three.txt"], "/named", root, "/w")
    written = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    assert written == {
        "w/into/one",
        "w/into/b/two",
        "w/texts/three.txt",
        "w/texts/four.txt",
        "named",
    }
