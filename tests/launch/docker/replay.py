"""Executes a Dockerfile's steps in a folder, one after the other, as `docker build` would.

Real are: every RUN (its shell, as root, in the folder as its root), COPY with .dockerignore, ENV,
ARG, WORKDIR, USER, and the image's own ENTRYPOINT and CMD. Stood in for: the base image, which the
caller lays into the folder. A kind of step that is not understood is refused, never skipped.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.launch.docker.context import Context
from tests.launch.docker.image_root import ImageRoot
from tests.launch.docker.recipe import RecipeError, Step, chain_to, expand, read_stages

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# They say something to whoever runs the image, and change nothing of it.
_WITHOUT_EFFECT = ("HEALTHCHECK", "LABEL", "STOPSIGNAL", "EXPOSE")


@dataclass
class Image:
    """A root with what the steps so far have set."""

    root: ImageRoot
    env: dict[str, str] = field(default_factory=lambda: {"PATH": _PATH})
    arguments: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = "0:0"
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()

    def run(
        self,
        words: Sequence[str] | None = None,
        *,
        env: Mapping[str, str] | None = None,
        volumes: Mapping[str, Path] | None = None,
        timeout_s: float = 600,
    ) -> subprocess.CompletedProcess[str]:
        """`docker run --read-only --tmpfs /tmp`: `words`, or CMD, behind the ENTRYPOINT."""
        return self.root.run(
            [*self.entrypoint, *(self.command if words is None else words)],
            env={**self.env, "HOME": self._home(), **(env or {})},
            workdir=self.workdir,
            user=self.user,
            read_only=True,
            volumes=volumes,
            timeout_s=timeout_s,
        )

    def shell(self, step: Step, host_env: Mapping[str, str]) -> None:
        words = list(step.words) if step.is_json else ["/bin/sh", "-c", *step.words]
        env = {**host_env, **self.arguments, **self.env, "HOME": self._home()}
        done = self.root.run(words, env=env, workdir=self.workdir, user=self.user)
        if done.returncode != 0:
            raise RecipeError(f"{step}\nended with {done.returncode}:\n{done.stdout[-4000:]}")

    def _home(self) -> str:
        """As Docker sets it: from the image's /etc/passwd."""
        for line in (self.root.folder / "etc/passwd").read_text().splitlines():
            parts = line.split(":")
            if self.user.split(":")[0] in (parts[0], parts[2]):
                return parts[5]
        return "/"


def replay(
    text: str,
    target: str,
    context: Context,
    lay_base: Callable[[str], ImageRoot],
    *,
    build_arguments: Mapping[str, str] | None = None,
    host_env: Mapping[str, str] | None = None,
) -> Image:
    """The image of `target`. `lay_base(name)` makes the root of the base image of that name;
    `host_env` is for RUN alone: what a build needs to reach the package registries from here."""
    base, chain = chain_to(target, read_stages(text))
    image = Image(lay_base(base))
    for stage in chain:
        image.arguments = {}  # an ARG ends with its stage
        for step in stage.steps:
            _take(step, image, context, build_arguments or {}, host_env or {})
    return image


def _take(
    step: Step,
    image: Image,
    context: Context,
    build_arguments: Mapping[str, str],
    host_env: Mapping[str, str],
) -> None:
    known = {**image.arguments, **image.env}
    if step.flags and step.name != "HEALTHCHECK":
        raise RecipeError(f"{step}: {' '.join(step.flags)} is not understood here")
    match step.name:
        case "RUN":
            image.shell(step, host_env)
        case "COPY":
            *sources, into = [expand(word, known) for word in step.words]
            try:
                context.copy(sources, into, image.root.folder, image.workdir)
            except RecipeError as error:
                raise RecipeError(f"{step}\n{error}") from error
        case "ENV":
            pairs = zip(step.words[::2], step.words[1::2], strict=True)
            image.env.update({name: _unquoted(expand(value, known)) for name, value in pairs})
        case "ARG":
            for word in step.words:
                name, _, default = word.partition("=")
                image.arguments[name] = build_arguments.get(name, _unquoted(expand(default, known)))
        case "WORKDIR":
            image.workdir = str(Path(image.workdir) / expand(step.words[0], known))
            (image.root.folder / image.workdir.lstrip("/")).mkdir(parents=True, exist_ok=True)
        case "USER":
            image.user = expand(step.words[0], known)
        case "ENTRYPOINT" | "CMD":
            words = step.words if step.is_json else ("/bin/sh", "-c", *step.words)
            if step.name == "CMD":
                image.command = words
            else:
                image.entrypoint, image.command = words, ()
        case name if name not in _WITHOUT_EFFECT:
            raise RecipeError(f"{step}: {name} is not understood here")


def _unquoted(value: str) -> str:
    return "".join(shlex.split(value)) if value[:1] in ("'", '"') else value
